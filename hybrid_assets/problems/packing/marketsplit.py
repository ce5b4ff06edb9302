"""The ``marketsplit`` family: bits whose weighted sums meet all targets, or miss them by as little as possible.

min Σ_r |Σ_i a_ri x_i − b_r|, the slack form of Cornuéjols & Dawande (INFORMS Journal on Computing 11, 1999); 0 where
the system Ax = b has a solution. Format: QOBLIB 01-marketsplit (``m n``, then m rows of n coefficients and the
target, all whole numbers that are not negative; ``#`` comments).

The binary program is a named proxy without slack, the sum of squared residuals: it is 0 exactly where the objective is
0 and ranks other points alike but not the same, so that bounds of the program are none of the problem
(``exact_program`` is false).

Here: the family. Not here: the walk (``marketsplit_landscape``), compiled loops, pictures (``packing_plots``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from hybrid_assets.problems.base import (
    PROGRAM_VARIABLES,
    Evaluation,
    FamilyOptions,
    Instance,
    Program,
    Reference,
    no_bits,
)
from hybrid_assets.problems.number_text import MAX_ROWS, Words
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.problems.unconstrained import BitFamily
from resources.failures import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hybrid_assets.problems.packing.marketsplit_landscape import MarketSplitLandscape

#: Most bits, and the largest sum of a row: its square is exact in floating point.
MAX_BITS, MAX_SUM = 20_000, 2**26
#: Descents behind the point for narrowing, and their flips.
DESCENTS, FLIPS = 20, 200_000


@dataclass(frozen=True)
class RawSplit:
    """An instance as its file gives it: name of the file, float64 table of coefficients and targets, (m, n + 1)."""

    file: str
    table: np.ndarray


class MarketSplit(BitFamily):
    """Bit i: whether retailer i goes to the first division. ``Instance.arrays``: ``matrix`` int64 (m, n) and
    ``targets`` int64 (m,)."""

    name = "marketsplit"
    version = "1"
    title = "market split (QOBLIB: m n, then rows of coefficients and target)"
    # the best objective is 0 where there is a split
    gap_kind: ClassVar[Literal["relative", "normalized"]] = "normalized"
    exact_program: ClassVar[bool] = False

    def recognises(self, source: SourceFile) -> bool:
        """``m n`` with n ≥ 2, then m lines of numbers, the first of them with n + 1."""
        first = next((line.split() for line in source.head.splitlines() if _data(line)), [])
        if len(first) != 2 or not all(word.isascii() and word.isdigit() and len(word) < 9 for word in first):
            return False
        rows = [line for line in source.text.splitlines() if _data(line)][1:]
        m, n = map(int, first)
        return n >= 2 and len(rows) == m >= 1 and len(rows[0].split()) == n + 1 and all(map(_numeric, rows[0].split()))

    def read(self, source: SourceFile) -> Sequence[RawSplit]:
        """Parse one instance."""
        words = Words.of(source)
        m = words.whole("the number of rows", 1, MAX_ROWS)
        n = words.whole("the number of bits", 2, MAX_BITS)
        rows = []
        for _ in range(m):
            row = words.numbers(n + 1, "coefficients and targets")
            if (row != np.rint(row)).any():
                k = int(np.argmax(row != np.rint(row)))
                raise words.error(f"{row[k]:g} is no whole number", "scale the row to whole numbers", back=n + 1 - k)
            if row.sum() > MAX_SUM:
                raise words.error("the numbers of the row add up to more than 2^26", "divide the row by a number")
            rows.append(row)
        words.end(f"the {m} rows")
        return [RawSplit(words.file, np.array(rows))]

    def normalize(self, raw: RawSplit, options: FamilyOptions, name: str) -> Instance:
        """Store the system.

        Raises:
            InputError: all coefficients are 0.
        """
        table = raw.table.astype(np.int64)
        if not table[:, :-1].any():
            raise InputError(raw.file, "coefficients", "all are 0, so there is nothing to decide", "correct the rows")
        labels = tuple(str(i) for i in range(1, table.shape[1]))
        return Instance(
            self.name,
            name,
            len(labels),
            "min",
            {"matrix": np.ascontiguousarray(table[:, :-1]), "targets": table[:, -1].copy()},
            options.model_dump(mode="json"),
            labels,
        )

    def model(self, instance: Instance) -> Program:
        """Sum of squared residuals, without constraints.

        Raises:
            InputError: more than 5,000 bits.
        """
        import dimod

        if instance.size > PROGRAM_VARIABLES:
            raise InputError(
                instance.name,
                "bits",
                f"{instance.size} would make a dense program too large to hold",
                f"use the proposal engine, or at most {PROGRAM_VARIABLES}",
            )
        a, b = (instance.arrays[key].astype(np.float64) for key in ("matrix", "targets"))
        gram = a.T @ a
        rows, cols = np.nonzero(np.triu(gram, 1))
        cqm = dimod.ConstrainedQuadraticModel()
        cqm.add_variables(dimod.BINARY, range(instance.size))
        cqm.set_objective(
            dimod.BinaryQuadraticModel.from_numpy_vectors(
                np.diag(gram) - 2 * b @ a, (rows, cols, 2 * gram[rows, cols]), float(b @ b), dimod.BINARY
            )
        )
        return Program(cqm, "sum of squared residuals (proxy)")

    def evaluate(self, instance: Instance, values: np.ndarray) -> Evaluation:
        """Σ |Ax − b|; every choice of bits is feasible (violation ``values that are no bits``)."""
        residual = instance.arrays["matrix"] @ np.asarray(values).astype(np.int64) - instance.arrays["targets"]
        return Evaluation(float(np.abs(residual).sum()), no_bits(values))

    def reference(self, instance: Instance, program: Program, seed: int) -> Reference:
        """The best of 20 descents; bits whose flip changes the squared residuals least come first."""
        rng, landscape = np.random.default_rng(seed), self.landscape(instance)
        starts = rng.integers(0, 2, (DESCENTS, instance.size), dtype=np.int8)
        states = [landscape.polish(landscape.state_of(x), FLIPS).state for x in starts]
        best = min(states, key=lambda state: state.cost)
        columns, sign = instance.arrays["matrix"], 1 - 2 * best.data.astype(np.int64)
        change = 2 * sign * (best.cache @ columns) + (columns**2).sum(axis=0)
        return Reference(
            best.data.copy(), -np.abs(change).astype(np.float64), f"best of {DESCENTS} descents by flips and pairs"
        )

    def landscape(self, instance: Instance) -> MarketSplitLandscape:
        """Bits and their residuals; see ``marketsplit_landscape``."""
        from hybrid_assets.problems.packing.marketsplit_landscape import MarketSplitLandscape

        return MarketSplitLandscape(instance)

    def baselines(self, instance: Instance) -> Sequence[str]:
        """Enumeration in two halves, HiGHS on the slack form, annealing over flips and pairs."""
        return ("split-halves", "split-highs", "split-annealing")

    def constraints(self, instance: Instance) -> Mapping[str, Any]:
        """The targets, which the objective measures."""
        return {"targets": instance.arrays["targets"].tolist()}

    def plot_instance(self, instance: Instance) -> Figure:
        """The matrix."""
        from hybrid_assets.problems.packing import packing_plots

        return packing_plots.matrix(instance)

    def plot_solution(self, instance: Instance, solutions: Mapping[str, np.ndarray]) -> Figure:
        """Residual of every row."""
        from hybrid_assets.problems.packing import packing_plots

        titles = {k: f"{k}: {self.evaluate(instance, v).objective:g}" for k, v in solutions.items()}
        return packing_plots.residuals(instance, {titles[k]: v for k, v in solutions.items()})


def _data(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _numeric(word: str) -> bool:
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False
