"""The ledger: durable, transactional state of jobs, and the catalogue of landed files.

Here: tables, legal state changes, claims by processes. Not here: calls to providers (``dispatcher``). SQLite in WAL
mode by default; any SQLAlchemy URL works. Transactions are short; a busy database is retried with jitter.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random_exponential

from resources.envelope import JobEnvelope, JobResult
from resources.failures import HybridError, InvariantError

METADATA = sa.MetaData()

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
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
)

EVENTS = sa.Table(
    "job_events",
    METADATA,
    sa.Column("job_id", sa.ForeignKey("jobs.job_id"), primary_key=True),
    sa.Column("sequence", sa.Integer, primary_key=True),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("detail", sa.String, nullable=False, default=""),
)

ENVELOPES = sa.Table(
    "envelopes",
    METADATA,
    sa.Column("digest", sa.String, primary_key=True),
    sa.Column("document", sa.String, nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
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
    sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
)

#: Legal state changes of a job (design §4).
TRANSITIONS: dict[str, frozenset[str]] = {
    "intended": frozenset({"submitting", "awaiting_approval", "cancelled", "failed"}),
    "awaiting_approval": frozenset({"submitting", "rejected", "cancelled"}),
    "submitting": frozenset({"submitted", "ambiguous", "failed", "timed_out", "intended"}),
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
    created_at: datetime
    updated_at: datetime


def job_id_of(envelope: JobEnvelope) -> str:
    """The id of the one job with this idempotency key."""
    return f"job-{envelope.idempotency_key[:20]}"


def this_process() -> str:
    """Name of the claiming process: ``host:pid``."""
    return f"{socket.gethostname()}:{os.getpid()}"


def is_alive(claim: str | None) -> bool:
    """Whether the claiming process may still run; a claim of another host counts as alive."""
    if not claim:
        return False
    host, _, pid = claim.rpartition(":")
    if host != socket.gethostname():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


_patient = retry(
    retry=retry_if_exception_type(sa.exc.OperationalError),
    wait=wait_random_exponential(multiplier=0.01, max=0.5),
    stop=stop_after_delay(30),
    reraise=True,
)


class Ledger:
    """Durable job states behind a SQLAlchemy URL (``sqlite:///…`` or ``postgresql+psycopg2://…``)."""

    def __init__(self, url: str) -> None:
        self.engine = sa.create_engine(url)
        if self.engine.dialect.name == "sqlite":

            @sa.event.listens_for(self.engine, "connect")
            def _pragmas(connection: Any, _: Any) -> None:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=NORMAL")
                connection.execute("PRAGMA busy_timeout=2000")
                connection.execute("PRAGMA foreign_keys=ON")

        self._create()

    @classmethod
    def at(cls, path: Path) -> Ledger:
        """The SQLite ledger in this file."""
        return cls(f"sqlite:///{path}")

    @_patient
    def _create(self) -> None:
        METADATA.create_all(self.engine)

    @contextmanager
    def _begin(self) -> Iterator[sa.Connection]:
        with self.engine.connect() as connection:
            if self.engine.dialect.name == "sqlite":
                # take the write lock at once: a read that upgrades later fails under load
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.commit()
            except BaseException:
                connection.rollback()
                raise

    # --- jobs -------------------------------------------------------------------------------------------------------

    @_patient
    def intend(self, envelope: JobEnvelope) -> Job:
        """Write the intent before anything is sent; the same idempotency key gives the same job."""
        now = datetime.now(UTC)
        job_id = job_id_of(envelope)
        with self._begin() as tx:
            if tx.execute(sa.select(ENVELOPES.c.digest).filter_by(digest=envelope.digest)).first() is None:
                tx.execute(ENVELOPES.insert().values(digest=envelope.digest, document=envelope.model_dump_json(),
                                                     created_at=now))
            found = tx.execute(sa.select(JOBS).filter_by(idempotency_key=envelope.idempotency_key)).first()
            if found is None:
                tx.execute(JOBS.insert().values(
                    job_id=job_id, idempotency_key=envelope.idempotency_key, envelope_digest=envelope.digest,
                    instance=envelope.instance, family=envelope.problem_type, correlation_id=envelope.correlation_id,
                    backend=envelope.backend, state="intended", attempts=0, created_at=now, updated_at=now,
                ))
                self._event(tx, job_id, "intended", f"envelope {envelope.digest}", now)
            return self._get(tx, job_id)

    @_patient
    def move(self, job_id: str, state: str, detail: str = "", *, expect: str | None = None, **columns: Any) -> Job:
        """Change a job's state in one transaction.

        Args:
            expect: refuse unless the job is in this state now (optimistic claim).
            columns: further columns of ``jobs`` to set.

        Raises:
            InvariantError: the change is not legal.
            Conflict: ``expect`` does not hold any more.
        """
        now = datetime.now(UTC)
        with self._begin() as tx:
            job = self._get(tx, job_id)
            if expect is not None and job.state != expect:
                raise Conflict(f"{job_id} is {job.state}, not {expect}")
            if state not in TRANSITIONS[job.state]:
                raise InvariantError(f"job {job_id} cannot go from {job.state} to {state}")
            tx.execute(JOBS.update().where(JOBS.c.job_id == job_id).values(state=state, updated_at=now, **columns))
            self._event(tx, job_id, state, detail, now)
            return self._get(tx, job_id)

    @staticmethod
    def _event(tx: sa.Connection, job_id: str, state: str, detail: str, at: datetime) -> None:
        last = tx.execute(sa.select(sa.func.max(EVENTS.c.sequence)).filter_by(job_id=job_id)).scalar()
        tx.execute(EVENTS.insert().values(job_id=job_id, sequence=(last or 0) + 1, state=state, at=at, detail=detail))

    @staticmethod
    def _get(tx: sa.Connection, job_id: str) -> Job:
        row = tx.execute(sa.select(JOBS).filter_by(job_id=job_id)).first()
        if row is None:
            raise InvariantError(f"the ledger has no job {job_id}")
        return Job(**row._mapping)

    @_patient
    def job(self, job_id: str) -> Job:
        """The job of this id.

        Raises:
            InvariantError: there is none.
        """
        with self.engine.connect() as tx:
            return self._get(tx, job_id)

    @_patient
    def jobs(self, *, state: str | None = None, instance: str | None = None) -> list[Job]:
        """Jobs, oldest first."""
        query = sa.select(JOBS).order_by(JOBS.c.created_at, JOBS.c.job_id)
        if state:
            query = query.filter_by(state=state)
        if instance:
            query = query.filter_by(instance=instance)
        with self.engine.connect() as tx:
            return [Job(**r._mapping) for r in tx.execute(query)]

    @_patient
    def snapshot(self) -> tuple[list[Job], list[dict[str, Any]]]:
        """All jobs and all events, read in one transaction."""
        with self.engine.connect() as tx, tx.begin():
            jobs = [Job(**r._mapping) for r in tx.execute(sa.select(JOBS).order_by(JOBS.c.created_at))]
            events = [dict(r._mapping) for r in
                      tx.execute(sa.select(EVENTS).order_by(EVENTS.c.job_id, EVENTS.c.sequence))]
        return jobs, events

    @_patient
    def envelope(self, digest: str) -> JobEnvelope:
        """The stored envelope, verified against its digest.

        Raises:
            InvariantError: missing or altered.
        """
        with self.engine.connect() as tx:
            document = tx.execute(sa.select(ENVELOPES.c.document).filter_by(digest=digest)).scalar()
        if document is None:
            raise InvariantError(f"the ledger has no envelope {digest}")
        envelope = JobEnvelope.model_validate_json(document)
        if envelope.digest != digest:
            raise InvariantError(f"envelope {digest} was altered: it now digests to {envelope.digest}")
        return envelope

    # --- landed files -----------------------------------------------------------------------------------------------

    @_patient
    def land(self, landing: Landing) -> None:
        """Record a landed file (insert or replace by instance key)."""
        values = {**landing.__dict__, "options": json.dumps(landing.options, sort_keys=True),
                  "updated_at": datetime.now(UTC)}
        with self._begin() as tx:
            changed = tx.execute(LANDINGS.update().where(LANDINGS.c.instance == landing.instance).values(**values))
            if changed.rowcount == 0:
                tx.execute(LANDINGS.insert().values(**values))

    @_patient
    def landing(self, instance: str) -> Landing | None:
        """The landed file behind an instance key."""
        with self.engine.connect() as tx:
            row = tx.execute(sa.select(LANDINGS).filter_by(instance=instance)).first()
        return _landing(row) if row else None

    @_patient
    def landings(self) -> list[Landing]:
        """All landed files, by key."""
        with self.engine.connect() as tx:
            return [_landing(r) for r in tx.execute(sa.select(LANDINGS).order_by(LANDINGS.c.instance))]

    @_patient
    def mark_landing(self, instance: str, state: str) -> None:
        """Set a landing's state (``present``, ``deleted``, ``retired``)."""
        with self._begin() as tx:
            tx.execute(LANDINGS.update().where(LANDINGS.c.instance == instance).values(
                state=state, updated_at=datetime.now(UTC)))


class Conflict(HybridError):
    """Another process changed the job first."""


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


def _landing(row: Any) -> Landing:
    values = dict(row._mapping)
    values.pop("updated_at")
    values["options"] = json.loads(values["options"])
    return Landing(**values)


def result_of(job: Job, document: bytes) -> JobResult:
    """Parse a stored result and refuse one that belongs to another job.

    Raises:
        InvariantError: the result names another envelope.
    """
    result = JobResult.model_validate_json(document)
    if result.envelope_digest != job.envelope_digest:
        raise InvariantError(f"the result stored for {job.job_id} answers envelope {result.envelope_digest}")
    return result
