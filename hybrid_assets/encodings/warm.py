"""Warm starts: a relaxation of a quadratic model as angles of a product state, and its classical controls.

Here: the relaxation, the angles with their ε, the rounded and the polished relaxation that a warm-started sampler has
to beat. Not here: circuits, or the same product state sampled without them (depth 0).

Relaxation: max-cut style semidefinite program in low rank, unit vectors instead of spins (Burer, Monteiro, 2003), by
coordinate descent (Wang, Chang, Kolter, "The mixing method", 2018). Angles: Egger, Mareček, Woerner, "Warm-starting
quantum optimization", Quantum 5, 2021. Rounding by random hyperplanes: Goemans, Williamson, 1995.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybrid_assets.encodings.arrays import QuadraticForm

#: Sweeps of the coordinate descent at most, and the relative gain at which it ends before.
SWEEPS, TOLERANCE = 200, 1e-6
#: Hyperplanes tried for the rounded control.
PLANES = 64


@dataclass(frozen=True)
class WarmStart:
    """A relaxation of a model over ``q`` binaries, and what can be had from it without a quantum step.

    Attributes:
        values: float64, shape ``(q,)``, in [0, 1]: the relaxation's share of 1 per variable.
        epsilon: how far from 0 and 1 the product state is kept, so that the mixer can leave them.
        angles: float64, shape ``(q,)``: RY(θ)|0⟩ has ``clip(values, ε, 1 − ε)`` as its probability of 1.
        relaxed_energy: the relaxation's energy where the descent ended: near a lower bound, but no proof of one.
        rounded: int8, shape ``(q,)``: the best of ``PLANES`` hyperplanes and of rounding ``values``.
        rounded_energy: its energy.
        polished: ``rounded`` after steepest descent by single flips.
        polished_energy: its energy.
    """

    values: np.ndarray
    epsilon: float
    angles: np.ndarray
    relaxed_energy: float
    rounded: np.ndarray
    rounded_energy: float
    polished: np.ndarray
    polished_energy: float


def warm_start(form: QuadraticForm, epsilon: float, seed: int) -> WarmStart:
    """Relax, round and polish; the same for the same seed. Dense: for blocks and payloads, about q³ operations a sweep.

    Args:
        form: the encoded model, to be minimized.
        epsilon: in [0, 0.5]; 0.5 is the uniform superposition, 0 the rounded values themselves.
    """
    if not 0.0 <= epsilon <= 0.5:
        raise ValueError(f"epsilon is {epsilon}: give a number between 0 and 0.5")
    rng = np.random.default_rng(seed)
    vectors, relaxed_energy = _relaxed(form, rng)
    values = (1.0 + vectors[1:] @ vectors[0]) / 2.0
    values = np.clip(values, 0.0, 1.0)
    matrix = form.dense()
    sides = np.sign(vectors @ rng.normal(size=(vectors.shape[1], PLANES))).T  # one row per plane
    found = np.vstack([sides[:, 1:] == sides[:, :1], values[None] > 0.5]).astype(np.int8)
    energies = _energies(form, matrix, found)
    best = int(np.argmin(energies))
    polished = _descended(form, matrix, found[best])
    return WarmStart(
        values=values,
        epsilon=epsilon,
        angles=2.0 * np.arcsin(np.sqrt(np.clip(values, epsilon, 1.0 - epsilon))),
        relaxed_energy=relaxed_energy,
        rounded=found[best],
        rounded_energy=float(energies[best]),
        polished=polished,
        polished_energy=float(_energies(form, matrix, polished[None])[0]),
    )


def _relaxed(form: QuadraticForm, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Unit vectors, shape ``(q + 1, r)``, and their energy. Vector 0 stands for the spin of a 1.

    Without fields vector 0 has no couplings and nothing would say which side is 1: it is the first variable's vector
    then, so that this one is 1.
    """
    n = len(form.linear)
    couplings = form.dense() / 4.0  # x = (1 + s)/2
    fields = form.linear / 2.0 + couplings.sum(axis=1)
    pairs = np.zeros((n + 1, n + 1))
    pairs[1:, 1:] = couplings
    pairs[0, 1:] = pairs[1:, 0] = fields
    constant = form.offset + form.linear.sum() / 2.0 + couplings.sum() / 2.0
    rank = int(np.ceil(np.sqrt(2.0 * (n + 1)))) + 1
    vectors = rng.normal(size=(n + 1, rank))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    size = max(float(np.abs(pairs).sum()), 1e-300)
    for _ in range(SWEEPS):
        gained = 0.0
        for k in range(n + 1):
            pull = pairs[k] @ vectors
            length = float(np.linalg.norm(pull))
            if length > 1e-12 * size:
                gained += length + float(pull @ vectors[k])
                vectors[k] = -pull / length
        if gained <= TOLERANCE * size:
            break
    energy = float(constant + np.einsum("ir,ij,jr->", vectors, pairs, vectors, optimize=True) / 2.0)
    if n and not np.abs(fields).max() > 1e-12 * size:
        vectors[0] = vectors[1]
    return vectors, energy


def _energies(form: QuadraticForm, matrix: np.ndarray, bits: np.ndarray) -> np.ndarray:
    x = bits.astype(float)
    return form.offset + x @ form.linear + 0.5 * np.einsum("mi,ij,mj->m", x, matrix, x, optimize=True)


def _descended(form: QuadraticForm, matrix: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """The local minimum that steepest single flips lead to."""
    x = bits.copy()
    slope = form.linear + matrix @ x
    least = 1e-12 * float(np.abs(form.linear).sum() + np.abs(matrix).sum())
    while len(x):
        change = np.where(x == 1, -slope, slope)
        k = int(np.argmin(change))
        if change[k] >= -least:
            break
        slope += matrix[:, k] * (1 - 2 * x[k])
        x[k] ^= 1
    return x
