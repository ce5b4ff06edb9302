"""Frozen-state replay: one driver walks and logs, every arm answers the same log. The ledger per proposal.

Here: the log, the table, its bootstrap intervals. Not here: what a candidate or a whole search costs: those are the
counts of ``engine.Search``, and the three ledgers are never merged.

Seconds in the table are wall clock of this machine; of a simulated sampler they are a cost of simulation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hybrid_assets.problems.landscape import Block, Landscape
from hybrid_assets.proposals.arms.base import Answer, Proposer
from hybrid_assets.proposals.walk import Walk, WalkSettings
from resources.envelope import EvidenceClass

#: Resamples of the blocks, and the level of the intervals.
RESAMPLES, LEVEL = 1_000, 0.95


@dataclass(frozen=True)
class Frozen:
    """One block of the driver's log: the digest of the state it was cut from, its trip, and the seed of its answers."""

    digest: str
    trip: int
    block: Block
    seed: int


@dataclass(frozen=True)
class Interval:
    """A value and its bootstrap interval over the blocks; ``nan`` where the arm spends none of the unit."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One arm on the whole log.

    Attributes:
        blocks, improving: blocks answered, and answers with at least one energy below the current bits'.
        shots, circuits, evaluations, seconds: spent in all, tuning and training shots included.
        per_shot, per_circuit, per_evaluation, per_second: improving answers per unit.
        per_proposal: share of all proposed bit strings that improve, every one and not only the best: of a sampler,
            improving proposals per read-out.
        best: mean over the blocks of the best energy minus the current bits' (the current bits count as 0).
    """

    arm: str
    evidence_class: EvidenceClass
    blocks: int
    improving: int
    shots: int
    circuits: int
    evaluations: int
    seconds: float
    per_shot: Interval
    per_circuit: Interval
    per_evaluation: Interval
    per_second: Interval
    per_proposal: Interval
    best: Interval


def drive(
    landscape: Landscape, driver: Proposer, blocks: int, seed: int, settings: WalkSettings | None = None, every: int = 1
) -> list[Frozen]:
    """The log of a walk led by ``driver``: ``blocks`` of its blocks, from every ``every``-th trip."""
    walk = Walk(landscape, seed, settings)
    log: list[Frozen] = []
    while len(log) < blocks:
        trip = walk.next_trip()
        if not trip:
            break
        seeds = walk.seeds()
        if walk.counts.trips % every == 0:
            digest = walk.state.digest
            log += [Frozen(digest, walk.counts.trips, block, s) for block, s in zip(trip, seeds, strict=True)]
        walk.take(driver.answers(trip, seeds))
    return log[:blocks]


def replay(log: Sequence[Frozen], arms: Mapping[str, Proposer], seed: int = 0) -> list[Row]:
    """Every arm's answers to the same log, as a table; the bootstrap resamples blocks, the same ones for every arm.

    Answers that break a group's exactly-one count as proposals that do not improve.

    Raises:
        ValueError: the log is empty.
    """
    if not log:
        raise ValueError("there is nothing to replay: the log is empty")
    draws = np.random.default_rng(seed).integers(0, len(log), (RESAMPLES, len(log)))
    rows = []
    for name, arm in arms.items():
        answers = [arm.answers([frozen.block], [frozen.seed])[0] for frozen in log]
        rows.append(_row(name, [frozen.block for frozen in log], answers, draws))
    return rows


def _row(name: str, blocks: Sequence[Block], answers: Sequence[Answer], draws: np.ndarray) -> Row:
    improving, hits, proposed, best = (np.zeros(len(blocks)) for _ in range(4))
    for k, (block, answer) in enumerate(zip(blocks, answers, strict=True)):
        here = float(block.energies(block.current[None, :])[0])
        gains = np.where(block.allowed(answer.bits), answer.energies - here, np.inf)
        lower = gains < -1e-9 * max(1.0, abs(here))
        improving[k], hits[k], proposed[k] = lower.any(), lower.sum(), len(gains)
        best[k] = gains.min(initial=0.0)
    ones = np.ones(len(blocks))

    def per(spent: Callable[[Answer], float]) -> tuple[float, Interval]:
        units = np.array([spent(answer) for answer in answers], dtype=float)
        return float(units.sum()), _interval(improving, units, draws)

    shots, per_shot = per(lambda a: a.shots + a.tuning_shots + a.training_shots)
    circuits, per_circuit = per(lambda a: a.circuits)
    evaluations, per_evaluation = per(lambda a: a.evaluations)
    seconds, per_second = per(lambda a: a.seconds)
    return Row(
        arm=name,
        evidence_class=answers[0].evidence_class,
        blocks=len(blocks),
        improving=int(improving.sum()),
        shots=int(shots),
        circuits=int(circuits),
        evaluations=int(evaluations),
        seconds=seconds,
        per_shot=per_shot,
        per_circuit=per_circuit,
        per_evaluation=per_evaluation,
        per_second=per_second,
        per_proposal=_interval(hits, proposed, draws),
        best=_interval(best, ones, draws),
    )


def _interval(gained: np.ndarray, spent: np.ndarray, draws: np.ndarray) -> Interval:
    """The ratio of the sums, with its percentile interval over resampled blocks."""
    if not spent.sum():
        return Interval(np.nan, np.nan, np.nan)
    totals = spent[draws].sum(axis=1)
    ratios = gained[draws].sum(axis=1)[totals > 0] / totals[totals > 0]
    low, high = np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(gained.sum() / spent.sum()), float(low), float(high))
