"""The walk: an incumbent led from block to block by answers, whoever gives them and whenever they come.

Here: choosing blocks, taking answers, acceptance, temperature, polish, the counts. Not here: the clock and budgets
(``engine``), proposers (``arms``), neighbourhoods (``problems.landscape``).

A walk is a function of its landscape, settings, seed and answers: given stored answers again it goes the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hybrid_assets.problems.landscape import Block, Landscape, State, Step, random_bits
from hybrid_assets.proposals.arms.base import Answer
from hybrid_assets.proposals.bandit import Bandit, Metered
from resources.envelope import EvidenceClass, PostProcessing

#: Blocks whose random answers set the temperature.
PROBES = 24
#: Blocks in a row, per neighbourhood, that may meet those of a trip or be none before it goes with fewer.
TRIES = 8


@dataclass(frozen=True)
class WalkSettings:
    """How an incumbent is walked.

    Attributes:
        sizes: block sizes that the bandit may choose from.
        batch: disjoint blocks per trip.
        polish: whether states are polished by ``Landscape.polish``.
        polish_evaluations: at most this many ΔE evaluations per polish; 0: twenty per position of the state.
        hot, cold: first and last temperature of a cycle in units of the measured cost of changing one place; with
            ``hot`` = 0 the walk is greedy.
        cycle: sweeps of the first cooling (a sweep proposes to every position about once); every further one is twice
            as long; they start in turn from the best state and from where the last one ended.
        trips: length of the walk where it is known before: then there is one cooling of exactly that length.
        tries: how many of the lowest answers are carried out to choose among where energies are not costs.
        patience: sweeps without a change after which the state is shaken.
        metered: what is scarce, for the bandit's choice of sizes.
    """

    sizes: tuple[int, ...] = (8,)
    batch: int = 1
    polish: bool = False
    polish_evaluations: int = 0
    hot: float = 0.4
    cold: float = 0.1
    cycle: float = 20.0
    trips: int = 0
    tries: int = 4
    patience: float = 3.0
    metered: Metered = "seconds"


@dataclass
class Counts:
    """What a walk has spent and got; names as in ``Answer``, ``evaluations`` are those of blocks and steps,
    ``proposer_evaluations`` those of the arm."""

    trips: int = 0
    blocks: int = 0
    circuits: int = 0
    shots: int = 0
    tuning_shots: int = 0
    training_shots: int = 0
    evaluations: int = 0
    proposer_evaluations: int = 0
    repairs: int = 0
    polishes: int = 0
    polish_evaluations: int = 0
    inadmissible: int = 0
    accepted: int = 0
    improved: int = 0
    shakes: int = 0
    cycles: int = 0


@dataclass(frozen=True)
class Improvement:
    """A new best state: its cost, whether it is feasible, whose bits made it and what was done to bits on the way.

    Both are inherited: a state that descends from repaired or polished bits, or from a weaker answer, stays so.

    Attributes:
        evidence_class: ``answered``, or ``classical`` where no answer made it: of the start and of a shaken state.
        post_processing: the most that was done.
        answered: the weakest class of the answers in it; ``None`` before the first.
    """

    state: State
    evidence_class: EvidenceClass
    post_processing: PostProcessing
    answered: EvidenceClass | None = None

    def weakest(self, evidence: EvidenceClass) -> EvidenceClass:
        """The class of a state that an answer of class ``evidence`` makes of it."""
        return max(self.answered or evidence, evidence, key=list(EvidenceClass).index)

    def after(self, step: Step, evidence: EvidenceClass) -> Improvement:
        """Where the state of a step comes from that an answer asked for."""
        answered = self.weakest(evidence)
        return Improvement(step.state, answered, more(self.post_processing, step.repaired), answered)


def more(done: PostProcessing, repaired: bool) -> PostProcessing:
    """What was done to bits in all, when they were perhaps repaired after this."""
    return PostProcessing.REPAIRED if repaired and done is PostProcessing.RAW else done


def better(one: State, other: State) -> bool:
    """Whether ``one`` is feasible where ``other`` is not, or as feasible and cheaper by more than rounding."""
    if one.feasible != other.feasible:
        return one.feasible
    return one.cost < other.cost - 1e-12 * max(1.0, abs(other.cost))


class Walk:
    """``next_trip`` asks, ``take`` moves on; in turn.

    Attributes:
        state: the incumbent.
        origin: where the incumbent came from.
        best: the best state so far; its entry in ``improvements`` says where it came from.
        improvements: every best state so far; the first is the start.
        counts: what was spent.
    """

    def __init__(
        self, landscape: Landscape, seed: int, settings: WalkSettings | None = None, start: State | None = None
    ) -> None:
        """Stand at ``start`` (``landscape.state_of`` any solver's answer), by default at the landscape's own."""
        self.landscape, self.settings = landscape, settings or WalkSettings()
        self._rng, self._chance, self._seeds = (np.random.default_rng([seed, k]) for k in range(3))
        self.state = self.best = landscape.start(seed) if start is None else start
        self.counts = Counts()
        self.improvements = [Improvement(self.best, EvidenceClass.CLASSICAL, PostProcessing.RAW)]
        self.origin = self.improvements[0]
        self._bandit = Bandit(landscape.kinds, self.settings.sizes, self.settings.metered)
        self._trip: list[tuple[Block, int]] = []
        self._joint = False
        per_trip = self.settings.batch * float(np.mean(self.settings.sizes))
        #: Trips that propose to every position about once.
        self.sweep = max(1, math.ceil(len(self.state.data) / per_trip))
        self._cycle = self.settings.trips or max(1, round(self.settings.cycle * self.sweep))
        self._begun, self._still = 0, 0
        self._unit = self._measured()
        self.temperature = self._unit * self.settings.hot
        if self.settings.polish:
            self.polish()

    # -- asking --------------------------------------------------------------------------------------------------

    def next_trip(self) -> list[Block]:
        """The blocks to answer next, all on the present state; none when no neighbourhood has anything to offer."""
        self._turn()
        trip: list[tuple[Block, int]] = []
        taken: set[int] = set()
        missed, patience = 0, TRIES * (1 + len(self._bandit.choices))
        while len(trip) < self.settings.batch and missed < patience:
            if (choice := self._bandit.choose(self._rng)) is None:
                break
            missed += 1
            kind, size = self._bandit.choices[choice]
            block = self.landscape.block(self.state, kind, size, self._rng)
            if block is None:
                self._bandit.empty(choice)
                continue
            self.counts.evaluations += block.evaluations
            places = places_of(block)
            if places is None or taken.isdisjoint(places.tolist()):
                trip.append((block, choice))
                taken.update(() if places is None else places.tolist())
                missed = 0
        self._joint = len(trip) > 1 and any(places_of(block) is None for block, _ in trip)
        self._trip, self._asked = trip, self.state
        return [block for block, _ in trip]

    def seeds(self) -> list[int]:
        """A seed for each block of the trip; ask once per trip."""
        return self._seeds.integers(0, 2**62, len(self._trip)).tolist()

    def _turn(self) -> None:
        """Temperature, the next cooling, a shake where nothing has moved for long."""
        settings, trips = self.settings, self.counts.trips
        if settings.hot > 0:
            if trips - self._begun >= self._cycle:
                self._begun, self._cycle = trips, 2 * self._cycle
                self.counts.cycles += 1
                if self.counts.cycles % 2:
                    self.state, self.origin = self.best, self.improvements[-1]
            share = (trips - self._begun) / self._cycle
            self.temperature = self._unit * settings.hot * (settings.cold / settings.hot) ** share
        if self._still >= settings.patience * self.sweep:
            self.counts.shakes += 1
            self._still = 0
            self.state = self.landscape.shaken(self.best, self._rng)
            self.origin = replace(self.improvements[-1], state=self.state, evidence_class=EvidenceClass.CLASSICAL)
            if settings.polish:
                self.polish()

    def _measured(self) -> float:
        """The median cost of changing one position, from random answers to random blocks; the unit of temperature."""
        changes = []
        for k in range(PROBES):
            kind = self.landscape.kinds[k % len(self.landscape.kinds)]
            block = self.landscape.block(self.state, kind, min(self.settings.sizes), self._rng)
            if block is None:
                continue
            bits = random_bits(block, 1, self._rng)[0]
            step = self.landscape.apply(self.state, block, bits)
            self.counts.evaluations += block.evaluations + step.evaluations
            if step.state.data.shape != self.state.data.shape:
                # a plan with a route more or fewer: there is no counting positions
                continue
            flipped = int(np.sum(step.state.data != self.state.data))
            if flipped and step.state.feasible == self.state.feasible:
                changes.append(abs(step.state.cost - self.state.cost) / flipped)
        positive = [change for change in changes if change > 0]
        return float(np.median(positive)) if positive else 1.0

    # -- taking --------------------------------------------------------------------------------------------------

    def take(self, answers: Sequence[Answer]) -> None:
        """Move on with the answers to the trip's blocks, in their order."""
        if len(answers) != len(self._trip):
            raise ValueError(f"{len(answers)} answers to {len(self._trip)} blocks")
        before, count = self.state, self.counts
        offers: list[tuple[Step, Answer]] = []
        for (block, choice), answer in zip(self._trip, answers, strict=True):
            count.blocks += 1
            count.circuits += answer.circuits
            count.shots += answer.shots
            count.tuning_shots += answer.tuning_shots
            count.training_shots += answer.training_shots
            count.proposer_evaluations += answer.evaluations
            step = self._chosen(block, answer)
            gained = 0.0
            if step is not None:
                gained = max(0.0, before.cost - step.state.cost if self._joint else self.state.cost - step.state.cost)
                if self._joint:
                    offers.append((step, answer))
                else:
                    self._accept(step, answer)
            self._bandit.learn(choice, gained / self._unit)
        if offers:
            # neighbourhoods that may meddle with each other were all judged on one state: only the best is taken
            self._accept(*min(offers, key=lambda offer: offer[0].state.cost))
        count.trips += 1
        self._trip = []
        moved = better(self.state, before) if self.settings.hot == 0 else self.state is not before
        self._still = 0 if moved else self._still + 1
        if self.settings.polish and self.settings.hot > 0 and count.trips % self.sweep == 0:
            self.polish()

    def _chosen(self, block: Block, answer: Answer) -> Step | None:
        """The step that is taken, drawn with Gibbs weights among the answers and staying; ``None``: staying."""
        bits, energies = answer.bits, answer.energies
        if block.groups and len(bits):
            admissible = block.allowed(bits)
            self.counts.inadmissible += int(np.sum(~admissible))
            bits, energies = bits[admissible], energies[admissible]
        if not len(bits):
            return None
        from hybrid_assets.proposals import block_loops

        names = block_loops.codes(bits)
        current = int(block_loops.codes(block.current[None, :])[0])
        # an earlier answer of this trip may have moved the state away from the one that the block describes
        if block.exact and self.state is self._asked and self.state.feasible:
            here = self.state.cost
            row = block_loops.drawn(energies, names, here, current, self.temperature, self._chance.random())
            return None if row < 0 else self._applied(block, bits[row])
        order = np.argsort(energies, kind="stable")
        _, first = np.unique(names[order], return_index=True)
        rows = [row for row in order[np.sort(first)].tolist() if names[row] != current][: self.settings.tries]
        steps = [self._applied(block, bits[row]) for row in rows]
        steps = [s for s in steps if s.state is not self.state and s.state.feasible >= self.state.feasible]
        if not steps:
            return None
        costs = np.array([s.state.cost for s in steps])
        uniform = self._chance.random()
        pick = block_loops.drawn(costs, np.arange(1, len(steps) + 1), self.state.cost, 0, self.temperature, uniform)
        return None if pick < 0 else steps[pick]

    def _applied(self, block: Block, bits: np.ndarray) -> Step:
        step = self.landscape.apply(self.state, block, bits)
        self.counts.evaluations += step.evaluations
        return step

    def _accept(self, step: Step, answer: Answer) -> None:
        if step.state is self.state:
            return
        self.counts.accepted += 1
        self.counts.improved += better(step.state, self.state)
        self.counts.repairs += step.repaired
        self.state = step.state
        self.origin = self.origin.after(step, answer.evidence_class)
        self._keep()
        if self.settings.polish and self.settings.hot == 0:
            self.polish()

    def polish(self) -> None:
        """Polish the incumbent; while there is a temperature only the best state has it, the incumbent stays warm."""
        limit = self.settings.polish_evaluations or 20 * len(self.state.data)
        step = self.landscape.polish(self.state, limit)
        self.counts.polishes += 1
        self.counts.polish_evaluations += step.evaluations
        if not better(step.state, self.state):
            return
        warm = self.state, self.origin
        self.state = step.state
        self.origin = replace(self.origin, state=step.state, post_processing=PostProcessing.POLISHED)
        self._keep()
        if self.settings.hot > 0:
            self.state, self.origin = warm

    def _keep(self) -> None:
        if better(self.state, self.best):
            self.best = self.state
            self.improvements.append(self.origin)


def places_of(block: Block) -> np.ndarray | None:
    """The positions that a block may change, where its move says so: itself an array of them, or with ``places``."""
    found = getattr(block.move, "places", block.move)
    return found if isinstance(found, np.ndarray) and found.dtype.kind == "i" and found.ndim == 1 else None
