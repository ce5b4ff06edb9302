"""QAOA of the block on the local statevector kernel, along linear ramps whose length is learned as it goes.

Here: the proposer and the choice of a ramp. Not here: the kernel (``resources.circuits.statevector``), trained angles,
or remote backends.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from hybrid_assets.problems.landscape import Block
from hybrid_assets.proposals.arms.base import Answer, ArmSettings, Proposer
from resources.circuits.schedules import cvar, linear_ramp
from resources.circuits.statevector import sample_block
from resources.envelope import EvidenceClass

#: Share of the shots whose mean energy scores a ramp.
TAIL = 0.2
#: Share of the blocks that try a random ramp, and weight of the newest score in a running mean.
EXPLORED, NEWEST = 0.1, 0.05


@dataclass
class Ramps:
    """Which ramp length pays for which kind of neighbourhood.

    Scored by the CVaR of the shots that are drawn anyway, in units of the block's own spread: nothing is charged for
    the choice, and neither the lowest energy nor what became of an answer is looked at.
    """

    lengths: tuple[float, ...]
    _scores: dict[str, dict[float, float]] = field(default_factory=lambda: defaultdict(dict))

    def choose(self, kind: str, rng: np.random.Generator) -> float:
        """Every length once, then the one with the lowest running score, now and then a random one."""
        known = self._scores[kind]
        for length in self.lengths:
            if length not in known:
                return length
        if rng.random() < EXPLORED:
            return self.lengths[rng.integers(len(self.lengths))]
        return min(known, key=lambda length: known[length])

    def learn(self, block: Block, length: float, energies: np.ndarray) -> None:
        """Take the sampled energies of one block into account."""
        mean = block.offset + block.linear.sum() / 2 + block.couplings.sum() / 4
        spread = float(np.sqrt(np.sum(block.linear**2) + np.sum(block.couplings**2)))
        if spread == 0:
            return
        score = (cvar(energies, TAIL) - mean) / spread
        known = self._scores[block.kind]
        known[length] = known[length] + NEWEST * (score - known[length]) if length in known else score


class Qaoa(Proposer):
    """One circuit per block; groups are kept by XY mixers."""

    name = "qaoa"
    evidence_class = EvidenceClass.SIMULATOR

    def __init__(self, settings: ArmSettings | None = None) -> None:
        super().__init__(settings)
        self.ramps = Ramps(self.settings.lengths)

    def propose(self, block: Block, seed: int) -> Answer:
        """``settings.shots`` read-outs."""
        length = self.ramps.choose(block.kind, np.random.default_rng(seed))
        gammas, betas = linear_ramp(length, self.settings.depth)
        shots = self.settings.shots
        bits = sample_block(
            block.linear, block.couplings, block.offset, gammas, betas, shots, seed, block.higher, block.groups
        )
        answer = self._evaluated(block, bits, shots=shots, circuits=1)
        self.ramps.learn(block, length, answer.energies)
        return answer
