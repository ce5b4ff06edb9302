"""Recursive QAOA on the block, and the same elimination by the block's own terms.

Here: both arms, the reduced problem and what is eliminated from it. Not here: the sampler
(``resources.circuits.statevector``) or the choice of a ramp (``arms.qaoa``).

Source: S. Bravyi, A. Kliesch, R. Koenig, E. Tang, "Obstacles to variational quantum optimization from symmetry
protection", Phys. Rev. Lett. 125, 260505 (2020), doi:10.1103/PhysRevLett.125.260505; correlations are sampled here.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections import defaultdict

import numpy as np

from hybrid_assets.problems.landscape import Block
from hybrid_assets.proposals.arms.base import Answer, ArmSettings, Proposer, energies
from hybrid_assets.proposals.arms.qaoa import Ramps
from resources.circuits.schedules import linear_ramp
from resources.circuits.statevector import sample_block
from resources.envelope import EvidenceClass

#: Variables that are left to enumeration, and fewest shots of a round.
ENUMERATED, LEAST_SHOTS = 4, 10

#: ⟨zᵢ⟩ and ⟨zᵢzⱼ⟩ with z = 1 − 2x, or whatever stands for them, by the variables' indices.
Correlations = dict[tuple[int, ...], float]


class Reduced:
    """What is left of a block: a polynomial over its free bits, and how the others follow from them.

    Attributes:
        terms: coefficients of products of free bits; the constant does not matter.
        free: free bits, ascending.
        groups: exactly-one groups of free bits.
    """

    def __init__(self, block: Block) -> None:
        self.terms: dict[frozenset[int], float] = {
            frozenset((i,)): float(value) for i, value in enumerate(block.linear)
        }
        self.terms |= {
            frozenset((int(i), int(j))): float(block.couplings[i, j]) for i, j in np.argwhere(block.couplings)
        }
        self.terms |= {frozenset(indices): value for indices, value in block.higher.items()}
        self.free = list(range(block.size))
        self.groups = [list(group) for group in block.groups]
        #: bit → the bit that it follows (−1: none, it is constant), and whether it is the opposite (or 1)
        self._follows: list[tuple[int, int, int]] = []
        self._settle()

    @property
    def grouped(self) -> set[int]:
        """Free bits that are in a group."""
        return {i for group in self.groups for i in group}

    def block(self) -> Block:
        """The reduced problem over ``free``, in its order."""
        place, q = {bit: k for k, bit in enumerate(self.free)}, len(self.free)
        linear, couplings, higher = np.zeros(q), np.zeros((q, q)), {}
        for indices, value in self.terms.items():
            at = tuple(sorted(place[i] for i in indices))
            if len(at) == 1:
                linear[at[0]] = value
            elif len(at) == 2:
                couplings[at] = value
            elif at:
                higher[at] = value
        groups = tuple(tuple(place[i] for i in group) for group in self.groups)
        return Block("reduced", linear, couplings, 0.0, np.zeros(q, dtype=np.int8), groups, higher)

    def eliminate(self, correlations: Correlations) -> None:
        """Follow the strongest correlation: a bit becomes constant, or a copy or the opposite of another."""
        which = max(correlations, key=lambda key: (abs(correlations[key]), key))
        opposite = int(correlations[which] < 0)
        if len(which) == 1:
            self._fix(which[0], opposite)
        else:
            self._replace(which[0], which[1], opposite)
        self._settle()

    def candidates(self) -> list[tuple[int, ...]]:
        """What may be eliminated: any free bit, and coupled pairs outside the groups."""
        grouped = self.grouped
        pairs = [sorted(term) for term in self.terms if len(term) == 2 and not term & grouped]
        return [(i,) for i in self.free] + [(i, j) for i, j in sorted(pairs)]

    def whole(self, bits: np.ndarray, size: int) -> np.ndarray:
        """All bits of the block, int8, shape ``(m, size)``, from bits of the free ones, shape ``(m, free)``."""
        found = np.zeros((len(bits), size), dtype=np.int8)
        found[:, self.free] = bits
        for bit, leader, opposite in reversed(self._follows):
            found[:, bit] = opposite if leader < 0 else found[:, leader] ^ opposite
        return found

    def _settle(self) -> None:
        """A group of one has no choice."""
        while single := next((group for group in self.groups if len(group) == 1), None):
            self._fix(single[0], 1)

    def _fix(self, bit: int, value: int) -> None:
        group = next((group for group in self.groups if bit in group), [])
        if group and value:
            self.groups.remove(group)
            for other in group:
                self._replace(other, -1, int(other == bit))
            return
        if group:
            group.remove(bit)
        self._replace(bit, -1, value)

    def _replace(self, bit: int, leader: int, opposite: int) -> None:
        """x = leader, 1 − leader, or without leader the constant ``opposite``."""
        found: dict[frozenset[int], float] = defaultdict(float)
        for indices, value in self.terms.items():
            if bit not in indices:
                found[indices] += value
                continue
            rest = indices - {bit}
            if opposite:
                found[rest] += value
            if leader >= 0:
                found[rest | {leader}] += -value if opposite else value
        self.terms = {indices: value for indices, value in found.items() if indices and value}
        self.free.remove(bit)
        self._follows.append((bit, leader, opposite))


class _Elimination(Proposer):
    """Bit after bit, until few enough are left to be enumerated."""

    @abstractmethod
    def _correlations(self, reduced: Reduced, block: Block, shots: int, seed: int) -> Correlations:
        """Of every candidate."""

    def _answer(self, block: Block, seed: int) -> tuple[Answer, int, int]:
        """A single row; rounds and shots of each."""
        reduced, rounds = Reduced(block), 0
        shots = max(LEAST_SHOTS, self.settings.shots // max(1, block.size - ENUMERATED))
        while len(reduced.free) > ENUMERATED:
            reduced.eliminate(self._correlations(reduced, block, shots, seed + rounds))
            rounds += 1
        rest = np.array(list(itertools.product((0, 1), repeat=len(reduced.free))), dtype=np.int8)
        states = reduced.whole(rest.reshape(-1, len(reduced.free)), block.size)
        states = states[block.allowed(states)]
        best = states[[int(energies(block, states).argmin())]]
        return self._evaluated(block, best, states.size), rounds, shots


class RecursiveQaoa(_Elimination):
    """Correlations are those of QAOA's samples; ``settings.shots`` are split among the rounds.

    The row was never read out as it is: it is what the sampled correlations lead to.
    """

    name = "rqaoa"
    evidence_class = EvidenceClass.SIMULATOR

    def __init__(self, settings: ArmSettings | None = None) -> None:
        super().__init__(settings)
        self.ramps = Ramps(self.settings.lengths)

    def propose(self, block: Block, seed: int) -> Answer:
        """A single row."""
        answer, rounds, shots = self._answer(block, seed)
        return Answer(
            answer.bits,
            answer.energies,
            shots=rounds * shots,
            circuits=rounds,
            evaluations=answer.evaluations,
            evidence_class=self.evidence_class,
        )

    def _correlations(self, reduced: Reduced, block: Block, shots: int, seed: int) -> Correlations:
        left = reduced.block()
        length = self.ramps.choose(block.kind, np.random.default_rng(seed))
        gammas, betas = linear_ramp(length, self.settings.depth)
        bits = sample_block(left.linear, left.couplings, 0.0, gammas, betas, shots, seed, left.higher, left.groups)
        if len(left.linear) == block.size:
            # scored on whole blocks alone: reduced ones have another scale
            self.ramps.learn(block, length, energies(block, bits))
        place = {bit: k for k, bit in enumerate(reduced.free)}
        z = 1.0 - 2.0 * bits
        return {which: float(z[:, [place[i] for i in which]].prod(axis=1).mean()) for which in reduced.candidates()}


class Reduction(_Elimination):
    """The control: the strongest field or coupling of what is left stands for the strongest correlation."""

    name = "reduction"

    def propose(self, block: Block, seed: int) -> Answer:
        """A single row, the same for every seed."""
        return self._answer(block, seed)[0]

    def _correlations(self, reduced: Reduced, block: Block, shots: int, seed: int) -> Correlations:
        found: Correlations = dict.fromkeys(reduced.candidates(), 0.0)
        for indices, value in reduced.terms.items():
            # a product of x = (1 − z) / 2 holds every product of its z, with the sign of their number
            for size in (1, 2):
                for which in itertools.combinations(sorted(indices), size):
                    if which in found:
                        found[which] -= value * (-1) ** size / 2 ** len(indices)
        return found
