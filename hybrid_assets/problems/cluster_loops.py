"""Compiled loops over the graph of a polynomial's couplings: clusters, and the domains inside them.

Here: which variables belong together, and what flipping whole domains costs. Not here: single flips, constraints and
terms of degree 3 and more (``flip_loops``). Imports numba, so it is itself imported only inside functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from hybrid_assets.problems.flip_loops import Arrays, Bits, Floats, Integers


@njit(cache=True)
def grown(start: Integers, other: Integers, pull: Floats, damping: Floats, seed: int, noise: Floats) -> Integers:
    """A connected cluster of at most ``len(noise)`` variables around a seed.

    Joined next is the variable with the largest pull of the cluster per damping, times noise: ``noise[k]`` scatters
    the choice of member k through a cheap hash of the variable, so that equal pulls are not always cut alike.
    """
    total, joined = np.zeros(len(damping)), np.zeros(len(damping), dtype=np.bool_)
    frontier, members = np.empty(len(damping), np.int64), np.empty(len(noise), np.int64)
    waiting, found = 0, 0
    while found < len(noise):
        joined[seed] = True
        members[found] = seed
        found += 1
        for k in range(start[seed], start[seed + 1]):
            j = other[k]
            if total[j] == 0.0 and not joined[j] and pull[k] > 0.0:
                frontier[waiting] = j
                waiting += 1
            total[j] += pull[k]
        best, seed, kept = 0.0, -1, 0
        for k in range(waiting):
            j = frontier[k]
            if joined[j]:
                continue
            frontier[kept] = j
            kept += 1
            scatter = (noise[found - 1] * 7919.0 + j * 0.6180339887498949) % 1.0
            score = total[j] / damping[j] * (0.5 + scatter)
            if score > best:
                best, seed = score, j
        waiting = kept
        if seed < 0:
            break
    return members[:found]


@njit(cache=True)
def domains(p: Arrays, x: Bits, members: Integers, count: int, seed: int) -> Integers:
    """Parts of a cluster that are worth flipping as wholes, numbered from 0, one per member.

    Couplings that the present bits satisfy join their ends, in the order of strength times chance, until ``count``
    parts are left (more where the cluster falls apart, fewer where it is smaller).
    """
    m = len(members)
    place = np.full(len(x), -1, dtype=np.int64)
    for a in range(m):
        place[members[a]] = a
    edges = 0
    for a in range(m):
        for k in range(p.start[members[a]], p.start[members[a] + 1]):
            edges += place[p.other[k]] > a
    left, right, key = np.empty(edges, np.int64), np.empty(edges, np.int64), np.empty(edges)
    edges, state = 0, np.uint64(seed | 1)
    for a in range(m):
        i = members[a]
        for k in range(p.start[i], p.start[i + 1]):
            b = place[p.other[k]]
            if b > a:
                # xorshift64 (G. Marsaglia, 2003)
                state ^= state << np.uint64(13)
                state ^= state >> np.uint64(7)
                state ^= state << np.uint64(17)
                chance = (state >> np.uint64(11)) / 9007199254740992.0
                held = -p.value[k] * (2 * x[i] - 1) * (2 * x[p.other[k]] - 1)
                left[edges], right[edges], key[edges] = a, b, -held * (chance if held > 0 else 1.0)
                edges += 1
    root, parts = np.arange(m), m
    for e in np.argsort(key):
        if parts <= count:
            break
        a, b = left[e], right[e]
        while root[a] != a:
            root[a] = root[root[a]]
            a = root[a]
        while root[b] != b:
            root[b] = root[root[b]]
            b = root[b]
        if a != b:
            root[a] = b
            parts -= 1
    number, names = np.full(m, -1, dtype=np.int64), np.empty(m, np.int64)
    found = 0
    for c in range(m):
        a = c
        while root[a] != a:
            a = root[a]
        if number[a] < 0:
            number[a] = found
            found += 1
        names[c] = number[a]
    return names


@njit(cache=True)
def domain_costs(p: Arrays, x: Bits, g: Floats, members: Integers, part: Integers, count: int) -> tuple[Floats, Floats]:
    """What flipping whole parts costs in a quadratic polynomial: linear ``(count,)`` and strictly upper couplings."""
    place = np.full(len(x), -1, dtype=np.int64)
    for a in range(len(members)):
        place[members[a]] = a
    linear, couplings = np.zeros(count), np.zeros((count, count))
    for a in range(len(members)):
        i = members[a]
        linear[part[a]] += (1 - 2 * x[i]) * g[i]
        for k in range(p.start[i], p.start[i + 1]):
            b = place[p.other[k]]
            if b > a:
                both = p.value[k] * (1 - 2 * x[i]) * (1 - 2 * x[p.other[k]])
                if part[a] == part[b]:
                    linear[part[a]] += both
                else:
                    couplings[min(part[a], part[b]), max(part[a], part[b])] += both
    return linear, couplings
