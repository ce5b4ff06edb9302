"""Costs of all states, compiled: the diagonal of a polynomial and its spread, and how loops are compiled here.

Here: numba functions on plain arrays, imported only inside functions. Not here: anything with amplitudes
(``statevector_loops``). numba's cache follows changes within one file only: who changes a function here that another
file calls removes ``__pycache__``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

F = TypeVar("F", bound=Callable[..., Any])
Array = np.ndarray

#: States per partial sum: sums run in double over so many states, then over the partial sums. A read-out searches the
#: partial sums and then one of these blocks, so they are short.
BLOCK = 128
#: Below this share of the mean a standard deviation is rounding.
ROUNDING = 1e-13


def compiled(function: F, *freedom: str) -> F:
    """``numba.njit`` with fused multiply-add (and more of LLVM's ``freedom``), cached where a folder can be written."""
    allowed = {"contract", *freedom}
    try:
        done: Any = numba.njit(function, cache=True, fastmath=allowed, error_model="numpy")
    except RuntimeError:
        # a read-only checkout and no home: compiled anew in each process
        done = numba.njit(function, fastmath=allowed, error_model="numpy")
    return cast(F, done)


def summed(function: F) -> F:
    """As ``compiled``, with sums in any order, so that they vectorize."""
    return compiled(function, "reassoc", "nsz")


@compiled
def add(to: Array, amount: Array) -> None:
    """Add elementwise; a function of its own because arguments vectorize where slices of one array do not."""
    for x in range(len(to)):
        to[x] += amount[x]


@compiled
def add_constant(to: Array, source: Array, amount: float) -> None:
    """``to = source + amount``."""
    for x in range(len(to)):
        to[x] = source[x] + amount


@compiled
def quadratic_diagonal(linear: Array, couplings: Array, offset: float, values: Array) -> None:
    """Fill ``values`` by doubling, two additions a state: states with bit k are those without it plus a field, and the
    field itself doubles with each lower variable."""
    values[0] = offset
    for k in range(len(linear)):
        half = 1 << k
        field = values[half : 2 * half]
        field[0] = linear[k]
        for j in range(k):
            size = 1 << j
            add_constant(field[size : 2 * size], field[:size], couplings[j, k])
        add(field, values[:half])


@compiled
def subset_sums(values: Array) -> None:
    """Turn coefficients by mask into costs by state: the sum over all subsets of a state's bits, in place."""
    half = 1
    while half < len(values):
        for first in range(0, len(values), 2 * half):
            add(values[first + half : first + 2 * half], values[first : first + half])
        half *= 2


@compiled
def fill_diagonal(linear: Array, couplings: Array, offset: float, masks: Array, weights: Array, values: Array) -> None:
    """Cost of every state; ``masks`` and ``weights`` are the terms of higher order, perhaps none."""
    if len(masks) == 0:
        quadratic_diagonal(linear, couplings, offset, values)
        return
    values[:] = 0
    values[0] = offset
    for j in range(len(linear)):
        values[1 << j] = linear[j]
        for k in range(j + 1, len(linear)):
            values[(1 << j) | (1 << k)] = couplings[j, k]
    for term in range(len(masks)):
        values[masks[term]] += weights[term]
    subset_sums(values)


@summed
def plain_sum(values: Array) -> float:
    """Sum of one block."""
    total = 0.0
    for x in range(len(values)):
        total += values[x]
    return total


@summed
def square_sum(values: Array, mean: float) -> float:
    """Sum of squared deviations of one block."""
    total = 0.0
    for x in range(len(values)):
        total += (values[x] - mean) ** 2
    return total


@compiled
def deviation(values: Array) -> float:
    """Standard deviation, in two passes of block sums; 1 where it is nothing but rounding."""
    mean, square = 0.0, 0.0
    for first in range(0, len(values), BLOCK):
        mean += plain_sum(values[first : first + BLOCK])
    mean /= len(values)
    for first in range(0, len(values), BLOCK):
        square += square_sum(values[first : first + BLOCK], mean)
    scale = math.sqrt(square / len(values))
    return scale if scale > ROUNDING * abs(mean) else 1.0
