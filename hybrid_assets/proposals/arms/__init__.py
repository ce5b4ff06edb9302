"""The arms: who may answer a block, one file each, all with the same question, settings and answer."""

from __future__ import annotations

from hybrid_assets.proposals.arms.annealing import Annealing
from hybrid_assets.proposals.arms.base import Answer, ArmSettings, Proposer
from hybrid_assets.proposals.arms.descent import Descent
from hybrid_assets.proposals.arms.elimination import RecursiveQaoa, Reduction
from hybrid_assets.proposals.arms.exact import Exact
from hybrid_assets.proposals.arms.greedy import Greedy
from hybrid_assets.proposals.arms.marginals import Marginals
from hybrid_assets.proposals.arms.none import NoProposal
from hybrid_assets.proposals.arms.qaoa import Qaoa
from hybrid_assets.proposals.arms.qemcmc import Metropolis, QuantumMetropolis
from hybrid_assets.proposals.arms.uniform import Uniform

__all__ = ["ARMS", "Answer", "ArmSettings", "Proposer"]

#: Every arm by name: the quantum ones first, then their controls.
ARMS: dict[str, type[Proposer]] = {
    arm.name: arm
    for arm in (
        Qaoa,
        QuantumMetropolis,
        RecursiveQaoa,
        NoProposal,
        Uniform,
        Marginals,
        Metropolis,
        Reduction,
        Descent,
        Greedy,
        Annealing,
        Exact,
    )
}
