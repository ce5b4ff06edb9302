"""Compiled tabu search over job-shop sequences, and the path between two of them.

Here: numba kernels; import this module inside functions only. Not here: longest paths and moves
(``problems.jobshop_kernels``), restarts (``schedule_tabu``).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from hybrid_assets.problems.scheduling.jobshop_kernels import block_moves, paths, repaired, shift


@njit(cache=True)
def _estimate(u, v, after, heads, tails, left, right, jobs, durations):  # type: ignore[no-untyped-def]
    """Longest path through the moved operations (Balas & Vazacopoulos 1998), from the present heads and tails."""
    n = len(jobs)
    # the stretch of the machine in its new order
    line = np.empty(n, np.int64)
    size = 0
    if after:
        i = right[u]
        while True:
            line[size] = i
            size += 1
            if i == v:
                break
            i = right[i]
        line[size] = u
        size += 1
        before, behind = left[u], right[v]
    else:
        line[0] = u
        size = 1
        i = v
        while i != u:
            line[size] = i
            size += 1
            i = right[i]
        before, behind = left[v], right[u]
    new_heads = np.empty(size, np.int64)
    ready = heads[before] + durations[before] if before >= 0 else 0
    for k in range(size):
        i = line[k]
        if i > 0 and jobs[i - 1] == jobs[i]:
            ready = max(ready, heads[i - 1] + durations[i - 1])
        new_heads[k] = ready
        ready += durations[i]
    rest = tails[behind] + durations[behind] if behind >= 0 else 0
    longest = 0
    for k in range(size - 1, -1, -1):
        i = line[k]
        if i + 1 < n and jobs[i + 1] == jobs[i]:
            rest = max(rest, tails[i + 1] + durations[i + 1])
        rest += durations[i]
        longest = max(longest, new_heads[k] + rest)
    return longest


@njit(cache=True)
def _is_tabu(until, step, u, v, after, left, right, jobs):  # type: ignore[no-untyped-def]
    """Whether the move restores an order of two operations that is forbidden until a later step.

    ``until[a, j]`` is the step until which operation a may not come before job j's operation on its machine again.
    """
    i = v
    while i != u:
        if (until[i, jobs[u]] if after else until[u, jobs[i]]) > step:
            return True
        i = left[i] if after else right[i]
    return False


@njit(cache=True)
def tabu(sequence, offsets, jobs, machines, durations, patience, limit, target, seed):  # type: ignore[no-untyped-def]
    """Tabu search with N6 moves (after Zhang et al. 2007) until ``patience`` steps bring nothing better,
    or ``limit`` are made.

    Every step makes the move with the lowest estimated makespan that restores no recently changed order of two
    operations on a machine, or one that promises a new best; where all are forbidden, a random one.

    Returns:
        the best sequences, their makespan, steps made.
    """
    np.random.seed(seed)
    n = len(sequence)
    # durations of being forbidden, longer where jobs outnumber machines
    count, kinds = jobs[n - 1] + 1, len(offsets) - 1
    shortest = 10 + count // kinds
    longest = int(1.4 * shortest) if count <= 2 * kinds else int(1.5 * shortest)
    until = np.zeros((n, count), np.int32)
    now = sequence.copy()
    makespan, heads, tails, left, right = paths(now, offsets, jobs, durations)
    best, kept, idle, step = makespan, now.copy(), 0, 0
    while idle < patience and step < limit and best > target:
        step += 1
        idle += 1
        moves = block_moves(makespan, heads, tails, left, right, jobs, durations, np.random.randint(0, 1 << 20))
        if len(moves) == 0:
            break
        chosen, lowest, ties = -1, np.int64(2**62), 0
        for m in range(len(moves)):
            u, v, after = moves[m]
            value = _estimate(u, v, after, heads, tails, left, right, jobs, durations)
            if value > lowest or (value >= best and _is_tabu(until, step, u, v, after, left, right, jobs)):
                continue
            ties = ties + 1 if value == lowest else 1
            if np.random.randint(0, ties) == 0:
                chosen, lowest = m, value
        if chosen < 0:
            chosen = np.random.randint(0, len(moves))
        u, v, after = moves[chosen]
        tenure = step + np.random.randint(shortest, longest + 1)
        i = v
        while i != u:
            # the order that the move ends may not come back soon
            if after:
                until[u, jobs[i]] = tenure
                i = left[i]
            else:
                until[i, jobs[u]] = tenure
                i = right[i]
        shift(now, offsets, machines[u], u, v, after)
        makespan, heads, tails, left, right = paths(now, offsets, jobs, durations)
        if makespan < best:
            best, idle = makespan, 0
            kept[:] = now
    return kept, best, step


@njit(cache=True)
def between(one, two, offsets, jobs, share, seed):  # type: ignore[no-untyped-def]
    """Sequences on the way from ``one`` to ``two`` (path relinking, Peng et al. 2015): about ``share`` of the
    neighbours that stand in another order are exchanged, in random order; repaired where that contradicts."""
    np.random.seed(seed)
    n = len(one)
    now = one.copy()
    rank = np.empty(n, np.int64)
    for at in range(n):
        rank[two[at]] = at
    distance = 0
    for k in range(len(offsets) - 1):
        for a in range(offsets[k], offsets[k + 1]):
            for b in range(a + 1, offsets[k + 1]):
                distance += rank[now[a]] > rank[now[b]]
    wanted = int(share * distance)
    while wanted > 0:
        for at in np.random.permutation(n - 1):
            if rank[now[at]] > rank[now[at + 1]]:
                now[at], now[at + 1] = now[at + 1], now[at]
                wanted -= 1
                if wanted <= 0:
                    break
    return repaired(now, offsets, jobs), distance
