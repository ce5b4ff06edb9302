"""Compiled loops of Metropolis chains over a block's states, with quantum and with classical proposals.

Here: the evolution of a basis state, the chains. Not here: who asks for them (``arms.qemcmc``), QAOA's kernel
(``resources.circuits``), which starts from products and not from a basis state. Imports numba, so it is itself imported
only inside functions. States are numbers, bit k of the number being bit k; ``energies`` of forbidden states are
infinite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]


@njit(cache=True)
def _mix(re: Floats, im: Floats, angle: float) -> None:
    """exp(−i·angle·ΣX), in place."""
    c, s = np.cos(angle), np.sin(angle)
    bit = 1
    while bit < len(re):
        for code in range(len(re)):
            if not code & bit:
                other = code | bit
                a, b, d, e = re[code], im[code], re[other], im[other]
                re[code], im[code] = c * a + s * e, c * b - s * d
                re[other], im[other] = c * d + s * b, c * e - s * a
        bit <<= 1


@njit(cache=True)
def spread(costs: Floats, start: int, mixing: float, phase: float, steps: int) -> Floats:
    """Probabilities of the states that a quench from ``start`` ends in.

    ``steps`` times exp(−i·mixing/2·ΣX)·exp(−i·phase·C)·exp(−i·mixing/2·ΣX): a product that reads the same from both
    ends, of symmetric matrices, so it is symmetric and the probability from s to t is that from t to s, however coarse
    the steps.
    """
    re, im = np.zeros(len(costs)), np.zeros(len(costs))
    re[start] = 1.0
    _mix(re, im, mixing / 2)
    for step in range(steps):
        for code in range(len(costs)):
            c, s = np.cos(phase * costs[code]), np.sin(phase * costs[code])
            a, b = re[code], im[code]
            re[code], im[code] = c * a + s * b, c * b - s * a
        _mix(re, im, mixing if step < steps - 1 else mixing / 2)
    return re * re + im * im


@njit(cache=True)
def accepted(energies: Floats, here: int, there: int, temperature: float, uniform: float) -> bool:
    """Metropolis' rule for a symmetric proposal."""
    rise = energies[there] - energies[here]
    return rise <= 0.0 or uniform < np.exp(-rise / temperature)


@njit(cache=True)
def quantum_chain(
    costs: Floats,
    energies: Floats,
    start: int,
    temperature: float,
    mixings: Floats,
    phases: Floats,
    steps: Integers,
    uniforms: Floats,
) -> Integers:
    """The states after each step; a step is one quench and one read-out. ``uniforms`` has shape ``(m, 2)``."""
    found, here = np.empty(len(steps), dtype=np.int64), start
    for m in range(len(steps)):
        ends = np.cumsum(spread(costs, here, mixings[m], phases[m], steps[m]))
        there = min(np.searchsorted(ends, uniforms[m, 0] * ends[-1], side="right"), len(costs) - 1)
        if accepted(energies, here, there, temperature, uniforms[m, 1]):
            here = there
        found[m] = here
    return found


@njit(cache=True)
def classical_chain(
    energies: Floats, start: int, temperature: float, moves: Integers, drawn: Integers, uniforms: Floats
) -> Integers:
    """The states after each step: bit ``moves[m]`` flipped, or state ``drawn[m]`` proposed where that is not −1."""
    found, here = np.empty(len(moves), dtype=np.int64), start
    for m in range(len(moves)):
        there = drawn[m] if drawn[m] >= 0 else here ^ (1 << moves[m])
        if accepted(energies, here, there, temperature, uniforms[m]):
            here = there
        found[m] = here
    return found
