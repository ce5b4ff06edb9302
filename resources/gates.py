"""The gates before a submit: may this job go to this backend now?

Here: one verdict per job, from what people have set, the policy, the breaker, the backend's own word and estimates.
Not here: the checks that need the sending transaction (budgets, open jobs; ``sending``) or choosing among backends
(``routing``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from resources import money
from resources.backends.base import QuantumBackend
from resources.control_plane import ControlPlane, chain_of
from resources.controls import Mode
from resources.delivery import as_sent
from resources.envelope import JobEnvelope
from resources.failures import BackendError, FailureClass, presentable
from resources.ledger_tables import Job


@dataclass(frozen=True)
class Go:
    """It may be sent; ``cost`` is to be reserved first where it is ``metered``."""

    cost: float = 0.0
    metered: bool = False


@dataclass(frozen=True)
class Wait:
    """Not now; ``forever`` where no timeout counts meanwhile (a person paused it)."""

    why: str
    forever: bool = False


@dataclass(frozen=True)
class Ask:
    """A person decides; ``cost`` is what it would cost."""

    why: str
    cost: float = 0.0


Verdict = Go | Wait | Ask | BackendError


def examine(plane: ControlPlane, job: Job, envelope: JobEnvelope, mode: Mode) -> Verdict:
    """The verdict on sending ``job`` to ``job.backend``; a ``BackendError`` says why the next one is to be asked.

    Args:
        mode: what people have set for the backend.
    """
    name, policy = job.backend, plane.policy
    if name in policy.killed:
        return _no(f"the policy's kill switch keeps jobs from {name}")
    if mode in (Mode.KILLED, Mode.DRAINED):
        return _no(f"{name} is {mode} by hand and takes no new jobs")
    try:
        backend = plane.backend(name)
        can = backend.capabilities()
        if can.leaves_machine and envelope.sensitivity in policy.stays_here:
            return _no(f"{envelope.sensitivity} payloads may not leave this machine, {name} is elsewhere")
        missing = backend.available()
        if missing:
            return _no(f"{name} cannot be used: {missing}")
        backend.check(as_sent(backend, envelope))
        verdict = _priced(plane, job, envelope, backend) if can.remote or can.metered else Go()
    except BackendError as error:
        return error
    if isinstance(verdict, Go):
        why = _approval(plane, job, envelope, verdict)
        if why:
            return Ask(why, verdict.cost)
        if mode is Mode.PAUSED:
            return Wait(f"{name} is paused", forever=True)
        # last: when the breaker is half-open, going on uses up the one probe
        refused = plane.breakers.refuses(name)
        if refused:
            return BackendError(refused, FailureClass.SATURATION, not_sent=True)
    return verdict


def _no(why: str) -> BackendError:
    return BackendError(why, FailureClass.CAPABILITY, not_sent=True)


def _priced(plane: ControlPlane, job: Job, envelope: JobEnvelope, backend: QuantumBackend) -> Verdict:
    """Queue and price against the envelope's budgets."""
    can, sent = backend.capabilities(), as_sent(backend, envelope)
    try:
        estimate = backend.estimate(sent)
    except BackendError as error:
        if error.failure_class is FailureClass.CAPABILITY:
            return error
        if not can.metered:
            # nobody answers just now: the submit itself will find out
            return Go()
        # nothing is bought at an unknown price: asked once more, then left
        return error if job.looks else Wait(f"{job.backend} gives no estimate just now ({presentable(error)})")
    if estimate.queue_seconds > envelope.timeout.queue:
        return BackendError(
            f"the queue of {job.backend} is about {estimate.queue_seconds:.0f} s long, the job may wait "
            f"{envelope.timeout.queue:.0f} s",
            FailureClass.SATURATION,
            not_sent=True,
        )
    if not can.metered:
        return Go()
    if not math.isfinite(estimate.cost) or estimate.cost < 0:
        return _no(f"{job.backend} gives no price but {estimate.cost}")
    shots = envelope.algorithm.shots * envelope.program.circuits
    listed = money.price(plane.policy, job.backend, shots=shots, seconds=estimate.execution_seconds)
    cost = max(estimate.cost, listed)
    if envelope.cost_ceiling is not None:
        # what ran elsewhere without an answer was paid for too
        spent, over = plane.spending.earlier(job), _overdrawn(plane, envelope, envelope.cost_ceiling)
        if cost + spent + over > envelope.cost_ceiling + money.ROUNDING:
            return _no(
                f"{job.backend} would cost about {cost:.2f} {plane.policy.currency}, the job's ceiling is "
                f"{envelope.cost_ceiling:.2f}"
                + (f", {spent:.2f} of it spent" if spent else "")
                + (f", {over:.2f} of it used up by the bills of the jobs before it" if over > money.ROUNDING else "")
            )
    return Go(cost, True)


def _overdrawn(plane: ControlPlane, envelope: JobEnvelope, ceiling: float) -> float:
    """What the rounds or trips before this job cost beyond their ceilings, which are as high as its own, taken
    together: bills may be higher than estimates, and an instance may cost no more for that."""
    before = plane.before(envelope)
    return max(0.0, plane.spending.of_jobs(before) - len(before) * ceiling) if before else 0.0


def _approval(plane: ControlPlane, job: Job, envelope: JobEnvelope, go: Go) -> str | None:
    """Why a person has to agree first, or ``None``.

    Rounds and trips are decided together: what counts is what they cost together, and who has agreed to one of them has
    agreed to those that follow from it. A replay stands alone.
    """
    rule, why = plane.policy.approval, ""
    alone = envelope.jobs == 1 or envelope.replay_of is not None
    before = [] if alone else plane.before(envelope)
    spent = plane.spending.of_jobs(before) if before and rule.cost_above is not None else 0.0
    cost = go.cost if alone else spent + go.cost * max(1, envelope.jobs - len(before))
    # the reason without the amount, which is another one for each job
    same = "" if alone else f"; the answer holds for all {envelope.jobs} jobs of its walk or rounds"
    by_cost = rule.cost_above is not None and go.cost > 0 and cost > rule.cost_above
    if by_cost:
        same = f" {plane.policy.currency} on {job.backend}, more than {rule.cost_above:.2f} without an approval{same}"
        why = f"{'it' if alone else 'all in all it'} would cost about {cost:.2f}{same}"
    elif envelope.impact in rule.impact:
        why = same = f"its impact is {envelope.impact}{same}"
    elif job.backend in rule.backends:
        why = same = f"every job on {job.backend} needs an approval{same}"
    if not why or plane.approvals.granted(job.job_id, why):
        return None
    granted = plane.approvals.granted_of(before, same, plane.policy.version)
    if granted is None or chain_of(plane.envelope(plane.ledger.job(granted))) != chain_of(envelope):
        return why
    if by_cost:
        earlier = before[before.index(granted) + 1 :]
        agreed = plane.spending.reserved(granted, job.backend) * (envelope.jobs - len(earlier))
        if spent + go.cost > plane.spending.of_jobs(earlier) + agreed + money.ROUNDING:
            return why
    return None


def total_is_spent(job: Job, envelope: JobEnvelope) -> bool:
    """Whether the total budget, which runs from the first submission, is used up."""
    return job.began_at is not None and (datetime.now(UTC) - job.began_at).total_seconds() > envelope.timeout.total
