"""Flips of a binary sequence, compiled.

Here: correlations, what a flip costs in O(n) (Gallardo, Cotta and Fernández 2009), descent. Not here: searches that
leave a local optimum (``solvers``). Imports numba: import it inside functions.

``spins`` is int64 of shape ``(n,)``, ±1; ``c`` int64 of shape ``(n,)``, ``c[k] = Σ_i s_i s_{i+k}`` for k ≥ 1.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def correlate(spins: np.ndarray, c: np.ndarray) -> int:
    """Fill ``c``; the energy Σ_k c_k²."""
    n, energy = len(spins), 0
    for k in range(1, n):
        total = 0
        for i in range(n - k):
            total += spins[i] * spins[i + k]
        c[k] = total
        energy += total * total
    return energy


@njit(cache=True)
def flip_energy(spins: np.ndarray, c: np.ndarray, i: int) -> int:
    """The energy after spin i is flipped; O(n)."""
    n, energy, twice = len(spins), 0, 2 * spins[i]
    near, far = min(i, n - 1 - i), max(i, n - 1 - i)
    for k in range(1, near + 1):
        new = c[k] - twice * (spins[i - k] + spins[i + k])
        energy += new * new
    if i > n - 1 - i:
        for k in range(near + 1, far + 1):
            new = c[k] - twice * spins[i - k]
            energy += new * new
    else:
        for k in range(near + 1, far + 1):
            new = c[k] - twice * spins[i + k]
            energy += new * new
    for k in range(far + 1, n):
        energy += c[k] * c[k]
    return energy


@njit(cache=True)
def flip(spins: np.ndarray, c: np.ndarray, i: int) -> None:
    """Flip spin i in place and bring ``c`` up to date."""
    n, twice = len(spins), 2 * spins[i]
    for k in range(1, n):
        beside = 0
        if i >= k:
            beside += spins[i - k]
        if i + k < n:
            beside += spins[i + k]
        c[k] -= twice * beside
    spins[i] = -spins[i]


@njit(cache=True)
def all_flips(spins: np.ndarray, out: np.ndarray) -> int:
    """Fill ``out`` (int64, shape ``(n,)``) with the energy after each flip; the energy now."""
    c = np.zeros(len(spins), dtype=np.int64)
    energy = correlate(spins, c)
    for i in range(len(spins)):
        out[i] = flip_energy(spins, c, i)
    return energy


@njit(cache=True)
def descend(spins: np.ndarray, evaluations: int) -> int:
    """Make the best flip in place until none improves or about ``evaluations`` flips have been looked at; how many."""
    n, spent = len(spins), 0
    c = np.zeros(n, dtype=np.int64)
    energy = correlate(spins, c)
    while spent + n <= evaluations:
        best, pick = energy, -1
        for i in range(n):
            after = flip_energy(spins, c, i)
            if after < best:
                best, pick = after, i
        spent += n
        if pick < 0:
            break
        flip(spins, c, pick)
        energy = best
    return spent
