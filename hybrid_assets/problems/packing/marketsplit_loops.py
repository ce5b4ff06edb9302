"""Compiled loops of the market split family. Import this module inside functions only: it loads numba.

Here: descent and annealing over flips. Not here: what they are used for. Everywhere: ``x`` int8 ``(n,)``; ``residual``
int64 ``(m,)``, Ax − b; ``columns`` int64 ``(n, m)``, A transposed. The first two change in place.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True)
def _flipped(x: np.ndarray, residual: np.ndarray, columns: np.ndarray, i: int, j: int) -> int:
    """Σ|r| after flipping bit ``i`` and, if not negative, bit ``j``."""
    total = 0
    for r in range(len(residual)):
        value = residual[r] + (1 - 2 * x[i]) * columns[i, r]
        if j >= 0:
            value += (1 - 2 * x[j]) * columns[j, r]
        total += abs(value)
    return total


@njit(cache=True)
def _flip(x: np.ndarray, residual: np.ndarray, columns: np.ndarray, i: int) -> None:
    for r in range(len(residual)):
        residual[r] += (1 - 2 * x[i]) * columns[i, r]
    x[i] = 1 - x[i]


@njit(cache=True)
def descend(x: np.ndarray, residual: np.ndarray, columns: np.ndarray, evaluations: int) -> int:
    """Best flip or pair of flips until none lowers Σ|r| or ``evaluations`` are spent; how many were."""
    spent, level = 0, np.abs(residual).sum()
    while spent < evaluations:
        best, one, two = level, -1, -1
        for i in range(len(x)):
            for j in range(-1, i):
                if spent >= evaluations:
                    break
                spent += 1
                new = _flipped(x, residual, columns, i, j)
                if new < best:
                    best, one, two = new, i, j
        if one < 0:
            break
        _flip(x, residual, columns, one)
        if two >= 0:
            _flip(x, residual, columns, two)
        level = best
    return spent


@njit(cache=True)
def anneal(
    x: np.ndarray,
    residual: np.ndarray,
    columns: np.ndarray,
    steps: int,
    hot: float,
    cold: float,
    rng: np.random.Generator,
) -> int:
    """Metropolis steps of one or two random flips on Σ|r|, temperature falling geometrically; ``x`` and ``residual``
    become the best seen, whose Σ|r| is returned; ends at 0."""
    level = np.abs(residual).sum()
    top, best, best_residual = level, x.copy(), residual.copy()
    n = len(x)
    for step in range(steps):
        if top == 0:
            break
        temperature = hot * (cold / hot) ** (step / steps)
        i, j = int(n * rng.random()), int((n + 1) * rng.random()) - 1
        if i == j:
            j = -1
        new = _flipped(x, residual, columns, i, j)
        if new <= level or rng.random() < math.exp((level - new) / temperature):
            _flip(x, residual, columns, i)
            if j >= 0:
                _flip(x, residual, columns, j)
            level = new
            if level < top:
                top = level
                for k in range(n):
                    best[k] = x[k]
                for r in range(len(residual)):
                    best_residual[r] = residual[r]
    for k in range(n):
        x[k] = best[k]
    for r in range(len(residual)):
        residual[r] = best_residual[r]
    return top
