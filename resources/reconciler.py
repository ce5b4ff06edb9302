"""Reconciliation: what has become of the jobs that are out, and of those whose sender died.

Here: looking for ambiguous jobs by their key, polling in batches, timeouts, results. Not here: sending (``sending``)
or who calls this and when (a sensor, a waiting command).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from resources.backends.base import JobHandle, ProviderStatus
from resources.control_plane import ControlPlane
from resources.envelope import JobEnvelope
from resources.failures import CONSEQUENCE, BackendError, FailureClass, HybridError, TimedOut, presentable, redacted
from resources.fallback import ask, fail, hop
from resources.gates import total_is_spent
from resources.ledger import Conflict, is_alive
from resources.ledger_tables import ENVELOPES, JOBS, TERMINAL, Job
from resources.sending import Sent, collect, lease_seconds, send

#: Seconds between looks at one job: a share of the time it is out, within bounds.
SOONEST, LATEST, SHARE = 0.25, 60.0, 0.2
#: Seconds until a backend that cannot be asked from here (no credentials, say) is tried again.
UNREACHABLE = 5.0
#: Looks at a result that cannot be read before the next backend is asked, and at a cancel that is not confirmed.
UNREADABLE, UNCONFIRMED = 3, 20
#: How the error of a job begins that is out and told to stop, by a timeout or by a person.
STOPPING, WITHDRAWN = "transient: it is being stopped: ", "input: cancelled by "
#: Submissions of one key that may vanish without a trace before the next backend is asked; a local run cannot
#: have been paid for, so it may be repeated more often.
RESUBMISSIONS, LOCAL_RESUBMISSIONS = 1, 5
#: Seconds for which a round of reconciliation leases its jobs.
LEASE = 120.0


@dataclass
class Reconciled:
    """What a round did.

    Attributes:
        looked: jobs looked at.
        ended: jobs that have ended in this round.
        problems: defects met on the way, one sentence each; their jobs' rows say so as well.
    """

    looked: int = 0
    ended: list[Job] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def reconcile(plane: ControlPlane, *, limit: int = 200, local: bool = True) -> Reconciled:
    """One round over the jobs that are due: look, adopt, collect, send on.

    Args:
        limit: most jobs of one round.
        local: whether jobs whose next backend runs on this machine are run here; otherwise they are left for whoever
            runs their partition.
    """
    round_ = Reconciled()
    due = plane.ledger.due(limit, LEASE)
    round_.looked = len(due)
    try:
        _round(plane, round_, due, local)
    except BaseException:
        # interrupted, or the ledger is in trouble: others need not wait for the leases to run out
        with suppress(Exception):
            plane.ledger.release([job.job_id for job in due])
        raise
    return round_


def _round(plane: ControlPlane, round_: Reconciled, due: Sequence[Job], local: bool) -> None:
    batch: list[Sent] = []
    for job in due:
        try:
            batch.append((job, plane.envelope(job)))
        except HybridError as error:
            round_.problems.append(redacted(f"{type(error).__name__}: {error}"))
            _guard(plane, round_, job, partial(fail, plane, job, error))
    order = {"submitting": 0, "ambiguous": 1, "submitted": 2, "running": 2, "intended": 3}
    batch.sort(key=lambda sent: (order[sent[0].state], sent[0].backend))
    for (phase, name), group in groupby(batch, key=lambda sent: (order[sent[0].state], sent[0].backend)):
        jobs = list(group)
        if phase == 3 and not local and not plane.is_remote(name):
            _rest(plane, (job for job, _ in jobs), SOONEST * 8)
            continue
        if phase == 3:
            for part in _parts(plane, name, jobs):
                _guard_all(plane, round_, part, partial(send, plane, part))
        elif phase == 2:
            _guard_all(plane, round_, jobs, partial(look, plane, name, jobs))
        else:
            step = take_over if phase == 0 else look_for
            for job, envelope in jobs:
                _guard(plane, round_, job, partial(step, plane, job, envelope))


def recent(plane: ControlPlane, since: datetime | None, watched: Collection[str] = ()) -> list[tuple[Job, str]]:
    """Jobs that are open, or have ended after ``since``, oldest first, each with every instance that asked for it.

    Args:
        since: ``None``: all.
        watched: ids of further jobs. Who names those that were open at its last look misses none that ended before
            ``since`` and was written after it.
    """
    query = sa.select(JOBS, ENVELOPES.c.instance).distinct().order_by(JOBS.c.created_at, JOBS.c.job_id)
    query = query.join(ENVELOPES, ENVELOPES.c.idempotency_key == JOBS.c.idempotency_key)
    if since is not None:
        query = query.where(JOBS.c.ended_at.is_(None) | (JOBS.c.ended_at > since) | JOBS.c.job_id.in_(watched))
    with plane.ledger.engine.connect() as connection:
        return [(Job(*row[:-1]), row[-1]) for row in connection.execute(query)]


def _parts(plane: ControlPlane, name: str, jobs: list[Sent]) -> Iterable[list[Sent]]:
    """As many jobs in one submission as the backend takes."""
    size = 1
    with suppress(HybridError):
        size = max(1, plane.backend(name).capabilities().batch)
    for start in range(0, len(jobs), size):
        yield jobs[start : start + size]


def _guard(plane: ControlPlane, round_: Reconciled, job: Job, step: Callable[[], Job]) -> None:
    """One job's trouble does not stop the others."""
    _guard_all(plane, round_, [(job, None)], lambda: [step()])


def _guard_all(
    plane: ControlPlane, round_: Reconciled, jobs: Sequence[tuple[Job, Any]], step: Callable[[], list[Job]]
) -> None:
    try:
        done = step()
    except Conflict:
        done = []
    except Exception as error:
        round_.problems.append(redacted(f"{type(error).__name__}: {error}"))
        done = [plane.ledger.job(job.job_id) for job, _ in jobs]
    round_.ended += [job for job in done if job.state in TERMINAL]


def _rest(plane: ControlPlane, jobs: Iterable[Job], seconds: float) -> None:
    plane.ledger.release([job.job_id for job in jobs], look_at=datetime.now(UTC) + timedelta(seconds=seconds))


def later(plane: ControlPlane, job: Job, seconds: float | None = None, **columns: Any) -> Job:
    """Leave a job as it is until its next look, which comes the later the longer it is out."""
    now = datetime.now(UTC)
    out = (now - (job.sent_at or now)).total_seconds()
    pause = seconds if seconds is not None else min(max(SHARE * out, SOONEST), LATEST)
    columns |= {"look_at": now + timedelta(seconds=pause), "looks": job.looks + 1, "claimed_until": None}
    return plane.ledger.touch(job.job_id, read=job, **columns)


def take_over(plane: ControlPlane, job: Job, envelope: JobEnvelope) -> Job:
    """A job in ``submitting``: taken over when its sender is dead, or silent for longer than its lease."""
    claimed = plane.ledger.move(
        job.job_id,
        "ambiguous",
        "its sender died while submitting",
        expect="submitting",
        version=job.version,
    )
    return look_for(plane, claimed, envelope)


def is_abandoned(job: Job, envelope: JobEnvelope) -> bool:
    """Whether nobody works any more on a job that is being submitted."""
    sent = job.sent_at or job.updated_at
    silent = (datetime.now(UTC) - sent).total_seconds()
    return not is_alive(job.claimed_by) or silent > lease_seconds(envelope)


def look_for(plane: ControlPlane, job: Job, envelope: JobEnvelope) -> Job:
    """Adopt an ambiguous job if its backend knows the key; send it once more only if it definitely is not there."""
    asked = datetime.now(UTC)
    try:
        backend = plane.backend(job.backend)
        can = backend.capabilities()
        handle = backend.find(job.provider_key) if can.lookup else None
    except Exception as error:
        return _unheard(plane, job, envelope, presentable(error))
    if not can.lookup:
        return ask(
            plane,
            job,
            f"the answer of {job.backend} was lost and it offers no lookup: see whether it has a job with key "
            f"{job.provider_key}; approving sends it once more",
        )
    if handle is not None:
        return plane.ledger.move(
            job.job_id,
            "submitted",
            f"found at {job.backend} by its key",
            expect="ambiguous",
            version=job.version,
            also=_record(plane, job, "adopt", f"found by its key as {handle.provider_id}"),
            provider_id=handle.provider_id,
            look_at=datetime.now(UTC),
            looks=0,
            error=None,
            claimed_until=None,
        )
    # nobody has sent it since it became ambiguous; its sender may have taken long before that
    silent = (asked - job.updated_at).total_seconds()
    if silent < can.settling_seconds:
        return later(plane, job, can.settling_seconds - silent + 0.05)
    if (job.error or "").startswith(FailureClass.BACKEND):
        # it was refused after all, and this backend is not asked twice
        return hop(plane, job, envelope, BackendError((job.error or "").partition(": ")[2]))
    if (job.error or "").startswith(FailureClass.INTERNAL):
        # a defect, known when it happened: what it did not send must not be sent by it again
        return fail(plane, job, BackendError((job.error or "").partition(": ")[2], FailureClass.INTERNAL))
    if job.resubmissions >= (RESUBMISSIONS if can.remote else LOCAL_RESUBMISSIONS):
        vanished = BackendError(f"{job.resubmissions + 1} submissions never arrived at {job.backend}")
        return hop(plane, job, envelope, vanished)
    why = f"{job.backend} has no such job {silent:.1f} s after its answer was missed: it may be sent once more"
    return plane.ledger.move(
        job.job_id,
        "intended",
        why,
        expect="ambiguous",
        version=job.version,
        also=_record(plane, job, "not_there", why),
        resubmissions=job.resubmissions + 1,
        sent_at=None,
        look_at=datetime.now(UTC),
        claimed_until=None,
    )


def _unheard(plane: ControlPlane, job: Job, envelope: JobEnvelope, error: HybridError) -> Job:
    """Nobody can say whether a backend has a job: ask again, until the total budget is spent."""
    if job.looks >= UNCONFIRMED and total_is_spent(job, envelope):
        unknown = f"it was asked {job.looks} times whether it has the job and could not say: {error}"
        return hop(plane, job, envelope, TimedOut(unknown, FailureClass.BACKEND), ran=True)
    after = later(plane, job)
    if CONSEQUENCE[error.failure_class] == "stop":
        raise error
    return after


def _record(plane: ControlPlane, job: Job, action: str, reason: str) -> Callable[[sa.Connection], None]:
    def record(tx: sa.Connection) -> None:
        plane.decided(tx, job, action, reason)

    return record


def look(plane: ControlPlane, name: str, batch: Sequence[Sent]) -> list[Job]:
    """Ask one backend, in one call, about jobs it has taken, and act on what it says."""
    handles = {job.job_id: JobHandle(name, job.provider_id or "", job.provider_key) for job, _ in batch}
    found: dict[JobHandle, ProviderStatus] = {}
    pause: float | None = None
    done: list[Job] = []
    defects: list[Exception] = []
    try:
        backend = plane.backend(name)
        if backend.available():
            # it cannot be asked from here at all; the jobs are where they were
            pause = UNREACHABLE
        else:
            found = backend.statuses(list(handles.values()))
    except BackendError:
        pass
    except Exception as error:
        # a defect, but the jobs' time goes by all the same
        defects.append(presentable(error))
    for job, envelope in batch:
        handle = handles[job.job_id]
        try:
            done.append(_act(plane, job, envelope, handle, found.get(handle), pause))
        except Conflict:
            continue
        except (sa.exc.OperationalError, OSError) as error:
            # the ledger or the disk: that says nothing about the job
            defects.append(error)
        except Exception as error:
            defects.append(error)
            if total_is_spent(job, envelope):
                known = presentable(error)
                with suppress(HybridError):
                    hop(plane, job, envelope, BackendError(str(known), FailureClass.INTERNAL), ran=True)
    if defects:
        raise defects[0]
    return done


def _act(
    plane: ControlPlane,
    job: Job,
    envelope: JobEnvelope,
    handle: JobHandle,
    status: ProviderStatus | None,
    pause: float | None,
) -> Job:
    if status is ProviderStatus.SUCCEEDED:
        return _fetch(plane, job, envelope, handle)
    stopping = (job.error or "").startswith((STOPPING, WITHDRAWN))
    if stopping and status in (ProviderStatus.CANCELLED, ProviderStatus.FAILED):
        return _stopped(plane, job, envelope, TimedOut((job.error or "").removeprefix(STOPPING)))
    if status is ProviderStatus.FAILED:
        return hop(plane, job, envelope, BackendError(f"{job.backend} says that the job failed"))
    if status is ProviderStatus.CANCELLED:
        return plane.ledger.move(
            job.job_id,
            "cancelled",
            f"{job.backend} says that it was cancelled",
            expect=job.state,
            version=job.version,
            also=lambda tx: plane.spending.release(tx, job),
            error=f"backend: {job.backend} cancelled it",
        )
    if status is ProviderStatus.RUNNING and job.state == "submitted":
        job = plane.ledger.move(
            job.job_id,
            "running",
            f"as {job.backend} says",
            expect="submitted",
            version=job.version,
            started_at=datetime.now(UTC),
        )
    overdue = job.error if (job.error or "").startswith(WITHDRAWN) else _overdue(job, envelope, status)
    return _stop(plane, job, envelope, handle, overdue) if overdue else later(plane, job, pause)


def _overdue(job: Job, envelope: JobEnvelope, status: ProviderStatus | None) -> str | None:
    """Which timeout budget is used up, in words."""
    now, budget = datetime.now(UTC), envelope.timeout
    since = {"queue": job.sent_at, "execution": job.started_at, "total": job.began_at}
    out = {name: (now - at).total_seconds() if at else 0.0 for name, at in since.items()}
    waiting = job.state == "submitted" and status in (ProviderStatus.QUEUED, ProviderStatus.UNKNOWN)
    if waiting and out["queue"] > budget.queue:
        return f"it waited in the queue of {job.backend} for {out['queue']:.0f} s, it may wait {budget.queue:g} s"
    if job.state == "running" and out["execution"] > budget.execution:
        return f"it ran on {job.backend} for {out['execution']:.0f} s, it may run {budget.execution:g} s"
    if out["total"] > budget.total:
        return f"it is out for {out['total']:.0f} s, all in all it may take {budget.total:g} s"
    return None


def _stop(plane: ControlPlane, job: Job, envelope: JobEnvelope, handle: JobHandle, why: str) -> Job:
    """Cancel a job that is overdue; only when it has stopped, or has been told so in vain often enough, is the next
    backend asked."""
    if not (job.error or "").startswith((STOPPING, WITHDRAWN)):
        # from now on the looks count the cancels
        job = plane.ledger.touch(job.job_id, read=job, looks=0, error=f"{STOPPING}{why}")
    status = None
    with suppress(Exception):
        backend = plane.backend(job.backend)
        backend.cancel(handle)
        status = backend.status(handle)
    if status is ProviderStatus.SUCCEEDED:
        return _fetch(plane, job, envelope, handle)
    if status in (ProviderStatus.CANCELLED, ProviderStatus.FAILED):
        return _stopped(plane, job, envelope, TimedOut(why))
    if job.looks >= UNCONFIRMED:
        silent = f"{why}; {job.backend} does not confirm that it has stopped"
        return _stopped(plane, job, envelope, TimedOut(silent, FailureClass.BACKEND), ran=True)
    return later(plane, job, SOONEST * 4)


def _stopped(plane: ControlPlane, job: Job, envelope: JobEnvelope, error: BackendError, *, ran: bool = False) -> Job:
    """A job has left its provider: on to the next backend, unless a person has withdrawn it."""
    if not (job.error or "").startswith(WITHDRAWN):
        return hop(plane, job, envelope, error, ran=ran)
    return plane.ledger.move(
        job.job_id,
        "cancelled",
        (job.error or "").partition(": ")[2],
        expect=job.state,
        version=job.version,
        also=lambda tx: plane.spending.settle(tx, job, math.nan) if ran else plane.spending.release(tx, job),
    )


def _fetch(plane: ControlPlane, job: Job, envelope: JobEnvelope, handle: JobHandle) -> Job:
    """Collect a result; what cannot be read is asked for again, then given up."""
    try:
        return collect(plane, job, envelope, handle)
    except BackendError as error:
        passing = error.failure_class in (FailureClass.TRANSIENT, FailureClass.SATURATION, FailureClass.CAPABILITY)
        if passing and not (job.looks >= UNCONFIRMED and total_is_spent(job, envelope)):
            # the job is where it was, also while it cannot be asked from here
            pause = UNREACHABLE if error.failure_class is FailureClass.CAPABILITY else error.retry_after
            return later(plane, job, pause if pause is None else min(pause, LATEST))
        if not passing and job.unreadable + 1 < UNREADABLE:
            return later(plane, job, SOONEST, unreadable=job.unreadable + 1)
        lost = BackendError(f"it ran on {job.backend}, its result cannot be had: {error}")
        return _stopped(plane, job, envelope, lost, ran=True)
