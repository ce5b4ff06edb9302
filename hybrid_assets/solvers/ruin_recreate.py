"""Ruin and recreate on vehicle routes, accepted by annealing, one thread.

Here: cooling, cycles, clock, record. Not here: the compiled loop (``problems.route_ruin``).
"""

from __future__ import annotations

import numpy as np

from hybrid_assets.problems.routing.cvrp import Cvrp
from hybrid_assets.problems.routing.fleet import FleetLandscape, codes_of, routes_in, table_of
from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask
from hybrid_assets.solvers.routing_record import RoutingRecord, is_routing

#: Evaluations of the first descent.
_POLISH = 2_000_000
#: Rounds of the first cycle, how much longer each next one is, rounds times customers between two looks at the clock.
_CYCLE, _GROWTH, _CHUNK = 20_000, 2, 40_000
#: Temperatures of a cycle, in shares of the mean length of a step.
_HOT, _COLD = 0.3, 0.003


class RuinRecreate(ClassicalSolver):
    """Savings and descent, then rounds that take neighbouring customers out and put them back where they lengthen least
    (Schrimpf et al., Journal of Computational Physics 159, 2000), in cooling cycles that double in length.

    Compiling, once per installation, is not charged.
    """

    name = "ruin-recreate"

    def supports(self, family: str) -> bool:
        """Vehicle routes."""
        return is_routing(family, Cvrp)

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Search until the budget ends or the proven target is reached."""
        from hybrid_assets.problems.routing.route_ruin import rounds as ruin

        landscape = FleetLandscape(task.instance)
        state = landscape.polish(landscape.start(seed), 1).state
        rows, counts = table_of(routes_in(state.data), landscape.vehicles, landscape.customers)
        # no rounds: this only loads the compiled code
        ruin(landscape.problem, rows, counts, landscape.near, 0, 1.0, 1.0, 0)
        record = RoutingRecord(task, budget_seconds)
        step = landscape.polish(landscape.start(seed), _POLISH)
        evaluations, rng = step.evaluations, np.random.default_rng(seed)
        record.keep(landscape.values(step.state))
        mean = step.state.cost * landscape.scale / (landscape.customers + 1)
        rows, counts = table_of(routes_in(step.state.data), landscape.vehicles, landscape.customers)
        cycle, chunk = _CYCLE, max(10, _CHUNK // landscape.customers)
        while step.state.feasible and not record.done:
            made = 0
            while made < cycle and not record.done:
                number = min(chunk, cycle - made)
                hot, cold = mean * _HOT * (_COLD / _HOT) ** (np.array([made, made + number]) / cycle)
                best_rows, best_counts = ruin(
                    landscape.problem, rows, counts, landscape.near, number, hot, cold, int(rng.integers(2**31))
                )
                made += number
                evaluations += number
                best = [row[:count] for row, count in zip(best_rows, best_counts, strict=True)]
                record.keep(codes_of(best, landscape.customers))
            cycle *= _GROWTH
        return record.result(self.name, "numba", seed, evaluations)
