"""The ``knapsack`` family: choose items of the largest total value within one or several capacities.

max Σ v_i x_i + Σ_{i<j} p_ij x_i x_j, Σ_i w_ri x_i ≤ c_r for every constraint r: single, multi-dimensional and quadratic
knapsacks are one family, told apart by content (Kellerer, Pferschy & Pisinger, Knapsack Problems, 2004). Weights with
decimals are scaled to whole numbers per constraint, exactly; more than six decimals are refused. Items that fit nowhere
are no variables of the program: their bit is 0.

Here: the family. Not here: layouts (``knapsack_files``), compiled loops, the walk (``knapsack_landscape``), pictures
(``packing_plots``).
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
    no_bits,
)
from hybrid_assets.problems.number_text import MAX_DECIMALS, scaled
from hybrid_assets.problems.packing import knapsack_files
from hybrid_assets.problems.packing.knapsack_bag import Bag
from hybrid_assets.problems.packing.knapsack_files import RawKnapsack
from hybrid_assets.problems.source import SourceFile
from resources.envelope import PostProcessing
from resources.failures import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hybrid_assets.problems.packing.knapsack_landscape import KnapsackLandscape

#: Steps per variable of the chain behind a random assignment.
CHAIN_STEPS = 20
#: ΔE evaluations of the descent behind the point for narrowing.
DESCENT = 1_000_000
#: Largest sum of scaled weights: exact in floating point as well.
MAX_SUM = 2**53


class Knapsack(ProblemFamily):
    """Bit i: whether item i is chosen.

    ``Instance.arrays``: ``values`` (n,), ``weights`` int64 (m, n) and ``capacities`` int64 (m,), both times ``scales``
    (m,), and ``rows < cols`` with ``pairs``, the pair values (all empty where there are none).
    """

    name = "knapsack"
    version = "1"
    title = "knapsack: single, multi-dimensional (OR-Library mknap) or quadratic (Billionnet-Soutif)"
    options = FamilyOptions

    def recognises(self, source: SourceFile) -> bool:
        """Whether the content is one of the three layouts."""
        return knapsack_files.layout_of(source) is not None

    def read(self, source: SourceFile) -> Sequence[RawKnapsack]:
        """All instances of the file."""
        return knapsack_files.read(source)

    def normalize(self, raw: RawKnapsack, options: FamilyOptions, name: str) -> Instance:
        """Scale the constraints to whole numbers and note the items that never fit.

        Raises:
            InputError: too many decimals, sums too large, or no item fits.
        """
        m, n = raw.weights.shape
        weights, capacities = np.empty((m, n), dtype=np.int64), np.empty(m, dtype=np.int64)
        scales, notes = np.ones(m), []
        for r in range(m):
            whole = scaled(np.append(raw.weights[r], raw.capacities[r]))
            if whole is None:
                raise InputError(
                    raw.file,
                    f"constraint {r + 1}",
                    f"a weight or the capacity has more than {MAX_DECIMALS} decimals",
                    "round the weights up and the capacity down",
                )
            if float(whole[0].astype(np.float64).sum()) > MAX_SUM:
                raise InputError(
                    raw.file, f"constraint {r + 1}", "the weights add up to more than 2^53", "rescale them"
                )
            weights[r], capacities[r], scales[r] = whole[0][:-1], whole[0][-1], whole[1]
        if (scales > 1).any():
            notes.append(f"{int((scales > 1).sum())} constraints with decimals scaled to whole numbers, exactly")
        never = (weights > capacities[:, None]).any(axis=0)
        if never.all():
            raise InputError(raw.file, "weights", "no item fits, so there is nothing to decide", "check the capacities")
        if never.any():
            notes.append(f"{int(never.sum())} items are heavier than a capacity and fixed to 0")
        pairs = np.zeros((0, 0)) if raw.pairs is None else raw.pairs
        rows, cols = np.nonzero(pairs)
        arrays = {
            "values": raw.values.astype(np.float64),
            "weights": weights,
            "capacities": capacities,
            "scales": scales,
            "rows": rows.astype(np.int64),
            "cols": cols.astype(np.int64),
            "pairs": pairs[rows, cols],
        }
        labels = tuple(str(i) for i in range(1, n + 1))
        settings = {**options.model_dump(mode="json"), "layout": raw.layout}
        return Instance(self.name, name, n, "max", arrays, settings, labels, tuple(notes))

    def program_size(self, instance: Instance) -> int:
        """Items that fit."""
        return len(fitting(instance))

    def model(self, instance: Instance) -> Program:
        """Minus the value of the items that fit, one constraint per capacity that they can exceed together.

        Raises:
            InputError: more than 5,000 items.
        """
        import dimod

        items = fitting(instance)
        if len(items) > PROGRAM_VARIABLES:
            raise InputError(
                instance.name,
                "items",
                f"{len(items)} would make a program too large to hold",
                f"use the proposal engine, or at most {PROGRAM_VARIABLES}",
            )
        a, place = instance.arrays, np.full(instance.size, -1)
        place[items] = np.arange(len(items))
        kept = (place[a["rows"]] >= 0) & (place[a["cols"]] >= 0)
        cqm = dimod.ConstrainedQuadraticModel()
        cqm.add_variables(dimod.BINARY, range(len(items)))
        cqm.set_objective(
            dimod.BinaryQuadraticModel.from_numpy_vectors(
                -a["values"][items],
                (place[a["rows"][kept]], place[a["cols"][kept]], -a["pairs"][kept]),
                0.0,
                dimod.BINARY,
            )
        )
        for r, (row, capacity) in enumerate(zip(a["weights"][:, items], a["capacities"].tolist(), strict=True)):
            if row.sum() > capacity:
                terms = [(k, w) for k, w in enumerate(row.tolist()) if w]
                cqm.add_constraint(terms, "<=", capacity, label=f"capacity-{r + 1}")
        return Program(cqm, "negated value")

    def evaluate(self, instance: Instance, values: np.ndarray) -> Evaluation:
        """Total value; violations ``capacity-r`` in the file's units (r from 1), ``values that are no bits``."""
        a, x = instance.arrays, np.asarray(values, dtype=np.float64)
        objective = float(a["values"] @ x + a["pairs"] @ (x[a["rows"]] * x[a["cols"]]))
        excess = (a["weights"] @ np.asarray(values).astype(np.int64) - a["capacities"]) / a["scales"]
        over = {f"capacity-{r + 1}": float(e) for r, e in enumerate(excess) if e > 0}
        return Evaluation(objective, over | no_bits(x))

    def complete(self, instance: Instance, assignment: np.ndarray) -> Solution:
        """The items chosen; while a capacity is exceeded, the one with the least value per excess weight is dropped."""
        values = np.zeros(instance.size, dtype=np.int8)
        values[fitting(instance)] = assignment
        post = PostProcessing.RAW
        if (instance.arrays["weights"] @ values.astype(np.int64) > instance.arrays["capacities"]).any():
            bag = Bag.of(instance, values)
            bag.shed()
            values, post = bag.x, PostProcessing.REPAIRED
        return Solution(values, self.evaluate(instance, values), post)

    def assignment(self, instance: Instance, values: np.ndarray) -> np.ndarray:
        """The bits of the items that fit."""
        return np.asarray(values)[fitting(instance)].astype(np.int8)

    def reference(self, instance: Instance, program: Program, seed: int) -> Reference:
        """Items by value per priced weight, then descent; undecided is what lies next to the border of in and out."""
        bag = Bag.greedy(instance, None)
        bag.descend(DESCENT)
        items = fitting(instance)
        order = np.argsort(-(bag.gains / bag.priced(bag.prices()))[items], kind="stable")
        rank = np.empty(len(items))
        rank[order] = np.arange(len(items))
        return Reference(
            bag.x[items],
            -np.abs(rank - (bag.x[items].sum() - 0.5)),
            "greedy by value per weight at the prices of the relaxation, add and swap descent; border items first",
        )

    def random_assignments(
        self, instance: Instance, count: int, seed: int, free: np.ndarray | None = None, base: np.ndarray | None = None
    ) -> np.ndarray:
        """Feasible choices by a chain of flips that is uniform in the long run (Morris & Sinclair, SIAM Journal on
        Computing 34, 2004), 20 steps per variable from the empty choice for each."""
        from hybrid_assets.problems.packing.knapsack_loops import wander

        items = fitting(instance)
        weights = np.ascontiguousarray(instance.arrays["weights"][:, items].T)
        start = np.zeros(len(items), dtype=np.int8) if base is None else np.array(base, dtype=np.int8)
        chosen = np.arange(len(items)) if free is None else np.asarray(free, dtype=np.int64)
        start[chosen] = 0
        draws = np.tile(start, (count, 1))
        room = instance.arrays["capacities"] - start.astype(np.int64) @ weights
        rng = np.random.default_rng(seed)
        for draw in draws if len(chosen) else ():
            wander(draw, weights, room.copy(), chosen, CHAIN_STEPS * len(chosen), rng)
        return draws

    def landscape(self, instance: Instance) -> KnapsackLandscape:
        """Bits that always fit; see ``knapsack_landscape``."""
        from hybrid_assets.problems.packing.knapsack_landscape import KnapsackLandscape

        return KnapsackLandscape(instance)

    def baselines(self, instance: Instance) -> Sequence[str]:
        """The exact solvers that suit the layout first, then the walk of flips and repairs."""
        by_layout: dict[str, tuple[str, ...]] = {
            "single": ("knapsack-dp", "cpsat-program", "highs"),
            "multi-dimensional": ("highs", "cpsat-program", "scip-program"),
            "quadratic": ("scip-program", "cpsat-program", "highs"),
        }
        first = by_layout[instance.settings["layout"]]
        if self.program_size(instance) > PROGRAM_VARIABLES:
            first = tuple(name for name in first if name == "knapsack-dp")
        return (*first, "knapsack-search")

    def constraints(self, instance: Instance) -> Mapping[str, Any]:
        """Capacities in the file's units and the items that never fit."""
        a = instance.arrays
        out = np.setdiff1d(np.arange(instance.size), fitting(instance))
        return {
            "capacities": (a["capacities"] / a["scales"]).tolist(),
            "fixed to 0": [instance.labels[i] for i in out],
        }

    def plot_instance(self, instance: Instance) -> Figure:
        """Value against weight of every item."""
        from hybrid_assets.problems.packing import packing_plots

        return packing_plots.items(instance)

    def plot_solution(self, instance: Instance, solutions: Mapping[str, np.ndarray]) -> Figure:
        """Fill chart: the share of every capacity that each solution uses."""
        from hybrid_assets.problems.packing import packing_plots

        titles = {k: f"{k}: {self.evaluate(instance, v).objective:g}" for k, v in solutions.items()}
        return packing_plots.capacities(instance, {titles[k]: v for k, v in solutions.items()})


def fitting(instance: Instance) -> np.ndarray:
    """Indices of the items that fit on their own: the program's variables, in order."""
    a = instance.arrays
    return np.flatnonzero((a["weights"] <= a["capacities"][:, None]).all(axis=0))
