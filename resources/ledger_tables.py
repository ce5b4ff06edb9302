"""The ledger's tables, their rows, and which state may follow which.

Here: what is stored and what is legal. Not here: transactions (``ledger``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

METADATA = sa.MetaData()


class Moment(sa.types.TypeDecorator[datetime]):
    """A time with its zone; SQLite forgets that it was stored as UTC."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """The zone, where the database dropped it."""
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


JOBS = sa.Table(
    "jobs",
    METADATA,
    sa.Column("job_id", sa.String, primary_key=True),
    sa.Column("idempotency_key", sa.String, nullable=False, unique=True),
    sa.Column("envelope_digest", sa.String, nullable=False, index=True),
    sa.Column("instance", sa.String, nullable=False, index=True),
    sa.Column("family", sa.String, nullable=False),
    sa.Column("correlation_id", sa.String, nullable=False),
    sa.Column("backend", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False, index=True),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("claimed_by", sa.String),
    sa.Column("provider_id", sa.String),
    sa.Column("result_ref", sa.String),
    sa.Column("error", sa.String),
    sa.Column("fallback_path", sa.String, nullable=False, default="[]"),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("updated_at", Moment, nullable=False),
)

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

#: Legal state changes of a job (design §4).
TRANSITIONS: dict[str, frozenset[str]] = {
    "intended": frozenset({"submitting", "awaiting_approval", "cancelled", "failed"}),
    "awaiting_approval": frozenset({"submitting", "rejected", "cancelled"}),
    # to itself: sent on to the next backend of the fallback policy
    "submitting": frozenset({"submitting", "submitted", "ambiguous", "failed", "timed_out"}),
    "ambiguous": frozenset({"submitted", "intended", "failed", "cancelled"}),
    "submitted": frozenset({"running", "succeeded", "failed", "cancelled", "timed_out"}),
    "running": frozenset({"succeeded", "failed", "cancelled", "timed_out"}),
    # a failed or timed-out job may be asked for again by a person or a new run: recorded as a new attempt
    "failed": frozenset({"intended"}),
    "timed_out": frozenset({"intended"}),
    "succeeded": frozenset(),
    "cancelled": frozenset(),
    "rejected": frozenset(),
}
TERMINAL = frozenset({"succeeded", "failed", "cancelled", "timed_out", "rejected"})


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
