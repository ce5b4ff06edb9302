"""Exact tours by CP-SAT's circuit constraint (ortools), with a proven bound.

Here: one Boolean per arc in one circuit. Not here: vehicle routes, heuristics.
"""

from __future__ import annotations

import numpy as np

from hybrid_assets.problems.routing.tour import TourLandscape
from hybrid_assets.problems.routing.tsp import Tsp
from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask
from hybrid_assets.solvers.cpsat_run import run_cpsat
from hybrid_assets.solvers.routing_record import RoutingRecord, is_routing

#: Evaluations of the descent that the search starts from.
_START = 200_000


class Circuit(ClassicalSolver):
    """CP-SAT on the circuit model, one worker, linear relaxation with subtour cuts; it starts from a 2-opt tour."""

    name = "cpsat-circuit"

    def supports(self, family: str) -> bool:
        """Tours."""
        return is_routing(family, Tsp)

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Minimize within the budget; ``optimal`` when the bound meets the tour."""
        from ortools.sat.python import cp_model

        landscape = TourLandscape(task.instance)
        # the first call only loads the compiled code, which is not charged
        landscape.polish(landscape.start(seed), 1)
        record = RoutingRecord(task, budget_seconds)
        start = landscape.polish(landscape.start(seed), _START).state
        record.keep(start.data)
        distance, n = landscape.distance, len(landscape.distance)
        model = cp_model.CpModel()
        follows = np.empty(n, dtype=np.int64)
        follows[start.data] = np.roll(start.data, -1)
        arcs: list[tuple[int, int, cp_model.IntVar]] = []
        for i in range(n):
            if record.left < budget_seconds / 2:
                break
            for j in range(n):
                if i != j:
                    arcs.append((i, j, model.new_bool_var("")))
                    model.add_hint(arcs[-1][2], int(follows[i] == j))
        bound, branches, status = 0.0, 0, cp_model.UNKNOWN
        if len(arcs) == n * (n - 1) and not record.done:
            model.add_circuit(arcs)
            model.minimize(
                cp_model.LinearExpr.weighted_sum([arc for *_, arc in arcs], [int(distance[i, j]) for i, j, _ in arcs])
            )

            def keep(solution: cp_model.CpSolverSolutionCallback) -> float | None:
                after = {i: j for i, j, arc in arcs if solution.boolean_value(arc)}
                tour = [0]
                while len(tour) < n:
                    tour.append(after[tour[-1]])
                record.keep(np.array(tour))
                return record.objective

            solver, status = run_cpsat(model, task, record.left, seed, keep)
            branches = solver.num_branches
            if np.isfinite(solver.best_objective_bound):
                # lengths are whole numbers, so is the optimum
                bound = max(0.0, float(np.ceil(solver.best_objective_bound - 1e-6))) / landscape.scale
        assert record.objective is not None, "any tour is feasible"
        proven = status == cp_model.OPTIMAL or bound >= record.objective
        bound = record.objective if proven else bound
        return record.result(self.name, "ortools", seed, branches, bound=bound, proven=proven)
