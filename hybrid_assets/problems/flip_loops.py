"""Compiled loops over the bits of a polynomial with linear constraints.

Here: fields, flips, conditioning, descents, all on plain arrays. Not here: clusters and their domains
(``cluster_loops``), what the arrays mean to a family or to the engine (``flips``). Imports numba, so it is itself
imported only inside functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Bits = NDArray[np.int8]

#: A constraint counts as met within this much, or this share of its activity.
SLACK = 1e-9


class Arrays(NamedTuple):
    """A polynomial over n bits with m linear constraints; lists of lists are flat arrays with start positions.

    ``start``, ``other``, ``value``: every variable's couplings (each pair twice). ``term_start``, ``term_member``,
    ``term_value``: terms of degree 3 and more; ``in_start``, ``in_term``: the terms of every variable. ``of_start``,
    ``of_constraint``, ``of_value``: the constraints of every variable; ``low``, ``high``: bounds of every activity;
    ``even``: whether it is an equality with equal positive coefficients.
    """

    linear: Floats
    start: Integers
    other: Integers
    value: Floats
    term_start: Integers
    term_member: Integers
    term_value: Floats
    in_start: Integers
    in_term: Integers
    of_start: Integers
    of_constraint: Integers
    of_value: Floats
    low: Floats
    high: Floats
    even: NDArray[np.bool_]


@njit(cache=True)
def fields(p: Arrays, x: Bits) -> Floats:
    """The polynomial's derivative by every bit, shape ``(n,)``: a flip of bit i costs (1 − 2 x_i)·fields_i."""
    g = p.linear.copy()
    for i in range(len(x)):
        if x[i]:
            for k in range(p.start[i], p.start[i + 1]):
                g[p.other[k]] += p.value[k]
    for t in range(len(p.term_value)):
        first, last = p.term_start[t], p.term_start[t + 1]
        for a in range(first, last):
            product = p.term_value[t]
            for b in range(first, last):
                if b != a:
                    product *= x[p.term_member[b]]
            g[p.term_member[a]] += product
    return g


@njit(cache=True)
def energy(p: Arrays, x: Bits) -> float:
    """The polynomial without its offset."""
    total = 0.0
    for i in range(len(x)):
        if x[i]:
            total += p.linear[i]
            for k in range(p.start[i], p.start[i + 1]):
                if p.other[k] < i and x[p.other[k]]:
                    total += p.value[k]
    for t in range(len(p.term_value)):
        product = p.term_value[t]
        for b in range(p.term_start[t], p.term_start[t + 1]):
            product *= x[p.term_member[b]]
        total += product
    return total


@njit(cache=True)
def activities(p: Arrays, x: Bits) -> Floats:
    """Left-hand side of every constraint, shape ``(m,)``."""
    total = np.zeros(len(p.low))
    for i in range(len(x)):
        if x[i]:
            for k in range(p.of_start[i], p.of_start[i + 1]):
                total[p.of_constraint[k]] += p.of_value[k]
    return total


@njit(cache=True)
def excess(p: Arrays, c: int, activity: float) -> float:
    """By how much an activity leaves the bounds of constraint c."""
    return max(0.0, activity - p.high[c], p.low[c] - activity)


@njit(cache=True)
def holds(p: Arrays, c: int, activity: float) -> bool:
    """Whether an activity is within the bounds of constraint c."""
    return excess(p, c, activity) <= SLACK * max(1.0, abs(activity))


@njit(cache=True)
def met(p: Arrays, activity: Floats) -> bool:
    """Whether all constraints hold."""
    broken = 0
    for c in range(len(p.low)):
        broken += not holds(p, c, activity[c])
    return broken == 0


@njit(cache=True)
def met_by(p: Arrays, block: Integers, activity: Floats) -> bool:
    """Whether all constraints of the block's bits hold."""
    broken = 0
    for i in block:
        for k in range(p.of_start[i], p.of_start[i + 1]):
            broken += not holds(p, p.of_constraint[k], activity[p.of_constraint[k]])
    return broken == 0


@njit(cache=True)
def flip(p: Arrays, i: int, x: Bits, g: Floats, activity: Floats) -> float:
    """Flips bit i in place, bits, fields and activities; answers what it cost."""
    d = 1 - 2 * x[i]
    cost = d * g[i]
    x[i] += d
    for k in range(p.start[i], p.start[i + 1]):
        g[p.other[k]] += d * p.value[k]
    for k in range(p.in_start[i], p.in_start[i + 1]):
        t = p.in_term[k]
        first, last = p.term_start[t], p.term_start[t + 1]
        for a in range(first, last):
            if p.term_member[a] != i:
                product = d * p.term_value[t]
                for b in range(first, last):
                    if b != a and p.term_member[b] != i:
                        product *= x[p.term_member[b]]
                g[p.term_member[a]] += product
    for k in range(p.of_start[i], p.of_start[i + 1]):
        activity[p.of_constraint[k]] += d * p.of_value[k]
    return cost


@njit(cache=True)
def flips(p: Arrays, block: Integers, bits: Bits, x: Bits, g: Floats, activity: Floats) -> float:
    """Puts bits into the block's places in place; answers what it cost."""
    cost = 0.0
    for a in range(len(block)):
        if x[block[a]] != bits[a]:
            cost += flip(p, block[a], x, g, activity)
    return cost


@njit(cache=True)
def conditioned(p: Arrays, x: Bits, block: Integers) -> tuple[Floats, Floats]:
    """Linear terms ``(q,)`` and strictly upper couplings ``(q, q)`` of the quadratic part given all other bits."""
    q = len(block)
    place = np.full(len(x), -1, dtype=np.int64)
    for a in range(q):
        place[block[a]] = a
    linear, couplings = np.zeros(q), np.zeros((q, q))
    for a in range(q):
        linear[a] = p.linear[block[a]]
        for k in range(p.start[block[a]], p.start[block[a] + 1]):
            b = place[p.other[k]]
            if b < 0:
                linear[a] += p.value[k] * x[p.other[k]]
            elif b > a:
                couplings[a, b] += p.value[k]
    return linear, couplings


@njit(cache=True)
def conditioned_terms(p: Arrays, x: Bits, block: Integers) -> tuple[Integers, Floats]:
    """The terms of degree 3 and more that meet the block given all other bits: masks of block places, coefficients."""
    q = len(block)
    place = np.full(len(x), -1, dtype=np.int64)
    most = 0
    for a in range(q):
        place[block[a]] = a
        most += p.in_start[block[a] + 1] - p.in_start[block[a]]
    masks, values, found = np.zeros(most, dtype=np.int64), np.zeros(most), 0
    for a in range(q):
        for k in range(p.in_start[block[a]], p.in_start[block[a] + 1]):
            t = p.in_term[k]
            mask, value = np.int64(0), p.term_value[t]
            for b in range(p.term_start[t], p.term_start[t + 1]):
                where = place[p.term_member[b]]
                if where >= 0:
                    mask |= np.int64(1) << where
                else:
                    value *= x[p.term_member[b]]
            # a term belongs to its member with the lowest place, so that it is counted once
            if value != 0.0 and mask & ((np.int64(1) << a) - 1) == 0:
                masks[found], values[found] = mask, value
                found += 1
    return masks[:found], values[:found]


@njit(cache=True)
def charges(p: Arrays, x: Bits, activity: Floats, block: Integers) -> tuple[float, Floats, Floats, Integers]:
    """Constraints as a block sees them: groups where a constraint reduces to exactly-one, else a charge.

    The charge is (violation / mean coefficient in the block)², expanded to second order in the block's flips: exact
    for equalities and for inequalities over two of the block's bits.

    Returns:
        the charge of the present bits, that of every single flip ``(q,)`` and of every pair beyond its singles
        ``(q, q)``, strictly upper; the constraint that makes every bit part of a group ``(q,)``, or −1.
    """
    q, count = len(block), 0
    for a in range(q):
        count += p.of_start[block[a] + 1] - p.of_start[block[a]]
    which, place, step = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count)
    count = 0
    for a in range(q):
        d = 1 - 2 * x[block[a]]
        for k in range(p.of_start[block[a]], p.of_start[block[a] + 1]):
            which[count], place[count], step[count] = p.of_constraint[k], a, d * p.of_value[k]
            count += 1
    order = np.argsort(which, kind="mergesort")
    present, single, pair = 0.0, np.zeros(q), np.zeros((q, q))
    group = np.full(q, -1, dtype=np.int64)
    begin = 0
    while begin < count:
        c, end, unit, inside, free = which[order[begin]], begin, 0.0, 0.0, True
        while end < count and which[order[end]] == c:
            a = place[order[end]]
            unit += abs(step[order[end]])
            inside += abs(step[order[end]]) * x[block[a]]
            free = free and group[a] < 0
            end += 1
        members = end - begin
        unit /= members
        if p.even[c] and members > 1 and free and abs(inside - unit) < SLACK and excess(p, c, activity[c]) < SLACK:
            for e in range(begin, end):
                group[place[order[e]]] = c
        else:
            now = (excess(p, c, activity[c]) / unit) ** 2
            present += now
            for e in range(begin, end):
                a = place[order[e]]
                one = (excess(p, c, activity[c] + step[order[e]]) / unit) ** 2
                single[a] += one - now
                for f in range(e + 1, end):
                    b = place[order[f]]
                    other = (excess(p, c, activity[c] + step[order[f]]) / unit) ** 2
                    both = (excess(p, c, activity[c] + step[order[e]] + step[order[f]]) / unit) ** 2
                    pair[min(a, b), max(a, b)] += both - one - other + now
        begin = end
    return present, single, pair, group


@njit(cache=True)
def keeps(p: Arrays, i: int, x: Bits, activity: Floats) -> bool:
    """Whether a flip of bit i leaves no constraint worse off than it is, or than met."""
    d = 1 - 2 * x[i]
    for k in range(p.of_start[i], p.of_start[i + 1]):
        c = p.of_constraint[k]
        after = excess(p, c, activity[c] + d * p.of_value[k])
        if after > SLACK and after > excess(p, c, activity[c]):
            return False
    return True


@njit(cache=True)
def mends(p: Arrays, i: int, broken: int, x: Bits, activity: Floats) -> bool:
    """Whether a flip of bit i meets all its constraints, ``broken`` of which are not met now."""
    d = 1 - 2 * x[i]
    for k in range(p.of_start[i], p.of_start[i + 1]):
        c = p.of_constraint[k]
        if excess(p, c, activity[c] + d * p.of_value[k]) > SLACK:
            return False
        if excess(p, c, activity[c]) > SLACK:
            broken -= 1
    return broken == 0


@njit(cache=True)
def descend(p: Arrays, x: Bits, g: Floats, activity: Floats, limit: int, small: float) -> tuple[float, int]:
    """Steepest descent in place: the best flip that keeps the constraints, and with constraints the first swap of a one
    and a zero that pays where no flip does; until none gains more than ``small`` or ``limit`` is reached.

    Returns:
        the change of the polynomial, and the number of flips and swaps that were looked at.
    """
    n, gained, looked = len(x), 0.0, 0
    bound = len(p.low) > 0
    while looked < limit:
        best, pick = -small, -1
        for i in range(n):
            cost = (1 - 2 * x[i]) * g[i]
            if cost < best and (not bound or keeps(p, i, x, activity)):
                best, pick = cost, i
        looked += n
        if pick >= 0:
            gained += flip(p, pick, x, g, activity)
            continue
        if not bound or not met(p, activity):
            break
        swapped = False
        for i in range(n):
            if x[i] == 0 or looked >= limit:
                continue
            first = flip(p, i, x, g, activity)
            broken = 0
            for k in range(p.of_start[i], p.of_start[i + 1]):
                c = p.of_constraint[k]
                if excess(p, c, activity[c]) > SLACK:
                    broken += 1
            best, pick = -small, -1
            for j in range(n):
                if x[j] == 0 and j != i and first + g[j] < best and mends(p, j, broken, x, activity):
                    best, pick = first + g[j], j
            looked += n
            if pick >= 0:
                gained += first + flip(p, pick, x, g, activity)
                swapped = True
                break
            flip(p, i, x, g, activity)
        if not swapped:
            break
    return gained, looked
