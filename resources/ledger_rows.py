"""The rows that intents and moves write, and whether a move fits its job.

Here: pure functions of an envelope, a move and a job. Not here: the statements that write the rows
(``ledger_statements``), transactions (``ledger``).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from resources.claims import this_process
from resources.envelope import JobEnvelope
from resources.failures import InvariantError
from resources.ledger_statements import UNSAID
from resources.ledger_tables import OPEN, TERMINAL, TRANSITIONS, Job, Move


def paper(envelope: JobEnvelope, key: str, digest: str, now: datetime) -> dict[str, Any]:
    """The row of an envelope."""
    return {
        "digest": digest,
        "document": envelope.model_dump_json(),
        "created_at": now,
        "idempotency_key": key,
        "instance": envelope.instance,
    }


def intent(envelope: JobEnvelope, key: str, digest: str, now: datetime, claim_seconds: float | None) -> dict[str, Any]:
    """The row of a new job."""
    job_id = f"job-{key[:20]}"
    claimed = claim_seconds is not None
    return UNSAID | {
        "job_id": job_id,
        "idempotency_key": key,
        "envelope_digest": digest,
        "instance": envelope.instance,
        "family": envelope.problem_type,
        "correlation_id": envelope.correlation_id,
        "backend": envelope.backend,
        "state": "intended",
        "created_at": now,
        "updated_at": now,
        "owner": envelope.owner,
        "priority": envelope.priority,
        "provider_key": f"{job_id}-1",
        "policy_version": envelope.policy_version,
        "replay_of": envelope.replay_of,
        "look_at": now,
        "claimed_by": this_process() if claimed else None,
        "claimed_until": now + timedelta(seconds=claim_seconds) if claim_seconds is not None else None,
    }


def intended(job_id: str, digest: str, now: datetime) -> dict[str, Any]:
    """The first event of a job."""
    return _event(job_id, 1, "intended", f"envelope {digest}", now)


def _event(job_id: str, sequence: int, state: str, detail: str, at: datetime) -> dict[str, Any]:
    return {"job_id": job_id, "sequence": sequence, "state": state, "at": at, "detail": detail}


def first_state(move: Move) -> str:
    """Where a move goes first."""
    return move.through or move.state


def check_steps(move: Move) -> None:
    """Refuse a move whose own steps do not follow each other.

    Raises:
        InvariantError: they do not.
    """
    for before, after in pairwise((move.through, move.state) if move.through else ()):
        if after not in TRANSITIONS[before]:
            raise InvariantError(f"job {move.job_id} cannot go from {before} to {after}")


def refusal(job: Job, move: Move) -> str | None:
    """Why a move comes too late for the job as it is; ``None``: it does not.

    Raises:
        InvariantError: it was never legal.
    """
    expected = (move.expect,) if isinstance(move.expect, str) else move.expect
    if expected is not None and job.state not in expected:
        return f"job {job.job_id} is {job.state}, not {' or '.join(expected)}"
    if first_state(move) not in TRANSITIONS[job.state]:
        raise InvariantError(f"job {job.job_id} cannot go from {job.state} to {first_state(move)}")
    if move.version is not None and job.version != move.version:
        return f"job {job.job_id} has moved on"
    return None


def values_of(move: Move, now: datetime) -> dict[str, Any]:
    """The columns that a move sets, version apart, and ``look_at`` only where it is known beforehand."""
    values: dict[str, Any] = {"updated_at": now, "ended_at": None} | move.columns | {"state": move.state}
    if move.state not in OPEN:
        values |= {"look_at": None, "claimed_until": None}
    if move.state in TERMINAL:
        values["ended_at"] = now
    return values


def as_paper(row: dict[str, Any]) -> dict[str, Any]:
    """The parameters of an insert of an envelope's row."""
    return {f"paper_{name}": value for name, value in row.items()}


def as_job(row: dict[str, Any]) -> dict[str, Any]:
    """The parameters of an insert of a job's row."""
    return {f"job_{name}": value for name, value in row.items()}


def as_new(values: dict[str, Any]) -> dict[str, Any]:
    """The parameters of an update that sets these columns."""
    return {f"new_{name}": value for name, value in values.items()}


def events_of(move: Move, job: Job, now: datetime) -> list[dict[str, Any]]:
    """What a move that has brought the job to its state is recorded as."""
    arrived = _event(job.job_id, job.version, job.state, move.detail, now)
    return [_event(job.job_id, job.version - 1, move.through, "", now), arrived] if move.through else [arrived]
