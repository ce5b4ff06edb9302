"""Branch and bound for sequences of low autocorrelation (Mertens 1996), one thread.

Here: the start, clock and record. Not here: the compiled loop (``labs_kernels``).
"""

from __future__ import annotations

import numpy as np

from hybrid_assets.problems.sequences.labs import lowest_energy
from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask
from hybrid_assets.solvers.labs_tabu import UNKNOWN
from hybrid_assets.solvers.search import Record

#: Tabu runs that give the first incumbent, and nodes between two looks at the clock.
RUNS, CHUNK = 200, 50_000


class LabsBranch(ClassicalSolver):
    """Every sequence up to symmetry, bounded from both ends inwards; the optimum of 31 elements takes some ten seconds.

    The incumbent at the start is from a few short tabu searches. Without a proof the bound is the one that needs no
    search. Compiling, once per installation, is not charged.
    """

    name = "labs-branch"

    def supports(self, family: str) -> bool:
        """Low-autocorrelation sequences."""
        return family == "labs"

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Search until the proof, the end of the budget or the proven target."""
        from hybrid_assets.solvers.labs_kernels import branch, tabu_runs

        rng, n = np.random.default_rng(seed), task.instance.size
        bound = lowest_energy(n)
        goal = bound if task.target is None else max(bound, int(min(task.target, UNKNOWN - 1)))
        best, energy, levels, nodes = np.ones(n, dtype=np.int64), UNKNOWN, (n + 1) // 2, 0
        spins, choice = np.ones(n, dtype=np.int64), np.zeros(levels, dtype=np.int64)
        sums, free = np.zeros((levels + 1, n), dtype=np.int64), _products_left(n)
        # neither runs nor nodes: this only loads the compiled code
        tabu_runs(best, energy, 0, goal, rng)
        branch(spins, sums, free, choice, -1, best, energy, 0, goal)
        record, depth = Record(task, budget_seconds), 0
        for _ in range(RUNS):
            if record.done or energy <= goal:
                break
            energy, _ = tabu_runs(best, energy, 1, goal, rng)
            record.offer((best < 0).astype(np.int8), float(energy))
        while depth >= 0 and energy > goal and not record.done:
            depth, energy, visited = branch(spins, sums, free, choice, depth, best, energy, CHUNK, goal)
            nodes += visited
            record.offer((best < 0).astype(np.int8), float(energy))
        proven = depth < 0 or energy == bound
        bound = energy if proven else bound
        return record.result(self.name, "numba", seed, nodes, bound=float(bound), proven=proven)


def _products_left(n: int) -> np.ndarray:
    """Products at distance k that are not set when the first and last d spins are; int64, ``(levels + 1, n)``."""
    levels = (n + 1) // 2
    left = np.zeros((levels + 1, n), dtype=np.int64)
    for d in range(levels):
        known = (np.arange(n) < d) | (np.arange(n) >= n - d)
        for k in range(1, n):
            left[d, k] = n - k - np.count_nonzero(known[: n - k] & known[k:])
    return left
