"""Jobs that are held back: when they are looked at again, and which of their time counts.

Here: the wait itself. A pause is a person's, so it counts neither as queueing nor against the total budget. Not here:
why a job waits (``gates``), or sending it (``sending``).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from resources.control_plane import ControlPlane
from resources.envelope import JobEnvelope
from resources.failures import BackendError, FailureClass
from resources.fallback import hop
from resources.gates import Wait
from resources.ledger_tables import Job

#: Seconds between looks at a job that a pause or a full backend holds back: at first, and in the end.
HOLD_SECONDS, LONGEST_HOLD = 2.0, 30.0


def keep_back(plane: ControlPlane, job: Job, envelope: JobEnvelope, wait: Wait) -> Job:
    """Keep a job back, for as long as it may wait; the reason is recorded once."""
    now = datetime.now(UTC)
    waited = (now - job.updated_at).total_seconds()
    if waited > envelope.timeout.queue and job.looks and not wait.forever:
        queued = waited - plane.controls.paused(job.backend, job.updated_at)
        if queued > envelope.timeout.queue:
            error = BackendError(f"{wait.why}, for {queued:.0f} s by now", FailureClass.SATURATION, not_sent=True)
            return hop(plane, job, envelope, error)
    # the longer it waits the seldomer, so that many held jobs leave room for the others
    pause = min(max(HOLD_SECONDS, waited / 5), LONGEST_HOLD) if job.looks else HOLD_SECONDS
    columns: dict[str, Any] = {"look_at": now + timedelta(seconds=pause), "looks": job.looks + 1}
    if job.looks:
        return plane.ledger.touch(job.job_id, read=job, claimed_until=None, **columns)
    return plane.ledger.move(
        job.job_id, "intended", f"held back: {wait.why}", expect="intended", claimed_until=None, **columns
    )


def unpaused(plane: ControlPlane, job: Job) -> Job:
    """An intended job as if its total budget had begun later by as long as its backend has been paused meanwhile."""
    if job.began_at is None:
        return job
    paused = timedelta(seconds=plane.controls.paused(job.backend, job.updated_at))
    return replace(job, began_at=job.began_at + paused)
