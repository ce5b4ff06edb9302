"""The anytime loop: a walk, a proposer and a clock.

Here: ``search``, its budgets, its trajectory, why it ended. Not here: what a trip asks and what its answers do
(``walk``), who answers (``arms``), the comparison of arms on frozen states (``replay``).
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hybrid_assets.problems.landscape import Landscape, State
from hybrid_assets.proposals.arms.base import Proposer
from hybrid_assets.proposals.walk import Counts, Walk, WalkSettings
from resources.envelope import EvidenceClass, PostProcessing

Cause = Literal["seconds", "shots", "trips", "money", "target", "proof", "exhausted"]


@dataclass(frozen=True)
class Budget:
    """What may be spent; the first limit that is reached ends the search. At least one is given.

    Attributes:
        seconds: wall clock, one thread, from the call of ``search``.
        shots: read-outs, tuning and training included.
        trips: submissions.
        money: in the policy's currency, at ``trip_price`` and ``shot_price``.
        target: cost (minimized) at which the search may stop; never a best known value in a comparison.
        bound: a proven lower bound of the cost: reaching it is a proof of optimality.
    """

    seconds: float = np.inf
    shots: float = np.inf
    trips: float = np.inf
    money: float = np.inf
    trip_price: float = 0.0
    shot_price: float = 0.0
    target: float = -np.inf
    bound: float = -np.inf

    def __post_init__(self) -> None:
        priced = self.money < np.inf and (self.trip_price > 0 or self.shot_price > 0)
        if not (min(self.seconds, self.shots, self.trips) < np.inf or priced):
            raise ValueError("a search needs a limit: seconds, shots, trips, or money with a price")

    def spent(self, counts: Counts) -> float:
        """Money spent."""
        shots = counts.shots + counts.tuning_shots + counts.training_shots
        return counts.trips * self.trip_price + shots * self.shot_price


@dataclass(frozen=True)
class Point:
    """One improvement of a trajectory.

    Attributes:
        seconds: since the start.
        cost: minimized.
        feasible: whether it is the cost of a feasible solution.
        evidence_class: of who proposed the bits that made it.
        post_processing: the most that was done to bits on the way to it.
        proposer: name of the arm; ``start`` before it has answered anything: of the first point and its polish.
    """

    seconds: float
    cost: float
    feasible: bool
    evidence_class: EvidenceClass
    post_processing: PostProcessing
    proposer: str


@dataclass(frozen=True)
class Search:
    """What a search found and what it spent.

    Attributes:
        state: the best state; ``Landscape.values`` of it is the solution.
        trajectory: every improvement, the start first.
        counts: see ``Counts``.
        seconds, proposer_seconds: wall clock in all, and of that the proposer's.
        money: spent at the budget's prices.
        load_start, load_end: the machine's load average over one minute.
        seed, threads: as used.
        cause: what ended it.
    """

    proposer: str
    state: State
    trajectory: tuple[Point, ...]
    counts: Counts
    seconds: float
    proposer_seconds: float
    money: float
    load_start: float
    load_end: float
    seed: int
    cause: Cause
    threads: int = 1


def search(
    landscape: Landscape,
    proposer: Proposer,
    budget: Budget,
    seed: int,
    settings: WalkSettings | None = None,
    start: State | None = None,
) -> Search:
    """Walk until the budget, the target or a proof ends it.

    Args:
        start: a state to go on from (``landscape.state_of`` any solver's answer); by default the landscape's own.
    """
    began, load = time.perf_counter(), _load()
    walk = Walk(landscape, seed, settings, start)
    points: list[Point] = []
    asked = 0.0

    def record() -> None:
        now = time.perf_counter() - began
        for k in range(len(points), len(walk.improvements)):
            found = walk.improvements[k]
            name = "start" if found.answered is None else proposer.name
            points.append(
                Point(now, found.state.cost, found.state.feasible, found.evidence_class, found.post_processing, name)
            )

    record()
    while (cause := _ended(walk, budget, time.perf_counter() - began)) is None:
        blocks = walk.next_trip()
        if not blocks:
            cause = "exhausted"
            break
        before = time.perf_counter()
        answers = proposer.answers(blocks, walk.seeds())
        asked += time.perf_counter() - before
        walk.take(answers)
        record()
    seconds = time.perf_counter() - began
    return Search(
        proposer=proposer.name,
        state=walk.best,
        trajectory=tuple(points),
        counts=walk.counts,
        seconds=seconds,
        proposer_seconds=asked,
        money=budget.spent(walk.counts),
        load_start=load,
        load_end=_load(),
        seed=seed,
        cause=cause,
    )


def _ended(walk: Walk, budget: Budget, seconds: float) -> Cause | None:
    """The first limit that is reached."""
    best, counts = walk.best, walk.counts
    slack = 1e-9 * max(1.0, abs(best.cost))
    if best.feasible and best.cost <= budget.bound + slack:
        return "proof"
    if best.feasible and best.cost <= budget.target + slack:
        return "target"
    if seconds >= budget.seconds:
        return "seconds"
    if counts.shots + counts.tuning_shots + counts.training_shots >= budget.shots:
        return "shots"
    if counts.trips >= budget.trips:
        return "trips"
    return "money" if budget.spent(counts) >= budget.money else None


def _load() -> float:
    return os.getloadavg()[0]
