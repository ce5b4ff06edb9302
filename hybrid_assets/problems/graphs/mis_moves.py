"""Independent sets and the nodes that could join them, compiled.

Here: the lists that a search over independent sets keeps, a node's joining and leaving in O(degree), local search. Not
here: searches that leave a local optimum (``solvers``). Imports numba: import it inside functions.

A graph is ``starts`` (int64, shape ``(n + 1,)``) and ``ends`` (int64): the neighbours of v are ``ends[starts[v]:
starts[v + 1]]``. A set is an array ``inside`` (int8) with what follows from it, changed only by ``join`` and ``leave``:

- ``tight``: neighbours inside, of every node; ``owner``: the sum of their numbers, so the neighbour itself where
  ``tight`` is 1;
- ``lists``, shape ``(2, n)``, its lengths ``counts`` and every node's ``spot`` in it: the nodes outside with no
  neighbour inside (``lists[0]``) and with one (``lists[1]``).
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def _list(lists: np.ndarray, counts: np.ndarray, spot: np.ndarray, which: int, v: int) -> None:
    spot[v] = counts[which]
    lists[which, counts[which]] = v
    counts[which] += 1


@njit(cache=True)
def _unlist(lists: np.ndarray, counts: np.ndarray, spot: np.ndarray, which: int, v: int) -> None:
    counts[which] -= 1
    last = lists[which, counts[which]]
    lists[which, spot[v]] = last
    spot[last] = spot[v]


@njit(cache=True)
def empty(
    inside: np.ndarray,
    tight: np.ndarray,
    owner: np.ndarray,
    lists: np.ndarray,
    counts: np.ndarray,
    spot: np.ndarray,
) -> None:
    """The empty set."""
    inside[:], tight[:], owner[:], counts[:] = 0, 0, 0, 0
    for v in range(len(inside)):
        _list(lists, counts, spot, 0, v)


@njit(cache=True)
def join(
    starts: np.ndarray,
    ends: np.ndarray,
    inside: np.ndarray,
    tight: np.ndarray,
    owner: np.ndarray,
    lists: np.ndarray,
    counts: np.ndarray,
    spot: np.ndarray,
    v: int,
) -> None:
    """Put v, which has no neighbour inside, into the set."""
    _unlist(lists, counts, spot, 0, v)
    inside[v] = 1
    for k in range(starts[v], starts[v + 1]):
        u = ends[k]
        if tight[u] < 2:
            _unlist(lists, counts, spot, tight[u], u)
        if tight[u] == 0:
            _list(lists, counts, spot, 1, u)
        tight[u] += 1
        owner[u] += v


@njit(cache=True)
def leave(
    starts: np.ndarray,
    ends: np.ndarray,
    inside: np.ndarray,
    tight: np.ndarray,
    owner: np.ndarray,
    lists: np.ndarray,
    counts: np.ndarray,
    spot: np.ndarray,
    v: int,
) -> None:
    """Take v out of the set."""
    inside[v] = 0
    _list(lists, counts, spot, 0, v)
    for k in range(starts[v], starts[v + 1]):
        u = ends[k]
        tight[u] -= 1
        owner[u] -= v
        if tight[u] == 0:
            _unlist(lists, counts, spot, 1, u)
        if tight[u] < 2:
            _list(lists, counts, spot, tight[u], u)


@njit(cache=True)
def _fill(
    starts: np.ndarray,
    ends: np.ndarray,
    weights: np.ndarray,
    inside: np.ndarray,
    tight: np.ndarray,
    owner: np.ndarray,
    lists: np.ndarray,
    counts: np.ndarray,
    spot: np.ndarray,
) -> int:
    """Let nodes without a neighbour inside join, most weight per neighbour first; how many were looked at."""
    spent = 0
    while counts[0] > 0:
        pick, most = -1, -1.0
        for k in range(counts[0]):
            u = lists[0, k]
            worth = weights[u] / (1 + starts[u + 1] - starts[u])
            if worth > most or (worth == most and u < pick):
                pick, most = u, worth
        spent += counts[0]
        join(starts, ends, inside, tight, owner, lists, counts, spot, pick)
    return spent


@njit(cache=True)
def climb(starts: np.ndarray, ends: np.ndarray, weights: np.ndarray, inside: np.ndarray, evaluations: int) -> int:
    """Improve ``inside`` in place until nothing helps or about ``evaluations`` moves have been looked at.

    A node joins that has no neighbour inside; one or two nodes that do not touch take the place of their only
    neighbour inside where they weigh more (Andrade, Resende and Werneck 2012, there without weights).

    Returns:
        moves looked at.
    """
    n = len(inside)
    given = inside.copy()
    tight, owner, spot = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    lists, counts = np.zeros((2, n), dtype=np.int64), np.zeros(2, dtype=np.int64)
    empty(inside, tight, owner, lists, counts, spot)
    for v in range(n):
        if given[v]:
            join(starts, ends, inside, tight, owner, lists, counts, spot, v)
    marked = np.zeros(n, dtype=np.int64)
    stamp, spent, moved = 0, 0, True
    spent += _fill(starts, ends, weights, inside, tight, owner, lists, counts, spot)
    while moved and spent < evaluations:
        moved = False
        for x in range(n):
            if not inside[x] or spent >= evaluations:
                continue
            one, two, most = -1, -1, weights[x]
            for k in range(starts[x], starts[x + 1]):
                v = ends[k]
                if tight[v] != 1:
                    continue
                spent += 1
                if weights[v] > most:
                    one, two, most = v, -1, weights[v]
                stamp += 1
                for m in range(starts[v], starts[v + 1]):
                    marked[ends[m]] = stamp
                for m in range(k + 1, starts[x + 1]):
                    u = ends[m]
                    if tight[u] == 1:
                        spent += 1
                        if marked[u] != stamp and weights[v] + weights[u] > most:
                            one, two, most = v, u, weights[v] + weights[u]
            if one >= 0:
                moved = True
                leave(starts, ends, inside, tight, owner, lists, counts, spot, x)
                join(starts, ends, inside, tight, owner, lists, counts, spot, one)
                if two >= 0:
                    join(starts, ends, inside, tight, owner, lists, counts, spot, two)
                spent += _fill(starts, ends, weights, inside, tight, owner, lists, counts, spot)
    return spent
