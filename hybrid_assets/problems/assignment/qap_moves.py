"""Location swaps of a quadratic assignment, compiled.

Here: what a swap costs, the table of all swaps and its update in O(1) per entry (Taillard 1991), steepest descent. Not
here: searches that leave a local optimum (``solvers``). Imports numba: import it inside functions.

Throughout ``flow`` and ``distance`` are float64 of shape ``(n, n)``, symmetric or not, and ``places`` is int64 of shape
``(n,)``, facility → location.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def swap_cost(flow: np.ndarray, distance: np.ndarray, places: np.ndarray, r: int, s: int) -> float:
    """Change of the cost when facilities r and s exchange their locations; O(n)."""
    at, to = places[r], places[s]
    change = (flow[r, r] - flow[s, s]) * (distance[to, to] - distance[at, at])
    change += (flow[r, s] - flow[s, r]) * (distance[to, at] - distance[at, to])
    for k in range(len(places)):
        if k not in (r, s):
            here = places[k]
            change += (flow[k, r] - flow[k, s]) * (distance[here, to] - distance[here, at])
            change += (flow[r, k] - flow[s, k]) * (distance[to, here] - distance[at, here])
    return change


@njit(cache=True)
def all_swaps(flow: np.ndarray, distance: np.ndarray, places: np.ndarray, table: np.ndarray) -> None:
    """Fill ``table[r, s]``, r < s, with ``swap_cost``; O(n³)."""
    n = len(places)
    for r in range(n - 1):
        for s in range(r + 1, n):
            table[r, s] = swap_cost(flow, distance, places, r, s)


@njit(cache=True)
def make_swap(flow: np.ndarray, distance: np.ndarray, places: np.ndarray, table: np.ndarray, r: int, s: int) -> None:
    """Exchange r and s in ``places`` and bring ``table`` up to date; O(1) for a pair that has neither, O(n) else."""
    places[r], places[s] = places[s], places[r]
    n, here, there = len(places), places[r], places[s]
    for i in range(n - 1):
        if i in (r, s):
            for j in range(i + 1, n):
                table[i, j] = swap_cost(flow, distance, places, i, j)
            continue
        a, out, back = places[i], flow[r, i] - flow[s, i], flow[i, r] - flow[i, s]
        for j in range(i + 1, n):
            if j in (r, s):
                table[i, j] = swap_cost(flow, distance, places, i, j)
                continue
            b = places[j]
            outward = distance[there, a] - distance[there, b] + distance[here, b] - distance[here, a]
            inward = distance[a, there] - distance[b, there] + distance[b, here] - distance[a, here]
            table[i, j] += (out - flow[r, j] + flow[s, j]) * outward + (back - flow[j, r] + flow[j, s]) * inward


@njit(cache=True)
def descend(flow: np.ndarray, distance: np.ndarray, places: np.ndarray, slack: float, evaluations: int) -> int:
    """Make the best swap in place until none improves by more than ``slack`` or about ``evaluations`` are spent.

    Returns:
        swap costs evaluated.
    """
    n = len(places)
    spent = n * (n - 1) // 2
    if spent > evaluations:
        return 0
    table = np.zeros((n, n))
    all_swaps(flow, distance, places, table)
    while True:
        best, r, s = -slack, -1, -1
        for i in range(n - 1):
            for j in range(i + 1, n):
                if table[i, j] < best:
                    best, r, s = table[i, j], i, j
        if r < 0 or spent + n * (n - 1) // 2 > evaluations:
            return spent
        make_swap(flow, distance, places, table, r, s)
        spent += n * (n - 1) // 2
