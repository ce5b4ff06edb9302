"""Compiled loops over machine sequences of a job shop: longest paths, repair, dispatching, moves, descent.

Here: numba kernels on plain arrays; import this module inside functions only. Not here: tabu search
(``solvers.jobshop_tabu_kernel``), list schedules of general projects (``project_kernels``).

Conventions: operations are numbered job by job; ``jobs`` and ``machines`` name those of each operation; ``sequence``
lists the operations machine by machine in processing order, machine k's at ``offsets[k]:offsets[k + 1]``. A move is
``(u, v, after)``: take u out and put it just after (or just before) v on the same machine.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def paths(sequence, offsets, jobs, durations):  # type: ignore[no-untyped-def]
    """Longest paths of the semi-active schedule.

    Returns:
        makespan (-1: the sequences contradict each other), heads (start times), tails (time after the operation's end),
        predecessor and successor on the machine (-1: none).
    """
    n = len(sequence)
    heads, tails = np.zeros(n, np.int64), np.zeros(n, np.int64)
    left, right = np.full(n, -1, np.int64), np.full(n, -1, np.int64)
    for k in range(len(offsets) - 1):
        for at in range(offsets[k] + 1, offsets[k + 1]):
            left[sequence[at]] = sequence[at - 1]
            right[sequence[at - 1]] = sequence[at]
    waiting = np.zeros(n, np.int64)
    queue = np.empty(n, np.int64)
    filled = 0
    for i in range(n):
        waiting[i] = (left[i] >= 0) + (i > 0 and jobs[i - 1] == jobs[i])
        if waiting[i] == 0:
            queue[filled] = i
            filled += 1
    done, makespan = 0, 0
    while done < filled:
        i = queue[done]
        done += 1
        end = heads[i] + durations[i]
        makespan = max(makespan, end)
        if i + 1 < n and jobs[i + 1] == jobs[i]:
            heads[i + 1] = max(heads[i + 1], end)
            waiting[i + 1] -= 1
            if waiting[i + 1] == 0:
                queue[filled] = i + 1
                filled += 1
        j = right[i]
        if j >= 0:
            heads[j] = max(heads[j], end)
            waiting[j] -= 1
            if waiting[j] == 0:
                queue[filled] = j
                filled += 1
    if filled < n:
        return -1, heads, tails, left, right
    for at in range(n - 1, -1, -1):
        i = queue[at]
        if i + 1 < n and jobs[i + 1] == jobs[i]:
            tails[i] = max(tails[i], tails[i + 1] + durations[i + 1])
        j = right[i]
        if j >= 0:
            tails[i] = max(tails[i], tails[j] + durations[j])
    return makespan, heads, tails, left, right


@njit(cache=True)
def repaired(sequence, offsets, jobs):  # type: ignore[no-untyped-def]
    """Sequences without contradiction, the same where there is none.

    Operations are released in sequence; where every machine waits for an operation whose job is not there yet, the
    ready one that waits for the fewest others on its machine is let past them.
    """
    n = len(sequence)
    result = sequence.copy()
    machines = len(offsets) - 1
    front = offsets[:-1].copy()
    done = np.zeros(n, np.bool_)
    released = 0
    while released < n:
        moved = False
        for k in range(machines):
            while front[k] < offsets[k + 1]:
                i = result[front[k]]
                if i > 0 and jobs[i - 1] == jobs[i] and not done[i - 1]:
                    break
                done[i] = True
                front[k] += 1
                released += 1
                moved = True
        if moved or released == n:
            continue
        best, place = n + 1, -1
        for k in range(machines):
            for at in range(front[k], offsets[k + 1]):
                i = result[at]
                if i == 0 or jobs[i - 1] != jobs[i] or done[i - 1]:
                    if at - front[k] < best:
                        best, place = at - front[k], at
                    break
        i = result[place]
        for at in range(place, place - best, -1):
            result[at] = result[at - 1]
        result[place - best] = i
    return result


@njit(cache=True)
def dispatched(priority, jobs, machines, durations, offsets):  # type: ignore[no-untyped-def]
    """Sequences of the active schedule of Giffler & Thompson (1960): among the operations that conflict with the one
    that could end first, the one with the highest priority goes next."""
    n = len(jobs)
    sequence = np.empty(n, np.int64)
    front = offsets[:-1].copy()
    free = np.zeros(len(front), np.int64)
    count = jobs[n - 1] + 1
    following, last, ready = np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count, np.int64)
    for i in range(n - 1, -1, -1):
        following[jobs[i]] = i
    for i in range(n):
        last[jobs[i]] = i
    for _ in range(n):
        first, machine = np.int64(2**62), 0
        for j in range(count):
            i = following[j]
            if i <= last[j]:
                end = max(ready[j], free[machines[i]]) + durations[i]
                if end < first:
                    first, machine = end, machines[i]
        chosen = -1
        for j in range(count):
            i = following[j]
            if i <= last[j] and machines[i] == machine:
                start = max(ready[j], free[machine])
                # an operation of no time may start at the very end of the first one
                fits = start < first or start + durations[i] == first
                if fits and (chosen < 0 or priority[i] > priority[chosen]):
                    chosen = i
        j = jobs[chosen]
        ready[j] = free[machine] = max(ready[j], free[machine]) + durations[chosen]
        following[j] += 1
        sequence[front[machine]] = chosen
        front[machine] += 1
    return sequence


@njit(cache=True)
def shift(sequence, offsets, machine, u, v, after):  # type: ignore[no-untyped-def]
    """Make the move ``(u, v, after)`` in place."""
    low, high = offsets[machine], offsets[machine + 1]
    at = low
    while sequence[at] != u:
        at += 1
    for i in range(at, high - 1):
        sequence[i] = sequence[i + 1]
    to = low
    while sequence[to] != v:
        to += 1
    if after:
        to += 1
    for i in range(high - 1, to, -1):
        sequence[i] = sequence[i - 1]
    sequence[to] = u


@njit(cache=True)
def block_moves(makespan, heads, tails, left, right, jobs, durations, first):  # type: ignore[no-untyped-def]
    """The N6 moves on one critical path (Balas & Vazacopoulos 1998): inside each block of operations that follow each
    other on a machine, an operation goes behind the last one or before the first one.

    Only moves that certainly keep the sequences free of contradiction. ``first`` picks the path: the number of the
    critical start (modulo their number), and whether it prefers to follow the job or the machine.

    Returns:
        int64, shape ``(count, 3)``.
    """
    n = len(jobs)
    starts = 0
    for i in range(n):
        if heads[i] == 0 and durations[i] + tails[i] == makespan and durations[i] > 0:
            starts += 1
    moves = np.empty((2 * n, 3), np.int64)
    found = 0
    if starts == 0:
        return moves[:0]
    wanted, at = first % starts, -1
    for i in range(n):
        if heads[i] == 0 and durations[i] + tails[i] == makespan and durations[i] > 0:
            if wanted == 0:
                at = i
                break
            wanted -= 1
    by_job = (first // starts) % 2 == 0
    block = np.empty(n, np.int64)
    while at >= 0:
        size = 0
        while True:
            block[size] = at
            size += 1
            end = heads[at] + durations[at]
            on_job = at + 1 < n and jobs[at + 1] == jobs[at]
            on_job = on_job and heads[at + 1] == end and end + durations[at + 1] + tails[at + 1] == makespan
            j = right[at]
            on_machine = j >= 0 and heads[j] == end and end + durations[j] + tails[j] == makespan
            if on_machine and not (on_job and by_job):
                at = j
                continue
            at = at + 1 if on_job else -1
            break
        if size < 2:
            continue
        head, foot = block[0], block[size - 1]
        for b in range(size):
            u = block[b]
            if b < size - 1 and jobs[u] != jobs[foot]:
                # nothing of u's job may lie on a way to the last one
                on = u + 1
                safe = on >= n or jobs[on] != jobs[u] or tails[foot] + durations[foot] >= tails[on] + durations[on]
                safe = safe and (on >= n or jobs[on] != jobs[u] or durations[on] > 0)
                if safe:
                    moves[found, 0], moves[found, 1], moves[found, 2] = u, foot, 1
                    found += 1
            if b > 0 and not (b == 1 and size == 2) and jobs[u] != jobs[head]:
                on = u - 1
                safe = on < 0 or jobs[on] != jobs[u]
                safe = safe or (heads[head] + durations[head] >= heads[on] + durations[on] and durations[on] > 0)
                if safe:
                    moves[found, 0], moves[found, 1], moves[found, 2] = u, head, 0
                    found += 1
    return moves[:found]


@njit(cache=True)
def worth(makespan, heads, tails, durations):  # type: ignore[no-untyped-def]
    """Makespan plus tie-break: below one time unit, the mean square of the longest paths through the operations over
    the squared makespan; of two schedules with one makespan the one with less work near the critical path is better."""
    total = 0.0
    for i in range(len(durations)):
        share = (heads[i] + durations[i] + tails[i]) / max(1.0, float(makespan))
        total += share * share
    return makespan + total / (len(durations) + 1)


@njit(cache=True)
def descent(sequence, offsets, jobs, machines, durations, limit):  # type: ignore[no-untyped-def]
    """Steepest descent over N6 moves, makespan first and then the tie-break, looking at several critical paths before
    it ends.

    Returns:
        sequences, makespan, schedules computed (about ``limit`` at most).
    """
    sequence = sequence.copy()
    makespan, heads, tails, left, right = paths(sequence, offsets, jobs, durations)
    best = worth(makespan, heads, tails, durations)
    spent, path = 1, 0
    while path < 4 and spent < limit:
        moves = block_moves(makespan, heads, tails, left, right, jobs, durations, path)
        chosen = -1
        for m in range(len(moves)):
            trial = sequence.copy()
            shift(trial, offsets, machines[moves[m, 0]], moves[m, 0], moves[m, 1], moves[m, 2])
            length, ahead, behind, _, _ = paths(trial, offsets, jobs, durations)
            spent += 1
            if length >= 0:
                value = worth(length, ahead, behind, durations)
                if value < best - 1e-12:
                    best, chosen = value, m
        if chosen < 0:
            path += 1
            continue
        shift(sequence, offsets, machines[moves[chosen, 0]], moves[chosen, 0], moves[chosen, 1], moves[chosen, 2])
        makespan, heads, tails, left, right = paths(sequence, offsets, jobs, durations)
        path = 0
    return sequence, makespan, spent


@njit(cache=True)
def energies(sequence, offsets, jobs, machines, durations, moves, pairs):  # type: ignore[no-untyped-def]
    """``worth`` after the moves of each pair (equal members: one move, -1: none), repaired where they contradict."""
    result = np.empty(len(pairs))
    for k in range(len(pairs)):
        trial = sequence.copy()
        for side in range(2):
            if pairs[k, side] >= 0 and (side == 0 or pairs[k, 1] != pairs[k, 0]):
                move = moves[pairs[k, side]]
                shift(trial, offsets, machines[move[0]], move[0], move[1], move[2])
        makespan, heads, tails, _, _ = paths(trial, offsets, jobs, durations)
        if makespan < 0:
            trial = repaired(trial, offsets, jobs)
            makespan, heads, tails, _, _ = paths(trial, offsets, jobs, durations)
        result[k] = worth(makespan, heads, tails, durations)
    return result
