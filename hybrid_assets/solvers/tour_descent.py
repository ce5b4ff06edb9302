"""Iterated local search on tours: 2-opt and or-opt after random double bridges, one thread.

Here: chunks of rounds, clock, record. Not here: the compiled loops (``problems.tour_kernels``).
"""

from __future__ import annotations

import numpy as np

from hybrid_assets.problems.routing.tour import TourLandscape
from hybrid_assets.problems.routing.tsp import Tsp
from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask
from hybrid_assets.solvers.routing_record import RoutingRecord, is_routing

#: Evaluations of the first descent.
_POLISH = 20_000_000
#: Rounds per city of the first cycle, how much longer each next one is, rounds times cities between two looks at the
#: clock.
_CYCLE, _GROWTH, _CHUNK = 100, 2, 200_000
#: Temperatures of a cycle, in shares of the mean length of a step.
_HOT, _COLD = 0.1, 0.001


class TourDescent(ClassicalSolver):
    """Nearest neighbour, descent, then double bridges of short segments, each followed by a descent around it and
    accepted by annealing (Martin, Otto & Felten, Complex Systems 5, 1991), in cooling cycles that double in length.

    Compiling, once per installation, is not charged.
    """

    name = "tour-descent"

    def supports(self, family: str) -> bool:
        """Tours."""
        return is_routing(family, Tsp)

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Search until the budget ends or the proven target is reached."""
        from hybrid_assets.problems.routing.tour_kernels import iterate

        landscape = TourLandscape(task.instance)
        network = landscape.distance, landscape.near, landscape.towards, landscape.symmetric
        # no rounds: this only loads the compiled code
        tour = landscape.polish(landscape.start(seed), 1).state.data.copy()
        iterate(*network, tour, tour.copy(), 0, 1.0, 1.0, 0)
        record = RoutingRecord(task, budget_seconds)
        step = landscape.polish(landscape.start(seed), _POLISH)
        tour, best, evaluations = step.state.data.copy(), step.state.data.copy(), step.evaluations
        record.keep(best)
        rng, n = np.random.default_rng(seed), len(tour)
        mean = max(1.0, step.state.cost * landscape.scale / n)
        cycle, chunk = _CYCLE * n, max(10, _CHUNK // n)
        while not record.done:
            made = 0
            while made < cycle and not record.done:
                rounds = min(chunk, cycle - made)
                hot, cold = mean * _HOT * (_COLD / _HOT) ** (np.array([made, made + rounds]) / cycle)
                evaluations += int(iterate(*network, tour, best, rounds, hot, cold, int(rng.integers(2**31))))
                record.keep(best)
                made += rounds
            cycle *= _GROWTH
        return record.result(self.name, "numba", seed, evaluations)
