"""Independent bits with the quantum sample's own marginals: whether its correlations are worth anything."""

from __future__ import annotations

import numpy as np

from hybrid_assets.problems.landscape import Block
from hybrid_assets.proposals.arms.base import Answer, ArmSettings, Proposer
from hybrid_assets.proposals.arms.qaoa import Qaoa


class Marginals(Proposer):
    """Draws the quantum sample, keeps its means only. The circuit behind the means is charged as the sample's is."""

    name = "marginals"

    def __init__(self, settings: ArmSettings | None = None) -> None:
        super().__init__(settings)
        self._source = Qaoa(self.settings)

    def propose(self, block: Block, seed: int) -> Answer:
        """As many rows as shots; in a group one member, drawn by its marginal."""
        sample = self._source.propose(block, seed)
        rng = np.random.default_rng([seed, 1])
        means = sample.bits.mean(axis=0)
        bits = (rng.random(sample.bits.shape) < means).astype(np.int8)
        for group in block.groups:
            members = np.array(group)
            weights = means[members]
            picks = rng.choice(members, len(bits), p=weights / weights.sum())
            bits[:, members] = 0
            bits[np.arange(len(bits)), picks] = 1
        return self._evaluated(block, bits, shots=sample.shots, circuits=sample.circuits)
