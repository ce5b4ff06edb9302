"""Branch and bound for quadratic assignment with the Gilmore-Lawler bound, one thread.

Here: the first incumbent, clock and record. Not here: the compiled tree (``qap_branch_kernel``).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hybrid_assets.problems.assignment.qap import cost
from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask
from hybrid_assets.solvers.cpsat import CLOSED
from hybrid_assets.solvers.robust_tabu import RobustTabu
from hybrid_assets.solvers.search import Record

#: Share of the budget in which robust tabu search finds the first incumbent, and most seconds: what can be proven at
#: all it solves in milliseconds.
SHARE, SECONDS = 0.05, 0.3
#: Work between two looks at the clock, in steps of the bound's n³.
CHUNK = 20_000_000


class QapBranch(ClassicalSolver):
    """A proof for about a dozen facilities, and a bound for any number.

    Starts with robust tabu search. Without a proof the bound is that of the root. Compiling, once per installation, is
    not charged.
    """

    name = "qap-branch"

    def supports(self, family: str) -> bool:
        """Quadratic assignment."""
        return family == "qap"

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Search until the proof, the end of the budget or the proven target."""
        from hybrid_assets.solvers.qap_branch_kernel import gilmore_lawler, grow

        n = task.instance.size
        flow, distance = (np.ascontiguousarray(task.instance.arrays[key]) for key in ("flow", "distance"))
        places, facility, counts = np.full(n, -1), np.full(n, -1), np.zeros(n, dtype=np.int64)
        waiting, everything = np.zeros((n, n), dtype=np.int64), np.arange(n)
        whole = np.array_equal(flow, np.rint(flow)) and np.array_equal(distance, np.rint(distance))
        goal = -np.inf if task.target is None else task.target
        # no nodes: this only loads the compiled code
        tree = (places, facility, waiting, counts)
        gilmore_lawler(flow[:2, :2].copy(), distance[:2, :2].copy(), places[:2], everything[:2], everything[:2])
        grow(flow, distance, *tree, -1, everything.copy(), 0.0, 0.0, 0, goal)
        RobustTabu().solve(replace(task, target=np.inf), 0.0, seed)
        record = Record(task, budget_seconds)
        first = RobustTabu().solve(task, min(SECONDS, SHARE * budget_seconds), seed)
        best = np.asarray(first.values, dtype=np.int64)
        for at, objective in first.trajectory[:-1]:
            record.trajectory.append((at, objective))
        record.offer(task.family.assignment(task.instance, best), cost(task.instance, best))
        bound, _ = gilmore_lawler(flow, distance, places, everything, everything)
        bound -= CLOSED * abs(bound)
        depth, value, nodes, chunk = 0, record.energy, 0, max(1, CHUNK // n**3)
        while depth >= 0 and not record.done:
            depth, value, visited = grow(flow, distance, *tree, depth, best, value, 1.0 if whole else 0.0, chunk, goal)
            nodes += visited
            if value < record.energy:
                record.offer(task.family.assignment(task.instance, best), value)
            if value <= goal:
                break
        proven = depth < 0 or bound >= record.energy - CLOSED * abs(record.energy)
        claimed = record.objective if proven else min(bound, record.energy)
        return record.result(self.name, "numba", seed, nodes, bound=claimed, proven=proven)
