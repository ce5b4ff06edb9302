"""Leaving a backend: on to the next position of the fallback policy, to a person, to an earlier result, or to the end.

Here: what is recorded when a job goes on without an answer, always with its reason. Not here: who decides that it must
(``gates``, ``sending``, ``reconciler``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from resources import audit
from resources.backends.base import JobHandle
from resources.cache import Entry
from resources.control_plane import ControlPlane, as_json, chain_of, hops_of, next_key
from resources.envelope import LEFT_OUT, Hop, JobEnvelope, JobResult
from resources.failures import (
    CONSEQUENCE,
    BackendError,
    FailureClass,
    HybridError,
    InvariantError,
    TimedOut,
    presentable,
    redacted,
)
from resources.ledger_tables import Job
from resources.policy import CACHED, REVIEW

#: Failure classes that a breaker counts.
COUNTED = (FailureClass.BACKEND, FailureClass.TRANSIENT)


def hop(plane: ControlPlane, job: Job, envelope: JobEnvelope, error: BackendError, *, ran: bool = False) -> Job:
    """Leave ``job.backend`` with a reason: on to the next position, or to the end.

    Args:
        ran: it ran there, or nobody knows: what was reserved for it counts as spent.

    Raises:
        BackendError: class ``circuit`` or ``internal``, a defect; the row says so as well.
    """
    kind, reason = error.failure_class, redacted(str(error))
    chain, stop = chain_of(envelope), CONSEQUENCE[error.failure_class] == "stop"
    following = chain[job.hop + 1] if job.hop + 1 < len(chain) and not stop else None
    hops = [*hops_of(job), Hop(backend=job.backend, failure_class=kind, reason=reason, next_backend=following)]

    def record(tx: sa.Connection) -> None:
        if ran:
            plane.spending.settle(tx, job, math.nan)
        else:
            plane.spending.release(tx, job)
        plane.decided(
            tx,
            job,
            "fallback" if following else "give_up",
            f"{kind}: {reason}",
            f"{job.backend} → {following}" if following else job.backend,
        )

    if following is None:
        path = " → ".join(f"{left.backend}: {left.reason}" for left in hops)
        ended = plane.ledger.move(
            job.job_id,
            "timed_out" if isinstance(error, TimedOut) else "failed",
            path[:2000],
            expect=job.state,
            version=job.version,
            also=record,
            error=f"{kind}: {path}"[:2000],
            fallback_path=as_json(hops),
        )
        # asked for again, it may be found where it was left
        _left(plane, job, error, reason, keep=ran)
        if kind in (FailureClass.CIRCUIT, FailureClass.INTERNAL):
            raise presentable(error)
        return ended
    moved = plane.ledger.move(
        job.job_id,
        "intended",
        f"to {following} after {job.backend}: {reason}",
        expect=job.state,
        version=job.version,
        also=record,
        **fresh_submission(job),
        backend=following,
        hop=job.hop + 1,
        fallback_path=as_json(hops),
    )
    _left(plane, job, error, reason)
    return moved


def _left(plane: ControlPlane, job: Job, error: BackendError, reason: str, *, keep: bool = False) -> None:
    """What else follows when a job has left a backend; had another process been faster, all this would be its to do.

    Args:
        keep: what its answer needs to be read, should it still come.
    """
    if error.failure_class in COUNTED:
        plane.breakers.failed(job.backend, reason)
    elif not error.not_sent:
        answers_again(plane, job.backend)
    if not keep:
        forgotten(plane, job)


def answers_again(plane: ControlPlane, backend: str) -> None:
    """A backend on probation has answered, be it with a no: its breaker closes. Otherwise only results count, so that
    one which takes jobs and fails them all is left alone in the end."""
    if plane.breakers.state(backend).state == "half-open":
        plane.breakers.succeeded(backend)


def forgotten(plane: ControlPlane, job: Job) -> None:
    """What this side kept for a submission that has ended may go."""
    if job.provider_id is not None:
        with suppress(HybridError, OSError):
            plane.backend(job.backend).forget(JobHandle(job.backend, job.provider_id, job.provider_key))


def fresh_submission(job: Job) -> dict[str, Any]:
    """Columns of a job whose submission has ended: the next one has a key of its own."""
    return {
        "provider_key": next_key(job.provider_key),
        "provider_id": None,
        "error": None,
        "resubmissions": 0,
        "unreadable": 0,
        "looks": 0,
        "sent_at": None,
        "started_at": None,
        "look_at": datetime.now(UTC),
        "claimed_until": None,
    }


def fail(plane: ControlPlane, job: Job, error: Exception, *, ran: bool = False) -> Job:
    """End a job by a defect.

    Args:
        ran: its provider has it, or nobody knows: what was reserved for it counts as spent.
    """
    known = presentable(error)
    kind, reason = known.failure_class, redacted(str(known))
    hops = [*hops_of(job), Hop(backend=job.backend, failure_class=kind, reason=reason)]

    def record(tx: sa.Connection) -> None:
        if ran or job.state in ("submitted", "running"):
            # the provider has it, perhaps, and will send a bill that nobody reads
            plane.spending.settle(tx, job, math.nan)
        else:
            plane.spending.release(tx, job)
        plane.decided(tx, job, "give_up", f"{kind}: {reason}")

    return plane.ledger.move(
        job.job_id,
        "failed",
        reason,
        expect=job.state,
        version=job.version,
        also=record,
        error=f"{kind}: {reason}",
        fallback_path=as_json(hops),
    )


def ask(plane: ControlPlane, job: Job, why: str, cost: float = 0.0) -> Job:
    """Let a job wait for a person, who sees what it would cost."""

    def record(tx: sa.Connection) -> None:
        plane.approvals.ask(tx, job.job_id, why)
        plane.decided(tx, job, "ask_approval", why)

    return plane.ledger.move(
        job.job_id,
        "awaiting_approval",
        why,
        expect=job.state,
        version=job.version,
        also=record,
        look_at=None,
        estimated_cost=cost or job.estimated_cost,
    )


def known_results(plane: ControlPlane, name: str, batch: Sequence[tuple[Job, JobEnvelope]]) -> dict[str, Entry]:
    """By job: results that answer again, for first sendings of what is not meant as a repetition."""
    if not plane.policy.cache.window_seconds or name in (CACHED, REVIEW):
        return {}
    try:
        version = plane.version(name)
    except Exception:
        # it is missing or has a defect: the gates, or its answer, say so of each job
        return {}
    keys = {
        job.job_id: plane.cache.key(envelope, name, version)
        for job, envelope in batch
        if job.hop == 0 and envelope.repetition == 0
    }
    found = plane.cache.find_all(list(keys.values()))
    return {job_id: found[key] for job_id, key in keys.items() if key in found and found[key].job_id != job_id}


def answer_from_cache(plane: ControlPlane, job: Job, entry: Entry) -> Job | None:
    """End a job with an earlier result; evidence class as it was, flagged cached, at no cost. ``None`` where it cannot
    be read any more: the entry is taken back."""
    try:
        kept = JobResult.model_validate_json(plane.artifacts.get(entry.result_ref))
    except (InvariantError, ValueError):
        plane.cache.invalidate(job_id=entry.job_id, by=audit.actor(), reason="its result cannot be read any more")
        return None
    # at its first position a job is answered by what it asked for, whoever asked for more before
    of_others = () if job.hop else (LEFT_OUT,)
    result = kept.model_copy(
        update={
            "parameters": {name: value for name, value in kept.parameters.items() if name not in of_others},
            "envelope_digest": job.envelope_digest,
            "cached": True,
            "fallback_path": tuple(hops_of(job)),
            "estimated_cost": 0.0,
            "actual_cost": 0.0,
        }
    )
    stored = plane.artifacts.put(result.model_dump_json().encode())

    def record(tx: sa.Connection) -> None:
        plane.decided(tx, job, "cache_hit", "an earlier result answers", entry.job_id)

    return plane.ledger.move(
        job.job_id,
        "succeeded",
        f"the result of {entry.job_id} answers",
        expect="intended",
        version=job.version,
        also=record,
        result_ref=stored,
        evidence_class=str(result.evidence_class),
        cached=True,
    )
