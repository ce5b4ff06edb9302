"""The ``qap`` family: facilities to locations, one each, so that flow times distance is smallest.

Here: the QAPLIB format, the objective, the one-hot program, the pictures. Not here: neighbourhoods (``qap_landscape``),
swap costs (``qap_moves``), solvers.

Format: QAPLIB ``.dat`` (Burkard, Karisch, Rendl 1997): n, then two n × n matrices, numbers separated by any white
space. The cost of a placement p is Σ a_ij b_p(i)p(j) with a the first matrix and b the second, so the first is read as
flows between facilities and the second as distances between locations; neither need be symmetric.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid_assets.plots import small_figure
from hybrid_assets.problems.base import Evaluation, FamilyOptions, Instance, ProblemFamily, Program, Reference, Solution
from hybrid_assets.problems.source import SourceFile
from resources.envelope import PostProcessing
from resources.failures import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hybrid_assets.problems.assignment.qap_landscape import QapLandscape

#: Largest instance read, and largest entry: sums of products stay finite, and exact for QAPLIB's whole numbers.
MAX_FACILITIES, MAX_ENTRY = 500, 1e9
#: Largest instance that is modelled as a whole: n²(n−1)²/2 products are 1.2 million there.
MODELLED_FACILITIES = 40
#: Random transpositions per facility that make a random placement where only some variables may vary.
SHUFFLES = 20
#: Descents of ``reference``.
DESCENTS = 10


@dataclass(frozen=True)
class RawAssignment:
    """What a file holds: its name and two matrices, float64, shape ``(n, n)``."""

    file: str
    flow: np.ndarray
    distance: np.ndarray


class Qap(ProblemFamily):
    """Quadratic assignment; values are the location (from 0) of every facility.

    Program variable ``n·i + k`` is 1 when facility i stands at location k.
    """

    name = "qap"
    version = "1"
    title = "quadratic assignment of facilities to locations (QAP)"
    options = FamilyOptions

    def recognises(self, source: SourceFile) -> bool:
        """A whole number alone on the first line with numbers in it, then twice its square of them."""
        words = source.head.split(maxsplit=1)
        if not words or not _is_size(words[0]) or source.head.lstrip().splitlines()[0].strip() != words[0]:
            return False
        return len(source.content.split()) == 1 + 2 * int(words[0]) ** 2

    def read(self, source: SourceFile) -> Sequence[RawAssignment]:
        """Parse one instance."""
        words = source.text.split()
        if not words or not _is_size(words[0]):
            shown = repr(words[0][:40]) if words else "nothing"
            raise InputError(
                source.name,
                f"line {_line(source, 0)}",
                f"it begins with {shown}",
                f"begin with the number of facilities, 2 to {MAX_FACILITIES}",
            )
        n = int(words[0])
        if len(words) != 1 + 2 * n * n:
            raise InputError(
                source.name,
                "matrices",
                f"{n} facilities need two matrices of {n * n} numbers, the file has {len(words) - 1} numbers",
                "complete the matrices or correct the first number",
            )
        values = np.empty(2 * n * n)
        for k, word in enumerate(words[1:]):
            try:
                values[k] = float(word)
            except ValueError:
                values[k] = np.nan
            if not abs(values[k]) <= MAX_ENTRY:
                raise InputError(
                    source.name,
                    f"line {_line(source, k + 1)}",
                    f"{word[:40]!r} is not a number between -{MAX_ENTRY:g} and {MAX_ENTRY:g}",
                    "give plain numbers, rescaled where needed",
                )
        flow, distance = values.reshape(2, n, n)
        return [RawAssignment(source.name, flow, distance)]

    def normalize(self, raw: RawAssignment, options: FamilyOptions, name: str) -> Instance:
        """Store both matrices as arrays ``flow`` and ``distance``, float64, shape ``(n, n)``."""
        n = len(raw.flow)
        return Instance(
            family=self.name,
            name=name,
            size=n,
            sense="min",
            arrays={"flow": raw.flow, "distance": raw.distance},
            settings=options.model_dump(mode="json"),
            labels=tuple(f"facility {i}" for i in range(1, n + 1)),
            notes=("the first matrix is taken as flows between facilities, the second as distances",),
        )

    def model(self, instance: Instance) -> Program:
        """One-hot binaries with the exact quadratic cost; every facility one location, every location one facility.

        Raises:
            InputError: more than 40 facilities.
        """
        import dimod

        n, flow, distance = instance.size, instance.arrays["flow"], instance.arrays["distance"]
        if n > MODELLED_FACILITIES:
            raise InputError(
                instance.name,
                "size",
                f"the program of {n} facilities is too large to hold",
                f"use at most {MODELLED_FACILITIES} facilities, or a solver that needs no program",
            )
        i, j = np.triu_indices(n, 1)
        k, m = (side.ravel() for side in np.nonzero(~np.eye(n, dtype=bool)))
        values = flow[i, j][:, None] * distance[k, m] + flow[j, i][:, None] * distance[m, k]
        rows, cols = n * i[:, None] + k, n * j[:, None] + m
        kept = values != 0
        objective = dimod.BinaryQuadraticModel.from_numpy_vectors(
            np.outer(np.diag(flow), np.diag(distance)).ravel(),
            (rows[kept], cols[kept], values[kept]),
            0.0,
            dimod.BINARY,
            variable_order=range(n * n),
        )
        cqm = dimod.ConstrainedQuadraticModel()
        cqm.set_objective(objective)
        for at in range(n):
            facility, location = [(n * at + k, 1) for k in range(n)], [(n * i + at, 1) for i in range(n)]
            cqm.add_constraint_from_iterable(facility, "==", rhs=1, label=f"facility {at + 1} stands once")
            cqm.add_constraint_from_iterable(location, "==", rhs=1, label=f"location {at + 1} is taken once")
        return Program(cqm, "one-hot placement")

    def program_size(self, instance: Instance) -> int:
        """n² binaries."""
        return instance.size**2

    def evaluate(self, instance: Instance, values: np.ndarray) -> Evaluation:
        """Σ flow·distance; violations ``locations out of range`` and ``locations taken twice`` (numbers of them)."""
        n, given = instance.size, np.asarray(values, dtype=np.float64)
        places = np.clip(np.rint(given), 0, n - 1).astype(np.int64)
        outside = int(np.count_nonzero(places != given))
        twice = n - len(np.unique(places))
        amounts = {"locations out of range": float(outside), "locations taken twice": float(twice)}
        return Evaluation(cost(instance, places), {name: amount for name, amount in amounts.items() if amount})

    def complete(self, instance: Instance, assignment: np.ndarray) -> Solution:
        """The placement; where the bits are none, as many of them as possible, the rest placed one by one."""
        n = instance.size
        bits = np.asarray(assignment).reshape(n, n) != 0
        valid = bool((bits.sum(axis=0) == 1).all() and (bits.sum(axis=1) == 1).all())
        places = bits.argmax(axis=1) if valid else placed(instance, bits)
        return Solution(
            places, self.evaluate(instance, places), PostProcessing.RAW if valid else PostProcessing.REPAIRED
        )

    def assignment(self, instance: Instance, values: np.ndarray) -> np.ndarray:
        """The permutation matrix, row by row."""
        return _one_hot(np.asarray(values).astype(np.int64)[None, :])[0]

    def landscape(self, instance: Instance) -> QapLandscape:
        """Swaps of locations and reassignments of a few facilities."""
        from hybrid_assets.problems.assignment.qap_landscape import QapLandscape

        return QapLandscape(instance)

    def reference(self, instance: Instance, program: Program, seed: int) -> Reference:
        """The best of ten swap descents; one cluster of facilities with large flows, among their own locations.

        The cluster begins with the facility that has the largest part in the cost and takes the one with the largest
        flow to it, again and again. A variable's priority falls with the later of its facility and the facility that
        now has its location, so that the k² best ones are k facilities among their k locations.
        """
        walk = self.landscape(instance)
        found = min((walk.polish(walk.start(seed + k), 1_000_000).state for k in range(DESCENTS)), key=lambda s: s.cost)
        places, n = found.data, instance.size
        flow = np.abs(instance.arrays["flow"]) + np.abs(instance.arrays["flow"].T)
        at = instance.arrays["distance"][np.ix_(places, places)]
        part = (np.abs(instance.arrays["flow"]) * np.abs(at)).sum(axis=1)
        pull, rank, left = part / (1.0 + part.max()), np.zeros(n), np.ones(n, dtype=bool)
        for position in range(n):
            pick = int(np.argmax(np.where(left, pull, -np.inf)))
            rank[pick], left[pick] = position, False
            pull = pull + flow[pick]
        holder = np.argsort(places)
        priority = -np.maximum(rank[:, None], rank[holder][None, :]).ravel()
        method = f"best of {DESCENTS} swap descents; one cluster of facilities with large flows and their locations"
        return Reference(_one_hot(places[None, :])[0], priority, method)

    def random_assignments(
        self, instance: Instance, count: int, seed: int, free: np.ndarray | None = None, base: np.ndarray | None = None
    ) -> np.ndarray:
        """Uniformly random placements; with ``free`` uniform over those that allowed swaps reach from ``base``."""
        rng, n = np.random.default_rng(seed), instance.size
        if free is None:
            return _one_hot(rng.permuted(np.tile(np.arange(n), (count, 1)), axis=1))
        if base is None:
            raise ValueError("free variables need a base for the others")
        allowed = np.zeros((n, n), dtype=bool)
        allowed.ravel()[free] = True
        start = np.asarray(base).reshape(n, n).argmax(axis=1)
        drawn = np.tile(start, (count, 1))
        # a facility whose present variable is fixed stays
        movable = np.flatnonzero(allowed[np.arange(n), start])
        if len(movable) < 2:
            return _one_hot(drawn)
        rows = np.arange(count)
        for _ in range(SHUFFLES * len(movable)):
            # symmetric proposals: the walk over placements has the uniform distribution
            one, two = movable[rng.integers(0, len(movable), (2, count))]
            here, there = drawn[rows, one], drawn[rows, two]
            may = allowed[one, there] & allowed[two, here]
            drawn[rows[may], one[may]], drawn[rows[may], two[may]] = there[may], here[may]
        return _one_hot(drawn)

    def baselines(self, instance: Instance) -> Sequence[str]:
        """Branch and bound, which proves optima to about a dozen facilities, then robust tabu search.

        The solvers for any program are left out: they prove 8 facilities, and have the bound 0 for 10 (measured).
        """
        return ("qap-branch", "robust-tabu")

    def constraints(self, instance: Instance) -> Mapping[str, Any]:
        """One facility per location."""
        return {"facilities": instance.size, "locations": instance.size, "per location": 1}

    def plot_instance(self, instance: Instance) -> Figure:
        """Both matrices."""
        figure = small_figure(8.4, 4.2)
        panels = figure.subplots(1, 2)
        for axes, key in zip(panels, ("flow", "distance"), strict=True):
            shown = axes.imshow(instance.arrays[key], cmap="viridis", interpolation="nearest")
            figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.04)
            axes.set_title(f"{instance.name}: {key}" if key == "flow" else key)
        return figure

    def plot_solution(self, instance: Instance, solutions: Mapping[str, np.ndarray]) -> Figure:
        """Permutation matrices, every dot a facility in the shade of what it adds to the cost."""
        figure = small_figure(4.6 * max(1, len(solutions)), 4.6)
        panels = np.atleast_1d(figure.subplots(1, max(1, len(solutions))))
        n, flow, distance = instance.size, instance.arrays["flow"], instance.arrays["distance"]
        for axes, (label, values) in zip(panels, solutions.items(), strict=False):
            places = np.clip(np.asarray(values).astype(np.int64), 0, n - 1)
            part = (flow * distance[np.ix_(places, places)]).sum(axis=1)
            axes.scatter(places + 1, np.arange(1, n + 1), c=part, cmap="viridis", s=max(6, 900 / n), marker="s")
            axes.set_xlim(0.5, n + 0.5)
            axes.set_ylim(n + 0.5, 0.5)
            axes.grid(alpha=0.3)
            axes.set_xlabel("location")
            axes.set_ylabel("facility")
            axes.set_title(f"{label}: {self.evaluate(instance, values).objective:g}")
        return figure


def cost(instance: Instance, places: np.ndarray) -> float:
    """Σ flow·distance of a placement, int64 of shape ``(n,)``."""
    return float((instance.arrays["flow"] * instance.arrays["distance"][np.ix_(places, places)]).sum())


def placed(instance: Instance, bits: np.ndarray) -> np.ndarray:
    """A placement with as many of the bits (bool, shape ``(n, n)``) as possible, int64, shape ``(n,)``.

    Facilities left over follow in the order of their flow, each to the open location that costs least beside those
    already placed.
    """
    from scipy.optimize import linear_sum_assignment

    flow, distance, n = instance.arrays["flow"], instance.arrays["distance"], instance.size
    places = np.asarray(linear_sum_assignment(bits, maximize=True)[1], dtype=np.int64)
    done = bits[np.arange(n), places]
    left = np.setdiff1d(np.arange(n), places[done])
    weight = np.abs(flow).sum(axis=0) + np.abs(flow).sum(axis=1)
    waiting = np.flatnonzero(~done)
    for facility in waiting[np.argsort(-weight[waiting], kind="stable")]:
        others, at = np.flatnonzero(done), places[done]
        extra = flow[facility, facility] * distance[left, left]
        extra = extra + distance[np.ix_(left, at)] @ flow[facility, others]
        extra = extra + flow[others, facility] @ distance[np.ix_(at, left)]
        pick = int(np.argmin(extra))
        places[facility], done[facility] = left[pick], True
        left = np.delete(left, pick)
    return places


def _one_hot(places: np.ndarray) -> np.ndarray:
    """Int8 of shape ``(m, n²)`` from placements of shape ``(m, n)``."""
    m, n = places.shape
    bits = np.zeros((m, n, n), dtype=np.int8)
    bits[np.arange(m)[:, None], np.arange(n), places] = 1
    return bits.reshape(m, n * n)


def _is_size(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) < 8 and 2 <= int(word) <= MAX_FACILITIES


def _line(source: SourceFile, word: int) -> int:
    """The number of the line that holds this word of the file, from 1."""
    seen = 0
    for number, line in enumerate(source.text.splitlines(), 1):
        seen += len(line.split())
        if seen > word:
            return number
    return 1
