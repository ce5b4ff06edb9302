"""One budget for everything: baselines and quantum proposals share the seconds, and the best feasible answer counts.

Here: ``share``, what every part was granted and spent, where the accepted answer comes from. Not here: comparisons, in
which every baseline and every arm has the whole budget to itself (``solvers.run``, ``engine``).

The portfolio of algorithms follows Huberman, Lukose & Hogg (1997): a first look at every baseline, then the one that
leads goes on alone, then proposals start from the best answer. No choice reads a best known value or the time of day.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from hybrid_assets import registry
from hybrid_assets.evidence.gaps import better, same
from hybrid_assets.problems.base import Instance, ProblemFamily
from hybrid_assets.problems.landscape import State
from hybrid_assets.proposals.arms import Proposer
from hybrid_assets.proposals.arms.qaoa import Qaoa
from hybrid_assets.proposals.engine import Budget, search
from hybrid_assets.proposals.walk import WalkSettings
from hybrid_assets.solvers.base import SolverResult, SolveTask
from resources.envelope import EvidenceClass, PostProcessing
from resources.failures import InfeasibleError

#: Share of the seconds that is kept for the proposals, and share of the rest that goes into the first look.
PROPOSALS, LOOK = 0.25, 0.3
#: A part that would have fewer seconds than this is left out.
SHORTEST = 0.01
#: A solver that ends sooner than after this share of what it was granted has nothing to add.
ENDED = 0.8
#: From a good answer the walk begins with half the heat of one from scratch.
WARM = WalkSettings(polish=True, hot=0.2)

Outcome = Literal["optimal", "feasible", "infeasible", "no solution"]


@dataclass(frozen=True)
class Part:
    """What one solver or the proposals did with their seconds.

    Attributes:
        name: of the solver or of the arm.
        granted, seconds: allowed and spent.
        ended: the solver's status, or the cause that ended the search.
        objective: of its best feasible answer, in the family's sense; ``None`` without one.
    """

    name: str
    granted: float
    seconds: float
    ended: str
    objective: float | None


@dataclass(frozen=True)
class Reached:
    """One improvement of the accepted answer: when, what, and by whom."""

    seconds: float
    objective: float
    part: str
    evidence_class: EvidenceClass
    post_processing: PostProcessing


@dataclass(frozen=True)
class Shared:
    """The accepted answer and how the budget was spent.

    Attributes:
        outcome: ``optimal`` and ``infeasible`` only with a proof.
        values: the solution, shape ``(instance.size,)``, or ``None``.
        bound: the best proven bound in the family's sense, or ``None``.
        parts: in running order.
        trajectory: every improvement; the last one says where the answer comes from.
        seconds: in all, from the call to the answer.
        reason: why there is no solution, where that was recognised without a search.
        load_start, load_end: the machine's load average over one minute.
    """

    outcome: Outcome
    values: np.ndarray | None
    objective: float | None
    bound: float | None
    parts: tuple[Part, ...]
    trajectory: tuple[Reached, ...]
    seconds: float
    seed: int
    load_start: float
    load_end: float
    reason: str = ""
    threads: int = 1


@dataclass
class _Ledger:
    """The best feasible answer, the best bound and the parts so far; the clock runs from construction."""

    family: ProblemFamily
    instance: Instance
    began: float = field(default_factory=lambda: time.perf_counter())
    values: np.ndarray | None = None
    objective: float | None = None
    bound: float | None = None
    infeasible: str | None = None
    parts: list[Part] = field(default_factory=list)
    trajectory: list[Reached] = field(default_factory=list)

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self.began

    @property
    def sign(self) -> float:
        """Minus one where the family maximizes."""
        return -1.0 if self.instance.sense == "max" else 1.0

    @property
    def proven(self) -> bool:
        """Whether the answer meets a proven bound."""
        return (
            self.objective is not None
            and self.bound is not None
            and (
                same(self.objective, self.bound, self.family.tolerance)
                or not better(self.bound, self.objective, self.instance.sense)
            )
        )

    @property
    def closed(self) -> bool:
        """Whether nothing is left to do: proven optimal, or proven to have no solution."""
        return self.proven or self.infeasible is not None

    def bounded(self, bound: float | None) -> None:
        """Take a proven bound into account."""
        if bound is not None and (self.bound is None or better(self.bound, bound, self.instance.sense)):
            self.bound = bound

    def offer(self, values: np.ndarray) -> float | None:
        """Keep a solution if it is feasible and the best so far; answers its objective where it is feasible."""
        found = self.family.evaluate(self.instance, values)
        if not found.feasible:
            return None
        if self.objective is None or self._improves(found.objective, self.objective):
            self.values, self.objective = values, found.objective
        return found.objective

    def reached(self, point: Reached) -> None:
        """Keep a point of the trajectory if it is the best so far."""
        if not self.trajectory or self._improves(point.objective, self.trajectory[-1].objective):
            self.trajectory.append(point)

    def _improves(self, objective: float, known: float) -> bool:
        return better(objective, known, self.instance.sense, self.family.tolerance)


def share(
    family: ProblemFamily,
    instance: Instance,
    seconds: float,
    seed: int,
    proposer: Callable[[], Proposer] = Qaoa,
    settings: WalkSettings = WARM,
) -> Shared:
    """Solve an instance within ``seconds`` of wall clock on one thread, everything included.

    Baselines look first, in running order; of those that would go on, the one whose answer is best, soonest among
    equals, does so with another seed; the rest of the time is the proposals'. A part that ends early leaves its seconds
    to the next ones, and a proof ends everything.
    """
    load, ledger = os.getloadavg()[0], _Ledger(family, instance)
    try:
        _solve(ledger, seconds * (1 - PROPOSALS), seed)
        if not ledger.closed:
            _propose(ledger, seconds, seed, proposer(), settings)
    except InfeasibleError as error:
        ledger.infeasible = str(error)
    outcome: Outcome = "no solution" if ledger.values is None else "optimal" if ledger.proven else "feasible"
    return Shared(
        outcome="infeasible" if ledger.infeasible is not None and ledger.values is None else outcome,
        values=ledger.values,
        objective=ledger.objective,
        bound=ledger.bound,
        parts=tuple(ledger.parts),
        trajectory=tuple(ledger.trajectory),
        seconds=ledger.elapsed,
        seed=seed,
        load_start=load,
        load_end=os.getloadavg()[0],
        reason=ledger.infeasible or "",
    )


def _solve(ledger: _Ledger, until: float, seed: int) -> None:
    """The baselines' part of the budget, which ends at ``until`` seconds."""
    task, names = SolveTask(ledger.family, ledger.instance), list(ledger.family.baselines(ledger.instance))
    ranking: list[tuple[float, float, int, str, float]] = []
    for k, name in enumerate(names):
        # whoever overdraws (a large model to build) takes it from the leader's time, not from the next one's look
        fair, left = until * LOOK / len(names), (until * LOOK - ledger.elapsed) / (len(names) - k)
        granted = min(max(fair, left), until - ledger.elapsed)
        if ledger.closed or granted < SHORTEST:
            break
        result = _run(ledger, task, name, granted, seed)
        if result.seconds < ENDED * granted:
            # it has said what it can
            continue
        worth = math.inf if result.objective is None else ledger.sign * result.objective
        soon = result.trajectory[-1][0] if result.trajectory else math.inf
        ranking.append((worth, soon, k, name, ledger.parts[-1].seconds - granted))
    for *_, name, overdraft in sorted(ranking):
        granted = until - ledger.elapsed
        # not worth a start that would take longer than the search
        if ledger.closed or granted < max(SHORTEST, overdraft):
            continue
        _run(ledger, task, name, granted, seed + 1)


def _run(ledger: _Ledger, task: SolveTask, name: str, granted: float, seed: int) -> SolverResult:
    began = ledger.elapsed
    result = registry.solver(name).solve(task, granted, seed)
    found = None if result.values is None else ledger.offer(np.asarray(result.values))
    for at, objective in result.trajectory if found is not None else ():
        # a solver's answer was searched for, not sampled: nothing was done to its bits afterwards
        ledger.reached(Reached(began + at, objective, name, EvidenceClass.CLASSICAL, PostProcessing.RAW))
    ledger.bounded(result.bound)
    if result.status == "optimal":
        ledger.bounded(found)
    if result.status == "infeasible":
        ledger.infeasible = f"{name} proved that no solution exists"
    ledger.parts.append(Part(name, granted, ledger.elapsed - began, result.status, found))
    return result


def _propose(ledger: _Ledger, until: float, seed: int, proposer: Proposer, settings: WalkSettings) -> None:
    """The proposals' part of the budget, from the best answer so far."""
    began, sign = ledger.elapsed, ledger.sign
    landscape = ledger.family.landscape(ledger.instance)
    if landscape is None:
        return
    start: State | None = None if ledger.values is None else landscape.state_of(ledger.values)
    setup = ledger.elapsed - began
    if until - ledger.elapsed < SHORTEST:
        return
    bound = -np.inf if ledger.bound is None else sign * ledger.bound
    found = search(landscape, proposer, Budget(until - ledger.elapsed, bound=bound), seed, settings, start)
    objective = ledger.offer(landscape.values(found.state)) if found.state.feasible else None
    for point in found.trajectory:
        if point.feasible:
            when = began + setup + point.seconds
            done = point.evidence_class, point.post_processing
            ledger.reached(Reached(when, sign * point.cost, point.proposer, *done))
    ledger.parts.append(Part(proposer.name, until - began, ledger.elapsed - began, found.cause, objective))
