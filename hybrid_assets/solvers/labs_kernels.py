"""Compiled searches for sequences of low autocorrelation: tabu search, and branch and bound.

Here: some steps on arrays that the caller keeps. Not here: clock, restarts, results (``labs_tabu``, ``labs_branch``).
Imports numba: import it inside functions.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from hybrid_assets.problems.sequences.labs_moves import correlate, flip, flip_energy


@njit(cache=True)
def tabu_runs(best: np.ndarray, value: int, runs: int, target: int, rng: np.random.Generator) -> tuple[int, int]:
    """Tabu searches from random sequences (Gallardo, Cotta and Fernández 2009).

    A run makes n/2 to 3n/2 flips; a spin that was flipped rests for a tenth of that, unless flipping it back makes a
    new best.

    Args:
        best: int64, shape ``(n,)``: the best spins, changed in place.
        value: their energy.
        target: the search ends at an energy of at most this.

    Returns:
        the best energy, and the flips made.
    """
    n, flips = len(best), 0
    spins, c, until = np.empty(n, dtype=np.int64), np.zeros(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    for _ in range(runs):
        if value <= target:
            break
        for i in range(n):
            spins[i] = 1 - 2 * int(2 * rng.random())
        until[:] = 0
        energy = correlate(spins, c)
        if energy < value:
            value, best[:] = energy, spins
        length = int(n * (0.5 + rng.random())) + 1
        rest, extra = length // 10 + 1, length // 50 + 1
        for t in range(1, length + 1):
            low, pick, ties = 2**62, -1, 0
            for i in range(n):
                after = flip_energy(spins, c, i)
                if after > low or (until[i] >= t and after >= value):
                    continue
                ties = 1 if after < low else ties + 1
                if ties == 1 or rng.random() * ties < 1.0:
                    pick = i
                low = after
            if pick < 0:
                continue
            flips += 1
            flip(spins, c, pick)
            until[pick] = t + rest + int(rng.random() * (extra + 1))
            if low < value:
                value, best[:] = low, spins
                if value <= target:
                    break
    return value, flips


@njit(cache=True)
def branch(
    spins: np.ndarray,
    c: np.ndarray,
    free: np.ndarray,
    choice: np.ndarray,
    depth: int,
    best: np.ndarray,
    value: int,
    nodes: int,
    target: int,
) -> tuple[int, int, int]:
    """Branch and bound from both ends inwards (Mertens 1996), at most so many nodes.

    At depth d the first and last d spins are set. Every c_k is at least as far from 0 as what is set minus the number
    of products that are not, and has the parity of n − k; the sum of these squares bounds the energy. The first two
    spins are +1: negating all spins, or every other one, changes no energy.

    Args:
        spins: int64, shape ``(n,)``. c: int64, shape ``(levels + 1, n)``: sums of the products set, per depth.
        free: int64, shape ``(levels + 1, n)``: products not set, per depth.
        choice: int64, shape ``(levels,)``: the next choice at every depth, 0 to 3.
        depth: where to go on; −1 after the last node.
        best, value: the best sequence, changed in place, and its energy.

    Returns:
        depth, best energy, nodes visited.
    """
    n, levels, visited = len(spins), len(choice), 0
    while depth >= 0 and visited < nodes and value > target:
        right = n - 1 - depth
        if choice[depth] == (2 if right == depth else 4):
            choice[depth] = 0
            depth -= 1
            continue
        option = choice[depth]
        choice[depth] += 1
        spins[depth] = 1 - 2 * (option & 1)
        if right != depth:
            spins[right] = 1 - (option & 2)
        if (depth < 2 and spins[depth] < 0) or (right == 1 and spins[1] < 0):
            continue
        visited += 1
        now = c[depth + 1]
        now[:] = c[depth]
        for i in range(depth):
            now[depth - i] += spins[depth] * spins[i]
            now[n - 1 - i - depth] += spins[depth] * spins[n - 1 - i]
            if right != depth:
                now[right - i] += spins[right] * spins[i]
                now[n - 1 - i - right] += spins[right] * spins[n - 1 - i]
        if right != depth:
            now[right - depth] += spins[depth] * spins[right]
        bound = 0
        for k in range(1, n):
            least = max(abs(now[k]) - free[depth + 1, k], (n - k) & 1)
            bound += least * least
        if bound >= value:
            continue
        if depth + 1 == levels:
            value, best[:] = bound, spins
        else:
            depth += 1
    return depth, value, visited
