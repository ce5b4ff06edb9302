"""Reconciliation: what has become of the jobs that are out, and of those whose sender died.

Here: polling in batches, timeouts, results. Not here: jobs whose fate is unknown (``doubts``), sending (``sending``) or
who calls this and when (a sensor, a waiting command).
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
from resources.doubts import ENDED, LATEST, SOONEST, UNCONFIRMED, later, look_for, take_over
from resources.envelope import JobEnvelope
from resources.failures import BackendError, FailureClass, HybridError, TimedOut, presentable, redacted
from resources.fallback import fail, hop
from resources.gates import total_is_spent
from resources.ledger import Conflict
from resources.ledger_tables import ENVELOPES, JOBS, SENT, TERMINAL, Job
from resources.sending import Sent, collect, send

#: Seconds until a backend that cannot be asked from here (no credentials, say) is tried again.
UNREACHABLE = 5.0
#: Looks at a result that cannot be read before the next backend is asked.
UNREADABLE = 3
#: How the error of a job begins that is out and told to stop, by a timeout or by a person.
STOPPING, WITHDRAWN = "transient: it is being stopped: ", "input: cancelled by "
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
            _guard(plane, round_, job, partial(fail, plane, job, error, ran=job.state in SENT))
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
    if status in ENDED:
        if (wish := _wish(plane, job)).startswith((STOPPING, WITHDRAWN)):
            return _stopped(plane, job, envelope, TimedOut(wish.removeprefix(STOPPING)))
        said = "the job failed" if status is ProviderStatus.FAILED else "it was cancelled, which nobody here asked for"
        return hop(plane, job, envelope, BackendError(f"{job.backend} says that {said}"))
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
        try:
            # from now on the looks count the cancels
            job = plane.ledger.touch(job.job_id, read=job, same=("error",), looks=0, error=f"{STOPPING}{why}")
        except Conflict:
            # unless a person was faster, whose wish stays
            if not _wish(plane, job).startswith(WITHDRAWN):
                raise
    status = None
    with suppress(Exception):
        backend = plane.backend(job.backend)
        backend.cancel(handle)
        status = backend.status(handle)
    if status is ProviderStatus.SUCCEEDED:
        return _fetch(plane, job, envelope, handle)
    if status in ENDED:
        return _stopped(plane, job, envelope, TimedOut(why))
    if job.looks >= UNCONFIRMED:
        silent = f"{why}; {job.backend} does not confirm that it has stopped"
        return _stopped(plane, job, envelope, TimedOut(silent, FailureClass.BACKEND), ran=True)
    return later(plane, job, SOONEST * 4)


def _wish(plane: ControlPlane, job: Job) -> str:
    """The ``error`` of a job as it is now: who stops a job writes that down before its provider hears of it, perhaps
    after this row was read."""
    return plane.ledger.job(job.job_id).error or ""


def _stopped(plane: ControlPlane, job: Job, envelope: JobEnvelope, error: BackendError, *, ran: bool = False) -> Job:
    """A job has left its provider: on to the next backend, unless a person has withdrawn it."""
    if not (wish := _wish(plane, job)).startswith(WITHDRAWN):
        return hop(plane, job, envelope, error, ran=ran)
    return plane.ledger.move(
        job.job_id,
        "cancelled",
        wish.partition(": ")[2],
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
