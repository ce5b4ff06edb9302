"""Simulated annealing of the block: a classical sampler of low states."""

from __future__ import annotations

import numpy as np

from hybrid_assets.problems.landscape import Block, random_bits
from hybrid_assets.proposals.arms.base import Answer, Proposer, Terms

#: First and last temperature as shares of the block's largest field.
HOT, COLD = 1.0, 0.05


class Annealing(Proposer):
    """As many reads as shots, each a geometric cooling over ``settings.sweeps`` sweeps from random bits."""

    name = "annealing"

    def propose(self, block: Block, seed: int) -> Answer:
        """The ends of all reads."""
        from hybrid_assets.proposals import block_loops

        terms, rng = Terms.of(block), np.random.default_rng(seed)
        starts = random_bits(block, self.settings.shots, rng)
        field = np.abs(terms.linear) + np.abs(terms.couplings).sum(axis=1)
        scale = max(float(field.max()) + float(np.abs(terms.weights).sum()), np.finfo(float).tiny)
        temperatures = scale * np.geomspace(HOT, COLD, self.settings.sweeps)
        uniforms = rng.random((self.settings.shots, self.settings.sweeps, block.size))
        ends = block_loops.annealed(*terms, starts, temperatures, uniforms)
        return self._evaluated(block, ends, uniforms.size)
