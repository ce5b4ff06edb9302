"""Compiled loops over the routes of a fleet: what they cost, moves on them, their second-order expansion.

Here: numba kernels on whole numbers; imported inside functions only. Not here: local descent (``route_descent``), which
moves to try (``fleet``).

A plan is one sequence of places with a 0 before, between and after the routes; two zeros in a row are an idle vehicle.
A problem is the tuple ``(distance, demand, ready, due, service, limits)`` with ``limits`` = capacity, charge per unit
of excess load, charge per unit of lateness, whether there are windows. A late vehicle is charged and its clock set
back, so that lateness does not pile up (time warp: Nagata, Bräysy & Dullaert, Computers & Operations Research 37,
2010).

A move is ``(code, a, b)`` on customers, not on positions: ``SWAP`` exchanges a and b, ``RELOCATE`` puts a behind b,
``TAILS`` exchanges what follows a and b in two routes, ``REVERSE`` turns a … b of one route round. Instead of a
customer to go behind, ``-1 - r`` is the start of route r.
"""

from __future__ import annotations

import numpy as np
from numba import njit

SWAP, RELOCATE, TAILS, REVERSE = 0, 1, 2, 3


@njit(cache=True)
def route_measure(problem, visits, count):  # type: ignore[no-untyped-def]
    """Distance and charge of one route of ``count`` customers."""
    distance, demand, ready, due, service, limits = problem
    if count == 0:
        return 0, 0
    total, load, late = 0, 0, 0
    before, clock = 0, ready[0]
    for k in range(count + 1):
        place = visits[k] if k < count else 0
        step = distance[before, place]
        total += step
        load += demand[place]
        if limits[3]:
            clock = max(clock + service[before] + step, ready[place])
            if clock > due[place]:
                late += clock - due[place]
                clock = due[place]
        before = place
    return total, max(0, load - limits[0]) * limits[1] + late * limits[2]


@njit(cache=True)
def measure(problem, plan):  # type: ignore[no-untyped-def]
    """Distance, charges and number of vehicles used of a whole plan."""
    total, charged, used = 0, 0, 0
    start = 1
    for k in range(1, len(plan)):
        if plan[k] == 0:
            if k > start:
                far, charge = route_measure(problem, plan[start:k], k - start)
                total += far
                charged += charge
                used += 1
            start = k + 1
    return total, charged, used


@njit(cache=True)
def _find(plan, anchor):  # type: ignore[no-untyped-def]
    """Index of a customer, or of the zero that starts a route."""
    route = -1 - anchor
    for k in range(len(plan)):
        if plan[k] == anchor and anchor > 0:
            return k
        if anchor < 0 and plan[k] == 0:
            if route == 0:
                return k
            route -= 1
    return -1


@njit(cache=True)
def _tail(plan, at):  # type: ignore[no-untyped-def]
    """Index of the zero that ends the route of an index."""
    k = at + 1
    while plan[k] != 0:
        k += 1
    return k


@njit(cache=True)
def play(plan, move, scratch):  # type: ignore[no-untyped-def]
    """Make one move in place; one that has become impossible changes nothing."""
    code = move[0]
    a, b = _find(plan, move[1]), _find(plan, move[2])
    if code == SWAP:
        plan[a], plan[b] = plan[b], plan[a]
    elif code == RELOCATE:
        place = plan[a]
        if a < b:
            for k in range(a, b):
                plan[k] = plan[k + 1]
            plan[b] = place
        elif a > b + 1:
            for k in range(a, b + 1, -1):
                plan[k] = plan[k - 1]
            plan[b + 1] = place
    elif code == TAILS:
        if a > b:
            a, b = b, a
        first, second = _tail(plan, a), _tail(plan, b)
        if first > b:
            return
        count = 0
        for k in range(b + 1, second):
            scratch[count] = plan[k]
            count += 1
        for k in range(first, b + 1):
            scratch[count] = plan[k]
            count += 1
        for k in range(a + 1, first):
            scratch[count] = plan[k]
            count += 1
        for k in range(count):
            plan[a + 1 + k] = scratch[k]
    else:
        if a > b:
            a, b = b, a
        if _tail(plan, a) > b:
            while a < b:
                plan[a], plan[b] = plan[b], plan[a]
                a += 1
                b -= 1


@njit(cache=True)
def expansion(problem, plan, moves):  # type: ignore[no-untyped-def]
    """Changes in cost (distance and charges) by each move alone and by each pair beyond the two."""
    q = len(moves)
    total, charged, _ = measure(problem, plan)
    before = total + charged
    single = np.zeros(q, dtype=np.int64)
    pair = np.zeros((q, q), dtype=np.int64)
    trial, scratch = plan.copy(), plan.copy()
    for i in range(q):
        trial[:] = plan
        play(trial, moves[i], scratch)
        total, charged, _ = measure(problem, trial)
        single[i] = total + charged - before
    for i in range(q):
        for j in range(i + 1, q):
            trial[:] = plan
            play(trial, moves[i], scratch)
            play(trial, moves[j], scratch)
            total, charged, _ = measure(problem, trial)
            pair[i, j] = total + charged - before - single[i] - single[j]
    return single, pair
