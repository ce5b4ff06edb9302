"""One constructed answer: the clearest bit first, the undecided ones at their mean."""

from __future__ import annotations

from hybrid_assets.problems.landscape import Block
from hybrid_assets.proposals.arms.base import Answer, Proposer, Terms


class Greedy(Proposer):
    """Deterministic: the same block has the same answer."""

    name = "greedy"

    def propose(self, block: Block, seed: int) -> Answer:
        """A single row; every field that was looked at counts as an evaluation."""
        from hybrid_assets.proposals import block_loops

        bits = block_loops.constructed(*Terms.of(block))[None, :]
        return self._evaluated(block, bits, block.size * (block.size + 1) // 2)
