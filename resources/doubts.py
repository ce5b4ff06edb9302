"""Jobs of which nobody knows whether their provider has them, or still runs them: each is looked for before anything
is sent again.

Here: taking over from the dead, asking by key or by the provider's id, adopting, one more submission, giving up. Not
here: jobs that are known to be out (``reconciler``), sending (``sending``).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from resources.backends.base import JobHandle, ProviderStatus
from resources.control_plane import ControlPlane
from resources.envelope import JobEnvelope
from resources.failures import CONSEQUENCE, BackendError, FailureClass, HybridError, TimedOut, presentable
from resources.fallback import ask, fail, forgotten, hop
from resources.gates import total_is_spent
from resources.ledger import is_alive
from resources.ledger_tables import Job
from resources.replays import afresh
from resources.sending import lease_seconds

#: Seconds between looks at one job: a share of the time it is out, within bounds.
SOONEST, LATEST, SHARE = 0.25, 60.0, 0.2
#: Looks before a provider that does not answer, or does not confirm a cancel, is left.
UNCONFIRMED = 20
#: What a provider says of a job that has stopped without a result.
ENDED = (ProviderStatus.CANCELLED, ProviderStatus.FAILED)
#: Submissions of one key that may vanish without a trace before the next backend is asked; a local run cannot
#: have been paid for, so it may be repeated more often.
RESUBMISSIONS, LOCAL_RESUBMISSIONS = 1, 5


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
    if job.provider_id is not None:
        return _ask_after(plane, job, envelope, job.provider_id)
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
        return _adopt(plane, job, handle, "by its key")
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


def _ask_after(plane: ControlPlane, job: Job, envelope: JobEnvelope, provider_id: str) -> Job:
    """A job that its provider had when it was given up: taken up again unless it has stopped there, or is not there any
    more; only then a new attempt."""
    handle = JobHandle(job.backend, provider_id, job.provider_key)
    try:
        backend = plane.backend(job.backend)
        try:
            status = backend.status(handle)
        except BackendError:
            if not backend.capabilities().lookup or backend.find(job.provider_key) is not None:
                raise
            status = ProviderStatus.CANCELLED
        if status is ProviderStatus.UNKNOWN:
            raise BackendError(f"{job.backend} says nothing of {provider_id}", FailureClass.TRANSIENT)
    except Exception as error:
        return _unheard(plane, job, envelope, presentable(error))
    if status in ENDED:
        ended = f"{provider_id} has stopped at {job.backend}: once more from the beginning"
        after = plane.ledger.move(
            job.job_id, "intended", ended, expect="ambiguous", version=job.version, **afresh(job, envelope)
        )
        forgotten(plane, job)
        return after
    return _adopt(plane, job, handle, "by its provider's id", sent_at=datetime.now(UTC), started_at=None)


def _adopt(plane: ControlPlane, job: Job, handle: JobHandle, how: str, **columns: Any) -> Job:
    return plane.ledger.move(
        job.job_id,
        "submitted",
        f"found at {job.backend} {how}",
        expect="ambiguous",
        version=job.version,
        also=_record(plane, job, "adopt", f"found {how} as {handle.provider_id}"),
        provider_id=handle.provider_id,
        look_at=datetime.now(UTC),
        looks=0,
        error=None,
        claimed_until=None,
        **columns,
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
