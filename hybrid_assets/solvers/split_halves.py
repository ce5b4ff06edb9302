"""Enumeration in two halves: the exact baseline of market split up to about fifty bits.

Here: the keys of both halves, the search for given residuals, and what that proves. Not here: heuristics
(``split_annealing``), the slack form (``split_highs``).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import combinations_with_replacement, product

import numpy as np

from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask

#: Bits of the half that is kept sorted (8 bytes for each of its sums), and bits of a piece of the other half.
KEPT_BITS, PIECE_BITS = 25, 20
#: Sums that are kept for each second of the budget: making them takes a tenth of it (measured).
KEPT_PER_SECOND = 5_000_000
#: Evaluations of the descent that gives the first answer.
DESCENT = 200_000


class SplitHalves(ClassicalSolver):
    """All sums of one half of the columns are sorted, all sums of the other half looked up in them (Horowitz & Sahni,
    Journal of the ACM 21, 1974), first for residual 0, then for all residuals with Σ|r| = 1, 2, … Sums are compared by
    a linear hash modulo 2⁶⁴: equal sums have equal keys, so a search that finds nothing proves that nothing is there,
    and every hit is checked."""

    name = "split-halves"

    def supports(self, family: str) -> bool:
        """Market split."""
        return family == "marketsplit"

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Search until the optimum is proven or the budget is spent."""
        started = time.perf_counter()
        deadline = started + budget_seconds
        landscape = task.family.landscape(task.instance)
        assert landscape is not None
        state = landscape.polish(landscape.start(seed), DESCENT).state
        values, objective, bound = state.data, state.cost, 0
        trajectory, looked = [(time.perf_counter() - started, objective)], 0
        halves = _Halves(task.instance.arrays["matrix"], task.instance.arrays["targets"], seed, budget_seconds)
        while objective > bound and not task.reached(objective) and halves.ready(deadline):
            found, complete = None, True
            for residual in _residuals(len(halves.targets), bound):
                found, complete = halves.find(residual, deadline)
                looked += 1
                if found is not None or not complete:
                    break
            if found is not None:
                values, objective = found, float(bound)
                trajectory.append((time.perf_counter() - started, objective))
            elif not complete:
                break
            else:
                bound += 1
        return SolverResult(
            solver=self.name,
            version=f"numpy {np.__version__}",
            status="optimal" if objective <= bound else "feasible",
            values=values,
            objective=objective,
            bound=float(bound),
            seconds=time.perf_counter() - started,
            trajectory=tuple(trajectory),
            seed=seed,
            evaluations=looked,
        )


class _Halves:
    """The keys of both halves; the kept one is built when first asked for."""

    def __init__(self, matrix: np.ndarray, targets: np.ndarray, seed: int, budget: float) -> None:
        self.matrix, self.targets = matrix, targets
        self.hash = np.random.default_rng(seed).integers(0, 2**64, len(targets), dtype=np.uint64, endpoint=False)
        self.columns = self._key(matrix)
        most = max(1, int(KEPT_PER_SECOND * budget)).bit_length() - 1
        self.kept = min(KEPT_BITS, most, (matrix.shape[1] + 1) // 2)
        self.piece = min(PIECE_BITS, matrix.shape[1] - self.kept)
        self.keys: np.ndarray | None = None
        self.piece_keys: np.ndarray | None = None

    def _key(self, vectors: np.ndarray) -> np.ndarray:
        """Keys of the columns of an int64 array of shape ``(m, k)``; wraps around, which keeps them linear."""
        return (vectors.astype(np.uint64) * self.hash[:, None]).sum(axis=0, dtype=np.uint64)

    def ready(self, deadline: float) -> bool:
        """Build what is missing; whether there is time left."""
        if self.keys is None:
            keys = _sums(self.columns[: self.kept], deadline, ordered=True)
            pieces = _sums(self.columns[self.kept : self.kept + self.piece], deadline, ordered=True)
            if keys is None or pieces is None:
                return False
            self.keys, self.piece_keys = keys, pieces
        return time.perf_counter() < deadline

    def find(self, residual: np.ndarray, deadline: float) -> tuple[np.ndarray | None, bool]:
        """Bits with Ax − b = ``residual``, and whether all were looked at where there are none."""
        assert self.keys is not None
        assert self.piece_keys is not None
        goal = self._key((self.targets + residual)[:, None])[0]
        rest = self.columns[self.kept + self.piece :]
        for prefix in range(2 ** len(rest)):
            if time.perf_counter() > deadline:
                return None, False
            chosen = np.array([prefix >> k & 1 for k in range(len(rest))], dtype=bool)
            prefixed = (int(goal) - int(rest[chosen].sum(dtype=np.uint64))) % 2**64
            # in falling order but for one place where they wrap around: such queries stay in the cache
            wanted = np.uint64(prefixed) - self.piece_keys
            at = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
            for hit in np.flatnonzero(self.keys[at] == wanted).tolist():
                bits = self._bits(self.keys[at[hit]], self.piece_keys[hit], chosen)
                if np.array_equal(self.matrix @ bits.astype(np.int64) - self.targets, residual):
                    return bits, True
        return None, True

    def _bits(self, key: np.uint64, piece: np.uint64, chosen: np.ndarray) -> np.ndarray:
        """The bits behind two keys and the chosen rest."""
        parts = []
        for columns, wanted in (
            (self.columns[: self.kept], key),
            (self.columns[self.kept : self.kept + self.piece], piece),
        ):
            keys = _sums(columns, np.inf)
            assert keys is not None
            index = int(np.argmax(keys == wanted))
            parts.append(np.array([index >> k & 1 for k in range(len(columns))], dtype=np.int8))
        return np.concatenate([*parts, chosen.astype(np.int8)])


def _sums(columns: np.ndarray, deadline: float, ordered: bool = False) -> np.ndarray | None:
    """Keys of all subsets, uint64, entry k for the bits of k, or ``ordered``; ``None`` when time is up."""
    keys = np.zeros(1, dtype=np.uint64)
    for column in columns:
        if time.perf_counter() > deadline:
            return None
        keys = np.concatenate([keys, keys + column])
        if ordered:
            # two or three runs in order, which the stable sort merges in linear time
            keys.sort(kind="stable")
    return keys


def _residuals(rows: int, total: int) -> Iterator[np.ndarray]:
    """All int64 vectors of this length with Σ|r| = ``total``."""
    for places in combinations_with_replacement(range(rows), total):
        amounts = np.bincount(np.array(places, dtype=np.int64), minlength=rows)
        used = np.flatnonzero(amounts)
        for signs in product((1, -1), repeat=len(used)):
            residual = amounts.copy()
            residual[used] *= np.array(signs, dtype=np.int64)
            yield residual
