"""Tabu search over independent sets (multi-neighbourhood tabu search, Wu, Hao and Glover 2012), one thread.

Here: clock and record. Not here: the compiled loop (``mis_search_kernel``).
"""

from __future__ import annotations

import numpy as np

from hybrid_assets.problems.graphs.mis_landscape import MisLandscape
from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask
from hybrid_assets.solvers.search import Record

#: Iterations without progress that begin a new run, at least and per node. With 4,000 brock400-1 was solved in two of
#: three runs of 20 s, with 10,000 or 1,000 in none of three shorter ones (measured).
PATIENCE, PER_NODE = 4_000, 4
#: Nodes looked at between two looks at the clock, roughly.
CHUNK = 2_000_000


class MisSearch(ClassicalSolver):
    """A greedy set with local search, then tabu search with restarts.

    The program is never built. Compiling, once per installation, is not charged.
    """

    name = "mis-search"

    def supports(self, family: str) -> bool:
        """Independent sets."""
        return family == "mis"

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Search until the budget ends or the proven target is reached."""
        from hybrid_assets.problems.graphs.mis_moves import climb, empty
        from hybrid_assets.solvers.mis_search_kernel import search

        rng, n, weights = np.random.default_rng(seed), task.instance.size, task.instance.arrays["weights"]
        inside = np.zeros(n, dtype=np.int8)
        tight, owner, spot, until = (np.zeros(n, dtype=np.int64) for _ in range(4))
        lists, counts, values = np.zeros((2, n), dtype=np.int64), np.zeros(2, dtype=np.int64), np.zeros(3)
        sets = (inside, tight, owner, lists, counts, spot)
        goal = np.inf if task.target is None else task.target
        clock = np.zeros(2, dtype=np.int64)
        # no iterations: this only loads the compiled code
        lone = np.zeros(n + 1, dtype=np.int64)
        empty(*sets)
        climb(lone[:2], lone[:0], weights[:1], inside[:1].copy(), 0)
        search(lone, lone[:0], weights, *sets, until, inside.copy(), values, clock, 0, 1, goal, rng)
        record = Record(task, budget_seconds)
        walk = MisLandscape(task.instance)
        state = walk.polish(walk.start(seed), CHUNK).state
        record.offer(state.data, state.cost)
        starts, ends, best = walk.neighbours.starts, walk.neighbours.ends, state.data.copy()
        values[1] = -state.cost
        chunk, patience = max(100, CHUNK // (n + 1)), max(PATIENCE, PER_NODE * n)
        made = 0
        while not record.done:
            made += search(starts, ends, weights, *sets, until, best, values, clock, chunk, patience, goal, rng)
            record.offer(best, -float(weights[best != 0].sum()))
            if values[1] >= goal and not record.done:
                goal = np.inf  # rounding: the target is not quite reached
        return record.result(self.name, "numba", seed, made)
