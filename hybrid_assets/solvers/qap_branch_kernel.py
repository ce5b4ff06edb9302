"""The compiled parts of branch and bound for quadratic assignment: the Gilmore-Lawler bound and the tree.

Here: bounds, and some nodes on arrays that the caller keeps. Not here: the first incumbent, clock, results
(``qap_branch``). Imports numba: import it inside functions.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def assign(costs: np.ndarray) -> float:
    """The least cost of a linear assignment; ``costs``, shape ``(m, m)``, become its reduced costs, all ≥ 0.

    Shortest augmenting paths with potentials, O(m³).
    """
    m = len(costs)
    u, v = np.zeros(m + 1), np.zeros(m + 1)
    match, way = np.zeros(m + 1, dtype=np.int64), np.zeros(m + 1, dtype=np.int64)
    for row in range(1, m + 1):
        match[0], column = row, 0
        least, seen = np.full(m + 1, np.inf), np.zeros(m + 1, dtype=np.bool_)
        while True:
            seen[column] = True
            i, delta, following = match[column], np.inf, 0
            for j in range(1, m + 1):
                if not seen[j]:
                    reduced = costs[i - 1, j - 1] - u[i] - v[j]
                    if reduced < least[j]:
                        least[j], way[j] = reduced, column
                    if least[j] < delta:
                        delta, following = least[j], j
            for j in range(m + 1):
                if seen[j]:
                    u[match[j]] += delta
                    v[j] -= delta
                else:
                    least[j] -= delta
            column = following
            if match[column] == 0:
                break
        while column:
            match[column] = match[way[column]]
            column = way[column]
    for i in range(m):
        for j in range(m):
            costs[i, j] = max(0.0, costs[i, j] - u[i + 1] - v[j + 1])
    return u[1:].sum() + v[1:].sum()


@njit(cache=True)
def gilmore_lawler(
    flow: np.ndarray, distance: np.ndarray, places: np.ndarray, rows: np.ndarray, cols: np.ndarray
) -> tuple[float, np.ndarray]:
    """A bound on the cost of every completion, and reduced costs (Gilmore 1962, Lawler 1963).

    Facility i at location k costs at least what it shares with the facilities placed, plus the smallest scalar product
    of its flows to the others and the distances between the locations left; the least assignment of these is the bound.

    Args:
        places: int64, shape ``(n,)``: the location of every facility, −1 without one.
        rows, cols: the m facilities without a location and the m locations left.

    Returns:
        the bound, and float64 of shape ``(m, m)``: how much it rises at least when ``rows[i]`` is put at ``cols[k]``.
    """
    n, m = len(places), len(rows)
    base = 0.0
    for i in range(n):
        if places[i] >= 0:
            for j in range(n):
                if places[j] >= 0:
                    base += flow[i, j] * distance[places[i], places[j]]
    flows, distances = np.empty((m, m - 1)), np.empty((m, m - 1))
    for i in range(m):
        at = 0
        for j in range(m):
            if j != i:
                flows[i, at], distances[i, at] = flow[rows[i], rows[j]], distance[cols[i], cols[j]]
                at += 1
        flows[i], distances[i] = np.sort(flows[i]), np.sort(distances[i])[::-1]
    costs = np.empty((m, m))
    for i in range(m):
        for k in range(m):
            total = flow[rows[i], rows[i]] * distance[cols[k], cols[k]]
            for j in range(n):
                if places[j] >= 0:
                    total += flow[rows[i], j] * distance[cols[k], places[j]]
                    total += flow[j, rows[i]] * distance[places[j], cols[k]]
            for j in range(m - 1):
                total += flows[i, j] * distances[k, j]
            costs[i, k] = total
    return base + assign(costs), costs


@njit(cache=True)
def grow(
    flow: np.ndarray,
    distance: np.ndarray,
    places: np.ndarray,
    facility: np.ndarray,
    waiting: np.ndarray,
    counts: np.ndarray,
    depth: int,
    best: np.ndarray,
    value: float,
    step: float,
    nodes: int,
    target: float,
) -> tuple[int, float, int]:
    """Depth-first search, at most so many nodes; arrays are changed in place.

    A node is branched on the facility with the fewest locations whose bound leaves room for something better; they are
    visited from the smallest bound on.

    Args:
        places: int64, shape ``(n,)``, −1 for facilities without a location.
        facility, waiting, counts: int64, shapes ``(n,)``, ``(n, n)``, ``(n,)``: the facility placed at each depth, and
            the locations still to be tried for it, last one first. A node that was not opened yet has facility −1.
        depth: where to go on; −1 after the last node.
        best, value: the best placement and its cost.
        step: better placements are better by at least this.

    Returns:
        depth, best cost, nodes visited.
    """
    n, visited = len(places), 0
    while depth >= 0 and visited < nodes and value > target:
        if facility[depth] < 0:
            visited += 1
            rows = np.flatnonzero(places < 0)
            free = np.ones(n, dtype=np.bool_)
            for i in range(n):
                if places[i] >= 0:
                    free[places[i]] = False
            cols = np.flatnonzero(free)
            bound, rises = gilmore_lawler(flow, distance, places, rows, cols)
            room = value - 0.9 * max(step, 1e-9 * abs(value)) - bound
            pick, fewest = 0, n + 1
            for i in range(len(rows)):
                left = int(np.count_nonzero(rises[i] <= room))
                if left < fewest:
                    pick, fewest = i, left
            order = np.argsort(-rises[pick])
            counts[depth] = 0
            for k in order:
                if rises[pick, k] <= room:
                    waiting[depth, counts[depth]] = cols[k]
                    counts[depth] += 1
            facility[depth] = rows[pick]
        places[facility[depth]] = -1
        if counts[depth] == 0:
            facility[depth] = -1
            depth -= 1
            continue
        counts[depth] -= 1
        places[facility[depth]] = waiting[depth, counts[depth]]
        if depth + 1 < n:
            depth += 1
            continue
        cost = 0.0
        for i in range(n):
            for j in range(n):
                cost += flow[i, j] * distance[places[i], places[j]]
        if cost < value:
            value, best[:] = cost, places
    return depth, value, visited
