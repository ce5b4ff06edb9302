"""Sending: from ``intended`` to the provider, and back with the result of a local backend.

Here: the transaction that claims, reserves money and writes the intent; what each answer of a backend means; keeping a
result. Not here: verdicts (``gates``), retries (``delivery``), what happens after a no (``fallback``), looking at jobs
that are out (``reconciler``).

Who may change a job: the process that holds its lease. Every change names the state (and, while sending, the attempt)
it starts from, so of two processes one goes on and the other sees ``Conflict`` and looks again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa

from resources import audit
from resources.backends.base import JobHandle, QuantumBackend
from resources.control_plane import CACHED, REVIEW, ControlPlane, chain_of, hops_of
from resources.database import patient
from resources.delivery import Outgoing, as_sent, deliver, is_doubtful, verify
from resources.envelope import EvidenceClass, JobEnvelope
from resources.failures import BackendError, FailureClass, InvariantError, TimedOut, redacted
from resources.fallback import answer_from_cache, answers_again, ask, fail, hop
from resources.gates import HOLD_SECONDS, Ask, Go, Wait, examine, total_is_spent
from resources.ledger import Conflict, this_process
from resources.ledger_tables import Job

#: Seconds before the first look at a job that has just been sent.
FIRST_LOOK = 0.5

Sent = tuple[Job, JobEnvelope]


def lease_seconds(envelope: JobEnvelope) -> float:
    """How long a process that works on a job may be silent before another host takes it over."""
    return envelope.timeout.total + 60.0


def send(plane: ControlPlane, batch: Sequence[Sent]) -> list[Job]:
    """Bring jobs that are ``intended`` for one backend, and leased by this process, one sending further.

    Raises:
        HybridError: class ``internal`` or ``circuit``, a defect, which the job's row records as well.
    """
    done: list[Job] = []
    ready: list[tuple[Job, JobEnvelope, Go]] = []
    for job, envelope in batch:
        early = _without_sending(plane, job, envelope)
        if early is not None:
            done.append(early)
            continue
        verdict = examine(plane, job, envelope)
        if isinstance(verdict, Go):
            ready.append((job, envelope, verdict))
        elif isinstance(verdict, BackendError):
            done.append(hop(plane, job, envelope, verdict))
        elif isinstance(verdict, Ask):
            done.append(ask(plane, job, verdict.why))
        else:
            done.append(_hold(plane, job, envelope, verdict))
    if ready:
        claims = _claim(plane, ready)
        for job, envelope in claims.full:
            wait = Wait(f"{job.backend} has {_cap(plane, job.backend)} jobs, as many as it may")
            done.append(_hold(plane, job, envelope, wait))
        for job, envelope, no in claims.refused:
            done.append(hop(plane, job, envelope, BackendError(no, FailureClass.CAPABILITY, not_sent=True)))
        done += [plane.ledger.job(job_id) for job_id in claims.lost]
        done += _deliver(plane, claims.claimed)
    return done


def _without_sending(plane: ControlPlane, job: Job, envelope: JobEnvelope) -> Job | None:
    """What needs no backend: an earlier result, a person, or a budget that is spent."""
    if job.backend == REVIEW:
        return ask(plane, job, "every backend before was left: " + "; ".join(hop.reason for hop in hops_of(job)))
    if job.backend == CACHED:
        entry = plane.cache.any_of(envelope)
        if entry is None:
            nothing = BackendError("no earlier result of this problem is kept", FailureClass.CAPABILITY, not_sent=True)
            return hop(plane, job, envelope, nothing)
        return answer_from_cache(plane, job, entry.job_id, entry.result_ref)
    if job.hop > 0 and total_is_spent(job, envelope) and not _is_classical(plane, job.backend):
        return hop(plane, job, envelope, TimedOut(f"the total budget of {envelope.timeout.total:g} s is spent"))
    if job.hop == 0 and envelope.repetition == 0 and plane.policy.cache.window_seconds:
        with suppress(BackendError):
            key = plane.cache.key(envelope, job.backend, plane.version(job.backend))
            hit = plane.cache.find(key)
            if hit is not None and hit.job_id != job.job_id:
                return answer_from_cache(plane, job, hit.job_id, hit.result_ref)
    return None


def _is_classical(plane: ControlPlane, name: str) -> bool:
    """The heuristic at the end of a chain answers in no time, whatever was spent before."""
    with suppress(BackendError):
        return plane.backend(name).capabilities().evidence_class is EvidenceClass.CLASSICAL
    return False


def _hold(plane: ControlPlane, job: Job, envelope: JobEnvelope, wait: Wait) -> Job:
    """Keep a job back, for as long as it may wait; the reason is recorded once."""
    now = datetime.now(UTC)
    waited = (now - job.updated_at).total_seconds()
    if waited > envelope.timeout.queue and job.looks and not wait.forever:
        error = BackendError(f"{wait.why}, for {waited:.0f} s by now", FailureClass.SATURATION, not_sent=True)
        return hop(plane, job, envelope, error)
    columns: dict[str, Any] = {"look_at": now + timedelta(seconds=HOLD_SECONDS), "looks": job.looks + 1}
    if job.looks:
        return plane.ledger.touch(job.job_id, claimed_until=None, **columns)
    return plane.ledger.move(
        job.job_id, "intended", f"held back: {wait.why}", expect="intended", claimed_until=None, **columns
    )


@dataclass
class _Claims:
    """What one claiming transaction decided."""

    claimed: list[Sent] = field(default_factory=list)
    full: list[Sent] = field(default_factory=list)
    refused: list[tuple[Job, JobEnvelope, str]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


@patient
def _claim(plane: ControlPlane, ready: Sequence[tuple[Job, JobEnvelope, Go]]) -> _Claims:
    """The write-ahead intent of a sending: budgets, the cap on open jobs and the claims in one transaction."""
    name, now, claims = ready[0][0].backend, datetime.now(UTC), _Claims()
    cap = _cap(plane, name)
    with plane.ledger.transaction() as tx:
        room = None if cap is None else cap - plane.ledger.open_jobs(name, tx=tx)
        for job, envelope, go in ready:
            if room is not None and len(claims.claimed) >= room:
                claims.full.append((job, envelope))
                continue
            if go.metered:
                no = plane.spending.refuses(job.owner, name, go.cost, tx=tx, job=job)
                if no:
                    claims.refused.append((job, envelope, no))
                    continue
            try:
                moved = plane.ledger.move(
                    job.job_id,
                    "submitting",
                    f"to {name}",
                    expect="intended",
                    attempt=job.attempts,
                    tx=tx,
                    attempts=job.attempts + 1,
                    claimed_by=this_process(),
                    claimed_until=now + timedelta(seconds=lease_seconds(envelope)),
                    look_at=now,
                    looks=0,
                    began_at=job.began_at or now,
                    sent_at=now,
                    estimated_cost=go.cost,
                    policy_version=plane.policy.version,
                    error=None,
                )
            except Conflict:
                claims.lost.append(job.job_id)
                continue
            if go.metered:
                plane.spending.reserve(tx, moved, go.cost)
            claims.claimed.append((moved, envelope))
        # last: everybody waits for the end of the log
        for job, envelope in claims.claimed:
            audit.append(
                tx,
                actor=audit.actor(),
                action="submit" if not job.resubmissions else "resubmit",
                job_id=job.job_id,
                subject=name,
                reason=f"position {job.hop + 1} of {', '.join(chain_of(envelope))}",
                policy_version=plane.policy.version,
                detail={"provider_key": job.provider_key, "estimated_cost": job.estimated_cost},
            )
    return claims


def _cap(plane: ControlPlane, name: str) -> int | None:
    """Most jobs that may be out at a backend."""
    return plane.policy.limits[name].open_jobs if name in plane.policy.limits else None


def _deliver(plane: ControlPlane, claimed: Sequence[Sent]) -> list[Job]:
    """Hand claimed jobs to their backend and record every answer; a defect is raised after all are recorded."""
    done: list[Job] = []
    defects: list[Exception] = []
    outgoing: list[tuple[Job, JobEnvelope, Outgoing]] = []

    def recorded(job: Job, step: Callable[[], Job]) -> None:
        try:
            done.append(step())
        except Conflict:
            done.append(plane.ledger.job(job.job_id))
        except Exception as error:
            defects.append(error)
            if plane.ledger.job(job.job_id).state == "submitting":
                fail(plane, job, error, reraise=False)

    def pack(job: Job, envelope: JobEnvelope) -> Job:
        sent = as_sent(plane.backend(job.backend), envelope)
        outgoing.append((job, envelope, Outgoing(sent, plane.payload(envelope), job.provider_key)))
        return job

    try:
        for job, envelope in claimed:
            recorded(job, partial(pack, job, envelope))
        done.clear()
        if outgoing:
            backend = plane.backend(outgoing[0][0].backend)
            answers = _answers(backend, [out for _, _, out in outgoing])
            for (job, envelope, _), answer in zip(outgoing, answers, strict=True):
                recorded(job, partial(_answered, plane, backend, job, envelope, answer))
    except BaseException:
        # interrupted: this process may live on, so the claims are given back and the next caller looks again
        for job, _ in claimed:
            with suppress(Exception):
                plane.ledger.move(
                    job.job_id,
                    "ambiguous",
                    "interrupted while submitting",
                    expect="submitting",
                    attempt=job.attempts,
                    claimed_until=None,
                )
        raise
    if defects:
        raise defects[0]
    return done


def _answers(backend: QuantumBackend, outgoing: list[Outgoing]) -> list[JobHandle | Exception]:
    """One answer per job; what no backend may raise is a defect of each of them."""
    try:
        return list(deliver(backend, outgoing))
    except Exception as error:
        return [error] * len(outgoing)


def _answered(
    plane: ControlPlane, backend: QuantumBackend, job: Job, envelope: JobEnvelope, answer: JobHandle | Exception
) -> Job:
    if not isinstance(answer, JobHandle | BackendError):
        raise answer
    if isinstance(answer, JobHandle):
        if not backend.capabilities().remote:
            # a local backend has the result already: nobody ever sees its job as submitted and without one
            return collect(plane, job, envelope, answer)
        answers_again(plane, job.backend)
        return plane.ledger.move(
            job.job_id,
            "submitted",
            f"{backend.name} has it as {answer.provider_id}",
            expect="submitting",
            attempt=job.attempts,
            provider_id=answer.provider_id,
            look_at=datetime.now(UTC) + timedelta(seconds=FIRST_LOOK),
            claimed_until=None,
        )
    if is_doubtful(backend, answer):
        return plane.ledger.move(
            job.job_id,
            "ambiguous",
            redacted(f"{backend.name} may have it: {answer}"),
            expect="submitting",
            attempt=job.attempts,
            error=redacted(f"{answer.failure_class}: {answer}"),
            claimed_until=None,
            look_at=datetime.now(UTC) + timedelta(seconds=backend.capabilities().settling_seconds),
        )
    return hop(plane, job, envelope, answer)


def collect(plane: ControlPlane, job: Job, envelope: JobEnvelope, handle: JobHandle) -> Job:
    """Fetch, verify and keep a finished job's result; the cost is settled and the cache told.

    Raises:
        BackendError: it cannot be had, or (class ``backend``) a remote provider answered something else.
        InvariantError: a local backend answered something else: a defect.
    """
    backend = plane.backend(job.backend)
    can = backend.capabilities()
    try:
        result = backend.result(handle)
        verify(result, backend, envelope)
    except InvariantError as error:
        if can.remote:
            raise BackendError(str(error), FailureClass.BACKEND) from error
        raise
    except BackendError as error:
        if can.remote:
            raise
        return hop(plane, job, envelope, error)
    timings = result.timings
    if can.remote and job.sent_at is not None:
        seen = (datetime.now(UTC) - job.sent_at).total_seconds()
        timings = timings.model_copy(update={"total": max(seen, timings.total)})
    # where no bill came, what was estimated is what it cost
    charged = (result.actual_cost or job.estimated_cost) if can.metered else result.actual_cost
    result = result.model_copy(
        update={
            "actual_cost": charged,
            "envelope_digest": job.envelope_digest,
            "attempts": job.attempts,
            "fallback_path": tuple(hops_of(job)),
            "estimated_cost": max(job.estimated_cost, result.estimated_cost),
            "timings": timings,
        }
    )
    reference = plane.artifacts.put(result.model_dump_json().encode())
    key = plane.cache.key(envelope, job.backend, plane.version(job.backend))
    keep = plane.policy.cache.window_seconds and result.evidence_class is not EvidenceClass.CLASSICAL

    def record(tx: sa.Connection) -> None:
        if can.metered:
            plane.spending.settle(tx, job, result.actual_cost)
        if keep:
            plane.cache.put(tx, key, envelope, job, reference)

    stored = plane.ledger.move(
        job.job_id,
        "succeeded",
        f"result {reference}",
        expect=job.state,
        attempt=job.attempts,
        through="submitted" if job.state == "submitting" else None,
        also=record,
        provider_id=handle.provider_id,
        result_ref=reference,
        evidence_class=str(result.evidence_class),
        actual_cost=result.actual_cost,
    )
    plane.breakers.succeeded(job.backend)
    backend.forget(handle)
    return stored
