"""Uniformly random bits, as many as shots: what a quantum sample has to beat first."""

from __future__ import annotations

import numpy as np

from hybrid_assets.problems.landscape import Block, random_bits
from hybrid_assets.proposals.arms.base import Answer, Proposer


class Uniform(Proposer):
    """Random bits that satisfy the block's groups."""

    name = "uniform"

    def propose(self, block: Block, seed: int) -> Answer:
        """As many as ``settings.shots``."""
        return self._evaluated(block, random_bits(block, self.settings.shots, np.random.default_rng(seed)))
