"""Runs of the quality benchmark: everything together, each baseline and each arm alone, by seed.

Here: one instance's runs, each with what it cost and what it got of the machine. Not here: instances
(``quality_instances``), gaps and tables (``quality_tables``). Nothing here knows a best known value.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from hybrid_assets import registry
from hybrid_assets.problems.base import Instance, ProblemFamily
from hybrid_assets.problems.landscape import Landscape
from hybrid_assets.proposals.arms import ARMS
from hybrid_assets.proposals.engine import Budget, Search, search
from hybrid_assets.proposals.replay import Row, drive, replay
from hybrid_assets.proposals.shared_budget import share
from hybrid_assets.proposals.walk import WalkSettings
from hybrid_assets.solvers.base import SolveTask

#: Trips that warm an arm, and seconds that warm a solver: compiled loops load on first use.
WARM_TRIPS, WARM_SECONDS = 30, 0.3
#: The frozen log: who leads, bits of a block, sweeps of the one cooling that is logged evenly.
DRIVER, REPLAY_BITS, REPLAY_SWEEPS = "descent", 12, 20


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        budget: ``portfolio`` (everything together), ``arm`` or ``baseline`` (alone, the whole time).
        name: arm with ``+polish`` where it has one, solver, or ``accepted``.
        objective: of the best feasible answer in the family's sense; ``None`` without one.
        core: processor seconds of this process by wall-clock seconds: what it got of one core.
        trajectory: (seconds, objective) at every improvement that is feasible.
        spent: parts of the portfolio, or counts of an arm.
    """

    instance: str
    budget: str
    name: str
    seed: int
    objective: float | None
    seconds: float
    core: float
    load: float
    ended: str
    evidence_class: str = "classical"
    post_processing: str = "raw"
    bound: float | None = None
    trajectory: tuple[tuple[float, float], ...] = ()
    spent: dict[str, float | str] = field(default_factory=dict)


class _Meter:
    """Wall clock, processor time and load of a run."""

    def __init__(self) -> None:
        self.wall, self.processor, self.load = time.perf_counter(), time.process_time(), os.getloadavg()[0]

    @property
    def core(self) -> float:
        return (time.process_time() - self.processor) / max(time.perf_counter() - self.wall, 1e-9)


def variants(arms: Sequence[str]) -> list[tuple[str, bool]]:
    """Each arm without and with the same polish; without proposals and polish there is nothing to run."""
    return [(arm, polish) for arm in arms for polish in (False, True) if polish or arm != "none"]


def warm(family: ProblemFamily, instance: Instance, arms: Sequence[str]) -> None:
    """Load and compile everything that an instance's timed runs use."""
    landscape = family.landscape(instance)
    for name in family.baselines(instance):
        registry.solver(name).solve(SolveTask(family, instance), WARM_SECONDS, 0)
    if landscape is not None:
        for arm, polish in variants(arms):
            search(landscape, ARMS[arm](), Budget(trips=WARM_TRIPS), 0, WalkSettings(polish=polish))


def runs(
    family: ProblemFamily,
    instance: Instance,
    seconds: float,
    seeds: int,
    arms: Sequence[str],
    solvers: Sequence[str] | None,
) -> Iterator[Run]:
    """All runs of an instance, seed by seed: portfolio, baselines (all, or those among ``solvers``), arms.

    Once a baseline has proven an optimum, runs on their own may stop on reaching it.
    """
    landscape, target = family.landscape(instance), None
    for seed in range(seeds):
        yield _together(family, instance, seconds, seed)
        for name in family.baselines(instance):
            if solvers is not None and name not in solvers:
                continue
            meter = _Meter()
            result = registry.solver(name).solve(SolveTask(family, instance, target), seconds, seed)
            if result.status == "optimal" and target is None:
                target = result.objective
            yield Run(
                instance.name,
                "baseline",
                name,
                seed,
                result.objective,
                result.seconds,
                meter.core,
                meter.load,
                result.status,
                bound=result.bound,
                trajectory=result.trajectory,
                spent={"evaluations": result.evaluations},
            )
        for arm, polish in variants(arms) if landscape is not None else ():
            assert landscape is not None
            yield _arm(family, instance, landscape, seconds, seed, arm, polish, target)


def _together(family: ProblemFamily, instance: Instance, seconds: float, seed: int) -> Run:
    meter, found = _Meter(), share(family, instance, seconds, seed)
    last = found.trajectory[-1] if found.trajectory else None
    return Run(
        instance.name,
        "portfolio",
        "accepted",
        seed,
        found.objective,
        found.seconds,
        meter.core,
        meter.load,
        found.outcome,
        last.evidence_class.value if last else "classical",
        last.post_processing.value if last else "raw",
        found.bound,
        tuple((reached.seconds, reached.objective) for reached in found.trajectory),
        {"by": last.part if last else "", "parts": json.dumps([asdict(part) for part in found.parts])},
    )


def _arm(
    family: ProblemFamily,
    instance: Instance,
    landscape: Landscape,
    seconds: float,
    seed: int,
    arm: str,
    polish: bool,
    target: float | None,
) -> Run:
    sign, meter = -1.0 if instance.sense == "max" else 1.0, _Meter()
    budget = Budget(seconds, bound=-np.inf if target is None else sign * target)
    found: Search = search(landscape, ARMS[arm](), budget, seed, WalkSettings(polish=polish))
    scored = family.evaluate(instance, landscape.values(found.state))
    last = found.trajectory[-1]
    return Run(
        instance.name,
        "arm",
        f"{arm}+polish" if polish else arm,
        seed,
        scored.objective if scored.feasible else None,
        found.seconds,
        meter.core,
        meter.load,
        found.cause,
        last.evidence_class.value,
        last.post_processing.value,
        trajectory=tuple((point.seconds, sign * point.cost) for point in found.trajectory if point.feasible),
        spent={**asdict(found.counts), "proposer_seconds": found.proposer_seconds},
    )


def replayed(family: ProblemFamily, instance: Instance, blocks: int) -> list[Row]:
    """Every arm's answers to one log, taken evenly from one whole cooling of a classical driver without polish."""
    landscape = family.landscape(instance)
    if landscape is None:
        return []
    n = len(landscape.start(0).data)
    trips = max(blocks, REPLAY_SWEEPS * -(-n // REPLAY_BITS))
    settings = WalkSettings(sizes=(REPLAY_BITS,), trips=trips)
    log = drive(landscape, ARMS[DRIVER](), blocks, 0, settings, every=trips // blocks)
    arms = {name: arm for name, arm in ARMS.items() if name != "none"}
    replay(log[:3], {name: arm() for name, arm in arms.items()})
    return replay(log, {name: arm() for name, arm in arms.items()})


def random_mean(family: ProblemFamily, instance: Instance, count: int = 200) -> float | None:
    """Mean objective of random feasible solutions, for families whose gaps are normalized by it."""
    if family.gap_kind != "normalized":
        return None
    drawn = family.random_assignments(instance, count, 0)
    return float(np.mean([family.complete(instance, row).evaluation.objective for row in drawn]))
