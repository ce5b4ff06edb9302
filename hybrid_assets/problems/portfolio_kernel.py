"""Compiled QP of a portfolio: the optimal weights of one selection after the other.

Here: a primal active-set iteration (Nocedal & Wright, Numerical Optimization, algorithm 16.3) for
min ½w'Hw + c'w, Σw = 1, low ≤ w ≤ high, by Cholesky factors of the free block. Not here: where it starts, and what is
done where it does not settle (``portfolio_weights``). Imports numba: import it inside functions.
"""

from __future__ import annotations

import numpy as np
from numba import njit

#: Steps and multipliers below this are rounding (the quadratic is scaled to a mean diagonal of 1).
TINY = 1e-12
#: Iterations per asset before a problem is given up; 1 to 2 are usual.
ROUNDS = 5
#: Pivots below this share of the scale mean a singular covariance.
PIVOT = 1e-13


@njit(cache=True)
def _factored(h: np.ndarray, free: np.ndarray, count: int, lower: np.ndarray) -> bool:
    """Cholesky factor of the free block into ``lower``; whether it is positive definite."""
    for i in range(count):
        for j in range(i + 1):
            total = h[free[i], free[j]]
            for t in range(j):
                total -= lower[i, t] * lower[j, t]
            if i == j:
                if total <= PIVOT:
                    return False
                lower[i, i] = np.sqrt(total)
            else:
                lower[i, j] = total / lower[j, j]
    return True


@njit(cache=True)
def _solved(lower: np.ndarray, count: int, x: np.ndarray) -> None:
    """``x`` becomes the solution of LL'x = x."""
    for i in range(count):
        for t in range(i):
            x[i] -= lower[i, t] * x[t]
        x[i] /= lower[i, i]
    for i in range(count - 1, -1, -1):
        for t in range(i + 1, count):
            x[i] -= lower[t, i] * x[t]
        x[i] /= lower[i, i]


@njit(cache=True, error_model="numpy")
def settle(h: np.ndarray, c: np.ndarray, low: float, high: float, w: np.ndarray) -> bool:
    """Bring feasible weights ``w``, shape ``(k,)``, to the optimum in place; whether the KKT conditions hold there."""
    size = len(c)
    state = np.zeros(size, dtype=np.int8)
    gradient = np.empty(size)
    held = 0
    for i in range(size):
        total = c[i]
        for j in range(size):
            total += h[i, j] * w[j]
        gradient[i] = total
        if w[i] <= low + TINY:
            state[i] = -1
            held += 1
        elif w[i] >= high - TINY:
            state[i] = 1
            held += 1
    if held == size:
        state[np.argmin(gradient)] = 0
    free = np.empty(size, dtype=np.int64)
    lower, one, step = np.empty((size, size)), np.empty(size), np.empty(size)
    for _ in range(ROUNDS * size):
        count = 0
        for i in range(size):
            if state[i] == 0:
                free[count] = i
                count += 1
        if not _factored(h, free, count, lower):
            return False
        for k in range(count):
            one[k], step[k] = 1.0, gradient[free[k]]
        _solved(lower, count, one)
        _solved(lower, count, step)
        price = -step[:count].sum() / one[:count].sum()
        length, blocking = 1.0, -1
        for k in range(count):
            step[k] = -(step[k] + price * one[k])
            i = free[k]
            if step[k] > TINY:
                reach = max((high - w[i]) / step[k], 0.0)
            elif step[k] < -TINY:
                reach = max((low - w[i]) / step[k], 0.0)
            else:
                continue
            if reach < length:
                length, blocking = reach, k
        for k in range(count):
            i = free[k]
            w[i] = min(max(w[i] + length * step[k], low), high)
        for i in range(size):
            total = c[i]
            for j in range(size):
                total += h[i, j] * w[j]
            gradient[i] = total
        if blocking >= 0:
            i = free[blocking]
            state[i] = 1 if step[blocking] > 0 else -1
            w[i] = high if step[blocking] > 0 else low
            continue
        worst, releasing = TINY, -1
        for i in range(size):
            if state[i] != 0:
                pull = (gradient[i] + price) * state[i]
                if pull > worst:
                    worst, releasing = pull, i
        if releasing < 0:
            return abs(w.sum() - 1.0) <= 1e-10
        state[releasing] = 0
    return False


@njit(cache=True)
def scaled(
    covariance: np.ndarray, mean: np.ndarray, risk_aversion: float, chosen: np.ndarray, h: np.ndarray, c: np.ndarray
) -> float:
    """H and c of a selection into ``h`` and ``c``, divided by H's mean diagonal, which is returned."""
    size, scale = len(chosen), 0.0
    for i in range(size):
        scale += 2.0 * risk_aversion * covariance[chosen[i], chosen[i]] / size
    scale = max(scale, 1e-300)
    for i in range(size):
        c[i] = -(1.0 - risk_aversion) * mean[chosen[i]] / scale
        for j in range(size):
            h[i, j] = 2.0 * risk_aversion * covariance[chosen[i], chosen[j]] / scale
    return scale


@njit(cache=True)
def settle_all(
    quadratic: np.ndarray, linear: np.ndarray, low: float, high: float, weights: np.ndarray, settled: np.ndarray
) -> None:
    """``settle`` for H ``(b, k, k)``, c and weights ``(b, k)``; ``settled``, bool ``(b,)``, says where it ended."""
    for row in range(len(linear)):
        settled[row] = settle(quadratic[row], linear[row], low, high, weights[row])


@njit(cache=True)
def first_better(
    covariance: np.ndarray,
    mean: np.ndarray,
    risk_aversion: float,
    low: float,
    high: float,
    chosen: np.ndarray,
    weights: np.ndarray,
    swaps: np.ndarray,
    limit: float,
) -> tuple[int, float]:
    """The first of ``swaps``, int64 ``(m, 2)`` of a position and a newcomer, whose best weights cost less than
    ``limit``, and what they cost; ``m`` where there is none. The newcomer starts with the weight of who leaves.

    A selection on which the iteration does not settle is scored by the feasible weights it has come to.
    """
    size = len(chosen)
    h, c = np.empty((size, size)), np.empty(size)
    trial = chosen.copy()
    for k in range(len(swaps)):
        position, newcomer = swaps[k]
        trial[position] = newcomer
        w = weights.copy()
        scale = scaled(covariance, mean, risk_aversion, trial, h, c)
        settle(h, c, low, high, w)
        value = 0.0
        for i in range(size):
            row = 0.0
            for j in range(size):
                row += h[i, j] * w[j]
            value += w[i] * (0.5 * row + c[i])
        if value * scale < limit:
            return k, value * scale
        trial[position] = chosen[position]
    return len(swaps), limit
