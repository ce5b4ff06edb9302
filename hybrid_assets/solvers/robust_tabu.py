"""Robust tabu search for quadratic assignment (Taillard 1991), one thread.

Here: restarts, clock, record. Not here: the compiled loop (``robust_tabu_kernel``).
"""

from __future__ import annotations

import numpy as np

from hybrid_assets.problems.assignment.qap import cost
from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask
from hybrid_assets.solvers.search import Record

#: Iterations of the first run; every later one is so much longer (runs that are long enough come, whatever that is).
FIRST_PER_FACILITY, GROWTH = 5_000, 1.3
#: Table entries updated between two looks at the clock.
CHUNK = 5_000_000


class RobustTabu(ClassicalSolver):
    """Robust tabu search from random placements, in runs that grow.

    The program is never built. Compiling, once per installation, is not charged.
    """

    name = "robust-tabu"

    def supports(self, family: str) -> bool:
        """Quadratic assignment."""
        return family == "qap"

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Search until the budget ends or the proven target is reached."""
        from hybrid_assets.problems.assignment.qap_moves import all_swaps
        from hybrid_assets.solvers.robust_tabu_kernel import search

        rng, n = np.random.default_rng(seed), task.instance.size
        flow, distance = (np.ascontiguousarray(task.instance.arrays[key]) for key in ("flow", "distance"))
        table, until, start = np.zeros((n, n)), np.zeros((n, n), dtype=np.int64), rng.permutation(n)
        known, goal = np.full(2, np.inf), -np.inf if task.target is None else task.target
        # no iterations: this only loads the compiled code
        all_swaps(flow[:1, :1], distance[:1, :1], start[:1], table[:1, :1])
        search(flow, distance, start, table, until, start.copy(), known, 0, 0, goal, rng)
        record = Record(task, budget_seconds)
        made, length, chunk = 0, FIRST_PER_FACILITY * n, max(20, CHUNK // (n * n))
        while True:
            places, t = rng.permutation(n), 0
            best, costs = places.copy(), np.full(2, cost(task.instance, places))
            self._offer(record, places)
            if record.done:
                return record.result(self.name, "numba", seed, made)
            all_swaps(flow, distance, places, table)
            until[:] = -np.arange(n * n).reshape(n, n)
            while t < length and not record.done:
                t += search(flow, distance, places, table, until, best, costs, t, min(chunk, length - t), goal, rng)
                self._offer(record, best)
                if costs[1] <= goal:
                    break
            made, length = made + t, int(GROWTH * length)

    @staticmethod
    def _offer(record: Record, places: np.ndarray) -> None:
        """Keep a placement if it is the best so far."""
        value = cost(record.task.instance, places)
        if value < record.energy:
            record.offer(record.task.family.assignment(record.task.instance, places), value)
