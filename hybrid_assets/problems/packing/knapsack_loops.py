"""Compiled loops of the knapsack family. Import this module inside functions only: it loads numba.

Here: filling, shedding, descent, annealing and uniform draws over bits that stay within the capacities. Not here: what
they are used for (``knapsack``, ``knapsack_landscape``, ``solvers``).

Everywhere: ``x`` int8 ``(n,)``; ``gains`` float64 ``(n,)``, the value of item i beside the other chosen items, i.e.
values + pairs·x; ``weights`` int64 ``(n, m)``; ``room`` int64 ``(m,)``, what is left of the capacities; ``pairs``
float64 symmetric ``(n, n)`` with zero diagonal, or ``(0, 0)`` where there are none. The first three change in place.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True)
def _fits(weights: np.ndarray, room: np.ndarray, j: int, i: int) -> bool:
    """Whether item ``j`` fits, item ``i`` leaving (``-1``: none)."""
    for r in range(len(room)):
        left = room[r] - weights[j, r]
        if i >= 0:
            left += weights[i, r]
        if left < 0:
            return False
    return True


@njit(cache=True)
def _over(room: np.ndarray) -> bool:
    """Whether a capacity is exceeded."""
    for left in room:  # noqa: SIM110, compiled
        if left < 0:
            return True
    return False


@njit(cache=True)
def _copy(source: np.ndarray, target: np.ndarray) -> None:
    """Entry by entry: slices take seconds to compile."""
    for k in range(len(source)):
        target[k] = source[k]


@njit(cache=True)
def _flip(x: np.ndarray, gains: np.ndarray, weights: np.ndarray, room: np.ndarray, pairs: np.ndarray, j: int) -> None:
    sign = 1 - 2 * x[j]
    x[j] = 1 - x[j]
    for r in range(len(room)):
        room[r] -= sign * weights[j, r]
    if len(pairs):
        for k in range(len(x)):
            gains[k] += sign * pairs[j, k]


@njit(cache=True)
def fill(
    x: np.ndarray, gains: np.ndarray, weights: np.ndarray, room: np.ndarray, pairs: np.ndarray, order: np.ndarray
) -> None:
    """Add the items of ``order`` that fit, one after the other."""
    for j in order:
        if x[j] == 0 and _fits(weights, room, j, -1):
            _flip(x, gains, weights, room, pairs, j)


@njit(cache=True)
def shed(x: np.ndarray, gains: np.ndarray, weights: np.ndarray, room: np.ndarray, pairs: np.ndarray) -> int:
    """Drop items until no capacity is exceeded, the one with the least gain per excess weight first; how many."""
    dropped = 0
    while _over(room):
        pick, least = -1, np.inf
        for i in range(len(x)):
            if x[i] == 1:
                relief = 0.0
                for r in range(len(room)):
                    if room[r] < 0:
                        relief += min(weights[i, r], -room[r]) / -room[r]
                if relief > 0 and gains[i] / relief < least:
                    pick, least = i, gains[i] / relief
        _flip(x, gains, weights, room, pairs, pick)
        dropped += 1
    return dropped


@njit(cache=True)
def descend(
    x: np.ndarray, gains: np.ndarray, weights: np.ndarray, room: np.ndarray, pairs: np.ndarray, evaluations: int
) -> int:
    """Add the best item that fits, else make the best swap, until nothing improves; evaluations spent.

    A scan that would overdraw ``evaluations`` ends where they do.
    """
    n, spent = len(x), 0
    while spent < evaluations:
        pick, gone, best = -1, -1, 1e-9
        for j in range(n):
            if x[j] == 0 and gains[j] > best:
                spent += 1
                if _fits(weights, room, j, -1):
                    pick, best = j, gains[j]
        if pick < 0:
            for j in range(n):
                if x[j] == 1 or gains[j] <= best:
                    continue
                if spent >= evaluations:
                    break
                for i in range(n):
                    if x[i] == 1 and gains[j] - gains[i] > best:
                        spent += 1
                        gain = gains[j] - gains[i]
                        if len(pairs):
                            gain -= pairs[i, j]
                        if gain > best and _fits(weights, room, j, i):
                            pick, gone, best = j, i, gain
        if pick < 0:
            return spent
        if gone >= 0:
            _flip(x, gains, weights, room, pairs, gone)
        _flip(x, gains, weights, room, pairs, pick)
    return spent


@njit(cache=True)
def anneal(
    x: np.ndarray,
    gains: np.ndarray,
    weights: np.ndarray,
    room: np.ndarray,
    pairs: np.ndarray,
    items: np.ndarray,
    steps: int,
    hot: float,
    cold: float,
    rng: np.random.Generator,
) -> None:
    """Metropolis steps on ``items`` with a temperature that falls geometrically: add, drop, or swap where full."""
    chosen = np.empty(len(x), dtype=np.int64)
    place = np.full(len(x), -1, dtype=np.int64)
    count = 0
    for i in items:
        if x[i] == 1:
            chosen[count], place[i] = i, count
            count += 1
    for step in range(steps):
        temperature = hot * (cold / hot) ** (step / steps)
        j = items[int(rng.random() * len(items))]
        i, gain = -1, gains[j]
        if x[j] == 1:
            gain = -gain
        elif not _fits(weights, room, j, -1):
            if count == 0:
                continue
            i = chosen[int(rng.random() * count)]
            if not _fits(weights, room, j, i):
                continue
            gain -= gains[i]
            if len(pairs):
                gain -= pairs[i, j]
        if gain < 0 and rng.random() >= math.exp(gain / temperature):
            continue
        leaver = j if x[j] == 1 else i
        if leaver >= 0:
            _flip(x, gains, weights, room, pairs, leaver)
            count -= 1
            last = chosen[count]
            chosen[place[leaver]], place[last], place[leaver] = last, place[leaver], -1
        if leaver != j:
            _flip(x, gains, weights, room, pairs, j)
            chosen[count], place[j] = j, count
            count += 1


@njit(cache=True)
def wander(
    x: np.ndarray, weights: np.ndarray, room: np.ndarray, free: np.ndarray, steps: int, rng: np.random.Generator
) -> None:
    """Flip random members of ``free`` wherever the result fits: a symmetric chain, uniform in the long run."""
    for _ in range(steps):
        j = free[int(rng.random() * len(free))]
        if x[j] == 1 or _fits(weights, room, j, -1):
            sign = 1 - 2 * x[j]
            x[j] = 1 - x[j]
            for r in range(len(room)):
                room[r] -= sign * weights[j, r]


@njit(cache=True)
def tabulate(
    best: np.ndarray, taken: np.ndarray, values: np.ndarray, weights: np.ndarray, start: int, stop: int
) -> None:
    """Rows ``start`` to ``stop`` of the dynamic program over capacities (Bellman 1957).

    Args:
        best: float64 ``(c + 1,)``: the largest value within each capacity so far.
        taken: uint8 ``(n, (c + 8) // 8)``: bit c of row i says whether item i is taken there.
        values, weights: float64 and int64, shape ``(n,)``.
    """
    for i in range(start, stop):
        w, v = weights[i], values[i]
        for c in range(len(best) - 1, w - 1, -1):
            new = best[c - w] + v
            if new > best[c]:
                best[c] = new
                taken[i, c >> 3] |= np.uint8(1 << (c & 7))


@njit(cache=True)
def rebuild(
    x: np.ndarray,
    values: np.ndarray,
    weights: np.ndarray,
    room: np.ndarray,
    order: np.ndarray,
    border: int,
    width: float,
    steps: int,
    hot: float,
    cold: float,
    rng: np.random.Generator,
) -> float:
    """Walk from one maximal choice to the next; ``x`` and ``room`` become those of the best. Linear values only.

    A step flips one to five items near ``border``, then drops from the end of ``order`` and adds from its beginning
    (the repair of Chu & Beasley 1998), never the flipped ones; Metropolis rule, temperature falling geometrically.

    Args:
        order: the items that fit, by efficiency, best first; ``border``: the place in it where in turns to out.
        width: mean distance of flipped items from the border.

    Returns:
        the best value.
    """
    n, m = len(order), len(room)
    trial, left = x.copy(), room.copy()
    held = np.zeros(len(x), dtype=np.int64)
    value = 0.0
    for i in range(len(x)):
        value += values[i] * x[i]
    best, best_room, top = x.copy(), room.copy(), value
    for step in range(1, steps + 1):
        temperature = hot * (cold / hot) ** (step / steps)
        _copy(x, trial)
        _copy(room, left)
        new = value
        for _ in range(1 + int(5 * rng.random())):
            distance = int(-width * math.log(1.0 - rng.random()))
            at = border + distance if rng.random() < 0.5 else border - 1 - distance
            if 0 <= at < n:
                j = order[at]
                if held[j] != step:
                    held[j] = step
                    sign = 1 - 2 * trial[j]
                    trial[j] = 1 - trial[j]
                    new += sign * values[j]
                    for r in range(m):
                        left[r] -= sign * weights[j, r]
        at = n
        while at > 0 and _over(left):
            at -= 1
            j = order[at]
            if trial[j] == 1 and held[j] != step:
                trial[j] = 0
                new -= values[j]
                for r in range(m):
                    left[r] += weights[j, r]
        if _over(left):
            continue
        for at in range(n):
            j = order[at]
            if trial[j] == 0 and held[j] != step and _fits(weights, left, j, -1):
                trial[j] = 1
                new += values[j]
                for r in range(m):
                    left[r] -= weights[j, r]
        if new >= value or rng.random() < math.exp((new - value) / temperature):
            _copy(trial, x)
            _copy(left, room)
            value = new
            if value > top:
                _copy(x, best)
                _copy(room, best_room)
                top = value
    _copy(best, x)
    _copy(best_room, room)
    return top
