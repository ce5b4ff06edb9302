"""Compiled loops over one tour: its length, moves on it, their second-order expansion, and local descent.

Here: numba kernels on whole-number distances; imported inside functions only. Not here: which moves to try (``tour``).

A move is four whole numbers: ``(SWAP, i, j, 0)`` exchanges two positions, ``(REVERSE, i, length, 0)`` turns a window
round, ``(SHIFT, i, first, length)`` puts the first cities of a window behind its others. Windows run on past the end of
the tour.
"""

from __future__ import annotations

import numpy as np
from numba import njit

SWAP, REVERSE, SHIFT = 0, 1, 2
#: Longest segment that or-opt moves; without symmetry, where nothing may be turned round, longer ones.
OR_SYMMETRIC, OR_ASYMMETRIC = 3, 60


@njit(cache=True)
def length(distance, tour):  # type: ignore[no-untyped-def]
    """Length of the closed tour."""
    total = distance[tour[-1], tour[0]]
    for k in range(len(tour) - 1):
        total += distance[tour[k], tour[k + 1]]
    return total


@njit(cache=True)
def play(tour, move, scratch):  # type: ignore[no-untyped-def]
    """Make one move in place."""
    n = len(tour)
    code, i = move[0], move[1]
    if code == SWAP:
        j = move[2]
        tour[i], tour[j] = tour[j], tour[i]
    elif code == REVERSE:
        for t in range(move[2] // 2):
            a, b = (i + t) % n, (i + move[2] - 1 - t) % n
            tour[a], tour[b] = tour[b], tour[a]
    else:
        first, size = move[2], move[3]
        for t in range(size):
            scratch[t] = tour[(i + t) % n]
        for t in range(size):
            tour[(i + t) % n] = scratch[(first + t) % size]


@njit(cache=True)
def expansion(distance, tour, moves):  # type: ignore[no-untyped-def]
    """Changes in length by each move alone, shape ``(q,)``, and by each pair beyond the two, upper triangular."""
    q, before = len(moves), length(distance, tour)
    single = np.zeros(q, dtype=np.int64)
    pair = np.zeros((q, q), dtype=np.int64)
    trial, scratch = tour.copy(), tour.copy()
    for i in range(q):
        trial[:] = tour
        play(trial, moves[i], scratch)
        single[i] = length(distance, trial) - before
    for i in range(q):
        for j in range(i + 1, q):
            trial[:] = tour
            play(trial, moves[i], scratch)
            play(trial, moves[j], scratch)
            pair[i, j] = length(distance, trial) - before - single[i] - single[j]
    return single, pair


@njit(cache=True)
def nearest_neighbour(distance, first):  # type: ignore[no-untyped-def]
    """The tour that always goes to the nearest city not yet seen."""
    n = len(distance)
    tour = np.empty(n, dtype=np.int64)
    seen = np.zeros(n, dtype=np.bool_)
    tour[0] = first
    seen[first] = True
    for k in range(1, n):
        best = -1
        for city in range(n):
            if not seen[city] and (best < 0 or distance[tour[k - 1], city] < distance[tour[k - 1], best]):
                best = city
        tour[k] = best
        seen[best] = True
    return tour


@njit(cache=True)
def _reverse_between(tour, place, i, j):  # type: ignore[no-untyped-def]
    """Turn positions i … j (running on past the end) round, or the rest, whichever is shorter."""
    n = len(tour)
    inner = (j - i) % n + 1
    if 2 * inner > n:
        i, j, inner = (j + 1) % n, (i - 1) % n, n - inner
    for _ in range(inner // 2):
        a, b = tour[i], tour[j]
        tour[i], tour[j] = b, a
        place[b], place[a] = i, j
        i, j = (i + 1) % n, (j - 1) % n


@njit(cache=True)
def _two_opt(distance, tour, place, a, near):  # type: ignore[no-untyped-def]
    """The first improving 2-opt move that joins ``a`` to a near city; evaluations and whether one was made."""
    n, spent = len(tour), 0
    for step in (1, -1):
        b = tour[(place[a] + step) % n]
        for c in near[a]:
            spent += 1
            if distance[a, c] >= distance[a, b]:
                break
            e = tour[(place[c] + step) % n]
            if distance[a, c] + distance[b, e] < distance[a, b] + distance[c, e]:
                if step == 1:
                    _reverse_between(tour, place, place[b], place[c])
                else:
                    _reverse_between(tour, place, place[c], place[b])
                return spent, True
    return spent, False


@njit(cache=True)
def _or_opt(distance, tour, place, a, near, towards, symmetric, scratch):  # type: ignore[no-untyped-def]
    """The first improving move of a segment that begins or ends with ``a`` to a near city."""
    n, spent = len(tour), 0
    longest = min(OR_SYMMETRIC if symmetric else OR_ASYMMETRIC, n - 2)
    for size in range(1, longest + 1):
        for begins in (True, False):
            start = place[a] if begins else (place[a] - size + 1) % n
            first, last = tour[start], tour[(start + size - 1) % n]
            before, after = tour[(start - 1) % n], tour[(start + size) % n]
            gain = distance[before, first] + distance[last, after] - distance[before, after]
            if gain <= 0:
                continue
            for c in towards[a] if begins else near[a]:
                spent += 1
                joined = distance[c, a] if begins else distance[a, c]
                if joined >= gain:
                    break
                if (place[c] - start) % n < size:
                    continue
                for turned in range(2 if symmetric else 1):
                    # c stands before the segment when its first city joins it and nothing is turned round
                    ahead = begins != (turned == 1)
                    other = tour[(place[c] + (1 if ahead else -1)) % n]
                    if (place[other] - start) % n < size:
                        continue
                    far = last if begins else first
                    if ahead:
                        cost = joined + distance[far, other] - distance[c, other]
                    else:
                        cost = joined + distance[other, far] - distance[other, c]
                    if cost < gain:
                        _move_segment(tour, place, start, size, c if ahead else other, turned == 1, scratch)
                        return spent, True
    return spent, False


@njit(cache=True)
def _move_segment(tour, place, start, size, behind, turned, scratch):  # type: ignore[no-untyped-def]
    """Put a segment behind a city outside of it."""
    n = len(tour)
    count = 0
    for t in range(size, n):
        city = tour[(start + t) % n]
        scratch[count] = city
        count += 1
        if city == behind:
            for s in range(size):
                scratch[count] = tour[(start + (size - 1 - s if turned else s)) % n]
                count += 1
    for k in range(n):
        tour[k] = scratch[k]
        place[scratch[k]] = k


@njit(cache=True)
def descend(distance, tour, near, towards, symmetric, limit):  # type: ignore[no-untyped-def]
    """2-opt (where symmetric) and or-opt with neighbour lists until nothing improves; in place.

    Args:
        near: the nearest cities to go to from each, shape ``(n, k)``.
        towards: the nearest cities to come from.
        limit: evaluations after which it ends.

    Returns:
        Evaluations spent.
    """
    n, spent = len(tour), 0
    place, scratch = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    for k in range(n):
        place[tour[k]] = k
    improved = True
    while improved and spent < limit:
        improved = False
        for a in range(n):
            again = True
            while again and spent < limit:
                again = False
                if symmetric:
                    used, again = _two_opt(distance, tour, place, a, near)
                    spent += used
                if not again:
                    used, again = _or_opt(distance, tour, place, a, near, towards, symmetric, scratch)
                    spent += used
                improved = improved or again
    return spent


@njit(cache=True)
def iterate(distance, near, towards, symmetric, tour, best, rounds, hot, cold, seed):  # type: ignore[no-untyped-def]
    """Double bridges of short segments, each followed by a descent around them and accepted by annealing; in place.

    Args:
        best: the shortest tour met; replaced where a shorter one is.
        hot, cold: first and last temperature, in units of distance.

    Returns:
        Evaluations spent.
    """
    np.random.seed(seed)
    n, spent = len(tour), 0
    place, scratch, kept = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64), tour.copy()
    waiting, queued = np.empty(n, dtype=np.int64), np.zeros(n, dtype=np.bool_)
    now, shortest = length(distance, tour), length(distance, best)
    longest = max(2, min(50, n // 3))
    for step in range(rounds):
        temperature = hot * (cold / hot) ** (step / rounds)
        start = np.random.randint(n)
        first, second = np.random.randint(1, longest), np.random.randint(1, longest)
        play(tour, (SHIFT, start, first, first + second), scratch)
        for k in range(n):
            place[tour[k]] = k
        count = 0
        for at in (
            start - 1,
            start,
            start + second - 1,
            start + second,
            start + first + second - 1,
            start + first + second,
        ):
            city = tour[at % n]
            if not queued[city]:
                waiting[count], queued[city] = city, True
                count += 1
        while count:
            count -= 1
            a = waiting[count]
            queued[a] = False
            again = False
            if symmetric:
                used, again = _two_opt(distance, tour, place, a, near)
                spent += used
            if not again:
                used, again = _or_opt(distance, tour, place, a, near, towards, symmetric, scratch)
                spent += used
            if again:
                for k in range(-1, len(near[a])):
                    city = a if k < 0 else near[a, k]
                    if not queued[city]:
                        waiting[count], queued[city] = city, True
                        count += 1
        new = length(distance, tour)
        if new <= now - temperature * np.log(np.random.random()):
            now = new
            kept[:] = tour
            if now < shortest:
                shortest = now
                best[:] = tour
        else:
            tour[:] = kept
    return spent
