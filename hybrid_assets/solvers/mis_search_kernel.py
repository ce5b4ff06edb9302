"""The compiled loop of the search over independent sets (multi-neighbourhood tabu search, Wu, Hao and Glover 2012).

Here: some iterations on arrays that the caller keeps. Not here: clock, results (``mis_search``). Imports numba: import
it inside functions.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from hybrid_assets.problems.graphs.mis_moves import empty, join, leave

#: Iterations that a node which left stays out, at least.
TENURE = 7


@njit(cache=True)
def search(
    starts: np.ndarray,
    ends: np.ndarray,
    weights: np.ndarray,
    inside: np.ndarray,
    tight: np.ndarray,
    owner: np.ndarray,
    lists: np.ndarray,
    counts: np.ndarray,
    spot: np.ndarray,
    until: np.ndarray,
    best: np.ndarray,
    values: np.ndarray,
    clock: np.ndarray,
    iterations: int,
    patience: int,
    target: float,
    rng: np.random.Generator,
) -> int:
    """Some iterations; all arrays are changed in place (``mis_moves`` says what they are).

    Each makes the best of three kinds of moves, ties at random: a node without a neighbour inside joins, a node takes
    the place of its only neighbour inside, a node leaves. Who left stays out for a while, unless coming back makes a
    new best. ``patience`` iterations without progress of the run begin a new one, from nothing.

    Args:
        until: int64, shape ``(n,)``: the node stays out before this iteration.
        best: int8, shape ``(n,)``: the best set.
        values: weights of the set now, of the best, and of the best of this run.
        clock: int64: the iteration, and that of the last progress of this run.
        target: the search ends at a best of at least this.

    Returns:
        iterations made.
    """
    made = 0
    while made < iterations and values[1] < target:
        made += 1
        clock[0] += 1
        now, slack = clock[0], 1e-12 * values[1]
        kind, pick, gain, ties = 0, -1, -np.inf, 0
        for which in range(2):
            for k in range(counts[which]):
                v = lists[which, k]
                change = weights[v] - (weights[owner[v]] if which else 0.0)
                if change < gain or (until[v] > now and values[0] + change <= values[1] + slack):
                    continue
                if change > gain:
                    kind, pick, gain, ties = which, v, change, 1
                else:
                    ties += 1
                    if rng.random() * ties < 1.0:
                        kind, pick = which, v
        if gain < 0.0:
            for v in range(len(inside)):
                if inside[v] and -weights[v] >= gain:
                    ties = ties + 1 if -weights[v] == gain else 1
                    if rng.random() * ties < 1.0:
                        kind, pick = 2, v
                    gain = -weights[v]
        if pick < 0 or now - clock[1] > patience:
            empty(inside, tight, owner, lists, counts, spot)
            until[:] = 0
            values[0], values[2], clock[1] = 0.0, 0.0, now
            continue
        if kind == 0:
            join(starts, ends, inside, tight, owner, lists, counts, spot, pick)
        elif kind == 1:
            out = owner[pick]
            leave(starts, ends, inside, tight, owner, lists, counts, spot, out)
            join(starts, ends, inside, tight, owner, lists, counts, spot, pick)
            until[out] = now + TENURE + int(rng.random() * counts[1])
        else:
            leave(starts, ends, inside, tight, owner, lists, counts, spot, pick)
            until[pick] = now + TENURE
        values[0] += gain
        if values[0] > values[2] + slack:
            values[2], clock[1] = values[0], now
            if values[0] > values[1] + slack:
                values[1] = values[0]
                best[:] = inside
    return made
