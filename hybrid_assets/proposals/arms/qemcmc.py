"""Quantum-enhanced Metropolis on the block, and the same chain with classical proposals.

Here: both arms and the shape of a quench. Not here: the loops (``chain_loops``).

Source: D. Layden et al., "Quantum-enhanced Markov chain Monte Carlo", Nature 619, 282 (2023),
doi:10.1038/s41586-023-06095-4.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hybrid_assets.problems.landscape import Block, random_bits
from hybrid_assets.proposals.arms.base import Answer, Proposer, Terms
from resources.envelope import EvidenceClass

#: Of the chain, in units of the standard deviation of the energies over all states.
TEMPERATURE = 0.1
#: Ranges of the mixer's share of the Hamiltonian and of a step's duration, and the longest Trotter step (no units).
SHARES, DURATIONS, TROTTER = (0.25, 0.6), (2.0, 20.0), 0.8


class Surface(NamedTuple):
    """A block's states.

    Attributes:
        costs: energy of every state, shape ``(2^q,)``.
        energies: the same, infinite where a group is broken.
        start: the current bits' state.
        temperature: of the chain; energies.
    """

    costs: np.ndarray
    energies: np.ndarray
    start: int
    temperature: float

    @classmethod
    def of(cls, block: Block) -> Surface:
        """All ``2^q`` energies: the simulator's diagonal, which a device would not need."""
        from hybrid_assets.proposals import block_loops

        linear, couplings, masks, weights, _ = Terms.of(block)
        costs = block_loops.table(linear, couplings, float(block.offset), masks, weights)
        energies = costs.copy()
        if block.groups:
            members = [sum(1 << i for i in group) for group in block.groups]
            block_loops.forbid(energies, np.array(members, dtype=np.int64))
        start = int(block_loops.codes(block.current[None, :])[0])
        return cls(costs, energies, start, TEMPERATURE * (float(costs.std()) or 1.0))


class QuantumMetropolis(Proposer):
    """A chain from the current bits: every step is a quench of the present state, read out once, then accepted or not.

    A step's Hamiltonian is (1 − γ)·α·C + γ·ΣX for a random time, with γ random and α making both of one norm; proposals
    are symmetric, so the chain keeps the Boltzmann distribution of the block's allowed states.
    """

    name = "qemcmc"
    evidence_class = EvidenceClass.SIMULATOR

    def propose(self, block: Block, seed: int) -> Answer:
        """The chain's state after each of ``settings.shots`` steps, one circuit of one shot each."""
        from hybrid_assets.proposals import chain_loops

        surface, rng, shots = Surface.of(block), np.random.default_rng(seed), self.settings.shots
        share, time = rng.uniform(*SHARES, shots), rng.uniform(*DURATIONS, shots)
        steps = np.ceil(time / TROTTER).astype(np.int64)
        alpha = np.sqrt(block.size) / (surface.costs.std() or 1.0)
        states = chain_loops.quantum_chain(
            surface.costs - surface.costs.mean(),
            surface.energies,
            surface.start,
            surface.temperature,
            share * time / steps,
            (1.0 - share) * alpha * time / steps,
            steps,
            rng.random((shots, 2)),
        )
        return self._evaluated(block, bits_of(states, block.size), shots=shots, circuits=shots)


class Metropolis(Proposer):
    """The control: the same chain with as many steps, each a flip of a random bit or uniformly random allowed bits."""

    name = "metropolis"

    def propose(self, block: Block, seed: int) -> Answer:
        """The chain's state after each step."""
        from hybrid_assets.proposals import block_loops, chain_loops

        surface, rng, shots = Surface.of(block), np.random.default_rng(seed), self.settings.shots
        drawn = block_loops.codes(random_bits(block, shots, rng))
        drawn[rng.random(shots) < 0.5] = -1
        states = chain_loops.classical_chain(
            surface.energies,
            surface.start,
            surface.temperature,
            rng.integers(0, block.size, shots),
            drawn,
            rng.random(shots),
        )
        return self._evaluated(block, bits_of(states, block.size))


def bits_of(states: np.ndarray, size: int) -> np.ndarray:
    """Bits of states, int8, shape ``(m, size)``."""
    return ((states[:, None] >> np.arange(size)) & 1).astype(np.int8)
