"""No proposal: what the loop, its shakes and the polish do alone."""

from __future__ import annotations

import numpy as np

from hybrid_assets.problems.landscape import Block
from hybrid_assets.proposals.arms.base import Answer, Proposer


class NoProposal(Proposer):
    """Answers nothing."""

    name = "none"

    def propose(self, block: Block, seed: int) -> Answer:
        """Zero rows of bits."""
        return Answer(np.empty((0, block.size), dtype=np.int8), np.empty(0))
