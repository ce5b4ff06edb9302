"""Compiled loops over the bits of one block: energies, enumeration, descents, annealing, the choice among answers.

Here: plain arrays of a few binaries. Not here: whole instances (``problems.flip_loops``), circuits, or who is asked
(``arms``). Imports numba, so it is itself imported only inside functions.

``couplings`` are symmetric with a zero diagonal; ``masks`` and ``weights`` are the terms of degree 3 and more;
``group`` gives every bit's exactly-one group or −1. A move changes one bit outside the groups, or carries a group's one
to another of its bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Bits = NDArray[np.int8]


@njit(cache=True)
def codes(bits: Bits) -> Integers:
    """Rows of bits as numbers, bit k of the number being column k."""
    found = np.zeros(len(bits), dtype=np.int64)
    for m in range(len(bits)):
        for k in range(bits.shape[1]):
            found[m] |= np.int64(bits[m, k]) << k
    return found


@njit(cache=True)
def energies(linear: Floats, couplings: Floats, offset: float, masks: Integers, weights: Floats, bits: Bits) -> Floats:
    """Energies of rows of bits, shape ``(m,)``."""
    found = np.full(len(bits), offset)
    for m in range(len(bits)):
        code = np.int64(0)
        for i in range(len(linear)):
            if bits[m, i]:
                code |= np.int64(1) << i
                found[m] += linear[i]
                for j in range(i):
                    if bits[m, j]:
                        found[m] += couplings[i, j]
        for t in range(len(masks)):
            if code & masks[t] == masks[t]:
                found[m] += weights[t]
    return found


@njit(cache=True)
def table(linear: Floats, couplings: Floats, offset: float, masks: Integers, weights: Floats) -> Floats:
    """Energies of all ``2^q`` states; bit k of the index is bit k. Adds up the subsets of every state."""
    q = len(linear)
    values = np.zeros(1 << q)
    values[0] = offset
    for i in range(q):
        values[1 << i] = linear[i]
        for j in range(i):
            values[(1 << i) | (1 << j)] = couplings[i, j]
    for t in range(len(masks)):
        values[masks[t]] += weights[t]
    for i in range(q):
        bit = 1 << i
        for code in range(1 << q):
            if code & bit:
                values[code] += values[code ^ bit]
    return values


@njit(cache=True)
def forbid(values: Floats, group_masks: Integers) -> None:
    """Sets the energies of states without exactly one 1 in every group to infinity, in place."""
    for code in range(len(values)):
        for mask in group_masks:
            ones = code & mask
            if ones == 0 or ones & (ones - 1):
                values[code] = np.inf
                break


@njit(cache=True)
def gain(linear: Floats, couplings: Floats, masks: Integers, weights: Floats, x: Bits, i: int) -> float:
    """What a flip of bit i costs."""
    field = linear[i]
    code = np.int64(0)
    for j in range(len(linear)):
        if x[j]:
            field += couplings[i, j]
            code |= np.int64(1) << j
    bit = np.int64(1) << i
    for t in range(len(masks)):
        if masks[t] & bit and (code | bit) & masks[t] == masks[t]:
            field += weights[t]
    return field if x[i] == 0 else -field


@njit(cache=True)
def partner(group: Integers, x: Bits, i: int) -> int:
    """The bit that a move of bit i clears: the group's present one; −1 outside groups, −2 where there is no move."""
    if group[i] < 0:
        return -1
    if x[i]:
        return -2
    for j in range(len(group)):
        if group[j] == group[i] and x[j]:
            return j
    return -1


@njit(cache=True)
def cost_of_move(
    linear: Floats, couplings: Floats, masks: Integers, weights: Floats, group: Integers, x: Bits, i: int
) -> float:
    """What move i costs; infinity where there is none. Leaves x as it is."""
    j = partner(group, x, i)
    if j == -2:
        return np.inf
    cost = gain(linear, couplings, masks, weights, x, i)
    if j >= 0:
        x[i] ^= 1
        cost += gain(linear, couplings, masks, weights, x, j)
        x[i] ^= 1
    return cost


@njit(cache=True)
def make(group: Integers, x: Bits, i: int) -> None:
    """Makes move i in place."""
    j = partner(group, x, i)
    x[i] ^= 1
    if j >= 0:
        x[j] ^= 1


@njit(cache=True)
def descents(
    linear: Floats, couplings: Floats, masks: Integers, weights: Floats, group: Integers, starts: Bits, budget: int
) -> tuple[Bits, int]:
    """Steepest descents from the rows of ``starts``, one after the other, within ``budget`` looks at a move.

    Returns:
        the ends reached (the last one may have been cut short), and the looks spent.
    """
    q, spent, done = len(linear), 0, 0
    ends = starts.copy()
    while done < len(starts) and spent + q <= budget:
        x = ends[done]
        done += 1
        while spent + q <= budget:
            best, pick = -1e-12, -1
            for i in range(q):
                cost = cost_of_move(linear, couplings, masks, weights, group, x, i)
                if cost < best:
                    best, pick = cost, i
            spent += q
            if pick < 0:
                break
            make(group, x, pick)
    return ends[:done], spent


@njit(cache=True)
def annealed(
    linear: Floats,
    couplings: Floats,
    masks: Integers,
    weights: Floats,
    group: Integers,
    starts: Bits,
    temperatures: Floats,
    uniforms: Floats,
) -> Bits:
    """One sweep over all moves per temperature from every row of ``starts``; ``uniforms`` are ``(rows, sweeps, q)``."""
    ends = starts.copy()
    for r in range(len(starts)):
        x = ends[r]
        for s in range(len(temperatures)):
            for i in range(len(linear)):
                cost = cost_of_move(linear, couplings, masks, weights, group, x, i)
                if cost <= 0 or uniforms[r, s, i] < np.exp(-cost / temperatures[s]):
                    make(group, x, i)
    return ends


@njit(cache=True)
def constructed(linear: Floats, couplings: Floats, masks: Integers, weights: Floats, group: Integers) -> Bits:
    """Bits decided one after the other, the clearest first, with the undecided ones at ½ (in groups at 1/size)."""
    q = len(linear)
    mean, decided = np.full(q, 0.5), np.zeros(q, dtype=np.bool_)
    for i in range(q):
        if group[i] >= 0:
            mean[i] = 1.0 / np.sum(group == group[i])
    field = np.zeros(q)
    for _ in range(q):
        best, pick = -1.0, -1
        for i in range(q):
            if decided[i]:
                continue
            field[i] = linear[i]
            for j in range(q):
                field[i] += couplings[i, j] * mean[j]
            for t in range(len(masks)):
                if masks[t] >> i & 1:
                    product = weights[t]
                    for j in range(q):
                        if j != i and masks[t] >> j & 1:
                            product *= mean[j]
                    field[i] += product
        for i in range(q):
            if not decided[i]:
                clear = abs(field[i])
                if group[i] >= 0:
                    # a group is decided whole: its bit with the lowest field
                    lowest = True
                    for j in range(q):
                        lowest = lowest and not (group[j] == group[i] and field[j] < field[i])
                    clear = clear if lowest else -1.0
                if clear > best:
                    best, pick = clear, i
        if pick < 0:
            break
        if group[pick] < 0:
            mean[pick] = 1.0 if field[pick] < 0 else 0.0
            decided[pick] = True
        else:
            for j in range(q):
                if group[j] == group[pick]:
                    mean[j] = 1.0 if j == pick else 0.0
                    decided[j] = True
    return mean.astype(np.int8)


@njit(cache=True)
def drawn(values: Floats, names: Integers, here: float, current: int, temperature: float, uniform: float) -> int:
    """One of the distinct answers or the current bits, with Gibbs weights; its row, or −1 for the current bits.

    At temperature 0 it is one of the lowest, not the current bits where an answer is as low.
    """
    order = np.argsort(names, kind="mergesort")
    lowest = here
    for m in range(len(values)):
        lowest = min(lowest, values[m])
    cut = 1e-12 * max(1.0, abs(here))
    total = np.exp((lowest - here) / temperature) if temperature > 0 else 0.0
    own = total
    for r in range(len(order)):
        m = order[r]
        if (r == 0 or names[m] != names[order[r - 1]]) and names[m] != current:
            if temperature > 0:
                total += np.exp((lowest - values[m]) / temperature)
            elif values[m] <= lowest + cut:
                total += 1.0
    left = uniform * total - own
    if left < 0 or total == 0.0:
        return -1
    pick = -1
    for r in range(len(order)):
        m = order[r]
        if (r == 0 or names[m] != names[order[r - 1]]) and names[m] != current:
            if temperature > 0:
                left -= np.exp((lowest - values[m]) / temperature)
                pick = m
            elif values[m] <= lowest + cut:
                left -= 1.0
                pick = m
            if left < 0:
                break
    return pick
