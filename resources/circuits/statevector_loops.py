"""Compiled loops of the statevector kernel: diagonals, phases, mixers, sums and samples.

Here: numba functions on plain arrays, imported only inside the functions of ``statevector``. Not here: shapes, checks
and defaults. States are two arrays (real and imaginary parts, both of length 2ⁿ); bit k of an index is variable k.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

#: States per partial sum: sums of squares run in double over so many states, then over the partial sums.
BLOCK = 1024


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """``numba.njit`` with fused multiply-add, cached on disk where some folder can be written."""
    options = {"fastmath": {"contract"}, "error_model": "numpy", "boundscheck": False}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:
        return numba.njit(**options)(function)


@compiled
def quadratic_diagonal(linear, couplings, offset, values):  # type: ignore[no-untyped-def]
    """Fill ``values`` by doubling, two additions a state: states with bit k are those without it plus a field, and the
    field itself doubles with each lower variable."""
    values[0] = offset
    for k in range(len(linear)):
        half = 1 << k
        field = values[half : 2 * half]
        field[0] = linear[k]
        for j in range(k):
            size, coupling = 1 << j, couplings[j, k]
            for x in range(size):
                field[size + x] = field[x] + coupling
        for x in range(half):
            field[x] += values[x]


@compiled
def subset_sums(values):  # type: ignore[no-untyped-def]
    """Turn coefficients by mask into costs by state: the sum over all subsets of a state's bits, in place."""
    half = 1
    while half < len(values):
        for start in range(0, len(values), 2 * half):
            for x in range(start, start + half):
                values[half + x] += values[x]
        half *= 2


@compiled
def spread(values):  # type: ignore[no-untyped-def]
    """Mean and standard deviation of ``values``, each in two passes of block sums."""
    mean = 0.0
    for start in range(0, len(values), BLOCK):
        part = 0.0
        for x in range(start, min(start + BLOCK, len(values))):
            part += values[x]
        mean += part
    mean /= len(values)
    square = 0.0
    for start in range(0, len(values), BLOCK):
        part = 0.0
        for x in range(start, min(start + BLOCK, len(values))):
            part += (values[x] - mean) ** 2
        square += part
    return mean, math.sqrt(square / len(values))


@compiled
def phase(re, im, values, gamma):  # type: ignore[no-untyped-def]
    """Multiply by exp(−iγC); γC is reduced to one turn in double."""
    turns = -gamma / (2 * math.pi)
    for x in range(len(re)):
        at = turns * values[x]
        angle = 2 * math.pi * (at - math.floor(at + 0.5))
        cosine, sine = re.dtype.type(math.cos(angle)), re.dtype.type(math.sin(angle))
        old = re[x]
        re[x] = cosine * old - sine * im[x]
        im[x] = cosine * im[x] + sine * old


@compiled
def rotate(re, im, variable, cosine, along, across):  # type: ignore[no-untyped-def]
    """Apply c + i·across·X + i·along·Z to one variable."""
    kind = re.dtype.type
    c, z, s = kind(cosine), kind(along), kind(across)
    half = 1 << variable
    for start in range(0, len(re), 2 * half):
        for a in range(start, start + half):
            b = a + half
            ar, ai, br, bi = re[a], im[a], re[b], im[b]
            re[a] = c * ar - z * ai - s * bi
            im[a] = c * ai + z * ar + s * br
            re[b] = c * br + z * bi - s * ai
            im[b] = c * bi - z * br + s * ar


@compiled
def exchange(re, im, first, second, cosine, sine):  # type: ignore[no-untyped-def]
    """Apply exp(iβ(XX+YY)/2) to a pair of variables: states where the two differ mix, the others stay."""
    kind = re.dtype.type
    c, s = kind(cosine), kind(sine)
    low, high = 1 << min(first, second), 1 << max(first, second)
    for outer in range(0, len(re), 2 * high):
        for middle in range(outer, outer + high, 2 * low):
            for x in range(middle, middle + low):
                a, b = x + low, x + high
                ar, ai, br, bi = re[a], im[a], re[b], im[b]
                re[a] = c * ar - s * bi
                im[a] = c * ai + s * br
                re[b] = c * br - s * ai
                im[b] = c * bi + s * ar


@compiled
def start(re, im, zero, one, group):  # type: ignore[no-untyped-def]
    """Product state by doubling: variable k is ``zero[k]``|0⟩ + ``one[k]``|1⟩; variables of group g (``group[k]`` ≥ 0)
    share one W state instead."""
    kind = re.dtype.type
    im[:] = 0
    re[:] = 0
    re[0] = 1
    for k in range(len(zero)):
        if group[k] < 0:
            half = 1 << k
            for x in range(half):
                re[half + x] = kind(one[k]) * re[x]
                re[x] *= kind(zero[k])
    groups = group.max() + 1 if len(group) else 0
    for g in range(groups):
        members = np.flatnonzero(group == g)
        weight = kind(1 / math.sqrt(len(members)))
        mask = 0
        for k in members:
            mask |= 1 << k
        for x in range(len(re)):
            # ascending order would read what was just written: members only move up from states without any
            if x & mask == 0 and re[x] != 0:
                for k in members:
                    re[x | (1 << k)] = re[x] * weight
                re[x] = 0


@compiled
def block_sums(re, im):  # type: ignore[no-untyped-def]
    """Probability of each block of ``BLOCK`` states, in double."""
    sums = np.zeros((len(re) + BLOCK - 1) // BLOCK)
    for block in range(len(sums)):
        part = 0.0
        for x in range(block * BLOCK, min((block + 1) * BLOCK, len(re))):
            part += float(re[x]) * float(re[x]) + float(im[x]) * float(im[x])
        sums[block] = part
    return sums


@compiled
def mean_cost(re, im, values):  # type: ignore[no-untyped-def]
    """⟨C⟩ and the norm, unnormalized, in double block sums."""
    total, norm = 0.0, 0.0
    for first in range(0, len(re), BLOCK):
        part, weight = 0.0, 0.0
        for x in range(first, min(first + BLOCK, len(re))):
            p = float(re[x]) * float(re[x]) + float(im[x]) * float(im[x])
            part += p * values[x]
            weight += p
        total += part
        norm += weight
    return total, norm


@compiled
def draw(re, im, uniforms):  # type: ignore[no-untyped-def]
    """State index for each uniform number in [0, 1), by inversion: blocks first, then states of one block."""
    sums = block_sums(re, im)
    ends = np.cumsum(sums)
    found = np.empty(len(uniforms), np.int64)
    for shot in range(len(uniforms)):
        target = uniforms[shot] * ends[-1]
        block = min(np.searchsorted(ends, target, side="right"), len(ends) - 1)
        left = target - (ends[block] - sums[block])
        last = -1
        for x in range(block * BLOCK, min((block + 1) * BLOCK, len(re))):
            p = float(re[x]) * float(re[x]) + float(im[x]) * float(im[x])
            if p > 0:
                last = x
                left -= p
                if left < 0:
                    break
        found[shot] = last
    return found


@compiled
def unpack(indices, bits):  # type: ignore[no-untyped-def]
    """Write bit k of each index into column k."""
    for row in range(len(indices)):
        for k in range(bits.shape[1]):
            bits[row, k] = (indices[row] >> k) & 1


@compiled
def slope_of_phase(re, im, co_re, co_im, values):  # type: ignore[no-untyped-def]
    """Im⟨λ|C|ψ⟩ with λ = (co_re, co_im)."""
    total = 0.0
    for x in range(len(re)):
        total += values[x] * (float(co_re[x]) * float(im[x]) - float(co_im[x]) * float(re[x]))
    return total


@compiled
def slope_of_rotation(re, im, co_re, co_im, variable, along, across):  # type: ignore[no-untyped-def]
    """Im⟨λ|across·X + along·Z|ψ⟩ on one variable."""
    half, total = 1 << variable, 0.0
    for first in range(0, len(re), 2 * half):
        for a in range(first, first + half):
            b = a + half
            ar, ai, br, bi = float(re[a]), float(im[a]), float(re[b]), float(im[b])
            cr, ci, dr, di = float(co_re[a]), float(co_im[a]), float(co_re[b]), float(co_im[b])
            total += across * (cr * bi - ci * br + dr * ai - di * ar) + along * (cr * ai - ci * ar - dr * bi + di * br)
    return total


@compiled
def slope_of_exchange(re, im, co_re, co_im, first, second):  # type: ignore[no-untyped-def]
    """Im⟨λ|(XX+YY)/2|ψ⟩ on a pair of variables."""
    low, high, total = 1 << min(first, second), 1 << max(first, second), 0.0
    for outer in range(0, len(re), 2 * high):
        for middle in range(outer, outer + high, 2 * low):
            for x in range(middle, middle + low):
                a, b = x + low, x + high
                ar, ai, br, bi = float(re[a]), float(im[a]), float(re[b]), float(im[b])
                cr, ci, dr, di = float(co_re[a]), float(co_im[a]), float(co_re[b]), float(co_im[b])
                total += cr * bi - ci * br + dr * ai - di * ar
    return total


@compiled
def mixed(state):  # type: ignore[no-untyped-def]
    """Next number of the splitmix64 sequence: its state and a uniform double in [0, 1)."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    z = state
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return state, float(z >> np.uint64(11)) * 2.0**-53


@compiled
def evolve_all(re, im, values, gammas, betas, zero, one, group, along, across, pairs):  # type: ignore[no-untyped-def]
    """The whole circuit, from the product state on. ``gammas`` in units of 1/C; variables in groups do not rotate."""
    start(re, im, zero, one, group)
    for layer in range(len(gammas)):
        phase(re, im, values, gammas[layer])
        c, s = math.cos(betas[layer]), math.sin(betas[layer])
        for k in range(len(zero)):
            if group[k] < 0:
                rotate(re, im, k, c, s * along[k], s * across[k])
        for row in range(len(pairs)):
            exchange(re, im, pairs[row, 0], pairs[row, 1], c, s)


@compiled
def sampled_schedules(linear, couplings, offset, masks, weights, gammas, betas, group, pairs, shots, seed):  # type: ignore[no-untyped-def]
    """Indices, shape ``(schedules, shots)``, and the costs by state: diagonal, circuits and samples of a small block."""
    n = len(linear)
    values = np.zeros(1 << n)
    if len(masks) == 0:
        quadratic_diagonal(linear, couplings, offset, values)
    else:
        values[0] = offset
        for j in range(n):
            values[1 << j] = linear[j]
            for k in range(j + 1, n):
                values[(1 << j) | (1 << k)] = couplings[j, k]
        for term in range(len(masks)):
            values[masks[term]] += weights[term]
        subset_sums(values)
    mean, scale = spread(values)
    if scale <= 1e-13 * abs(mean):
        scale = 1.0
    re, im = np.empty(1 << n, np.float32), np.empty(1 << n, np.float32)
    flat = np.full(n, math.sqrt(0.5))
    along, across = np.zeros(n), np.ones(n)
    uniforms = np.empty(shots)
    found = np.empty((len(gammas), shots), np.int64)
    state = np.uint64(seed)
    for row in range(len(gammas)):
        evolve_all(re, im, values, gammas[row] / scale, betas[row], flat, flat, group, along, across, pairs)
        for shot in range(shots):
            state, uniforms[shot] = mixed(state)
        found[row] = draw(re, im, uniforms)
    return found, values
