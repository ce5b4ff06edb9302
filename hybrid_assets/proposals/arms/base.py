"""The ``Proposer``: who answers a block, quantum or not.

Here: the question (a block and a seed), the answer with what it cost, the settings that all arms share. Not here: any
single arm, or the loop that asks (``engine``).
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np

from hybrid_assets.problems.landscape import Block
from resources.envelope import EvidenceClass


@dataclass(frozen=True)
class Answer:
    """Bits for a block and what they cost.

    Attributes:
        bits: int8, shape ``(m, q)``, every read-out, m = 0 when there is no proposal.
        energies: float64, shape ``(m,)``.
        shots, circuits: read-outs of a quantum sampler, real or simulated, and circuits run for them.
        tuning_shots, training_shots: shots beyond those, spent on choosing parameters or on training them.
        evaluations: ΔE evaluations; the energy of a whole bit string counts as q of them.
        seconds: wall clock of this answer.
        evidence_class: of who answered.
    """

    bits: np.ndarray
    energies: np.ndarray
    shots: int = 0
    circuits: int = 0
    tuning_shots: int = 0
    training_shots: int = 0
    evaluations: int = 0
    seconds: float = 0.0
    evidence_class: EvidenceClass = EvidenceClass.CLASSICAL


@dataclass(frozen=True)
class ArmSettings:
    """What all arms are given alike.

    Attributes:
        shots: read-outs per block; the classical arms that draw have as many.
        depth: layers of QAOA.
        lengths: ramp lengths that QAOA learns to choose from.
        sweeps: of an annealing of the block, per read.
        kept: how many of the lowest states enumeration answers with.
        enumerated: largest block that is enumerated.
    """

    shots: int = 64
    depth: int = 3
    lengths: tuple[float, ...] = (2.0, 4.0, 6.0, 8.0, 12.0)
    sweeps: int = 20
    kept: int = 64
    enumerated: int = 20


class Terms(NamedTuple):
    """A block as the compiled loops take it: see ``block_loops``."""

    linear: np.ndarray
    couplings: np.ndarray
    masks: np.ndarray
    weights: np.ndarray
    group: np.ndarray

    @classmethod
    def of(cls, block: Block) -> Terms:
        """Symmetric couplings, masks of the higher terms, the group of every bit."""
        group = np.full(block.size, -1, dtype=np.int64)
        for k, members in enumerate(block.groups):
            group[list(members)] = k
        return cls(
            np.ascontiguousarray(block.linear, dtype=np.float64),
            block.couplings + block.couplings.T,
            np.array([sum(1 << i for i in term) for term in block.higher], dtype=np.int64),
            np.array(list(block.higher.values()), dtype=np.float64),
            group,
        )


def energies(block: Block, bits: np.ndarray) -> np.ndarray:
    """``block.energies`` by the compiled loop."""
    from hybrid_assets.proposals import block_loops

    linear, couplings, masks, weights, _ = Terms.of(block)
    return block_loops.energies(linear, couplings, float(block.offset), masks, weights, bits)


class Proposer(ABC):
    """Answers blocks. May learn from its own answers, never from what became of them; seeds decide all chance."""

    name: ClassVar[str]
    evidence_class: ClassVar[EvidenceClass] = EvidenceClass.CLASSICAL

    def __init__(self, settings: ArmSettings | None = None) -> None:
        self.settings = settings or ArmSettings()

    @abstractmethod
    def propose(self, block: Block, seed: int) -> Answer:
        """Bits for one block; deterministic in the block, the seed and what was asked before."""

    def answers(self, blocks: Sequence[Block], seeds: Sequence[int]) -> list[Answer]:
        """Answers of one trip, each with the seconds that it took."""
        found = []
        for block, seed in zip(blocks, seeds, strict=True):
            started = time.perf_counter()
            answer = self.propose(block, seed)
            found.append(replace(answer, seconds=time.perf_counter() - started))
        return found

    def _evaluated(self, block: Block, bits: np.ndarray, evaluations: int | None = None, **spent: int) -> Answer:
        """An answer with these bits, whose energies are charged unless the evaluations are given."""
        return Answer(
            bits,
            energies(block, bits),
            evaluations=bits.size if evaluations is None else evaluations,
            evidence_class=self.evidence_class,
            **spent,
        )
