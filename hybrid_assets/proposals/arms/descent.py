"""Random bits followed by steepest descent, with the ΔE evaluations that the energies of a sample cost."""

from __future__ import annotations

import numpy as np

from hybrid_assets.problems.landscape import Block, random_bits
from hybrid_assets.proposals.arms.base import Answer, Proposer, Terms


class Descent(Proposer):
    """Restarts until ``shots``·q evaluations are spent: as many as the energies of ``shots`` read-outs cost."""

    name = "descent"

    def propose(self, block: Block, seed: int) -> Answer:
        """The ends of the descents; their energies are known from the start's and the moves, so they cost nothing."""
        from hybrid_assets.proposals import block_loops

        starts = random_bits(block, self.settings.shots, np.random.default_rng(seed))
        ends, spent = block_loops.descents(*Terms.of(block), starts, self.settings.shots * block.size)
        return self._evaluated(block, ends, spent)
