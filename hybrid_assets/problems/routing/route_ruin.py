"""The compiled loop of ruin and recreate on the routes of a fleet.

Here: rounds at a falling temperature. Imported inside functions only. Not here: cooling cycles
(``solvers.ruin_recreate``), what a route costs (``route_kernels``).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from hybrid_assets.problems.routing.route_kernels import route_measure

#: Most customers taken out in a round, and how often the best place is passed over (Christiaens & Vanden Berghe,
#: Transportation Science 54, 2020: "blinks").
MOST, BLINK = 15, 0.01


@njit(cache=True)
def _put_back(problem, rows, counts, customer, change):  # type: ignore[no-untyped-def]
    """Insert one customer where it lengthens least without any charge; whether that was possible."""
    distance, demand, _, _, _, limits = problem
    best, best_route, best_at = -1, -1, -1
    trial = np.empty(rows.shape[1] + 1, dtype=np.int64)
    idle = False
    for r in range(len(rows)):
        count = counts[r]
        if count == 0:
            if idle:
                continue
            idle = True
        load = demand[customer]
        for k in range(count):
            load += demand[rows[r, k]]
        if load > limits[0]:
            continue
        for at in range(count + 1):
            before = rows[r, at - 1] if at else 0
            after = rows[r, at] if at < count else 0
            far = distance[before, customer] + distance[customer, after]
            if count:
                far -= distance[before, after]
            if (best_route >= 0 and far >= best) or np.random.random() < BLINK:
                continue
            if limits[3]:
                trial[:at] = rows[r, :at]
                trial[at] = customer
                trial[at + 1 : count + 1] = rows[r, at:count]
                if route_measure(problem, trial, count + 1)[1] > 0:
                    continue
            best, best_route, best_at = far, r, at
    if best_route < 0:
        return False
    for k in range(counts[best_route], best_at, -1):
        rows[best_route, k] = rows[best_route, k - 1]
    rows[best_route, best_at] = customer
    counts[best_route] += 1
    change[best_route] = True
    return True


@njit(cache=True)
def rounds(problem, rows, counts, near, number, hot, cold, seed):  # type: ignore[no-untyped-def]
    """Rounds on feasible routes, in place; the best routes met are returned.

    Args:
        near: the nearest customers of each place, shape ``(places, k)``; row 0 is not read.
        hot, cold: first and last temperature, in units of distance.

    Returns:
        A table and counts like those given.
    """
    np.random.seed(seed)
    demand = problem[1]
    customers = len(near) - 1
    best_rows, best_counts = rows.copy(), counts.copy()
    length = np.empty(len(rows), dtype=np.int64)
    for r in range(len(rows)):
        length[r] = route_measure(problem, rows[r], counts[r])[0]
    now = length.sum()
    best = now
    old_rows, old_counts, old_length = rows.copy(), counts.copy(), length.copy()
    change = np.zeros(len(rows), dtype=np.bool_)
    out = np.zeros(customers + 1, dtype=np.bool_)
    for step in range(number):
        temperature = hot * (cold / hot) ** (step / number)
        change[:] = False
        centre = np.random.randint(1, customers + 1)
        wanted = np.random.randint(1, min(MOST, customers) + 1)
        taken = np.empty(wanted, dtype=np.int64)
        taken[0] = centre
        out[centre] = True
        size = 1
        for other in near[centre]:
            if size == wanted:
                break
            if np.random.random() < 0.7:
                taken[size] = other
                out[other] = True
                size += 1
        taken = taken[:size]
        for r in range(len(rows)):
            kept = 0
            for k in range(counts[r]):
                place = rows[r, k]
                if not out[place]:
                    rows[r, kept] = place
                    kept += 1
            if kept < counts[r]:
                counts[r] = kept
                change[r] = True
        key = np.random.random(size)
        if np.random.random() < 0.5:
            for k in range(size):
                key[k] = -demand[taken[k]]
        elif np.random.random() < 0.5:
            for k in range(size):
                key[k] = -problem[0][0, taken[k]]
        fits = True
        for k in np.argsort(key):
            out[taken[k]] = False
            fits = fits and _put_back(problem, rows, counts, taken[k], change)
        new = now
        for r in range(len(rows)):
            if change[r]:
                length[r] = route_measure(problem, rows[r], counts[r])[0]
                new += length[r] - old_length[r]
        if fits and new < now - temperature * np.log(np.random.random()):
            now = new
            for r in range(len(rows)):
                if change[r]:
                    old_rows[r, : counts[r]], old_counts[r], old_length[r] = rows[r, : counts[r]], counts[r], length[r]
            if now < best:
                best = now
                best_rows[:], best_counts[:] = rows, counts
        else:
            for r in range(len(rows)):
                if change[r]:
                    counts[r], length[r] = old_counts[r], old_length[r]
                    rows[r, : counts[r]] = old_rows[r, : counts[r]]
    return best_rows, best_counts
