"""Enumeration of the block: the best that any proposer can do, for as long as blocks are small."""

from __future__ import annotations

import numpy as np

from hybrid_assets.problems.landscape import Block
from hybrid_assets.proposals.arms.base import Answer, Proposer, Terms


class Exact(Proposer):
    """The lowest states of a block, lowest first."""

    name = "exact"

    def propose(self, block: Block, seed: int) -> Answer:
        """At most ``settings.kept`` states, one evaluation for each of the ``2^q``.

        Raises:
            ValueError: the block is too large to be enumerated.
        """
        from hybrid_assets.proposals import block_loops

        q = block.size
        if q > self.settings.enumerated:
            raise ValueError(f"{q} bits are too many to enumerate; the limit is {self.settings.enumerated}")
        linear, couplings, masks, weights, _ = Terms.of(block)
        values = block_loops.table(linear, couplings, float(block.offset), masks, weights)
        if block.groups:
            members = [sum(1 << i for i in group) for group in block.groups]
            block_loops.forbid(values, np.array(members, dtype=np.int64))
        kept = min(self.settings.kept, len(values))
        lowest = np.argpartition(values, kept - 1)[:kept]
        lowest = lowest[np.lexsort((lowest, values[lowest]))]
        lowest = lowest[np.isfinite(values[lowest])]
        bits = ((lowest[:, None] >> np.arange(q)) & 1).astype(np.int8)
        return Answer(bits, values[lowest], evaluations=len(values))
