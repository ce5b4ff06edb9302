"""The ledger's tables, their rows, and which state may follow which.

Here: what is stored and what is legal. Not here: transactions (``ledger``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

METADATA = sa.MetaData()


class Moment(sa.types.TypeDecorator[datetime]):
    """A time with its zone; SQLite forgets that it was stored as UTC."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """UTC, since SQLite keeps the digits alone."""
        return value.astimezone(UTC) if value is not None else value

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """The zone, where the database dropped it."""
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


JOBS = sa.Table(
    "jobs",
    METADATA,
    sa.Column("job_id", sa.String, primary_key=True),
    sa.Column("idempotency_key", sa.String, nullable=False, unique=True),
    sa.Column("envelope_digest", sa.String, nullable=False),
    sa.Column("instance", sa.String, nullable=False),
    sa.Column("family", sa.String, nullable=False),
    sa.Column("correlation_id", sa.String, nullable=False),
    sa.Column("backend", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("claimed_by", sa.String),
    sa.Column("provider_id", sa.String),
    sa.Column("result_ref", sa.String),
    sa.Column("error", sa.String),
    sa.Column("fallback_path", sa.String, nullable=False, default="[]"),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("updated_at", Moment, nullable=False),
    # --- the control plane ---
    # number of the newest event: how often the state was changed
    sa.Column("version", sa.Integer, nullable=False, default=1),
    sa.Column("owner", sa.String, nullable=False, default=""),
    sa.Column("priority", sa.Integer, nullable=False, default=0),
    # position in (backend, *fallback); `backend` above is always the one at this position
    sa.Column("hop", sa.Integer, nullable=False, default=0),
    # what the provider gets as its key; changes only after a submission has definitely ended
    sa.Column("provider_key", sa.String, nullable=False, default=""),
    # submissions of the same key after a definite "not there"; at most one
    sa.Column("resubmissions", sa.Integer, nullable=False, default=0),
    # results of this submission that could not be read or were another job's
    sa.Column("unreadable", sa.Integer, nullable=False, default=0),
    # who works on the job now, and until when nobody else may
    sa.Column("claimed_until", Moment),
    # when it is to be looked at next; null once it has ended or while it waits for a person
    sa.Column("look_at", Moment),
    sa.Column("looks", sa.Integer, nullable=False, default=0),
    # first submission of this attempt: the total budget runs from here
    sa.Column("began_at", Moment),
    # of the current submission
    sa.Column("sent_at", Moment),
    sa.Column("started_at", Moment),
    sa.Column("ended_at", Moment),
    sa.Column("evidence_class", sa.String),
    sa.Column("cached", sa.Boolean, nullable=False, default=False),
    sa.Column("estimated_cost", sa.Float, nullable=False, default=0.0),
    sa.Column("actual_cost", sa.Float, nullable=False, default=0.0),
    sa.Column("policy_version", sa.String, nullable=False, default=""),
    sa.Column("replay_of", sa.String),
)

#: A job that has not ended; those are few, and moves before the end change no column of an index.
UNENDED = JOBS.c.ended_at.is_(None)
sa.Index("jobs_open", JOBS.c.backend, sqlite_where=UNENDED, postgresql_where=UNENDED)

EVENTS = sa.Table(
    "job_events",
    METADATA,
    sa.Column("job_id", sa.ForeignKey("jobs.job_id"), primary_key=True),
    sa.Column("sequence", sa.Integer, primary_key=True),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("detail", sa.String, nullable=False, default=""),
)

ENVELOPES = sa.Table(
    "envelopes",
    METADATA,
    sa.Column("digest", sa.String, primary_key=True),
    sa.Column("document", sa.String, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    # of the document: several envelopes may ask for one job, each for its own instance
    sa.Column("idempotency_key", sa.String, nullable=False, default="", index=True),
    sa.Column("instance", sa.String, nullable=False, default="", index=True),
)

LANDINGS = sa.Table(
    "landings",
    METADATA,
    sa.Column("instance", sa.String, primary_key=True),
    sa.Column("family", sa.String, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("path", sa.String, nullable=False),
    sa.Column("member", sa.Integer, nullable=False, default=0),
    sa.Column("source_digest", sa.String, nullable=False),
    sa.Column("content_ref", sa.String, nullable=False),
    sa.Column("options", sa.String, nullable=False, default="{}"),
    sa.Column("state", sa.String, nullable=False, default="present"),
    sa.Column("updated_at", Moment, nullable=False),
)

#: One row per decision of the control plane; each row's digest covers the row before (``audit``).
AUDIT = sa.Table(
    "audit_log",
    METADATA,
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
    # ISO 8601 text: what was hashed is what is stored
    sa.Column("at", sa.String, nullable=False),
    sa.Column("actor", sa.String, nullable=False),
    sa.Column("action", sa.String, nullable=False),
    sa.Column("job_id", sa.String),
    sa.Column("subject", sa.String, nullable=False, default=""),
    sa.Column("reason", sa.String, nullable=False, default=""),
    sa.Column("policy_version", sa.String, nullable=False, default=""),
    sa.Column("detail", sa.String, nullable=False, default="{}"),
    sa.Column("previous", sa.String, nullable=False),
    sa.Column("digest", sa.String, nullable=False),
)

#: One row: how long the chain is and how it ends, so that a cut tail is seen.
AUDIT_HEAD = sa.Table(
    "audit_head",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("digest", sa.String, nullable=False),
)

BREAKERS = sa.Table(
    "breakers",
    METADATA,
    sa.Column("backend", sa.String, primary_key=True),
    sa.Column("state", sa.String, nullable=False, default="closed"),
    sa.Column("failures", sa.Integer, nullable=False, default=0),
    # times in a row that it opened: the pause grows with them
    sa.Column("opened", sa.Integer, nullable=False, default=0),
    sa.Column("open_until", Moment),
    sa.Column("probe_by", sa.String),
    sa.Column("probe_until", Moment),
    sa.Column("reason", sa.String, nullable=False, default=""),
    sa.Column("updated_at", Moment, nullable=False),
)

#: What people have set for a backend: ``open`` (no row), ``paused``, ``drained`` or ``killed``.
CONTROLS = sa.Table(
    "controls",
    METADATA,
    sa.Column("backend", sa.String, primary_key=True),
    sa.Column("mode", sa.String, nullable=False),
    sa.Column("set_by", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("updated_at", Moment, nullable=False),
)

#: Money and jobs of an owner and month: reserved before the submit, settled after it.
SPENDING = sa.Table(
    "spending",
    METADATA,
    sa.Column("job_id", sa.ForeignKey("jobs.job_id"), primary_key=True),
    sa.Column("provider_key", sa.String, primary_key=True),
    sa.Column("owner", sa.String, nullable=False),
    # YYYY-MM, UTC
    sa.Column("month", sa.String, nullable=False),
    sa.Column("backend", sa.String, nullable=False),
    sa.Column("reserved", sa.Float, nullable=False),
    sa.Column("actual", sa.Float),
    # reserved, settled or released
    sa.Column("state", sa.String, nullable=False),
    sa.Column("updated_at", Moment, nullable=False),
    sa.Index("spending_of_owner", "owner", "month"),
)

APPROVALS = sa.Table(
    "approvals",
    METADATA,
    sa.Column("job_id", sa.ForeignKey("jobs.job_id"), primary_key=True),
    sa.Column("sequence", sa.Integer, primary_key=True),
    sa.Column("why", sa.String, nullable=False),
    sa.Column("requested_at", Moment, nullable=False),
    # null, approved or rejected
    sa.Column("decision", sa.String),
    sa.Column("decided_by", sa.String),
    sa.Column("reason", sa.String),
    sa.Column("decided_at", Moment),
)

#: Results that may answer again; ``problem`` finds them without regard to backend and calibration.
CACHE = sa.Table(
    "result_cache",
    METADATA,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("problem", sa.String, nullable=False, index=True),
    sa.Column("backend", sa.String, nullable=False),
    sa.Column("algorithm", sa.String, nullable=False),
    sa.Column("calibration_window", sa.String, nullable=False),
    sa.Column("job_id", sa.String, nullable=False),
    sa.Column("result_ref", sa.String, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("invalidated_at", Moment),
    sa.Column("reason", sa.String),
)

#: Legal state changes of a job (design §4).
TRANSITIONS: dict[str, frozenset[str]] = {
    # to itself: sent on to the next backend of the fallback policy, or held back with a reason
    "intended": frozenset(
        {"intended", "submitting", "awaiting_approval", "cancelled", "failed", "rejected", "timed_out", "succeeded"}
    ),
    "awaiting_approval": frozenset({"intended", "rejected", "cancelled"}),
    # back to intended: refused without doubt, the next backend is asked
    "submitting": frozenset({"submitted", "intended", "ambiguous", "awaiting_approval", "failed", "timed_out"}),
    # to itself: looked for and not found yet, or nobody answers
    "ambiguous": frozenset(
        {"ambiguous", "submitted", "intended", "awaiting_approval", "failed", "cancelled", "timed_out"}
    ),
    # back to intended: it ended without a usable result, the next backend is asked
    "submitted": frozenset(
        {"running", "succeeded", "intended", "awaiting_approval", "failed", "cancelled", "timed_out"}
    ),
    "running": frozenset({"succeeded", "intended", "awaiting_approval", "failed", "cancelled", "timed_out"}),
    # a failed or timed-out job may be asked for again by a person or a new run: recorded as a new attempt.
    # ambiguous: its provider may still have it, which is asked before anything is sent again
    "failed": frozenset({"intended", "ambiguous"}),
    "timed_out": frozenset({"intended", "ambiguous"}),
    "succeeded": frozenset(),
    "cancelled": frozenset(),
    "rejected": frozenset(),
}
TERMINAL = frozenset({"succeeded", "failed", "cancelled", "timed_out", "rejected"})
#: A backend has the job, or may have it.
SENT = frozenset({"submitting", "ambiguous", "submitted", "running"})
#: Somebody has to look at the job sooner or later (``look_at``).
OPEN = SENT | {"intended"}


@dataclass(frozen=True)
class Job:
    """A job's row."""

    job_id: str
    idempotency_key: str
    envelope_digest: str
    instance: str
    family: str
    correlation_id: str
    backend: str
    state: str
    attempts: int
    claimed_by: str | None
    provider_id: str | None
    result_ref: str | None
    error: str | None
    fallback_path: str
    created_at: datetime
    updated_at: datetime
    version: int
    owner: str
    priority: int
    hop: int
    provider_key: str
    resubmissions: int
    unreadable: int
    claimed_until: datetime | None
    look_at: datetime | None
    looks: int
    began_at: datetime | None
    sent_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    evidence_class: str | None
    cached: bool
    estimated_cost: float
    actual_cost: float
    policy_version: str
    replay_of: str | None


@dataclass(frozen=True)
class Move:
    """A change of a job's state.

    Attributes:
        job_id, state, detail: which job, to which state, and what the event says about it.
        expect: refuse unless the job is in this state (one of these states) now: an optimistic claim.
        version: refuse unless nothing has moved the job since it was read: a process that was given up for dead and
            comes back cannot overwrite what its successor did.
        through: a state passed on the way, recorded in the same transaction.
        also: called with the connection after the change, in the same transaction.
        columns: further columns of ``jobs`` to set.
    """

    job_id: str
    state: str
    detail: str = ""
    expect: str | tuple[str, ...] | None = None
    version: int | None = None
    through: str | None = None
    also: Callable[[sa.Connection], None] | None = None
    columns: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Landing:
    """A landed file: where it came from, what was in it, what was asked.

    Attributes:
        instance: partition key ``<family>.<slug>``.
        name: file name for messages and people.
        path: where it was found.
        member: 0 for the only instance of a file, else 1-based.
        source_digest: SHA-256 of the file as it lay on disk.
        content_ref: artifact that holds the file's bytes.
        options: the request: keys of the YAML beside the file or of the command line.
        state: ``present``, ``deleted`` (file gone) or ``retired``.
    """

    instance: str
    family: str
    name: str
    path: str
    member: int
    source_digest: str
    content_ref: str
    options: dict[str, Any]
    state: str = "present"
