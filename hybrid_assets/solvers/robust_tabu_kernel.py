"""The compiled loop of robust tabu search (Taillard 1991).

Here: some iterations on arrays that the caller keeps. Not here: clock, restarts, results (``robust_tabu``). Imports
numba: import it inside functions.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from hybrid_assets.problems.assignment.qap_moves import make_swap


@njit(cache=True)
def search(
    flow: np.ndarray,
    distance: np.ndarray,
    places: np.ndarray,
    table: np.ndarray,
    until: np.ndarray,
    best_places: np.ndarray,
    costs: np.ndarray,
    first: int,
    iterations: int,
    target: float,
    rng: np.random.Generator,
) -> int:
    """Iterations ``first`` to ``first + iterations``; all arrays are changed in place.

    Each takes the best swap that is not tabu, reaches a new best, or is aspired: both assignments unused for 5n²
    iterations. A swap is tabu where both facilities would return to locations left within their tenures, 8n times the
    cube of a uniform number (Taillard's later setting: mostly short, sometimes long).

    Args:
        places, table: where the walk stands and what its swaps cost (``all_swaps``).
        until: int64, shape ``(n, n)``: facility i may not return to location k before this iteration.
        best_places, costs: the best placement; ``(current cost, best cost)``.
        target: the search ends at a best cost of at most this.

    Returns:
        iterations made.
    """
    n, made = len(places), 0
    patience = 5 * n * n
    for t in range(first, first + iterations):
        if costs[1] <= target:
            break
        made += 1
        pick, r, s, aspired = np.inf, -1, -1, False
        for i in range(n - 1):
            for j in range(i + 1, n):
                one, two, change = until[i, places[j]], until[j, places[i]], table[i, j]
                if (one < t - patience and two < t - patience) or costs[0] + change < costs[1]:
                    if not aspired or change < pick:
                        pick, r, s, aspired = change, i, j, True
                elif not aspired and change < pick and (one < t or two < t):
                    pick, r, s = change, i, j
        if r < 0:
            continue
        until[r, places[r]] = t + int(8 * n * rng.random() ** 3)
        until[s, places[s]] = t + int(8 * n * rng.random() ** 3)
        costs[0] += pick
        make_swap(flow, distance, places, table, r, s)
        if costs[0] < costs[1]:
            costs[1] = costs[0]
            best_places[:] = places
    return made
