"""Compiled construction and local descent of the routes of a fleet.

Here: savings (Clarke & Wright, Operations Research 12, 1964), cheapest insertion, descent by relocations, swaps, 2-opt
and exchanges of tails with neighbour lists. Imported inside functions only. Not here: what a plan costs
(``route_kernels``), when to use which (``fleet``).

Routes are rows of a table (int64, shape ``(vehicles, width)``) with their numbers of customers; problems are the tuples
of ``route_kernels``.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from hybrid_assets.problems.routing.route_kernels import route_measure


@njit(cache=True)
def savings(problem, heads, tails, either):  # type: ignore[no-untyped-def]
    """Join routes of single customers in the order of the pairs given, as long as they stay feasible.

    Args:
        heads, tails: pairs of customers, the largest saving first; the route that ends with one goes on with the other.
        either: whether routes may be turned round to fit.

    Returns:
        Customers of all routes one after the other with a 0 between, as a plan without idle vehicles.
    """
    n = len(problem[1]) - 1
    after, before = np.zeros(n + 1, dtype=np.int64), np.zeros(n + 1, dtype=np.int64)
    group, load = np.arange(n + 1), problem[1].copy()
    joined = np.empty(n, dtype=np.int64)
    for k in range(len(heads)):
        i, j = heads[k], tails[k]
        a, b = group[i], group[j]
        if a == b or load[a] + load[b] > problem[5][0]:
            continue
        if after[i] != 0 and not (either and before[i] == 0):
            continue
        if before[j] != 0 and not (either and after[j] == 0):
            continue
        count = 0
        # the part that ends with i, read backwards from i
        backward = after[i] == 0
        place = i
        while place != 0:
            joined[count] = place
            count += 1
            place = before[place] if backward else after[place]
        for t in range(count // 2):
            joined[t], joined[count - 1 - t] = joined[count - 1 - t], joined[t]
        forward = before[j] == 0
        place = j
        while place != 0:
            joined[count] = place
            count += 1
            place = after[place] if forward else before[place]
        if problem[5][3] and route_measure(problem, joined, count)[1] > 0:
            continue
        load[a] += load[b]
        for t in range(count):
            group[joined[t]] = a
            before[joined[t]] = joined[t - 1] if t else 0
            after[joined[t]] = joined[t + 1] if t + 1 < count else 0
    plan = np.zeros(2 * n + 1, dtype=np.int64)
    count = 1
    for first in range(1, n + 1):
        if before[first] == 0:
            place = first
            while place != 0:
                plan[count] = place
                count += 1
                place = after[place]
            count += 1
    return plan[:count]


@njit(cache=True)
def insert(problem, routes, counts, customers):  # type: ignore[no-untyped-def]
    """Put customers into the routes one by one, each where it charges and then lengthens least; in place."""
    trial = np.empty(routes.shape[1] + 1, dtype=np.int64)
    for customer in customers:
        best_charge, best_far, best_route, best_at = -1, 0, 0, 0
        for r in range(len(routes)):
            far0, charge0 = route_measure(problem, routes[r], counts[r])
            for at in range(counts[r] + 1):
                trial[:at] = routes[r, :at]
                trial[at] = customer
                trial[at + 1 : counts[r] + 1] = routes[r, at : counts[r]]
                far, charge = route_measure(problem, trial, counts[r] + 1)
                far, charge = far - far0, charge - charge0
                if best_charge < 0 or charge < best_charge or (charge == best_charge and far < best_far):
                    best_charge, best_far, best_route, best_at = max(charge, 0), far, r, at
        for k in range(counts[best_route], best_at, -1):
            routes[best_route, k] = routes[best_route, k - 1]
        routes[best_route, best_at] = customer
        counts[best_route] += 1


@njit(cache=True)
def _better(problem, one, size_one, two, size_two, far, charge, polish):  # type: ignore[no-untyped-def]
    """Whether two routes (the second empty for moves inside one) charge less, or with ``polish`` no more and are
    shorter."""
    far_one, charge_one = route_measure(problem, one, size_one)
    if charge_one > charge:
        return False
    far_two, charge_two = route_measure(problem, two, size_two)
    charge_one += charge_two
    return charge_one < charge or (polish and charge_one == charge and far_one + far_two < far)


@njit(cache=True)
def _without(route, count, at, size, out):  # type: ignore[no-untyped-def]
    """A route without a segment."""
    out[:at] = route[:at]
    out[at : count - size] = route[at + size : count]


@njit(cache=True)
def _with(route, count, at, segment, size, turned, out):  # type: ignore[no-untyped-def]
    """A route with a segment put in."""
    out[:at] = route[:at]
    for k in range(size):
        out[at + k] = segment[size - 1 - k if turned else k]
    out[at + size : count + size] = route[at:count]


@njit(cache=True)
def _try_pair(problem, routes, counts, route_of, place, a, b, one, two, polish):  # type: ignore[no-untyped-def]
    """The first improving move that brings a and b together; whether it was made, and evaluations.

    New routes are left in ``one`` and ``two``; the result says their sizes.
    """
    ra, rb = route_of[a], route_of[b]
    pa, pb = place[a], place[b]
    ca, cb = counts[ra], counts[rb]
    far, charge = route_measure(problem, routes[ra], ca)
    spent = 0
    if ra != rb:
        more, excess = route_measure(problem, routes[rb], cb)
        far, charge = far + more, charge + excess
    if charge == 0 and not polish:
        return False, 0, 0, 0
    if ra != rb:
        for size in range(1, min(3, ca - pa) + 1):
            _without(routes[ra], ca, pa, size, one)
            for turned in range(1 if size == 1 else 2):
                for ahead in range(2):
                    spent += 1
                    _with(routes[rb], cb, pb + 1 - ahead, routes[ra, pa:], size, turned == 1, two)
                    if _better(problem, one, ca - size, two, cb + size, far, charge, polish):
                        return True, ca - size, cb + size, spent
        for step in (-1, 0, 1):
            # a takes the place of b, or of the one beside it
            if not 0 <= pb + step < cb:
                continue
            spent += 1
            one[:ca], two[:cb] = routes[ra, :ca], routes[rb, :cb]
            one[pa], two[pb + step] = two[pb + step], one[pa]
            if _better(problem, one, ca, two, cb, far, charge, polish):
                return True, ca, cb, spent
        spent += 1
        # … a b … and what is left of both
        size = pa + 1 + cb - pb
        one[: pa + 1], one[pa + 1 : size] = routes[ra, : pa + 1], routes[rb, pb:cb]
        two[:pb], two[pb : pb + ca - pa - 1] = routes[rb, :pb], routes[ra, pa + 1 : ca]
        if _better(problem, one, size, two, ca + cb - size, far, charge, polish):
            return True, size, ca + cb - size, spent
        return False, 0, 0, spent
    # one route: turn round, move, exchange
    low, high = min(pa, pb), max(pa, pb)
    for first, last in ((low + 1, high), (low, high - 1)):
        spent += 1
        one[:ca] = routes[ra, :ca]
        for k in range(last - first + 1):
            one[first + k] = routes[ra, last - k]
        if _better(problem, one, ca, two, 0, far, charge, polish):
            return True, ca, 0, spent
    for size in range(1, min(3, ca - pa) + 1):
        if pa <= pb < pa + size:
            break
        _without(routes[ra], ca, pa, size, two)
        at = pb if pb < pa else pb - size
        for turned in range(1 if size == 1 else 2):
            for ahead in range(2):
                spent += 1
                _with(two, ca - size, at + 1 - ahead, routes[ra, pa:], size, turned == 1, one)
                if _better(problem, one, ca, two, 0, far, charge, polish):
                    return True, ca, 0, spent
    spent += 1
    one[:ca] = routes[ra, :ca]
    one[pa], one[pb] = one[pb], one[pa]
    return _better(problem, one, ca, two, 0, far, charge, polish), ca, 0, spent


@njit(cache=True)
def descend(problem, routes, counts, near, limit, polish, changed):  # type: ignore[no-untyped-def]
    """Make improving moves until there is none; charges first, then distance; in place.

    Args:
        near: the nearest customers of each place, shape ``(places, k)``; row 0 is not read.
        limit: evaluations after which it ends.
        polish: whether moves that only shorten are made; else only those that charge less.
        changed: bool by route: pairs of customers of two routes that are not are known to offer nothing.

    Returns:
        Evaluations spent.
    """
    n = len(near)
    route_of, place = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    for r in range(len(routes)):
        for k in range(counts[r]):
            route_of[routes[r, k]], place[routes[r, k]] = r, k
    one, two = np.zeros(n + 4, dtype=np.int64), np.zeros(n + 4, dtype=np.int64)
    spent, improved = 0, True
    while improved and spent < limit:
        improved = False
        for a in range(1, n):
            for b in near[a]:
                if spent >= limit:
                    return spent
                ra, rb = route_of[a], route_of[b]
                if not (changed[ra] or changed[rb]):
                    continue
                made, size_one, size_two, used = _try_pair(
                    problem, routes, counts, route_of, place, a, b, one, two, polish
                )
                spent += used
                if made:
                    improved = changed[ra] = changed[rb] = True
                    _store(routes, counts, route_of, place, ra, one, size_one)
                    if rb != ra:
                        _store(routes, counts, route_of, place, rb, two, size_two)
            # a vehicle of its own
            ra = route_of[a]
            for r in range(len(routes)):
                if counts[r] == 0 and counts[ra] > 1 and changed[ra]:
                    spent += 1
                    far, charge = route_measure(problem, routes[ra], counts[ra])
                    _without(routes[ra], counts[ra], place[a], 1, one)
                    two[0] = a
                    if _better(problem, one, counts[ra] - 1, two, 1, far, charge, polish):
                        improved = changed[r] = True
                        _store(routes, counts, route_of, place, ra, one, counts[ra] - 1)
                        _store(routes, counts, route_of, place, r, two, 1)
                    break
    return spent


@njit(cache=True)
def _store(routes, counts, route_of, place, r, visits, count):  # type: ignore[no-untyped-def]
    """Write a route back."""
    counts[r] = count
    for k in range(count):
        routes[r, k] = visits[k]
        route_of[visits[k]], place[visits[k]] = r, k
