"""Maximum independent sets by CP-SAT (ortools): at most one node of every clique of a cover of the edges.

Here: the cover, the model, its bound. Not here: the generic models of programs (``cpsat_program``), which see only
penalised edges.
"""

from __future__ import annotations

import numpy as np

from hybrid_assets.problems.graphs.mis import Neighbours
from hybrid_assets.problems.graphs.mis_landscape import MisLandscape
from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask
from hybrid_assets.solvers.cpsat import CLOSED, whole_coefficients
from hybrid_assets.solvers.cpsat_run import run_cpsat
from hybrid_assets.solvers.search import Record

#: Local search before the model is built, in moves looked at.
POLISH = 1_000_000


class MisCliques(ClassicalSolver):
    """CP-SAT, one worker, from a greedy set with local search. Cliques instead of edges make the relaxation strong."""

    name = "mis-cliques"

    def supports(self, family: str) -> bool:
        """Independent sets."""
        return family == "mis"

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Maximize within the budget; the bound is CP-SAT's, or one node per clique of a partition."""
        from ortools.sat.python import cp_model

        record, weights, n = Record(task, budget_seconds), task.instance.arrays["weights"], task.instance.size
        walk = MisLandscape(task.instance)
        state = walk.polish(walk.start(seed), POLISH).state
        record.offer(state.data, state.cost)
        bound, branches = _partition_bound(weights, walk.neighbours), 0
        cover = None if record.done else clique_cover(walk.neighbours, record)
        if cover is not None and not record.done:
            whole, scale, error = whole_coefficients(weights)
            model = cp_model.CpModel()
            bits = [model.new_bool_var("") for _ in range(n)]
            for clique in cover:
                model.add_at_most_one(bits[v] for v in clique)
            for bit, value in zip(bits, state.data.tolist(), strict=True):
                model.add_hint(bit, value)
            model.maximize(cp_model.LinearExpr.weighted_sum(bits, whole.tolist()))

            def keep(solution: cp_model.CpSolverSolutionCallback) -> float | None:
                chosen = np.fromiter((solution.boolean_value(b) for b in bits), dtype=np.int8, count=n)
                record.offer(chosen, -float(weights[chosen != 0].sum()))
                return record.objective

            solver, status = run_cpsat(model, task, record.left, seed, keep)
            branches = solver.num_branches
            # an unknown status comes with a bound of 0 that nobody proved
            if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
                proven = solver.best_objective_bound / scale + error
                bound = min(bound, proven) if np.isfinite(proven) else bound
        found = -record.energy
        closed = bound - found <= CLOSED * max(1.0, abs(found))
        return record.result(self.name, "ortools", seed, branches, bound=max(bound, found), proven=closed)


def clique_cover(neighbours: Neighbours, record: Record) -> list[list[int]] | None:
    """Cliques that hold every edge at least once, each grown greedily from an edge not held so far.

    ``None`` when half the budget is gone before they are found.
    """
    n = len(neighbours.starts) - 1
    sets = [set(neighbours[v].tolist()) for v in range(n)]
    waiting = [set(s) for s in sets]
    cover: list[list[int]] = []
    for v in range(n):
        while waiting[v]:
            if record.left < record.budget / 2:
                return None
            clique, common = [v], set(sets[v])
            u = min(waiting[v])
            while True:
                clique.append(u)
                common &= sets[u]
                if not common:
                    break
                # most edges that are new, then the smallest number: the same at every run
                fresh = waiting[v] & common
                u = min(fresh) if fresh else min(common)
            for a in clique:
                waiting[a] -= set(clique)
            cover.append(clique)
    return cover


def _partition_bound(weights: np.ndarray, neighbours: Neighbours) -> float:
    """The heaviest node of every clique of a greedy partition of the nodes: no independent set weighs more."""
    left = np.ones(len(weights), dtype=bool)
    total = 0.0
    for v in np.argsort(-weights, kind="stable"):
        if not left[v]:
            continue
        # nodes in falling weight: the first of a clique is its heaviest
        total, left[v] = total + float(weights[v]), False
        common = neighbours[int(v)]
        common = common[left[common]]
        while len(common):
            u = int(common[np.argmax(weights[common])])
            left[u] = False
            common = np.intersect1d(common, neighbours[u], assume_unique=True)
    return total
