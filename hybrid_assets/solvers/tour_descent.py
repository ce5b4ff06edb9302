"""Iterated local search on tours: 2-opt and or-opt after random double bridges, one thread.

Here: chunks of rounds, clock, record. Not here: the compiled loops (``problems.tour_kernels``).
"""

from __future__ import annotations

import numpy as np

from hybrid_assets.problems.tour import TourLandscape
from hybrid_assets.problems.tsp import Tsp
from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask
from hybrid_assets.solvers.routing_record import RoutingRecord, is_routing

#: Rounds between two looks at the clock, times the number of cities.
_CHUNK = 200_000


class TourDescent(ClassicalSolver):
    """Nearest neighbour, descent, then double bridges of short segments, each followed by a descent around it and
    undone if the tour got longer (Martin, Otto & Felten, Complex Systems 5, 1991; Lourenço, Martin & Stützle 2003).

    Compiling, once per installation, is not charged.
    """

    name = "tour-descent"

    def supports(self, family: str) -> bool:
        """Tours."""
        return is_routing(family, Tsp)

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Search until the budget ends or the proven target is reached."""
        from hybrid_assets.problems.tour_kernels import iterate

        landscape = TourLandscape(task.instance)
        network = landscape.distance, landscape.near, landscape.towards, landscape.symmetric
        # no rounds: this only loads the compiled code
        iterate(*network, landscape.polish(landscape.start(seed), 1).state.data.copy(), 0, 0)
        record = RoutingRecord(task, budget_seconds)
        step = landscape.polish(landscape.start(seed), 100 * _CHUNK)
        tour, evaluations = step.state.data.copy(), step.evaluations
        record.keep(tour)
        rng, rounds = np.random.default_rng(seed), max(10, _CHUNK // len(tour))
        while not record.done:
            evaluations += int(iterate(*network, tour, rounds, int(rng.integers(2**31))))
            record.keep(tour)
        return record.result(self.name, "numba", seed, evaluations)
