"""Compiled loops of the bin packing family. Import this module inside functions only: it loads numba.

Here: best fit, eviction, descent on the sum of squared loads, symmetric mixing, ruin and refill. Not here: what they
are used for (``binpacking``, ``binpacking_landscape``, ``solvers.fit_decreasing``).

Everywhere: ``sizes`` int64 ``(n,)``; ``bins`` int64 ``(n,)``, the bin of every item, ``-1`` for none; ``loads`` int64,
one entry per bin that may be used, 0 for an empty one. The last two change in place.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True)
def best_fit(sizes: np.ndarray, bins: np.ndarray, loads: np.ndarray, capacity: int, order: np.ndarray) -> None:
    """Put the items of ``order`` one after the other into the fullest bin where they fit, an empty one at last."""
    for i in order:
        pick = -1
        for b in range(len(loads)):
            if loads[b] + sizes[i] <= capacity and (pick < 0 or loads[b] > loads[pick]):
                pick = b
        bins[i] = pick
        loads[pick] += sizes[i]


@njit(cache=True)
def evict(sizes: np.ndarray, bins: np.ndarray, loads: np.ndarray, capacity: int, order: np.ndarray) -> int:
    """Take items out of overfull bins, the last of ``order`` first, and put them where they fit best; how many."""
    out = np.empty(len(sizes), dtype=np.int64)
    count = 0
    for k in range(len(order) - 1, -1, -1):
        i = order[k]
        if loads[bins[i]] > capacity:
            loads[bins[i]] -= sizes[i]
            count += 1
            out[len(out) - count] = i
    best_fit(sizes, bins, loads, capacity, out[len(out) - count :])
    return count


@njit(cache=True)
def descend(sizes: np.ndarray, bins: np.ndarray, loads: np.ndarray, capacity: int, evaluations: int) -> int:
    """Relocate and exchange items while that raises Σ load², which empties light bins; evaluations spent."""
    n, spent, improved = len(sizes), 0, True
    while improved and spent < evaluations:
        improved = False
        for i in range(n):
            if spent >= evaluations:
                return spent
            a, pick = bins[i], -1
            best = 0
            for b in range(len(loads)):
                if b != a and loads[b] > 0 and loads[b] + sizes[i] <= capacity:
                    gain = sizes[i] * (loads[b] - loads[a] + sizes[i])
                    if gain > best:
                        pick, best = b, gain
            spent += len(loads)
            if pick >= 0:
                loads[a] -= sizes[i]
                loads[pick] += sizes[i]
                bins[i] = pick
                improved = True
        for i in range(n):
            for k in range(n):
                # the larger one, i, goes to the fuller bin
                d, a, b = sizes[i] - sizes[k], bins[i], bins[k]
                if d > 0 and a != b and loads[b] + d <= capacity and loads[b] - loads[a] + d > 0:
                    loads[a] -= d
                    loads[b] += d
                    bins[i], bins[k] = b, a
                    improved = True
            spent += n
            if spent >= evaluations:
                return spent
    return spent


@njit(cache=True)
def mix(
    sizes: np.ndarray,
    bins: np.ndarray,
    loads: np.ndarray,
    capacity: int,
    allowed: np.ndarray,
    steps: int,
    rng: np.random.Generator,
) -> None:
    """Relocate or exchange random items where that is ``allowed`` (bool, items × bins) and fits: a symmetric chain."""
    n, count = allowed.shape
    for _ in range(steps):
        i, b = int(n * rng.random()), int(count * rng.random())
        a = bins[i]
        if allowed[i, a] and allowed[i, b] and loads[b] + sizes[i] <= capacity and a != b:
            loads[a] -= sizes[i]
            loads[b] += sizes[i]
            bins[i] = b
        k = int(n * rng.random())
        a, b, d = bins[i], bins[k], sizes[i] - sizes[k]
        open_ = allowed[i, a] and allowed[i, b] and allowed[k, a] and allowed[k, b]
        if a != b and open_ and loads[b] + d <= capacity and loads[a] - d <= capacity:
            loads[a] -= d
            loads[b] += d
            bins[i], bins[k] = b, a


@njit(cache=True)
def squares(loads: np.ndarray, capacity: int) -> float:
    """Σ (load / capacity)²."""
    total = 0.0
    for load in loads:
        total += (load / capacity) ** 2
    return total


@njit(cache=True)
def _copy(source: np.ndarray, target: np.ndarray) -> None:
    """Entry by entry: slices take seconds to compile."""
    for k in range(len(source)):
        target[k] = source[k]


@njit(cache=True)
def refill(
    sizes: np.ndarray,
    bins: np.ndarray,
    loads: np.ndarray,
    capacity: int,
    steps: int,
    temperature: float,
    rng: np.random.Generator,
) -> int:
    """Empty the lightest bin and a few others, fill by best fit in a noisy decreasing order, descend; keep by a
    Metropolis rule on Σ load², fewer bins always. Bins and loads become the best found; its number of bins.

    The sum of squares rises when bins are fuller; one bin less is a rise as well.
    """
    n = len(sizes)
    best_bins, best_loads = bins.copy(), loads.copy()
    level = squares(loads, capacity)
    top = level
    for _ in range(steps):
        trial, left = bins.copy(), loads.copy()
        lightest = -1
        for b in range(len(left)):
            if left[b] > 0 and (lightest < 0 or left[b] < left[lightest]):
                lightest = b
        opened = np.zeros(len(left), dtype=np.bool_)
        opened[lightest] = True
        for _ in range(1 + int(4 * rng.random())):
            opened[trial[int(n * rng.random())]] = True
        out = np.empty(n, dtype=np.int64)
        key = np.empty(n)
        count = 0
        for i in range(n):
            if opened[trial[i]]:
                left[trial[i]] = 0
                # insertion sort: a few items only
                noisy, at = sizes[i] * (1.0 + 0.3 * rng.random()), count
                while at > 0 and key[at - 1] < noisy:
                    key[at] = key[at - 1]
                    out[at] = out[at - 1]
                    at -= 1
                key[at] = noisy
                out[at] = i
                count += 1
        best_fit(sizes, trial, left, capacity, out[:count])
        descend(sizes, trial, left, capacity, 4 * n * n)
        new = squares(left, capacity)
        if new >= level or rng.random() < math.exp((new - level) / temperature):
            _copy(trial, bins)
            _copy(left, loads)
            level = new
            if new > top:
                _copy(trial, best_bins)
                _copy(left, best_loads)
                top = new
    _copy(best_bins, bins)
    _copy(best_loads, loads)
    used = 0
    for load in loads:
        used += load > 0
    return used
