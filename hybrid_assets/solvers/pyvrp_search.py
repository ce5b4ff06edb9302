"""PyVRP on tours and vehicle routes: iterated local search with late acceptance, one thread.

Here: the instance as PyVRP's data, its run within the budget. Not here: other heuristics, proofs (PyVRP has none).
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid_assets.problems.routing.cvrp import Cvrp
from hybrid_assets.problems.routing.fleet import codes_of, problem_of
from hybrid_assets.problems.routing.tsp import Tsp
from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask
from hybrid_assets.solvers.routing_record import RoutingRecord, is_routing

if TYPE_CHECKING:
    from pyvrp import ProblemData, Solution

    from hybrid_assets.problems.base import Instance


class PyVrp(ClassicalSolver):
    """PyVRP with its own settings (Wouda, Lan & Kool, INFORMS Journal on Computing 36, 2024).

    It gets the instance's whole numbers, so that one-decimal distances are exact, and the fleet as a hard limit; a tour
    is the route of one vehicle without capacity.
    """

    name = "pyvrp"

    def supports(self, family: str) -> bool:
        """Tours and vehicle routes."""
        return is_routing(family, Tsp, Cvrp)

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Search until the budget ends or the proven target is reached."""
        import pyvrp
        from pyvrp.IteratedLocalSearch import IteratedLocalSearchCallbacks, IteratedLocalSearchParams

        instance, record = task.instance, RoutingRecord(task, budget_seconds)
        fleet = "capacity" in instance.arrays

        def keep(solution: Solution) -> None:
            if not solution.is_feasible():
                return
            routes = [np.array([visit.idx for visit in route if visit.is_client()]) for route in solution.routes()]
            if fleet:
                record.keep(codes_of([route + 1 for route in routes], instance.size))
            else:
                record.keep(np.concatenate([[0], routes[0] + 1]))

        class Improvements(IteratedLocalSearchCallbacks):
            """Records each solution when it is found."""

            def on_start(self, ils: pyvrp.IteratedLocalSearch) -> None:
                keep(ils.initial_solution)

            def on_best(self, best: Solution) -> None:
                keep(best)

        with warnings.catch_warnings():
            # tight fleets drive its penalties to their limit, of which it warns
            warnings.simplefilter("ignore")
            result = pyvrp.solve(
                _data(instance),
                lambda best_cost: record.done,
                seed=seed % 2**31,
                collect_stats=False,
                params=pyvrp.SolveParams(ils=IteratedLocalSearchParams(callbacks=Improvements())),
            )
        return record.result(self.name, "pyvrp", seed, int(result.num_iterations))


def _data(instance: Instance) -> ProblemData:
    """The instance in PyVRP's terms."""
    from pyvrp import Client, Depot, Location, ProblemData, VehicleType

    distance = np.ascontiguousarray(instance.arrays["distance"])
    count = len(distance)
    places = instance.arrays.get("places", np.zeros((count, 2)))
    # its annotations are no types of numpy
    lengths: list[Any] = [distance]
    durations: list[Any] = [np.zeros_like(distance)]
    locations = [Location(float(x), float(y)) for x, y in places]
    if "capacity" not in instance.arrays:
        clients = [Client(location=k) for k in range(1, count)]
        return ProblemData(locations, clients, [Depot(0)], [VehicleType(1)], lengths, durations)
    _, demand, ready, due, service, limits = problem_of(instance)
    vehicles = VehicleType(min(int(instance.settings["vehicles"]), instance.size), [int(limits[0])])
    if not limits[3]:
        clients = [Client(location=k, delivery=[int(demand[k])]) for k in range(1, count)]
        return ProblemData(locations, clients, [Depot(0)], [vehicles], lengths, durations)
    clients = [
        Client(
            location=k,
            delivery=[int(demand[k])],
            service_duration=int(service[k]),
            tw_early=int(ready[k]),
            tw_late=int(due[k]),
        )
        for k in range(1, count)
    ]
    depot = Depot(0, int(ready[0]), int(due[0]))
    return ProblemData(locations, clients, [depot], [vehicles], lengths, lengths)
