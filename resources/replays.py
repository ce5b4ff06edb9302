"""Replays: a job once more from its envelope, as a job of its own that names the first.

Here: the envelope of a replay, and how many there may be. Not here: sending it (``dispatcher``).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from resources import audit
from resources.control_plane import ControlPlane
from resources.database import patient
from resources.delivery import as_sent
from resources.envelope import JobEnvelope
from resources.failures import InputError
from resources.ledger import job_id_of
from resources.ledger_tables import AUDIT, JOBS, Job
from resources.locks import hold

#: The repetition of the first replay of a job; each further one counts up.
FIRST_REPLAY = 1_000_000


@patient
def intend(plane: ControlPlane, original: Job, *, by: str, reason: str, backend: str | None) -> JobEnvelope:
    """Write the intent of a replay: the limit, the next free repetition, the intent and the audit row are one
    transaction, and replays take turns.

    Raises:
        InputError: too many replays in this hour.
    """
    envelope, limit = plane.envelope(original), plane.policy.replay.per_hour
    if backend is not None:
        # another kind of machine answers with its own algorithm
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
            detail={"backend": again.backend},
        )
    return again
