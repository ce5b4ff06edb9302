"""The ``tsp`` family: the shortest closed tour through all cities, symmetric or not.

Here: objective, the position program, decoding. Not here: files (``routing_files``), neighbourhoods (``tour``),
pictures (``routing_plots``), solvers.

Formats, recognised by content: TSPLIB95 ``TYPE : TSP`` (EUC_2D, CEIL_2D, MAN_2D, MAX_2D, ATT, GEO, EXPLICIT in every
order) and ``TYPE : ATSP``. A solution is the order of visits, int64, shape ``(n,)``, cities from 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid_assets.problems.base import (
    PROGRAM_VARIABLES,
    Evaluation,
    FamilyOptions,
    Instance,
    ProblemFamily,
    Program,
    Reference,
    Solution,
)
from hybrid_assets.problems.routing.reordering import dealt
from hybrid_assets.problems.routing.routing_files import RawRouting, kind_of, read_sectioned
from hybrid_assets.problems.routing.tour import TourLandscape
from hybrid_assets.problems.source import SourceFile
from resources.envelope import PostProcessing
from resources.failures import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Largest number of cities for which the exact circuit model is a baseline: it has an arc for every pair.
CIRCUIT_CITIES = 150
#: Evaluations of the polish behind the reference point.
_POLISH = 200_000
#: Random exchanges per position that part a draw with fixed variables from its base.
_MIXING = 20


class Tsp(ProblemFamily):
    """Travelling salesman."""

    name = "tsp"
    version = "1"
    title = "shortest tour through all cities (TSP)"
    options = FamilyOptions

    def recognises(self, source: SourceFile) -> bool:
        """Whether the content says ``TYPE : TSP`` or ``ATSP``."""
        return kind_of(source) in ("TSP", "ATSP")

    def read(self, source: SourceFile) -> Sequence[RawRouting]:
        """Parse one problem."""
        if not self.recognises(source):
            # a binary file has no text to look at and says so here
            _ = source.text
            raise InputError(source.name, "TYPE", "it is no TSP or ATSP", "write 'TYPE : TSP' in a TSPLIB file")
        return [read_sectioned(source)]

    def normalize(self, raw: RawRouting, options: FamilyOptions, name: str) -> Instance:
        """Store the distances.

        Arrays: ``distance`` (int64, ``(n, n)``, in units of ``1 / scale``), ``scale`` (int64, ``(1,)``), ``places``
        (float64, ``(n, 2)``) where the file has coordinates.
        """
        arrays = {"distance": raw.distance, "scale": np.array([raw.scale], dtype=np.int64)}
        if raw.places is not None:
            arrays["places"] = raw.places
        return Instance(
            family=self.name,
            name=name,
            size=len(raw.distance),
            sense="min",
            arrays=arrays,
            settings=options.model_dump(mode="json"),
            labels=raw.labels,
        )

    def program_size(self, instance: Instance) -> int:
        """(n − 1)²: city 0 is fixed at the start."""
        return (instance.size - 1) ** 2

    def model(self, instance: Instance) -> Program:
        """City 0 first; bit ``p·(n−1) + c − 1`` puts city c at position p + 1 (Lucas, Frontiers in Physics 2, 2014).

        Raises:
            InputError: more than ``PROGRAM_VARIABLES`` binaries.
        """
        import dimod

        m, size = instance.size - 1, self.program_size(instance)
        if size > PROGRAM_VARIABLES:
            raise InputError(
                instance.name,
                "size",
                f"the whole program would have {size} binaries, the limit is {PROGRAM_VARIABLES}",
                "solve it through its landscape",
            )
        distance = instance.arrays["distance"] / float(instance.arrays["scale"][0])
        linear = np.zeros((m, m))
        linear[0] += distance[0, 1:]
        linear[-1] += distance[1:, 0]
        here, there = np.nonzero(~np.eye(m, dtype=bool))
        steps = np.arange(m - 1)[:, None] * m
        heads, tails = (steps + here).reshape(-1), (steps + m + there).reshape(-1)
        weights = np.tile(distance[1 + here, 1 + there], m - 1)
        cqm = dimod.ConstrainedQuadraticModel()
        cqm.add_variables(dimod.BINARY, range(size))
        cqm.set_objective(
            dimod.BinaryQuadraticModel.from_numpy_vectors(
                linear.reshape(-1), (heads, tails, weights), 0.0, dimod.BINARY
            )
        )
        for k in range(m):
            position = [(k * m + c, 1.0) for c in range(m)]
            city = [(p * m + k, 1.0) for p in range(m)]
            cqm.add_constraint_from_iterable(position, "==", 1.0, label=f"position {k + 1}")
            cqm.add_constraint_from_iterable(city, "==", 1.0, label=f"city {k + 1}")
        return Program(cqm, "city at position, first city fixed")

    def evaluate(self, instance: Instance, values: np.ndarray) -> Evaluation:
        """Length of the tour; ``cities`` counts those it does not visit."""
        n = instance.size
        tour = np.clip(np.asarray(values).astype(np.int64), 0, n - 1)
        total = int(instance.arrays["distance"][tour, np.roll(tour, -1)].sum())
        missing = n - len(np.unique(tour))
        return Evaluation(total / int(instance.arrays["scale"][0]), {"cities": float(missing)} if missing else {})

    def complete(self, instance: Instance, assignment: np.ndarray) -> Solution:
        """The tour of the bits; positions without a city take those left over, in order."""
        m = instance.size - 1
        order, changed = dealt(np.asarray(assignment).reshape(m, m))
        values = np.concatenate([[0], order + 1]).astype(np.int64)
        done = PostProcessing.REPAIRED if changed else PostProcessing.RAW
        return Solution(values, self.evaluate(instance, values), done)

    def assignment(self, instance: Instance, values: np.ndarray) -> np.ndarray:
        """The bits of the tour turned so that it starts with city 0."""
        tour, m = np.asarray(values).astype(np.int64), instance.size - 1
        tour = np.roll(tour, -int(np.argmin(tour)))[1:]
        bits = np.zeros((m, m), dtype=np.int8)
        bits[np.arange(m), tour - 1] = 1
        return bits.reshape(-1)

    def reference(self, instance: Instance, program: Program, seed: int) -> Reference:
        """A polished tour; the k² bits of highest priority reorder k positions around its longest two steps."""
        landscape = self.landscape(instance)
        tour = landscape.values(landscape.polish(landscape.start(seed), _POLISH).state)
        bits = self.assignment(instance, tour)
        m = instance.size - 1
        tour = np.concatenate([[0], bits.reshape(m, m).argmax(axis=1) + 1])
        step = instance.arrays["distance"][tour, np.roll(tour, -1)]
        worst = int(np.argmax(step[:-1] + step[1:]))
        rank = np.empty(m)
        rank[np.argsort(np.abs(np.arange(m) - worst), kind="stable")] = np.arange(m)
        by_city = np.empty(m)
        by_city[tour[1:] - 1] = rank
        outer = np.maximum(rank[:, None], by_city[None, :])
        return Reference(
            bits,
            -outer.reshape(-1),
            "nearest neighbour, 2-opt and or-opt; a window of positions around its longest two steps",
        )

    def random_assignments(
        self, instance: Instance, count: int, seed: int, free: np.ndarray | None = None, base: np.ndarray | None = None
    ) -> np.ndarray:
        """Random tours; with ``free``, random exchanges of two positions that change free variables only."""
        rng, m = np.random.default_rng(seed), instance.size - 1
        drawn = np.zeros((count, m, m), dtype=np.int8)
        if free is None:
            for table in drawn:
                table[np.arange(m), rng.permutation(m)] = 1
            return drawn.reshape(count, -1)
        if base is None:
            raise ValueError("free variables need a base for the others")
        loose = np.zeros((m, m), dtype=bool)
        loose.flat[free] = True
        order = np.asarray(base).reshape(m, m).argmax(axis=1)
        for table in drawn:
            now = order.copy()
            for p, q in rng.integers(0, m, (_MIXING * m, 2)).tolist():
                if loose[p, now[p]] and loose[q, now[q]] and loose[p, now[q]] and loose[q, now[p]]:
                    now[p], now[q] = now[q], now[p]
            table[np.arange(m), now] = 1
        return drawn.reshape(count, -1)

    def landscape(self, instance: Instance) -> TourLandscape:
        """Tours with moves and reorderings."""
        return TourLandscape(instance)

    def baselines(self, instance: Instance) -> Sequence[str]:
        """Local search, PyVRP and, up to 150 cities, the exact circuit model."""
        return ("tour-descent", "pyvrp") + (("cpsat-circuit",) if instance.size <= CIRCUIT_CITIES else ())

    def constraints(self, instance: Instance) -> Mapping[str, Any]:
        """Every city once."""
        return {"cities": instance.size, "visits per city": 1}

    def told(self, instance: Instance, values: np.ndarray) -> list[str]:
        """The cities in the order of the tour."""
        return [" → ".join(instance.labels[int(city)] for city in values)]

    def plot_instance(self, instance: Instance) -> Figure:
        """The cities on a map, or on a circle where the file has no coordinates."""
        from hybrid_assets.problems.routing.routing_plots import draw

        return draw(instance, {instance.name: []}, depot=False)

    def plot_solution(self, instance: Instance, solutions: Mapping[str, np.ndarray]) -> Figure:
        """The tours on the map."""
        from hybrid_assets.problems.routing.routing_plots import draw

        return draw(
            instance,
            {
                f"{label}: {self.evaluate(instance, tour).objective:g}": [np.asarray(tour, dtype=np.int64)]
                for label, tour in solutions.items()
            },
            depot=False,
        )
