"""Compiled derivatives of the statevector kernel: matrix elements between a state and its cost times the state.

Here: numba functions on plain arrays, imported only inside functions. Not here: the sweep back through the circuit
(``statevector.gradient``) or the circuit's own loops (``statevector_loops``).
"""

from __future__ import annotations

from resources.circuits.statevector_costs import BLOCK, Array, compiled, summed


@summed
def phase_part(re: Array, im: Array, co_re: Array, co_im: Array, values: Array) -> float:
    """Im⟨λ|C|ψ⟩ of one block."""
    total = 0.0
    for x in range(len(re)):
        total += values[x] * (float(co_re[x]) * float(im[x]) - float(co_im[x]) * float(re[x]))
    return total


@compiled
def slope_of_phase(re: Array, im: Array, co_re: Array, co_im: Array, values: Array) -> float:
    """Im⟨λ|C|ψ⟩ with λ = (co_re, co_im)."""
    total = 0.0
    for first in range(0, len(re), BLOCK):
        part = slice(first, first + BLOCK)
        total += phase_part(re[part], im[part], co_re[part], co_im[part], values[part])
    return total


@summed
def overlap(re: Array, im: Array, co_re: Array, co_im: Array) -> float:
    """Im⟨λ|ψ⟩ of one block."""
    total = 0.0
    for x in range(len(re)):
        total += float(co_re[x]) * float(im[x]) - float(co_im[x]) * float(re[x])
    return total


@compiled
def slope_of_rotation(
    re: Array, im: Array, co_re: Array, co_im: Array, variable: int, along: float, across: float
) -> float:
    """Im⟨λ|across·X + along·Z|ψ⟩ on one variable."""
    half, total = 1 << variable, 0.0
    for first in range(0, len(re), 2 * half):
        a, b = slice(first, first + half), slice(first + half, first + 2 * half)
        total += across * (overlap(re[b], im[b], co_re[a], co_im[a]) + overlap(re[a], im[a], co_re[b], co_im[b]))
        if along != 0:
            total += along * (overlap(re[a], im[a], co_re[a], co_im[a]) - overlap(re[b], im[b], co_re[b], co_im[b]))
    return total


@compiled
def slope_of_exchange(re: Array, im: Array, co_re: Array, co_im: Array, first: int, second: int) -> float:
    """Im⟨λ|(XX+YY)/2|ψ⟩ on a pair of variables."""
    low, high, total = 1 << min(first, second), 1 << max(first, second), 0.0
    for outer in range(0, len(re), 2 * high):
        for middle in range(outer, outer + high, 2 * low):
            a, b = slice(middle + low, middle + 2 * low), slice(middle + high, middle + high + low)
            total += overlap(re[b], im[b], co_re[a], co_im[a]) + overlap(re[a], im[a], co_re[b], co_im[b])
    return total
