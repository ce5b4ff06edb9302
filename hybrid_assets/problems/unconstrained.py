"""What families without constraints share: every bit string is a solution and stands for itself.

Here: the abstract families, for quadratic objectives the program and the classical reference point for narrowing, and
the matrix picture. Not here: formats and objectives, which belong to the families.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hybrid_assets.problems.base import FamilyOptions, Instance, ProblemFamily, Program, Reference, Solution

if TYPE_CHECKING:
    import dimod
    from matplotlib.axes import Axes

    from hybrid_assets.problems.landscape import Landscape

#: Largest number of variables for which tabu search is a baseline: it keeps dense copies of the matrix.
TABU_VARIABLES = 5_000
#: Members of the coupled cluster that ``reference`` grows; far above any qubit budget it is only sorted.
CLUSTER = 1_000
#: Cells on a side of a matrix picture.
CELLS = 300


@dataclass(frozen=True)
class Quadratic:
    """The polynomial ``offset + Σ linear_i x_i + Σ values_k x_rows[k] x_cols[k]`` over bits.

    Attributes:
        linear: float64, shape ``(n,)``.
        rows, cols: int64, ``rows < cols``, in lexicographic order.
        values: float64, non-zero.
        offset: the constant.
    """

    linear: np.ndarray
    rows: np.ndarray
    cols: np.ndarray
    values: np.ndarray
    offset: float

    def at(self, bits: np.ndarray) -> float:
        """Value at a bit vector of shape ``(n,)``."""
        x = np.asarray(bits, dtype=np.float64)
        return float(self.offset + self.linear @ x + self.values @ (x[self.rows] * x[self.cols]))

    def bqm(self) -> dimod.BinaryQuadraticModel:
        """The same as a BINARY model over ``0 … n-1``."""
        import dimod

        return dimod.BinaryQuadraticModel.from_numpy_vectors(
            self.linear, (self.rows, self.cols, self.values), self.offset, dimod.BINARY
        )


class BitFamily(ProblemFamily):
    """A family whose assignments are its solutions, every one of them feasible."""

    options = FamilyOptions

    def program_size(self, instance: Instance) -> int:
        """One binary per bit."""
        return instance.size

    def complete(self, instance: Instance, assignment: np.ndarray) -> Solution:
        """The assignment itself: nothing is repaired or polished."""
        values = np.asarray(assignment, dtype=np.int8)
        return Solution(values, self.evaluate(instance, values))

    def assignment(self, instance: Instance, values: np.ndarray) -> np.ndarray:
        """The solution itself."""
        return np.asarray(values).astype(np.int8)

    def random_assignments(
        self, instance: Instance, count: int, seed: int, free: np.ndarray | None = None, base: np.ndarray | None = None
    ) -> np.ndarray:
        """Uniformly random bits; with ``free`` only those vary and ``base`` gives the others."""
        rng = np.random.default_rng(seed)
        if free is None:
            return rng.integers(0, 2, (count, instance.size), dtype=np.int8)
        if base is None:
            raise ValueError("free variables need a base for the others")
        drawn = np.tile(np.asarray(base, dtype=np.int8), (count, 1))
        drawn[:, free] = rng.integers(0, 2, (count, len(free)), dtype=np.int8)
        return drawn

    def constraints(self, instance: Instance) -> Mapping[str, Any]:
        """None: every bit string is feasible."""
        return {}


class UnconstrainedFamily(BitFamily):
    """Such a family with a quadratic objective; subclasses read, normalize, evaluate and draw."""

    #: Name of the program's form.
    form: ClassVar[str]

    @abstractmethod
    def minimized(self, instance: Instance) -> Quadratic:
        """The polynomial whose minimum is the best solution."""

    def model(self, instance: Instance) -> Program:
        """The polynomial as an unconstrained program."""
        import dimod

        cqm = dimod.ConstrainedQuadraticModel()
        cqm.set_objective(self.minimized(instance).bqm())
        return Program(cqm, self.form)

    def reference(self, instance: Instance, program: Program, seed: int) -> Reference:
        """The best of several steepest descents, and one coupled cluster around its most undecided variable.

        A variable is undecided when flipping it costs little of what its terms weigh. From the most undecided one the
        cluster takes, again and again, the variable with the largest coupling to the cluster per cost of its flip, so
        that what is kept is connected and worth deciding. Priority falls in the order of joining.
        """
        from dwave.samplers import SteepestDescentSampler

        quadratic = self.minimized(instance)
        # a fixed amount of work, not a time: the reference must be the same on every machine
        reads = int(np.clip(2_000_000 // (instance.size + 2 * len(quadratic.values)), 4, 100))
        found = SteepestDescentSampler().sample(quadratic.bqm(), num_reads=reads, seed=seed)
        best = found.record.sample[int(np.argmin(found.record.energy))]
        bits = best[np.argsort(np.asarray(list(found.variables)))].astype(np.int8)
        return Reference(
            bits,
            _cluster_priority(quadratic, bits),
            f"best of {reads} steepest descents; one coupled cluster around the most undecided variable",
        )

    def landscape(self, instance: Instance) -> Landscape:
        """The bits themselves."""
        from hybrid_assets.problems.flips import FlipLandscape

        return FlipLandscape(self, instance, faithful=True)

    def baselines(self, instance: Instance) -> Sequence[str]:
        """Greedy, exact, annealing and, up to 5,000 variables, tabu."""
        return ("greedy", "cpsat", "annealing") + (("tabu",) if instance.size <= TABU_VARIABLES else ())


def _cluster_priority(quadratic: Quadratic, bits: np.ndarray) -> np.ndarray:
    """Priorities of shape ``(n,)`` as described in ``UnconstrainedFamily.reference``; all distinct."""
    from scipy.sparse import coo_array

    n, x = len(bits), bits.astype(np.float64)
    pairs = (np.concatenate([quadratic.rows, quadratic.cols]), np.concatenate([quadratic.cols, quadratic.rows]))
    couplings = coo_array((np.tile(quadratic.values, 2), pairs), shape=(n, n)).tocsr()
    cost = (1 - 2 * x) * (quadratic.linear + couplings @ x)
    weight = np.abs(quadratic.linear) + np.abs(couplings).sum(axis=1)
    # a variable in no term decides nothing: it comes last
    undecided = np.where(weight > 0, np.abs(cost) / np.where(weight > 0, weight, 1.0), np.inf)
    damped = np.abs(cost) + np.abs(cost).mean() + np.finfo(float).tiny
    pull, joined = np.zeros(n), np.zeros(n, dtype=bool)
    order: list[int] = []
    for _ in range(min(n, CLUSTER)):
        score = np.where(joined, -1.0, pull / damped)
        pick = int(np.argmax(score))
        if score[pick] <= 0:
            pick = int(np.argmin(np.where(joined, np.inf, undecided)))
            if joined[pick]:
                break
        joined[pick] = True
        order.append(pick)
        part = slice(couplings.indptr[pick], couplings.indptr[pick + 1])
        pull[couplings.indices[part]] += np.abs(couplings.data[part])
    rest = np.flatnonzero(~joined)
    ranking = np.concatenate([np.asarray(order, dtype=np.int64), rest[np.argsort(undecided[rest], kind="stable")]])
    priority = np.empty(n)
    priority[ranking] = np.arange(n, 0, -1)
    return priority


def draw_matrix(axes: Axes, quadratic: Quadratic, bits: np.ndarray | None = None) -> None:
    """A heat map of the symmetric matrix; with ``bits`` the ones come first, and lines part them from the zeros.

    Above 300 variables a cell shows the sum of its block, so that sparse large matrices stay visible.
    """
    n = len(quadratic.linear)
    order = np.arange(n) if bits is None else np.argsort(-np.asarray(bits), kind="stable")
    place = np.empty(n, dtype=np.int64)
    place[order] = np.arange(n)
    cells = min(n, CELLS)
    cell = place * cells // n
    picture = np.zeros((cells, cells))
    np.add.at(picture, (cell, cell), quadratic.linear)
    for a, b in ((quadratic.rows, quadratic.cols), (quadratic.cols, quadratic.rows)):
        np.add.at(picture, (cell[a], cell[b]), quadratic.values / 2)
    filled = np.abs(picture[picture != 0])
    limit = float(np.percentile(filled, 95)) if filled.size else 1.0
    shown = axes.imshow(
        picture, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest", extent=(0.5, n + 0.5, n + 0.5, 0.5)
    )
    axes.figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.04)
    if bits is not None:
        ones = float(np.sum(bits)) + 0.5
        axes.axhline(ones, color="black", linewidth=0.8)
        axes.axvline(ones, color="black", linewidth=0.8)
