"""A job once more: asked for again after it ended without a result, or replayed as a job of its own that names it.

Here: where a new attempt begins, the envelope of a replay, and how many replays there may be. Not here: sending
(``dispatcher``).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from resources import audit
from resources.control_plane import ControlPlane, as_json, hops_of
from resources.database import patient
from resources.delivery import as_sent, left_out
from resources.envelope import LEFT_OUT, JobEnvelope
from resources.failures import FailureClass, InputError
from resources.fallback import fresh_submission
from resources.ledger import job_id_of
from resources.ledger_tables import AUDIT, JOBS, Job
from resources.locks import hold

#: The repetition of the first replay of a job; each further one counts up.
FIRST_REPLAY = 1_000_000


def once_more(plane: ControlPlane, job: Job, envelope: JobEnvelope) -> Job:
    """A new attempt at a job that ended without a result, from the first position of its way; one that may still be at
    its provider is looked for first (``doubts.look_for``).

    Raises:
        Conflict: somebody else has asked for it again.
    """
    if not may_be_out(job):
        return plane.ledger.move(
            job.job_id, "intended", "asked for again", expect=job.state, version=job.version, **afresh(job, envelope)
        )
    return plane.ledger.move(
        job.job_id,
        "ambiguous",
        "asked for again",
        expect=job.state,
        version=job.version,
        look_at=datetime.now(UTC),
        looks=0,
        began_at=datetime.now(UTC),
        error=None,
        fallback_path=as_json(hops_of(job)[:-1]),
    )


def may_be_out(job: Job) -> bool:
    """Whether the provider of a job that has ended may have it and still run it: it never said whether it has it or
    that it has stopped, or a defect of ours ended the job while it was out."""
    kind = (job.error or "").partition(":")[0]
    unheard = job.state == "timed_out" and kind == FailureClass.BACKEND and job.sent_at is not None
    return unheard or (job.state == "failed" and kind == FailureClass.INTERNAL and job.provider_id is not None)


def afresh(job: Job, envelope: JobEnvelope) -> dict[str, Any]:
    """Columns of a job that begins its way anew."""
    return {
        **fresh_submission(job),
        "backend": envelope.backend,
        "hop": 0,
        "fallback_path": "[]",
        "began_at": None,
        "ended_at": None,
    }


@patient
def intend(plane: ControlPlane, original: Job, *, by: str, reason: str, backend: str | None) -> JobEnvelope:
    """Write the intent of a replay: the limit, the next free repetition, the intent and the audit row are one
    transaction, and replays take turns.

    Raises:
        InputError: too many replays in this hour.
    """
    envelope, limit = plane.envelope(original), plane.policy.replay.per_hour
    without: tuple[str, ...] = ()
    if backend is not None:
        # another kind of machine answers with its own algorithm
        without = left_out(plane.backend(backend), envelope)
        envelope = as_sent(plane.backend(backend), envelope)
    with plane.ledger.transaction() as tx:
        hold(tx, "replay")
        hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        lately = sa.select(sa.func.count()).where(AUDIT.c.action == "replay", AUDIT.c.at >= hour_ago)
        recent = tx.execute(lately).scalar_one()
        if recent >= limit:
            raise InputError(
                original.job_id,
                "replay",
                f"{recent} jobs were replayed in the last hour, the policy allows {limit}",
                "wait, or raise replay.per_hour in the policy",
            )
        repetition = FIRST_REPLAY
        while True:
            changes = {
                "replay_of": original.envelope_digest,
                "backend": backend or envelope.backend,
                "device": plane.backend(backend).capabilities().device if backend else envelope.device,
                "fallback": (),
                "correlation_id": original.correlation_id,
                "repetition": repetition,
            }
            again = JobEnvelope.model_validate(envelope.model_dump() | changes)
            if tx.execute(sa.select(JOBS.c.job_id).filter_by(job_id=job_id_of(again))).first() is None:
                break
            repetition += 1
        plane.ledger.intend(again, tx=tx)
        audit.append(
            tx,
            actor=by,
            action="replay",
            job_id=job_id_of(again),
            subject=original.job_id,
            reason=reason,
            policy_version=plane.policy.version,
            detail={"backend": again.backend, LEFT_OUT: list(without)} if without else {"backend": again.backend},
        )
    return again
