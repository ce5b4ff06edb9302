"""Compiled loops of the statevector kernel: the circuit, sums, samples and whole small blocks.

Here: numba functions on plain arrays, imported only inside functions. Not here: costs (``statevector_costs``), vector
code (``statevector_butterflies``), derivatives (``statevector_slopes``), shapes and defaults (``statevector``). States
are two arrays, real and imaginary parts, of length 2ⁿ; bit k of an index is variable k.
"""

from __future__ import annotations

import math

import numpy as np

from resources.circuits.statevector_butterflies import VECTOR, butterfly
from resources.circuits.statevector_costs import BLOCK, Array, compiled, deviation, fill_diagonal, summed

#: Variables that turn within one contiguous block, and columns that the mixer of the higher ones gathers at a time:
#: both fit a core's second cache (256 KiB, and 1 MiB at 26 variables). Measured: 11 to 15 and 16 to 64.
LOW, COLUMNS = 15, 64
#: Bins of the histogram that finds a share of the distribution.
BINS = 1024
#: Series of sin πr / r and cos πr in r², exact to double precision for |r| ≤ ½, highest power first.
SINE = tuple((-1) ** k * math.pi ** (2 * k + 1) / math.factorial(2 * k + 1) for k in range(10, -1, -1))
COSINE = tuple((-1) ** k * math.pi ** (2 * k) / math.factorial(2 * k) for k in range(11, -1, -1))


@compiled
def aligned(count: int, like: Array) -> Array:
    """An empty array of the type of ``like`` on a boundary of ``VECTOR`` bytes."""
    spare = np.empty(count + VECTOR // like.itemsize, like.dtype)
    first = (-spare.ctypes.data % VECTOR) // like.itemsize
    return spare[first : first + count]


@compiled
def phase(re: Array, im: Array, values: Array, turns: float, factor: float) -> None:
    """Multiply by factor·exp(2πi·turns·C), the angle reduced to half a turn in double: sin 2πr = 2 sin πr cos πr."""
    kind = re.dtype.type
    scale = kind(factor)
    for x in range(len(re)):
        angle = turns * values[x]
        r = kind(angle - np.rint(angle))
        square = r * r
        sine, cosine = kind(0), kind(0)
        for coefficient in SINE:
            sine = sine * square + kind(coefficient)
        for coefficient in COSINE:
            cosine = cosine * square + kind(coefficient)
        sine *= r
        double = (sine + sine) * scale
        c, s = scale - double * sine, double * cosine
        real, imaginary = re[x], im[x]
        re[x] = c * real - s * imaginary
        im[x] = c * imaginary + s * real


_lanes, _lanes_1, _lanes_2, _lanes_3 = (butterfly(bits, True) for bits in range(4))
_rows_1, _rows_2, _rows_3 = (butterfly(bits, False) for bits in (1, 2, 3))


@compiled
def stage(
    from_re: Array, from_im: Array, at: int, pitch: int, to_re: Array, to_im: Array, to: int, step: int,
    rows: int, columns: int, low: int, bits: int, tangent: float, lanes: bool,
) -> None:  # fmt: skip
    """Turn the row variables ``low`` … ``low + bits − 1`` of ``rows`` rows; a row is ``columns`` numbers wide."""
    width, near, far = VECTOR // from_re.itemsize, pitch << low, step << low
    for outer in range(0, rows, 1 << (low + bits)):
        for row in range(outer, outer + (1 << low)):
            for column in range(0, columns, width):
                a, b = at + row * pitch + column, to + row * step + column
                if lanes:
                    if bits == 0:
                        _lanes(from_re, from_im, a, near, to_re, to_im, b, far, tangent)
                    elif bits == 1:
                        _lanes_1(from_re, from_im, a, near, to_re, to_im, b, far, tangent)
                    elif bits == 2:
                        _lanes_2(from_re, from_im, a, near, to_re, to_im, b, far, tangent)
                    else:
                        _lanes_3(from_re, from_im, a, near, to_re, to_im, b, far, tangent)
                elif bits == 1:
                    _rows_1(from_re, from_im, a, near, to_re, to_im, b, far, tangent)
                elif bits == 2:
                    _rows_2(from_re, from_im, a, near, to_re, to_im, b, far, tangent)
                else:
                    _rows_3(from_re, from_im, a, near, to_re, to_im, b, far, tangent)


@compiled
def turn_block(re: Array, im: Array, at: int, variables: int, tangent: float, times: int) -> None:
    """Turn all variables of a contiguous block of 2^variables states, ``times`` times."""
    width = VECTOR // re.itemsize
    bits = variables - int(math.log2(width))
    for _ in range(times):
        low = 0
        while low == 0 or low < bits:
            now = min(3, bits - low)
            stage(re, im, at, width, re, im, at, width, 1 << bits, width, low, now, tangent, low == 0)
            low += max(now, 1)


@compiled
def turn_rows(
    from_re: Array, from_im: Array, at: int, pitch: int, by_re: Array, by_im: Array, to_re: Array, to_im: Array,
    to: int, step: int, bits: int, tangent: float, times: int,
) -> None:  # fmt: skip
    """Turn all row variables, ``times`` times, on the way from one array through ``by`` (rows one after the other) to
    another."""
    for again in range(times):
        for low in range(0, bits, 3):
            now = min(3, bits - low)
            first, final = again == 0 and low == 0, again == times - 1 and low + now == bits
            a_re, a_im, a, b = (from_re, from_im, at, pitch) if first else (by_re, by_im, 0, COLUMNS)
            c_re, c_im, c, d = (to_re, to_im, to, step) if final else (by_re, by_im, 0, COLUMNS)
            stage(a_re, a_im, a, b, c_re, c_im, c, d, 1 << bits, COLUMNS, low, now, tangent, False)


@compiled
def half_angle(beta: float) -> tuple[float, int]:
    """tan of a turn of at most π/4 and how many of them make β (mod π): 1 + i·tan·X must not grow without bound."""
    beta -= math.pi * np.rint(beta / math.pi)
    times = 1 if abs(beta) <= math.pi / 4 else 2
    return math.tan(beta / times), times


@compiled
def evolve_plain(re: Array, im: Array, values: Array, gammas: Array, betas: Array) -> None:
    """The circuit from |+…+⟩ with exp(iβΣX), cache block by cache block.

    Low variables turn within contiguous blocks, high ones within groups of columns that are copied together. Phases
    commute with nothing but need no neighbour, so each pass over the state ends one layer and begins the next: p + 1
    passes for p layers. cosⁿβ is left to the phase before.
    """
    n = int(math.log2(len(re)) + 0.5)
    low = min(n, LOW)
    pitch, high, p = 1 << low, n - low, len(gammas)
    by_re, by_im = aligned(COLUMNS << high, re), aligned(COLUMNS << high, re)
    tangent, times, last, last_times = re.dtype.type(0), 0, re.dtype.type(0), 0
    for layer in range(p + 1 if high or p == 0 else p):
        last, last_times = tangent, times
        turns, factor = 0.0, 1.0
        if layer < p:
            exact, times = half_angle(betas[layer])
            tangent, turns = re.dtype.type(exact), -gammas[layer] / (2 * math.pi)
            # the sign of a turn by π is that of every variable
            sign = -1.0 if (n * int(np.rint(betas[layer] / math.pi))) % 2 else 1.0
            factor = sign * (1 + exact * exact) ** (-0.5 * n * times)
        if layer % 2 == 0 or high == 0:
            for at in range(0, len(re), pitch):
                part_re, part_im = re[at : at + pitch], im[at : at + pitch]
                if layer == 0:
                    part_re[:] = 2.0 ** (-0.5 * n)
                    part_im[:] = 0
                elif high:
                    turn_block(re, im, at, low, last, last_times)
                if layer < p:
                    phase(part_re, part_im, values[at : at + pitch], turns, factor)
                    turn_block(re, im, at, low, tangent, times)
            continue
        for at in range(0, pitch, COLUMNS):
            if layer == p:
                turn_rows(re, im, at, pitch, by_re, by_im, re, im, at, pitch, high, last, last_times)
                continue
            turn_rows(re, im, at, pitch, by_re, by_im, by_re, by_im, 0, COLUMNS, high, last, last_times)
            for row in range(1 << high):
                part, first = slice(row * COLUMNS, (row + 1) * COLUMNS), row * pitch + at
                phase(by_re[part], by_im[part], values[first : first + COLUMNS], turns, factor)
            turn_rows(by_re, by_im, 0, COLUMNS, by_re, by_im, re, im, at, pitch, high, tangent, times)


@compiled
def rotate_pair(a_re: Array, a_im: Array, b_re: Array, b_im: Array, c: float, along: float, across: float) -> None:
    """Apply c + i·across·X + i·along·Z to amplitudes a (of 0) and b (of 1)."""
    kind = a_re.dtype.type
    cosine, z, s = kind(c), kind(along), kind(across)
    for x in range(len(a_re)):
        ar, ai, br, bi = a_re[x], a_im[x], b_re[x], b_im[x]
        a_re[x] = cosine * ar - z * ai - s * bi
        a_im[x] = cosine * ai + z * ar + s * br
        b_re[x] = cosine * br + z * bi - s * ai
        b_im[x] = cosine * bi - z * br + s * ar


@compiled
def rotate(re: Array, im: Array, variable: int, c: float, along: float, across: float) -> None:
    """Apply c + i·across·X + i·along·Z to one variable."""
    half = 1 << variable
    for first in range(0, len(re), 2 * half):
        a, b = slice(first, first + half), slice(first + half, first + 2 * half)
        rotate_pair(re[a], im[a], re[b], im[b], c, along, across)


@compiled
def exchange(re: Array, im: Array, first: int, second: int, c: float, s: float) -> None:
    """Apply exp(iβ(XX+YY)/2) to a pair of variables: states where the two differ mix, the others stay."""
    low, high = 1 << min(first, second), 1 << max(first, second)
    for outer in range(0, len(re), 2 * high):
        for middle in range(outer, outer + high, 2 * low):
            a, b = slice(middle + low, middle + 2 * low), slice(middle + high, middle + high + low)
            rotate_pair(re[a], im[a], re[b], im[b], c, 0.0, s)


@compiled
def start(re: Array, im: Array, zero: Array, one: Array, group: Array) -> None:
    """Product state by doubling: variable k is ``zero[k]``|0⟩ + ``one[k]``|1⟩; variables of group g (``group[k]`` = g)
    share one W state instead."""
    re[:] = 0
    im[:] = 0
    re[0] = 1
    size = 1
    for k in range(len(zero)):
        if group[k] < 0:
            for x in range(size):
                re[size + x] = one[k] * re[x]
                re[x] *= zero[k]
        size *= 2
    for g in range(group.max() + 1):
        members = 1 << np.flatnonzero(group == g)
        mask, weight = members.sum(), 1 / math.sqrt(len(members))
        for x in range(len(re)):
            if x & mask == 0 and re[x] != 0:
                for member in members:
                    re[x | member] = re[x] * weight
                re[x] = 0


@compiled
def evolve(
    re: Array, im: Array, values: Array, gammas: Array, betas: Array,
    zero: Array, one: Array, group: Array, along: Array, across: Array, pairs: Array,
) -> None:  # fmt: skip
    """The circuit; ``gammas`` in units of 1/C. Variables in groups turn by ``pairs`` only."""
    if group.max() < 0 and not along.any() and len(re) * re.itemsize >= VECTOR:
        evolve_plain(re, im, values, gammas, betas)
        return
    start(re, im, zero, one, group)
    for layer in range(len(gammas)):
        phase(re, im, values, -gammas[layer] / (2 * math.pi), 1.0)
        c, s = math.cos(betas[layer]), math.sin(betas[layer])
        for k in range(len(zero)):
            if group[k] < 0:
                rotate(re, im, k, c, s * along[k], s * across[k])
        for row in range(len(pairs)):
            exchange(re, im, pairs[row, 0], pairs[row, 1], c, s)


# -- read-out --------------------------------------------------------------------------------------------------------


@summed
def weight(re: Array, im: Array) -> float:
    """Probability of one block, in double."""
    total = 0.0
    for x in range(len(re)):
        total += float(re[x]) * float(re[x]) + float(im[x]) * float(im[x])
    return total


@summed
def weighted(re: Array, im: Array, values: Array) -> float:
    """Probability times cost of one block, in double."""
    total = 0.0
    for x in range(len(re)):
        total += (float(re[x]) * float(re[x]) + float(im[x]) * float(im[x])) * values[x]
    return total


@compiled
def block_weights(re: Array, im: Array) -> Array:
    """Probability of each block of ``BLOCK`` states."""
    found = np.empty((len(re) + BLOCK - 1) // BLOCK)
    for block in range(len(found)):
        part = slice(block * BLOCK, (block + 1) * BLOCK)
        found[block] = weight(re[part], im[part])
    return found


@compiled
def mean_cost(re: Array, im: Array, values: Array) -> float:
    """⟨C⟩ of a state whose norm is not 1 exactly."""
    total, norm = 0.0, 0.0
    for first in range(0, len(re), BLOCK):
        part = slice(first, first + BLOCK)
        total += weighted(re[part], im[part], values[part])
        norm += weight(re[part], im[part])
    return total / norm


@compiled
def lowest_share(re: Array, im: Array, values: Array, alpha: float) -> float:
    """Mean cost of the lowest share ``alpha`` of the distribution: a histogram, then one of the bin that the share ends
    in, and so on; the last bin's width is 2⁻⁴⁰ of the costs' range, and no state is copied."""
    low, high = values.min(), values.max()
    target = alpha * block_weights(re, im).sum()
    below, spent = 0.0, 0.0
    weights, costs = np.empty(BINS), np.empty(BINS)
    for _ in range(4):
        below, spent = 0.0, 0.0
        weights[:] = 0
        costs[:] = 0
        unit = BINS / (high - low) if high > low else 0.0
        for x in range(len(values)):
            value = values[x]
            if value <= high:
                p = float(re[x]) * float(re[x]) + float(im[x]) * float(im[x])
                if value < low:
                    below += p
                    spent += p * value
                else:
                    k = min(int((value - low) * unit), BINS - 1)
                    weights[k] += p
                    costs[k] += p * value
        k = 0
        while k < BINS - 1 and below + weights[k] < target:
            below += weights[k]
            spent += costs[k]
            k += 1
        if unit == 0:
            break
        low, high = low + k / unit, low + (k + 1) / unit
    mean = costs[k] / weights[k] if weights[k] > 0 else low
    return (spent + (target - below) * mean) / target


@compiled
def draw(re: Array, im: Array, uniforms: Array) -> Array:
    """State index for each uniform number in [0, 1), by inversion: blocks first, then states of one block."""
    weights = block_weights(re, im)
    ends = np.cumsum(weights)
    found = np.empty(len(uniforms), np.int64)
    for shot in range(len(uniforms)):
        target = uniforms[shot] * ends[-1]
        block = min(np.searchsorted(ends, target, side="right"), len(ends) - 1)
        left = target - (ends[block] - weights[block])
        for x in range(block * BLOCK, min((block + 1) * BLOCK, len(re))):
            p = float(re[x]) * float(re[x]) + float(im[x]) * float(im[x])
            if p > 0:
                # the last possible state also takes what rounding leaves
                found[shot] = x
                left -= p
                if left < 0:
                    break
    return found


@compiled
def unpack(indices: Array, bits: Array) -> None:
    """Write bit k of each index into column k."""
    for row in range(len(indices)):
        for k in range(bits.shape[1]):
            bits[row, k] = (indices[row] >> k) & 1


@compiled
def uniform_numbers(state: np.uint64, count: int) -> tuple[np.uint64, Array]:
    """The next numbers in [0, 1) of the splitmix64 sequence, and its state after them.

    Source: G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    found = np.empty(count)
    for k in range(count):
        state += np.uint64(0x9E3779B97F4A7C15)
        z = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        found[k] = float((z ^ (z >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53
    return state, found


@compiled
def sampled_block(
    linear: Array, couplings: Array, offset: float, masks: Array, weights: Array, gammas: Array, betas: Array,
    group: Array, pairs: Array, shots: int, seed: int,
) -> Array:  # fmt: skip
    """Bits (int8, shape ``(shots, n)``) along a schedule: diagonal, circuit and samples of a small block."""
    n = len(linear)
    values = np.empty(1 << n)
    fill_diagonal(linear, couplings, offset, masks, weights, values)
    like = np.empty(0, np.float32)
    re, im = aligned(1 << n, like), aligned(1 << n, like)
    flat, along, across = np.full(n, math.sqrt(0.5)), np.zeros(n), np.ones(n)
    evolve(re, im, values, gammas / deviation(values), betas, flat, flat, group, along, across, pairs)
    _, uniforms = uniform_numbers(np.uint64(seed), shots)
    bits = np.empty((shots, n), np.int8)
    unpack(draw(re, im, uniforms), bits)
    return bits
