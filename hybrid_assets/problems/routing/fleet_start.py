"""The first plan of a fleet: savings, fitted to the number of vehicles, packed exactly where that is tight.

Here: when to use which construction. Not here: the compiled loops (``route_descent``), neighbourhoods (``fleet``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hybrid_assets.problems.routing.fleet import Problem

#: Partners of each customer that savings look at.
_PARTNERS = 100
#: Attempts with other weights before customers are packed exactly, and evaluations to fit each.
_ATTEMPTS, _FITTING = 6, 100_000
#: Deterministic time of the exact packing, in the solver's own units (about seconds): with near customers together,
#: and where that finds none, of any packing at all.
_PACKING = (0.2, 5.0)


def first_routes(problem: Problem, near: np.ndarray, vehicles: int, seed: int) -> list[np.ndarray]:
    """Routes of all customers, feasible wherever one of the constructions finds any such.

    Savings with a weight between 0.8 and 1.2 on the distance joined, surplus routes dissolved by cheapest insertion,
    violations mended by local moves; after several weights, loads packed by CP-SAT and the routes built within them.
    """
    rng = np.random.default_rng(seed)
    routes: list[np.ndarray] = []
    for _ in range(_ATTEMPTS):
        routes, charge = fitted(problem, near, vehicles, _savings(problem, near, float(rng.uniform(0.8, 1.2))))
        if charge == 0:
            return routes
    packed = _packed(problem, vehicles, seed)
    if packed is None:
        return routes
    packed, charge = fitted(problem, near, vehicles, packed)
    return packed if charge == 0 else routes


def _savings(problem: Problem, near: np.ndarray, weight: float) -> list[np.ndarray]:
    from hybrid_assets.problems.routing.fleet import routes_in
    from hybrid_assets.problems.routing.route_descent import savings

    distance, windows = problem[0], bool(problem[5][3])
    either = not windows and bool(np.array_equal(distance, distance.T))
    far = distance.astype(np.float64)
    gain = far[:, [0]] + far[[0], :] - weight * far
    gain[:, 0] = gain[0, :] = -np.inf
    np.fill_diagonal(gain, -np.inf)
    k = min(_PARTNERS, len(far) - 2)
    if k < 1:
        return [np.array([c]) for c in range(1, len(far))]
    tails = np.argsort(-gain, axis=1, kind="stable")[1:, :k]
    heads = np.repeat(np.arange(1, len(far)), k)
    gains = gain[heads, tails.reshape(-1)]
    order = np.argsort(-gains, kind="stable")
    order = order[gains[order] > 0]
    return routes_in(savings(problem, heads[order], tails.reshape(-1)[order], either))


def fitted(
    problem: Problem, near: np.ndarray, vehicles: int, routes: Sequence[np.ndarray], loose: np.ndarray | None = None
) -> tuple[list[np.ndarray], int]:
    """Routes for the fleet and what is left to charge: those with the smallest loads are dissolved where there are too
    many, their customers and the loose ones inserted, violations mended by local moves."""
    from hybrid_assets.problems.routing.fleet import table_of
    from hybrid_assets.problems.routing.route_descent import descend, insert
    from hybrid_assets.problems.routing.route_kernels import route_measure

    demand = problem[1]
    routes = sorted(routes, key=lambda route: -int(demand[route].sum()))
    kept, dissolved = routes[:vehicles], routes[vehicles:]
    rows, counts = table_of(kept, vehicles, len(demand) - 1)
    loose = np.concatenate([np.zeros(0, dtype=np.int64) if loose is None else loose, *dissolved])
    if len(loose):
        insert(problem, rows, counts, loose[np.argsort(-demand[loose], kind="stable")])

    def charge() -> int:
        return sum(int(route_measure(problem, row, count)[1]) for row, count in zip(rows, counts, strict=True))

    if charge():
        descend(problem, rows, counts, near, _FITTING, True, np.ones(len(rows), dtype=bool))
    return [row[:count].copy() for row, count in zip(rows, counts, strict=True) if count], charge()


def _packed(problem: Problem, vehicles: int, seed: int) -> list[np.ndarray] | None:
    """Customers dealt to vehicles within the capacity, near ones together where there is room; else ``None``."""
    from ortools.sat.python import cp_model

    distance, demand, capacity = problem[0], problem[1], int(problem[5][0])
    customers = range(1, len(demand))
    # seeds far from each other keep the routes apart
    seeds = [int(np.argmax(distance[0, 1:])) + 1]
    while len(seeds) < vehicles:
        seeds.append(int(np.argmax(distance[seeds][:, 1:].min(axis=0))) + 1)
    for attempt, effort in enumerate(_PACKING):
        model = cp_model.CpModel()
        inside = [[model.new_bool_var("") for _ in range(vehicles)] for _ in customers]
        for row in inside:
            model.add_exactly_one(row)
        for v in range(vehicles):
            model.add(sum(int(demand[c]) * inside[c - 1][v] for c in customers) <= capacity)
        if attempt == 0:
            model.minimize(
                sum(int(distance[seeds[v], c]) * inside[c - 1][v] for c in customers for v in range(vehicles))
            )
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = 1
        solver.parameters.random_seed = seed % 2**31
        solver.parameters.max_deterministic_time = effort
        if solver.solve(model) in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            chosen = [[c for c in customers if solver.value(inside[c - 1][v])] for v in range(vehicles)]
            return [np.array(one, dtype=np.int64) for one in chosen]
    return None
