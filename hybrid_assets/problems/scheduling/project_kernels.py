"""Compiled loops over a project's tasks: list scheduling, justification, list moves, feasible draws.

Here: numba kernels on plain arrays; import this module inside functions only. Not here: what the arrays mean
(``project``), job-shop machine sequences (``jobshop_kernels``).

Conventions: ``order`` lists all tasks; predecessors and successors come as ``(pointers, members)``; times are whole
numbers, ``span`` is a time by which everything certainly fits (the sum of durations).
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def _fits(usage, demands, capacities, task, start, end):  # type: ignore[no-untyped-def]
    """The first time after which ``task`` may be tried again, or ``start`` itself if it fits there."""
    for time in range(end - 1, start - 1, -1):
        for k in range(len(capacities)):
            if demands[task, k] > 0 and usage[time, k] + demands[task, k] > capacities[k]:
                return time + 1
    return start


@njit(cache=True)
def serial(order, durations, pointers, members, demands, capacities, span):  # type: ignore[no-untyped-def]
    """Serial schedule generation (Kelley 1963): each task as early as it fits, in the order of the list.

    A list that breaks a precedence is read as a priority: the first task whose predecessors are done is next.

    Returns:
        start times, and the order that was actually used.
    """
    n = len(order)
    starts = np.zeros(n, np.int64)
    used = np.empty(n, np.int64)
    placed = np.zeros(n, np.bool_)
    usage = np.zeros((span + 1, len(capacities)), np.int64)
    low = 0
    for step in range(n):
        while placed[order[low]]:
            low += 1
        at = low
        while True:
            task = order[at]
            ready = not placed[task]
            if ready:
                for p in range(pointers[task], pointers[task + 1]):
                    if not placed[members[p]]:
                        ready = False
                        break
            if ready:
                break
            at += 1
        start = 0
        for p in range(pointers[task], pointers[task + 1]):
            start = max(start, starts[members[p]] + durations[members[p]])
        while True:
            again = _fits(usage, demands, capacities, task, start, start + durations[task])
            if again == start:
                break
            start = again
        for time in range(start, start + durations[task]):
            for k in range(len(capacities)):
                usage[time, k] += demands[task, k]
        starts[task] = start
        placed[task] = True
        used[step] = task
    return starts, used


@njit(cache=True)
def ordered(starts, order):  # type: ignore[no-untyped-def]
    """Tasks by start time; equal ones keep their place in ``order``."""
    return order[np.argsort(starts[order], kind="mergesort")]


@njit(cache=True)
def finish(starts, durations):  # type: ignore[no-untyped-def]
    """The makespan."""
    return (starts + durations).max()


@njit(cache=True)
def justified(starts, order, durations, before, preds, after, succs, demands, capacities, span):  # type: ignore[no-untyped-def]
    """Forward-backward improvement (Li & Willis 1992) until it no longer helps; the makespan never grows.

    Everything is pushed as late as it goes, then as early as it goes.

    Returns:
        start times, the order that gives them, and the number of schedules generated.
    """
    spent = 0
    best = finish(starts, durations)
    while True:
        late = ordered(-(starts + durations), order[::-1].copy())
        mirrored, _ = serial(late, durations, after, succs, demands, capacities, span)
        early = ordered(-(mirrored + durations), late[::-1].copy())
        pushed, used = serial(early, durations, before, preds, demands, capacities, span)
        spent += 2
        length = finish(pushed, durations)
        if length > best:
            return starts, order, spent
        better = length < best
        starts, order, best = pushed, ordered(pushed, used), length
        if not better:
            return starts, order, spent


@njit(cache=True)
def _tie(starts, durations, length):  # type: ignore[no-untyped-def]
    """Mean square of the finishing times over the squared makespan, below one time unit: ranks equal makespans."""
    total = 0.0
    for i in range(len(starts)):
        end = (starts[i] + durations[i]) / max(1.0, float(length))
        total += end * end
    return total / (len(starts) + 1)


@njit(cache=True)
def shift(order, task, other, after):  # type: ignore[no-untyped-def]
    """Put ``task`` just after (or just before) ``other`` in the list, in place."""
    n = len(order)
    at = 0
    while order[at] != task:
        at += 1
    for i in range(at, n - 1):
        order[i] = order[i + 1]
    to = 0
    while order[to] != other:
        to += 1
    if after:
        to += 1
    for i in range(n - 1, to, -1):
        order[i] = order[i - 1]
    order[to] = task


@njit(cache=True)
def list_energies(order, moves, pairs, durations, before, preds, demands, capacities, span):  # type: ignore[no-untyped-def]
    """Makespan plus tie-break after the moves of each pair (equal members: one move, -1: none); float64."""
    energies = np.empty(len(pairs))
    for k in range(len(pairs)):
        trial = order.copy()
        for side in range(2):
            if pairs[k, side] >= 0 and (side == 0 or pairs[k, 1] != pairs[k, 0]):
                move = moves[pairs[k, side]]
                shift(trial, move[0], move[1], move[2])
        starts, _ = serial(trial, durations, before, preds, demands, capacities, span)
        length = finish(starts, durations)
        energies[k] = length + _tie(starts, durations, length)
    return energies


@njit(cache=True)
def list_descent(starts, order, durations, before, preds, demands, capacities, span, limit):  # type: ignore[no-untyped-def]
    """Descent by exchanging list neighbours without a precedence between them, and each with the one two places on.

    Makespan first, then the tie-break, so that it crosses plateaus without ever losing.

    Returns:
        start times, the order, and the number of schedules generated (at most ``limit``).
    """
    n = len(order)
    length = finish(starts, durations)
    value = length + _tie(starts, durations, length)
    spent, idle, place, gap = 0, 0, 0, 1
    while idle < 2 * n and spent < limit:
        if place + gap < n:
            trial = order.copy()
            trial[place], trial[place + gap] = trial[place + gap], trial[place]
            found, used = serial(trial, durations, before, preds, demands, capacities, span)
            spent += 1
            reached = finish(found, durations)
            worth = reached + _tie(found, durations, reached)
            if worth < value - 1e-12:
                starts, order, value, idle = found, used, worth, -1
        idle += 1
        place += 1
        if place == n:
            place, gap = 0, 3 - gap
    return starts, order, spent


@njit(cache=True)
def resample(  # type: ignore[no-untyped-def]
    starts, earliest, latest, offsets, free, durations, before, preds, after, succs, demands, capacities, sweeps, seed
):
    """Gibbs sweeps over start times: each task in turn takes a uniformly random one of its feasible start times.

    The uniform distribution over feasible schedules is stationary under this.

    Args:
        starts: a feasible schedule; changed in place.
        offsets: number of a task's first variable.
        free: bool per variable; a task whose present variable is not free stays.
    """
    np.random.seed(seed)
    n = len(starts)
    usage = np.zeros((latest.max() + durations.max() + 1, len(capacities)), np.int64)
    for task in range(n):
        for time in range(starts[task], starts[task] + durations[task]):
            for k in range(len(capacities)):
                usage[time, k] += demands[task, k]
    choices = np.empty(int((latest - earliest).max()) + 1, np.int64)
    for _ in range(sweeps):
        for task in np.random.permutation(n):
            if not free[offsets[task] + starts[task] - earliest[task]]:
                continue
            for time in range(starts[task], starts[task] + durations[task]):
                for k in range(len(capacities)):
                    usage[time, k] -= demands[task, k]
            first, last = earliest[task], latest[task]
            for p in range(before[task], before[task + 1]):
                first = max(first, starts[preds[p]] + durations[preds[p]])
            for s in range(after[task], after[task + 1]):
                last = min(last, starts[succs[s]] - durations[task])
            found = 0
            for start in range(first, last + 1):
                if (
                    free[offsets[task] + start - earliest[task]]
                    and _fits(usage, demands, capacities, task, start, start + durations[task]) == start
                ):
                    choices[found] = start
                    found += 1
            starts[task] = choices[np.random.randint(0, found)]
            for time in range(starts[task], starts[task] + durations[task]):
                for k in range(len(capacities)):
                    usage[time, k] += demands[task, k]
