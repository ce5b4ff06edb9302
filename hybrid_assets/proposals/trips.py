"""Trips of a walk: the proposal engine's blocks as jobs, one envelope per trip, on any backend.

Here: how large a trip is, blocks side by side as one program, the walk that the stages repeat from stored samples, and
the control that walks by itself. Not here: the walk's own rules (``walk``), the arms, families that are narrowed once
(``rounds``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from hybrid_assets import registry
from hybrid_assets.encodings.narrowing import Narrowed
from hybrid_assets.problems.base import Instance, ProblemFamily, Program, Solution
from hybrid_assets.problems.landscape import Block, Landscape, State, random_bits
from hybrid_assets.proposals.arms import Answer
from hybrid_assets.proposals.prepared import Prepared, encode
from hybrid_assets.proposals.rounds import Candidate, RoundResult, bits_of, candidates_of, counted
from hybrid_assets.proposals.walk import Improvement, Walk, WalkSettings, more, places_of
from resources.envelope import EvidenceClass, JobEnvelope, JobResult, PostProcessing, SampleCount

#: Variables of a sub-program where seconds are the budget (a simulator's cost doubles with each), and where trips are.
SMALL, LARGE = 8, 16
#: Sub-programs side by side in one trip at most.
BATCH = 8
#: Read-outs of a trip with several sub-programs at most.
MANY = 128
#: A walk of fewer trips than this has no time to cool: it only goes down.
COOLED = 1000
#: Share of a sub-program's states that a trip reads out at most: whoever draws all of them proposes nothing.
READ = 1 / 4
#: Read-outs of a trip that become candidates, lowest energies first.
CANDIDATES = 8


@dataclass(frozen=True)
class Plan:
    """What a walk's trips look like; decided once with the encoding and stored beside it.

    Attributes:
        size: variables per sub-program at most.
        batch: sub-programs in one trip.
        shots: read-outs of a trip at most; many independent sub-programs hardly ever read the same twice.
        trips: trips at most.
        polish: whether a local descent follows each proposal that is taken.
        seed: of the walk.
        encoding: of every trip's program that it takes; the others have what ``choose`` gives them.
    """

    size: int
    batch: int
    shots: int
    trips: int
    polish: bool
    seed: int
    encoding: str | None = None

    @classmethod
    def of(
        cls,
        max_variables: int,
        parts: int,
        by_trip: bool,
        shots: int,
        trips: int,
        polish: bool,
        seed: int,
        higher: bool = False,
        disjoint: bool = True,
    ) -> Plan:
        """The plan for a backend.

        Args:
            max_variables: the largest payload, or the largest part of one.
            parts: independent parts that a payload may hold beside each other.
            by_trip: whether trips and money are the budget (a remote backend) rather than seconds.
            higher, disjoint: as ``nature_of`` the landscape's sub-programs; one more variable for every pair makes
                terms of degree 3 and 4 quadratic.
        """
        size = min(LARGE if by_trip else SMALL, max_variables)
        while higher and size > 2 and size * (size + 1) // 2 > max_variables:
            size -= 1
        width = size * (size + 1) // 2 if higher else size
        batch = parts if parts > 1 else max(1, min(BATCH, max_variables // width)) if by_trip else 1
        # of sub-programs that may meddle with each other a walk takes one
        batch = batch if disjoint else 1
        shots = min(shots, MANY if batch > 1 else max(2, int(READ * 2**size)))
        return cls(size, batch, shots, trips, polish, seed)

    @property
    def record(self) -> dict[str, Any]:
        """The plan, JSON-able."""
        return asdict(self)


@dataclass(frozen=True)
class Leg:
    """What a trip's samples mean: its blocks and the state that they are conditioned on, with where that came from."""

    landscape: Landscape
    origin: Improvement
    blocks: tuple[Block, ...]

    @property
    def state(self) -> State:
        """What the blocks are conditioned on."""
        return self.origin.state

    def parts(self, assignments: np.ndarray) -> list[np.ndarray]:
        """Assignments of the trip's program, last axis ``q``, as one array per block."""
        return np.split(assignments, np.cumsum([block.size for block in self.blocks])[:-1], axis=-1)

    def solution(self, family: ProblemFamily, instance: Instance, assignment: np.ndarray) -> Solution:
        """The blocks' bits put into the state, one after the other, repaired where needed.

        What was done to the state's own bits on the way to it stays done.
        """
        state, done = self.state, self.origin.post_processing
        for block, bits in zip(self.blocks, self.parts(assignment), strict=True):
            # bits that break a group mean nothing: that block stays as it is
            if not block.allowed(bits[None, :])[0]:
                done = more(done, repaired=True)
                continue
            step = self.landscape.apply(state, block, bits)
            state, done = step.state, more(done, step.repaired)
        return _solution(family, instance, self.landscape, state, done)


def _solution(
    family: ProblemFamily, instance: Instance, landscape: Landscape, state: State, done: PostProcessing
) -> Solution:
    values = landscape.values(state)
    return Solution(values, family.evaluate(instance, values), done)


def side_by_side(blocks: Sequence[Block]) -> Program:
    """Blocks as one program without terms between them: variables in the blocks' order, groups as constraints.

    Several blocks are each divided by their own spread, so that one schedule of angles suits all of them; the energy of
    a single one is its cost.
    """
    import dimod

    linear = np.concatenate([block.linear for block in blocks])
    rows, cols, values = [], [], []
    cqm = dimod.ConstrainedQuadraticModel()
    cqm.add_variables("BINARY", range(len(linear)))
    higher: dict[tuple[int, ...], float] = {}
    start, offset = 0, 0.0
    for number, block in enumerate(blocks):
        unit = block.spread if len(blocks) > 1 else 1.0
        i, j = np.nonzero(block.couplings)
        rows.append(i + start)
        cols.append(j + start)
        values.append(block.couplings[i, j] / unit)
        linear[start : start + block.size] /= unit
        offset += block.offset / unit
        for term, coefficient in block.higher.items():
            higher[tuple(start + k for k in term)] = coefficient / unit
        for group, members in enumerate(block.groups):
            terms = [(start + k, 1.0) for k in members]
            cqm.add_constraint_from_iterable(terms, "==", rhs=1, label=f"block{number}.group{group}")
        start += block.size
    cqm.set_objective(
        dimod.BinaryQuadraticModel.from_numpy_vectors(
            linear, (np.concatenate(rows), np.concatenate(cols), np.concatenate(values)), offset, dimod.BINARY
        )
    )
    return Program(cqm, f"{len(blocks)} sub-program(s): {', '.join(block.kind for block in blocks)}", higher)


def nature_of(landscape: Landscape, seed: int) -> dict[str, bool]:
    """What its sub-programs are like, judged by the first of each neighbourhood: whether they have terms of degree 3
    and more (``higher``), and whether they tell what they touch, so that several can be kept apart (``disjoint``)."""
    state, rng = landscape.start(seed), np.random.default_rng(seed)
    found = [landscape.block(state, kind, SMALL, rng) for kind in landscape.kinds]
    blocks = [block for block in found if block is not None]
    return {
        "higher": any(bool(block.higher) for block in blocks),
        "disjoint": all(places_of(block) is not None for block in blocks),
    }


class Walking:
    """A walk whose proposals come as jobs. Equal plans and equal samples lead along the same states, so that every
    stage can repeat it from what is stored.

    Attributes:
        prepared: the trip that waits for its samples; ``None`` when no neighbourhood has anything to offer.
    """

    def __init__(self, family: ProblemFamily, instance: Instance, plan: Plan) -> None:
        landscape = family.landscape(instance)
        assert landscape is not None, f"{family.name} has no landscape"
        self.family, self.instance, self.plan, self.landscape = family, instance, plan, landscape
        long = plan.trips >= COOLED
        settings = WalkSettings(
            sizes=(plan.size,),
            batch=plan.batch,
            polish=plan.polish,
            hot=WalkSettings.hot if long else 0.0,
            trips=plan.trips if long else 0,
            metered="trips" if plan.batch > 1 else "seconds",
        )
        self.walk = Walk(landscape, plan.seed, settings)
        self.prepared = self._next()

    def _next(self) -> Prepared | None:
        blocks = tuple(self.walk.next_trip())
        if not blocks:
            return None
        program = side_by_side(blocks)
        n = len(program.cqm.variables)
        everything = Narrowed(program, np.arange(n, dtype=np.int64), np.zeros(n, dtype=np.int8), {})
        wanted = self.plan.encoding
        taken = wanted is not None and registry.encoding(wanted).accepts(program)
        return encode(program, everything, wanted if taken else None, Leg(self.landscape, self.walk.origin, blocks))

    def take(self, samples: Sequence[SampleCount], round_: int, evidence: EvidenceClass) -> list[Candidate]:
        """Go on from a trip's samples; answers its candidates: the lowest read-outs, and what the walk made of them.

        Read-outs that leave the incumbent as it is, and states that chance and polish alone have made, are nobody's
        proposals. The walk's own states were not read out as they are, so nothing is counted for them. A candidate's
        evidence is the weakest among the answers in it.
        """
        prepared = self.prepared
        assert prepared is not None
        assert prepared.leg is not None
        encoding = registry.encoding(prepared.encoded.encoding)
        read = candidates_of(self.family, self.instance, prepared, samples, round_, limit=CANDIDATES)
        here, answered = self.landscape.values(self.walk.state), self.walk.origin.weakest(evidence)
        found = [replace(c, evidence=answered) for c in read if not np.array_equal(c.solution.values, here)]
        rows = np.repeat(np.arange(len(samples)), [sample.count for sample in samples])
        decoded = np.stack([encoding.decode(prepared.encoded, row) for row in bits_of(samples)])[rows]
        known = len(self.walk.improvements)
        self.walk.take(
            [
                Answer(part, block.energies(part), shots=len(rows), circuits=1, evidence_class=evidence)
                for part, block in zip(prepared.leg.parts(decoded), prepared.leg.blocks, strict=True)
            ]
        )
        for step in self.walk.improvements[known:]:
            if step.evidence_class is not step.answered:
                continue
            solution = _solution(self.family, self.instance, self.landscape, step.state, step.post_processing)
            found.append(Candidate("", float("inf"), 0, solution, round_, 0, read[0].shares, step.answered))
        self.prepared = self._next()
        return found


def walked(walking: Walking, trips: Sequence[tuple[Sequence[SampleCount], EvidenceClass]]) -> list[Candidate]:
    """The candidates of a walk, from the stored samples of its trips in order."""
    return [c for round_, (samples, evidence) in enumerate(trips) for c in walking.take(samples, round_, evidence)]


def random_walk(walking: Walking, shots: Sequence[int], seed: int) -> list[Candidate]:
    """The control arm: a walk of its own under the same plan, whose answers are uniformly random allowed bits, as many
    per trip as there were shots."""
    control = Walking(walking.family, walking.instance, walking.plan)
    rng, found = np.random.default_rng(seed), []
    for round_, count in enumerate(shots):
        if (prepared := control.prepared) is None:
            break
        assert prepared.leg is not None
        drawn = np.hstack([random_bits(block, count, rng) for block in prepared.leg.blocks])
        found += control.take(counted(prepared, drawn), round_, EvidenceClass.CLASSICAL)
    return found


def first_trip(family: ProblemFamily, instance: Instance, plan: Plan) -> Prepared | None:
    """Where a walk begins; ``None`` when no neighbourhood has anything to offer."""
    return Walking(family, instance, plan).prepared


def run_trips(
    walking: Walking,
    make: Callable[..., JobEnvelope],
    run: Callable[[JobEnvelope], JobResult | None],
    store: Callable[[bytes], str],
    budget_seconds: float,
    ended: int = 0,
) -> list[RoundResult] | None:
    """The trips of a walk, one job each, or ``None`` while one is pending.

    Every step is found again by its envelope's idempotency key, so the loop can be repeated at any time. The ramp
    length that a first trip of some neighbourhoods chose is kept for their later ones.

    Args:
        make: ``envelope_for`` with everything bound but ``prepared``, ``payload_ref``, ``round_``, ``parent`` and
            ``ramp_lengths``.
        run: sends an envelope and answers its result, or ``None`` while pending.
        store: keeps a payload and answers its reference.
        budget_seconds: no further trip is begun when those so far took longer.
        ended: after how many trips the same walk ended before; it does so again, whatever the clock says now.
    """
    lengths: dict[tuple[str, ...], tuple[float, ...]] = {}
    finished: list[RoundResult] = []
    parent, spent = None, 0.0
    for round_ in range(walking.plan.trips):
        if (prepared := walking.prepared) is None or (round_ == ended if ended else round_ and spent >= budget_seconds):
            break
        assert prepared.leg is not None
        started = time.perf_counter()
        kinds = tuple(sorted({block.kind for block in prepared.leg.blocks}))
        envelope = make(
            prepared=prepared,
            payload_ref=store(prepared.encoded.payload()),
            round_=round_,
            parent=parent,
            ramp_lengths=lengths.get(kinds),
        )
        result = run(envelope)
        if result is None:
            return None
        if "ramp_length" in result.parameters:
            lengths.setdefault(kinds, (float(result.parameters["ramp_length"]),))
        finished.append(RoundResult(envelope, result, prepared))
        walking.take(result.samples, round_, result.evidence_class)
        parent = envelope.digest
        spent += max(result.timings.total, time.perf_counter() - started)
    return finished
