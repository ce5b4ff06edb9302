"""The landscape of the ``cvrp`` family: the plan of a fleet, and small sub-programs of moves and of reorderings.

Here: neighbourhoods, charges for violations, repair, polish. Not here: compiled loops (``route_kernels``,
``route_descent``), the first plan (``fleet_start``), formats and the whole program (``cvrp``).

``exchange`` (relocations, swaps and turns such that no route meets more than two) is exact with all charges. ``window``
and ``cluster`` (k customers into k positions) are exact in length and know neither loads nor windows. ``swap``,
``relocate`` and ``tails`` (2-opt*) are the second-order expansion of length and charges. What ends infeasible is
repaired by moves that lower the charges; where these find no feasible plan, the proposal is refused and the old state
returned.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hybrid_assets.problems.base import Instance
from hybrid_assets.problems.landscape import Block, MoveLandscape, State, Step
from hybrid_assets.problems.routing.reordering import Reordering, reordered, reordering_block

#: Customers in a neighbour list.
NEAR = 20
#: Charge of a unit of lateness in units of distance; of an average demand too much, in largest distances.
LATE_CHARGE, LOAD_CHARGE = 4, 2
#: Idle vehicles that a plan shows: more change nothing.
_IDLE = 2
#: Evaluations that a repair may spend.
_REPAIR = 50_000

Move = tuple[int, int, int]
Problem = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class FleetLandscape(MoveLandscape):
    """Plans of one instance; ``State.data`` is a plan of ``route_kernels``, int64.

    ``State.cache`` holds routes (their bytes) that were polished together, so that polish looks at the others only.
    """

    kinds = ("exchange", "cluster", "window", "relocate", "swap", "tails")
    pairwise = frozenset({"exchange"})

    def __init__(self, instance: Instance) -> None:
        """Charges and neighbour lists of the instance."""
        arrays = instance.arrays
        self.customers = instance.size
        self.vehicles = min(int(instance.settings["vehicles"]), instance.size)
        self.scale = int(arrays["scale"][0])
        self.distance = np.ascontiguousarray(arrays["distance"])
        self.problem: Problem = problem_of(instance)
        self.near = _neighbours(self.problem)

    # -- states --------------------------------------------------------------------------------------------------

    def state(self, routes: Sequence[np.ndarray], polished: frozenset[bytes] = frozenset()) -> State:
        """The state of these routes (arrays of customers; empty ones are dropped).

        Args:
            polished: routes that are known to offer each other nothing.
        """
        from hybrid_assets.problems.routing.route_kernels import measure

        used = [route for route in routes if len(route)]
        idle = np.zeros(min(_IDLE, max(0, self.vehicles - len(used))), dtype=np.int64)
        parts: list[np.ndarray] = [np.zeros(1, dtype=np.int64)]
        for route in used:
            parts += [np.asarray(route, dtype=np.int64), np.zeros(1, dtype=np.int64)]
        plan = np.concatenate([*parts, idle])
        total, charged, count = measure(self.problem, plan)
        charged += max(0, count - self.vehicles) * 2 * int(self.distance.max())
        return State(plan, (total + charged) / self.scale, charged == 0, polished)

    def start(self, seed: int) -> State:
        """Savings with a random weight, fitted to the fleet (``fleet_start``)."""
        from hybrid_assets.problems.routing.fleet_start import first_routes

        return self.state(first_routes(self.problem, self.near, self.vehicles, seed))

    def state_of(self, values: np.ndarray) -> State:
        """The state of a solution of the family."""
        return self.state(routes_of(values))

    def values(self, state: State) -> np.ndarray:
        """The codes of the routes in their order."""
        return codes_of(routes_in(state.data), self.customers)

    # -- moves ---------------------------------------------------------------------------------------------------

    def moves(self, state: State, kind: str, size: int, rng: np.random.Generator) -> Sequence[Move]:
        """Moves on disjoint customers that each bring a customer beside a near one."""
        route_of, after, before = _links(state.data, self.customers)
        taken = np.zeros(self.customers + 1, dtype=bool)
        touched: dict[int, int] = {}
        found: list[Move] = []
        for _ in range(8 * size):
            a = int(rng.integers(1, self.customers + 1))
            b = int(self.near[a, rng.integers(self.near.shape[1])])
            move = _move(kind, a, b, route_of, after, before, rng)
            if move is None:
                continue
            ends = [anchor for anchor in move[1:] if anchor > 0]
            if len(set(move[1:])) < 2 or taken[ends].any():
                continue
            routes = {int(route_of[anchor]) if anchor > 0 else -1 - anchor for anchor in move[1:]}
            if kind == "exchange" and any(touched.get(r, 0) >= 2 for r in routes):
                continue
            for r in routes:
                touched[r] = touched.get(r, 0) + 1
            taken[ends] = True
            found.append(move)
            if len(found) == size:
                break
        return found

    def played(self, state: State, moves: Sequence[Move]) -> State:
        """The plan after the moves, charged where it violates anything."""
        from hybrid_assets.problems.routing.route_kernels import play

        plan, scratch = state.data.copy(), state.data.copy()
        for move in moves:
            play(plan, move, scratch)
        return self.state(routes_in(plan), state.cache)

    def block(self, state: State, kind: str, size: int, rng: np.random.Generator) -> Block | None:
        """The expansion in moves, or a reordering of as many positions as fit."""
        if kind in ("window", "cluster"):
            return self._reordering(state, kind, int(np.sqrt(size)), rng)
        return super().block(state, kind, size, rng)

    def expansion(self, state: State, moves: Sequence[Move]) -> tuple[np.ndarray, np.ndarray]:
        """All moves and pairs in one compiled loop."""
        from hybrid_assets.problems.routing.route_kernels import expansion

        single, pair = expansion(self.problem, state.data, np.array(moves, dtype=np.int64))
        return single / self.scale, pair / self.scale

    def _reordering(self, state: State, kind: str, k: int, rng: np.random.Generator) -> Block | None:
        """``window``: positions of one route in a row; ``cluster``: those of near customers."""
        plan = state.data
        place = np.zeros(self.customers + 1, dtype=np.int64)
        place[plan] = np.arange(len(plan))
        centre = int(rng.integers(1, self.customers + 1))
        if kind == "window":
            chosen = [int(place[centre])]
            while len(chosen) < k and plan[chosen[-1] + 1] != 0:
                chosen.append(chosen[-1] + 1)
        else:
            chosen = [int(p) for p in place[[centre, *rng.permutation(self.near[centre])[: k - 1]]]]
        if len(chosen) < 2:
            return None
        return reordering_block(self.distance, self.scale, state, kind, np.sort(np.array(chosen[:k])))

    def apply(self, state: State, block: Block, bits: np.ndarray) -> Step:
        """Make the moves or deal the customers out, then repair; the old state where that finds no feasible one."""
        if np.array_equal(bits, block.current):
            return Step(state, evaluations=0)
        if isinstance(block.move, Reordering):
            plan, changed = reordered(state.data, block.move, bits)
            step = Step(self.state(routes_in(plan), state.cache), changed)
            if not step.state.feasible:
                mended = self.repair(step.state)
                step = Step(mended.state, True, 1 + mended.evaluations)
        else:
            step = super().apply(state, block, bits)
        if state.feasible and not step.state.feasible:
            return Step(state, True, step.evaluations)
        return step

    def repair(self, state: State) -> Step:
        """Moves that lower the charges, until there are none or nothing helps."""
        return self._descended(state, _REPAIR, polish=False)

    def polish(self, state: State, evaluations: int) -> Step:
        """Relocations of up to three customers, swaps, 2-opt and exchanges of tails between near customers."""
        step = self._descended(state, evaluations, polish=True)
        better = step.state.cost < state.cost if step.state.feasible == state.feasible else step.state.feasible
        if better and step.state.cost <= state.cost:
            return step
        same = np.array_equal(step.state.data, state.data)
        return Step(step.state if same else state, evaluations=step.evaluations)

    def mended(self, routes: Sequence[np.ndarray], loose: Sequence[int]) -> np.ndarray:
        """Values of a plan with some routes kept and loose customers inserted; feasible where local moves get there."""
        from hybrid_assets.problems.routing.fleet_start import fitted

        fit = fitted(self.problem, self.near, self.vehicles, routes, np.array(loose, dtype=np.int64))
        return codes_of(fit[0], self.customers)

    def _descended(self, state: State, evaluations: int, *, polish: bool) -> Step:
        from hybrid_assets.problems.routing.route_descent import descend

        routes = routes_in(state.data)
        rows, counts = table_of(routes, self.vehicles, self.customers)
        changed = np.ones(len(rows), dtype=bool)
        changed[: len(routes)] = [route.tobytes() not in state.cache for route in routes]
        spent = int(descend(self.problem, rows, counts, self.near, evaluations, polish, changed))
        new = [row[:count] for row, count in zip(rows, counts, strict=True)]
        whole = polish and spent < evaluations
        return Step(self.state(new, frozenset(r.tobytes() for r in new) if whole else state.cache), not polish, spent)


def problem_of(instance: Instance) -> Problem:
    """The tuple that the kernels take."""
    a = instance.arrays
    distance, demand = np.ascontiguousarray(a["distance"]), a["demands"]
    mean = max(1.0, float(demand[1:].mean()))
    charge = int(np.ceil(LOAD_CHARGE * max(1, int(distance.max())) / mean))
    if "ready" in a:
        ready, due, service = a["ready"], a["due"], a["service"]
    else:
        ready = due = service = np.zeros(len(demand), dtype=np.int64)
    limits = np.array([int(a["capacity"][0]), charge, LATE_CHARGE, int("ready" in a)], dtype=np.int64)
    return distance, demand, ready, due, service, limits


def routes_of(values: np.ndarray) -> list[np.ndarray]:
    """The routes of a solution: arrays of customers (1 … n) in order of visit.

    Args:
        values: shape ``(n,)``: for each customer route·n + position, as ``codes_of`` writes them.
    """
    codes = np.asarray(values).astype(np.int64)
    order = np.argsort(codes, kind="stable")
    ends = np.flatnonzero(np.diff(codes[order] // len(codes))) + 1
    return [part + 1 for part in np.split(order, ends)]


def codes_of(routes: Sequence[np.ndarray], customers: int) -> np.ndarray:
    """Inverse of ``routes_of``: int64, shape ``(customers,)``; every customer must be in exactly one route."""
    codes = np.full(customers, -1, dtype=np.int64)
    for r, route in enumerate(route for route in routes if len(route)):
        codes[np.asarray(route) - 1] = r * customers + np.arange(len(route))
    return codes


def routes_in(plan: np.ndarray) -> list[np.ndarray]:
    """The routes of a plan that are not empty."""
    return [part[part > 0] for part in np.split(plan, np.flatnonzero(plan == 0)) if (part > 0).any()]


def table_of(routes: Sequence[np.ndarray], vehicles: int, customers: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and counts for ``route_descent``, with one idle vehicle where the fleet has one."""
    rows = np.zeros((max(len(routes), min(vehicles, len(routes) + 1)), customers + 1), dtype=np.int64)
    counts = np.zeros(len(rows), dtype=np.int64)
    for r, route in enumerate(routes):
        rows[r, : len(route)], counts[r] = route, len(route)
    return rows, counts


def _links(plan: np.ndarray, customers: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For every customer its route, the place after it and the anchor before it (a customer or ``-1 - route``)."""
    route_of, after, before = (np.zeros(customers + 1, dtype=np.int64) for _ in range(3))
    route = np.cumsum(plan == 0) - 1
    inside = np.flatnonzero(plan > 0)
    route_of[plan[inside]] = route[inside]
    after[plan[inside]] = plan[inside + 1]
    left = plan[inside - 1]
    before[plan[inside]] = np.where(left > 0, left, -1 - route[inside])
    return route_of, after, before


def _move(
    kind: str,
    a: int,
    b: int,
    route_of: np.ndarray,
    after: np.ndarray,
    before: np.ndarray,
    rng: np.random.Generator,
) -> Move | None:
    """A move of a neighbourhood that brings a beside b, or ``None``."""
    from hybrid_assets.problems.routing.route_kernels import RELOCATE, REVERSE, SWAP, TAILS

    apart = route_of[a] != route_of[b]
    if kind == "tails":
        return (TAILS, a, int(before[b])) if apart else None
    if kind == "exchange":
        kind = ("swap", "relocate", "turn")[int(rng.integers(3))]
    if kind == "turn":
        return None if apart else (REVERSE, a, b)
    if kind == "relocate":
        behind = b if rng.random() < 0.5 else int(before[b])
        return None if behind == a else (RELOCATE, a, behind)
    beside = int(after[b] if rng.random() < 0.5 else before[b])
    return (SWAP, a, beside) if beside > 0 and beside != a else None


def _neighbours(problem: Problem) -> np.ndarray:
    """The customers that are best served next to each, int64, shape ``(places, k)``.

    With windows, waiting and lateness between the two count too (Vidal et al., Computers & Operations Research 40,
    2013).
    """
    distance, _, ready, due, service, limits = problem
    near = distance.astype(np.float64)
    if limits[3]:
        leave_late, leave_early = (due + service)[:, None] + distance, (ready + service)[:, None] + distance
        near += 0.2 * np.maximum(0, ready[None, :] - leave_late) + np.maximum(0, leave_early - due[None, :])
    near = np.minimum(near, near.T)
    np.fill_diagonal(near, np.inf)
    near[:, 0] = np.inf
    k = min(NEAR, len(near) - 2)
    return np.ascontiguousarray(np.argsort(near, axis=1, kind="stable")[:, : max(1, k)])
