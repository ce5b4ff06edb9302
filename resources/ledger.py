"""The ledger: durable, transactional state of jobs, and the catalogue of landed files.

Here: transactions, claims by processes. Not here: tables and legal state changes (``ledger_tables``), calls to
providers (``dispatcher``). SQLite in WAL mode by default; any SQLAlchemy URL works. Transactions are short; a busy
database is retried with jitter.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError
from tenacity import retry, retry_if_exception, stop_after_delay, wait_random_exponential

from resources.envelope import JobEnvelope, JobResult
from resources.failures import FailureClass, HybridError, InputError, InvariantError
from resources.ledger_tables import ENVELOPES, EVENTS, JOBS, LANDINGS, METADATA, TRANSITIONS, Job, Landing


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


def _is_contention(error: BaseException) -> bool:
    """Whether trying again can help: the database is busy, or (not SQLite) lost or raced."""
    if not isinstance(error, sa.exc.OperationalError | sa.exc.IntegrityError):
        return False
    if isinstance(error.orig, sqlite3.Error):
        # the low byte is the primary code; the rest tells variants of it apart
        return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return True


_patient = retry(
    retry=retry_if_exception(_is_contention),
    wait=wait_random_exponential(multiplier=0.01, max=0.5),
    stop=stop_after_delay(30),
    reraise=True,
)


class Ledger:
    """Durable job states behind a SQLAlchemy URL (``sqlite:///…`` or ``postgresql+psycopg2://…``).

    Raises:
        InputError: the database cannot be opened or written, or is none.
    """

    def __init__(self, url: str) -> None:
        self.engine = sa.create_engine(url)
        if self.engine.dialect.name == "sqlite":

            @sa.event.listens_for(self.engine, "connect")
            def _pragmas(connection: Any, _: Any) -> None:
                connection.execute("PRAGMA busy_timeout=2000")
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=NORMAL")
                connection.execute("PRAGMA foreign_keys=ON")

        try:
            self._create()
        except sa.exc.DBAPIError as error:
            # a URL prints without its password
            place = self.engine.url.database or str(self.engine.url)
            raise InputError(
                place,
                "ledger",
                f"it cannot be used ({error.orig})",
                "check that it is a ledger and can be written, or move it away",
            ) from None

    @classmethod
    def at(cls, path: Path) -> Ledger:
        """The SQLite ledger in this file."""
        return cls(f"sqlite:///{path}")

    @_patient
    def _create(self) -> None:
        # under the write lock, so that processes which start together do not create the same table twice
        with self._begin() as tx:
            METADATA.create_all(tx)

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

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        """One consistent view for several reads."""
        with self.engine.connect() as connection:
            if self.engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN")
            else:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    # --- jobs -------------------------------------------------------------------------------------------------------

    @_patient
    def intend(self, envelope: JobEnvelope) -> Job:
        """Write the intent before anything is sent; the same idempotency key gives the same job."""
        known = sa.select(JOBS).filter_by(idempotency_key=envelope.idempotency_key)
        stored = sa.select(ENVELOPES.c.digest).filter_by(digest=envelope.digest)
        with self._reading() as tx:
            row = tx.execute(known).first()
            if row is not None and tx.execute(stored).first() is not None:
                return Job(**row._mapping)
        now = datetime.now(UTC)
        job_id = job_id_of(envelope)
        with self._begin() as tx:
            if tx.execute(stored).first() is None:
                tx.execute(
                    ENVELOPES.insert().values(
                        digest=envelope.digest, document=envelope.model_dump_json(), created_at=now
                    )
                )
            if tx.execute(known).first() is None:
                tx.execute(
                    JOBS.insert().values(
                        job_id=job_id,
                        idempotency_key=envelope.idempotency_key,
                        envelope_digest=envelope.digest,
                        instance=envelope.instance,
                        family=envelope.problem_type,
                        correlation_id=envelope.correlation_id,
                        backend=envelope.backend,
                        state="intended",
                        attempts=0,
                        created_at=now,
                        updated_at=now,
                    )
                )
                self._event(tx, job_id, "intended", f"envelope {envelope.digest}", now)
            return self._get(tx, job_id)

    @_patient
    def move(
        self,
        job_id: str,
        state: str,
        detail: str = "",
        *,
        expect: str | None = None,
        attempt: int | None = None,
        through: str | None = None,
        **columns: Any,
    ) -> Job:
        """Change a job's state in one transaction.

        Args:
            expect: refuse unless the job is in this state now (optimistic claim).
            attempt: refuse unless this is still the current attempt: a process that was given up for dead and comes
                back cannot overwrite what its successor did.
            through: a state passed on the way, recorded in the same transaction.
            columns: further columns of ``jobs`` to set.

        Raises:
            InvariantError: the change is not legal.
            Conflict: ``expect`` or ``attempt`` does not hold any more.
        """
        now = datetime.now(UTC)
        with self._begin() as tx:
            job = self._get(tx, job_id, lock=True)
            if expect is not None and job.state != expect:
                raise Conflict(f"job {job_id} is {job.state}, not {expect}")
            if attempt is not None and job.attempts != attempt:
                raise Conflict(f"job {job_id} is in attempt {job.attempts}, not {attempt}")
            at = job.state
            for step in (through, state) if through else (state,):
                if step not in TRANSITIONS[at]:
                    raise InvariantError(f"job {job_id} cannot go from {at} to {step}")
                self._event(tx, job_id, step, detail if step == state else "", now)
                at = step
            tx.execute(JOBS.update().where(JOBS.c.job_id == job_id).values(state=state, updated_at=now, **columns))
            return self._get(tx, job_id)

    @staticmethod
    def _event(tx: sa.Connection, job_id: str, state: str, detail: str, at: datetime) -> None:
        last = tx.execute(sa.select(sa.func.max(EVENTS.c.sequence)).filter_by(job_id=job_id)).scalar()
        tx.execute(EVENTS.insert().values(job_id=job_id, sequence=(last or 0) + 1, state=state, at=at, detail=detail))

    @staticmethod
    def _get(tx: sa.Connection, job_id: str, lock: bool = False) -> Job:
        query = sa.select(JOBS).filter_by(job_id=job_id)
        # SQLite has the whole database locked already and ignores the row lock
        row = tx.execute(query.with_for_update() if lock else query).first()
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
        with self._reading() as tx:
            jobs = [Job(**r._mapping) for r in tx.execute(sa.select(JOBS).order_by(JOBS.c.created_at, JOBS.c.job_id))]
            events = [
                dict(r._mapping) for r in tx.execute(sa.select(EVENTS).order_by(EVENTS.c.job_id, EVENTS.c.sequence))
            ]
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
        try:
            envelope = JobEnvelope.model_validate_json(document)
        except ValidationError:
            raise InvariantError(f"envelope {digest} was altered: it cannot be read any more") from None
        if envelope.digest != digest:
            raise InvariantError(f"envelope {digest} was altered: it now digests to {envelope.digest}")
        return envelope

    # --- landed files -----------------------------------------------------------------------------------------------

    @_patient
    def land(self, landing: Landing) -> None:
        """Record a landed file (insert or replace by instance key).

        Raises:
            Conflict: the key belongs to a file at another path.
        """
        values = {
            **landing.__dict__,
            "options": json.dumps(landing.options, sort_keys=True, allow_nan=False),
            "updated_at": datetime.now(UTC),
        }
        with self._begin() as tx:
            path = tx.execute(sa.select(LANDINGS.c.path).filter_by(instance=landing.instance)).scalar()
            if path is None:
                tx.execute(LANDINGS.insert().values(**values))
            elif path == landing.path:
                tx.execute(LANDINGS.update().where(LANDINGS.c.instance == landing.instance).values(**values))
            else:
                raise Conflict(f"{landing.instance} is the file {path}, not {landing.path}")

    @_patient
    def landing(self, instance: str) -> Landing | None:
        """The landed file behind an instance key."""
        with self.engine.connect() as tx:
            row = tx.execute(sa.select(LANDINGS).filter_by(instance=instance)).first()
        return _landing(row) if row else None

    @_patient
    def landings(self, *, path: str | None = None) -> list[Landing]:
        """Landed files, by key; all, or those found at ``path``."""
        query = sa.select(LANDINGS).order_by(LANDINGS.c.instance)
        if path is not None:
            query = query.filter_by(path=path)
        with self.engine.connect() as tx:
            return [_landing(r) for r in tx.execute(query)]

    @_patient
    def mark_landing(self, instance: str, state: str) -> None:
        """Set a landing's state (``present``, ``deleted``, ``retired``).

        Raises:
            InvariantError: there is no such landing or state.
        """
        if state not in ("present", "deleted", "retired"):
            raise InvariantError(f"a landing cannot be {state!r}")
        with self._begin() as tx:
            changed = tx.execute(
                LANDINGS.update()
                .where(LANDINGS.c.instance == instance)
                .values(state=state, updated_at=datetime.now(UTC))
            )
            if changed.rowcount == 0:
                raise InvariantError(f"the ledger has no landed file {instance}")


class Conflict(HybridError):
    """Another process was there first."""

    failure_class = FailureClass.TRANSIENT


def _landing(row: Any) -> Landing:
    values = dict(row._mapping)
    values.pop("updated_at")
    values["options"] = json.loads(values["options"])
    return Landing(**values)


def result_of(job: Job, document: bytes) -> JobResult:
    """Parse a stored result and refuse one that belongs to another job.

    Raises:
        InvariantError: it is no result, or names another envelope.
    """
    try:
        result = JobResult.model_validate_json(document)
    except ValidationError:
        raise InvariantError(f"the result stored for {job.job_id} cannot be read") from None
    if result.envelope_digest != job.envelope_digest:
        raise InvariantError(f"the result stored for {job.job_id} answers envelope {result.envelope_digest}")
    return result
