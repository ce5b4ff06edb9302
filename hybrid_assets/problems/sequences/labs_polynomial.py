"""The sidelobe energy of a binary sequence as a polynomial in some of its bits.

Here: squaring the correlations, given the other bits, and going from spins to bits. Not here: who asks for it (``labs``
for the program, ``labs_landscape`` for blocks).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np


@dataclass(frozen=True)
class Polynomial:
    """``offset + Σ linear_i x_i + Σ_{i<j} couplings_ij x_i x_j`` and higher terms over bits.

    Attributes:
        linear: float64, shape ``(q,)``.
        rows, cols, values: the pairs, ``rows < cols``, and their coefficients.
        higher: ascending indices, three or four → coefficient.
    """

    offset: float
    linear: np.ndarray
    rows: np.ndarray
    cols: np.ndarray
    values: np.ndarray
    higher: Mapping[tuple[int, ...], float]


def sidelobe_polynomial(bits: np.ndarray, free: np.ndarray) -> Polynomial:
    """Σ_k C_k² with C_k = Σ_i s_i s_{i+k} and s = 1 − 2x, exactly, in the bits at ``free``; the others are as given.

    Args:
        bits: int8, shape ``(n,)``.
        free: distinct positions, shape ``(q,)``; variable j is the bit at ``free[j]``.

    Every product of two spins at distance k has none, one or two free ones; C_k squared is summed over pairs of terms,
    in which equal spins cancel. Work grows with n·q², and n³ where all bits are free.
    """
    n, q = len(bits), len(free)
    spins = 1.0 - 2.0 * np.asarray(bits, dtype=np.float64)
    variable = np.full(n, -1, dtype=np.int64)
    variable[free] = np.arange(q)
    fixed = np.where(variable < 0, spins, 1.0)
    constant = 0.0
    parts, weights = [np.empty((0, 4), dtype=np.int64)], [np.empty(0)]
    for k in range(1, n):
        pairs = np.sort(np.stack([variable[: n - k], variable[k:]], axis=1), axis=1)
        terms, coefficients = _collected(pairs, fixed[: n - k] * fixed[k:], q)
        constant += float(coefficients @ coefficients)
        i, j = np.triu_indices(len(terms), 1)
        parts.append(np.concatenate([terms[i], terms[j]], axis=1))
        weights.append(2.0 * coefficients[i] * coefficients[j])
    terms = np.sort(np.concatenate(parts), axis=1)
    for at in range(3):
        # a spin occurs at most twice in a product, and then it is gone
        terms[np.flatnonzero(terms[:, at] == terms[:, at + 1])[:, None], [at, at + 1]] = -1
    spin_terms, coefficients = _collected(np.sort(terms, axis=1), np.concatenate(weights), q)
    return _in_bits(spin_terms, coefficients, q, constant)


def _in_bits(terms: np.ndarray, coefficients: np.ndarray, q: int, constant: float) -> Polynomial:
    """From spins to bits: a product of spins is Σ over its subsets of (−2)^size times their bits."""
    parts, weights = [], []
    for chosen in product((False, True), repeat=4):
        mask = np.array(chosen)
        there = (terms[:, mask] >= 0).all(axis=1)
        parts.append(np.where(mask, terms[there], -1))
        weights.append((-2.0) ** int(mask.sum()) * coefficients[there])
    found, values = _collected(np.sort(np.concatenate(parts), axis=1), np.concatenate(weights), q)
    degree = (found >= 0).sum(axis=1)
    linear = np.zeros(q)
    linear[found[degree == 1, 3]] = values[degree == 1]
    pairs, high = degree == 2, (degree > 2) & (values != 0)
    return Polynomial(
        offset=constant + float(values[degree == 0].sum()),
        linear=linear,
        rows=found[pairs, 2],
        cols=found[pairs, 3],
        values=values[pairs],
        higher={
            tuple(row[4 - size :]): value
            for row, size, value in zip(found[high].tolist(), degree[high].tolist(), values[high].tolist(), strict=True)
        },
    )


def _collected(terms: np.ndarray, coefficients: np.ndarray, q: int) -> tuple[np.ndarray, np.ndarray]:
    """Distinct rows of sorted indices (−1: none), lexicographic, and the sums of their coefficients."""
    keys = np.zeros(len(terms), dtype=np.int64)
    for column in terms.T:
        keys = keys * (q + 1) + column + 1
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    return terms[first], np.bincount(group, coefficients, len(first))
