"""The ledger: durable, transactional state of jobs.

Here: intents, state changes, leases, reads. Not here: landed files (``catalogue``), tables and legal state changes
(``ledger_tables``), locks and the two databases (``database``), decisions and their log (``audit``), calls to
providers (``dispatcher``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from resources import ledger_rows
from resources.catalogue import Catalogue
from resources.claims import is_alive, this_process
from resources.database import Conflict, patient
from resources.envelope import JobEnvelope
from resources.failures import InvariantError
from resources.ledger_statements import INTENT, NEW, PAPER, RECORD, WHOLE_INTENT, change, overwrite
from resources.ledger_tables import (
    ENVELOPES,
    EVENTS,
    JOBS,
    OPEN,
    SENT,
    UNENDED,
    Job,
    Landing,
    Move,
)
from resources.prepared import Prepared
from resources.stored import envelope_of, result_of

__all__ = ["Conflict", "Job", "Landing", "Ledger", "Move", "is_alive", "job_id_of", "result_of", "this_process"]


def job_id_of(envelope: JobEnvelope) -> str:
    """The id of the one job with this idempotency key."""
    return f"job-{envelope.idempotency_key[:20]}"


class Ledger(Catalogue):
    """Durable job states and landed files. A method is one transaction of its own, or part of the one given as ``tx``.

    Raises InputError where the database cannot be opened or written, or is none.
    """

    # --- jobs: intents and moves --------------------------------------------------------------------------------------

    def intend(
        self, envelope: JobEnvelope, *, claim_seconds: float | None = None, tx: sa.Connection | None = None
    ) -> Job:
        """Write the intent before anything is sent; the same idempotency key gives the same job.

        Args:
            claim_seconds: a job that is new is leased by this process for so long.
        """
        return self.intend_many([envelope], claim_seconds, tx=tx)[0]

    @patient
    def intend_many(
        self,
        envelopes: Sequence[JobEnvelope],
        claim_seconds: float | None = None,
        *,
        tx: sa.Connection | None = None,
    ) -> list[Job]:
        """``intend`` for several envelopes in one transaction; one job per envelope, in their order."""
        keys = [envelope.idempotency_key for envelope in envelopes]
        digests = [envelope.digest for envelope in envelopes]
        # who claims expects new jobs; who does not mostly asks for known ones, which needs no write lock
        if tx is None and claim_seconds is None:
            with self.engine.connect() as connection:
                found = _by_key(connection, keys)
                # read to its end: an open cursor would keep its snapshot, from which no transaction can begin to write
                papers_of = sa.select(ENVELOPES.c.digest).where(ENVELOPES.c.digest.in_(digests))
                if {row[0] for row in connection.execute(papers_of)} == set(digests) and len(found) == len(set(keys)):
                    return [found[key] for key in keys]
        now = datetime.now(UTC)
        papers: dict[str, dict[str, Any]] = {}
        rows: dict[str, dict[str, Any]] = {}
        for envelope, key, digest in zip(envelopes, keys, digests, strict=True):
            papers[digest] = ledger_rows.paper(envelope, key, digest, now)
            if key not in rows:
                rows[key] = ledger_rows.intent(envelope, key, digest, now, claim_seconds)
        if len(papers) == 1:
            return [self._intended(tx, papers[digests[0]], rows[keys[0]], now)] * len(keys)
        with self.joined(tx) as tx:
            if self.is_sqlite:
                jobs = self._written(tx, papers, rows, now)
                return [jobs[key] for key in keys]
            # sorted, so that two processes never wait for each other
            tx.execute(self.insert(ENVELOPES).on_conflict_do_nothing(), [papers[digest] for digest in sorted(papers)])
            new = tx.execute(
                self.insert(JOBS).on_conflict_do_nothing().returning(JOBS), [rows[key] for key in sorted(rows)]
            )
            jobs = {row.idempotency_key: _job(row) for row in new}
            RECORD.many(tx, [ledger_rows.intended(job.job_id, job.envelope_digest, now) for job in jobs.values()])
            if len(jobs) < len(rows):
                jobs |= _by_key(tx, [key for key in rows if key not in jobs])
        return [jobs[key] for key in keys]

    def _written(
        self, tx: sa.Connection, papers: dict[str, dict[str, Any]], rows: dict[str, dict[str, Any]], now: datetime
    ) -> dict[str, Job]:
        """SQLite: the jobs of envelopes by key; what is there cannot change meanwhile, so the rest is new."""
        PAPER.many(tx, [ledger_rows.as_paper(paper) for paper in papers.values()])
        jobs = _by_key(tx, list(rows))
        new = [row for key, row in rows.items() if key not in jobs]
        NEW.many(tx, [ledger_rows.as_job(row) for row in new])
        RECORD.many(tx, [ledger_rows.intended(row["job_id"], row["envelope_digest"], now) for row in new])
        return jobs | {row["idempotency_key"]: Job(**row) for row in new}

    def _intended(self, tx: sa.Connection | None, paper: dict[str, Any], row: dict[str, Any], now: datetime) -> Job:
        """The one job of an envelope."""
        values = ledger_rows.as_paper(paper) | ledger_rows.as_job(row)
        first = ledger_rows.intended(row["job_id"], paper["digest"], now)
        with self.at_once() if tx is None else nullcontext(tx) as tx:
            if self.is_sqlite:
                PAPER.once(tx, values)
                made = INTENT.rows(tx, values)
                RECORD.many(tx, [first] * len(made))
            else:
                made = WHOLE_INTENT.rows(tx, values | {"now": now, "detail": first["detail"]})
            key = row["idempotency_key"]
            return Job(**row) if made else _by_key(tx, [key])[key]

    def move(
        self,
        job_id: str,
        state: str,
        detail: str = "",
        *,
        expect: str | tuple[str, ...] | None = None,
        version: int | None = None,
        through: str | None = None,
        also: Callable[[sa.Connection], None] | None = None,
        tx: sa.Connection | None = None,
        **columns: Any,
    ) -> Job:
        """Change a job's state; the arguments are those of ``Move``.

        A job that ends, or waits for a person, is released and not looked at any more; one that is taken up again is
        looked at now.

        Raises:
            InvariantError: the change is not legal.
            Conflict: ``expect`` or ``version`` does not hold any more.
        """
        (moved,) = self.move_many([Move(job_id, state, detail, expect, version, through, also, columns)], tx=tx)
        if isinstance(moved, Conflict):
            raise moved
        return moved

    @patient
    def move_many(self, moves: Sequence[Move], *, tx: sa.Connection | None = None) -> list[Job | Conflict]:
        """Change the states of several jobs in one transaction.

        A conflict concerns its own job, whose ``also`` is not called; any exception undoes all.

        Returns:
            The jobs after their moves, in the order of ``moves``, with a ``Conflict`` where one came too late.

        Raises:
            InvariantError: one of the changes is not legal.
        """
        now = datetime.now(UTC)
        if len(moves) == 1:
            return [self._move(tx, moves[0], now)]
        answers: dict[int, Job | Conflict] = {}
        changes: list[tuple[Prepared, dict[str, Any]]] = []
        events: list[dict[str, Any]] = []
        with self.joined(tx) as tx:
            jobs = _locked(tx, {move.job_id for move in moves})
            for number, move in enumerate(moves):
                ledger_rows.check_steps(move)
                job = _known(jobs.get(move.job_id), move.job_id)
                why = ledger_rows.refusal(job, move)
                if why is not None:
                    answers[number] = Conflict(why)
                    continue
                values = ledger_rows.values_of(move, now)
                job = jobs[job.job_id] = answers[number] = replace(
                    job, **{"look_at": job.look_at or now} | values, version=job.version + (2 if move.through else 1)
                )
                changed = {name: getattr(job, name) for name in (*values, "look_at", "version")}
                changes.append((overwrite(tuple(changed)), ledger_rows.as_new(changed) | {"job": job.job_id}))
                events += ledger_rows.events_of(move, job, now)
            for statement, rows in groupby(changes, key=lambda change: change[0]):
                statement.many(tx, [row for _, row in rows])
            RECORD.many(tx, events)
            # last, because the end of the audit log is one row that everybody waits for
            for number, move in enumerate(moves):
                if move.also and not isinstance(answers[number], Conflict):
                    move.also(tx)
        return [answers[number] for number in range(len(moves))]

    def _move(self, tx: sa.Connection | None, move: Move, now: datetime) -> Job | Conflict:
        """One move, by one statement that decides and writes."""
        ledger_rows.check_steps(move)
        values = ledger_rows.values_of(move, now)
        expected = (move.expect,) if isinstance(move.expect, str) else move.expect
        through, first, recording = bool(move.through), ledger_rows.first_state(move), not self.is_sqlite
        statement = change(expected, move.version is not None, through, first, tuple(values), recording)
        parameters = ledger_rows.as_new(values) | {"job": move.job_id, "read": move.version, "now": now}
        parameters |= {"detail": move.detail, "through": move.through}
        alone = tx is None and move.also is None
        with self.at_once() if alone else self.joined(tx) as tx:
            row = next(iter(statement.rows(tx, parameters)), None)
            if row is None:
                job = _get(tx, move.job_id)
                return Conflict(ledger_rows.refusal(job, move) or f"job {job.job_id} has moved on")
            job = _job(row)
            if self.is_sqlite:
                RECORD.many(tx, ledger_rows.events_of(move, job, now))
            if move.also:
                move.also(tx)
        return job

    @patient
    def touch(
        self,
        job_id: str,
        *,
        read: Job | None = None,
        same: Sequence[str] = (),
        tx: sa.Connection | None = None,
        **columns: Any,
    ) -> Job:
        """Set columns of a job without changing its state (``look_at``, ``looks`` …); no event is recorded.

        Args:
            read: the job as it was read; nothing may have moved it since.
            same: columns that nobody may have written either.

        Raises:
            InvariantError: there is no such job, or the column is ``move``'s.
            Conflict: ``read`` does not hold any more.
        """
        if set(columns) & {"job_id", "state", "version"}:
            raise InvariantError(f"only a move changes {', '.join(columns)}")
        with self.joined(tx) as tx:
            names = () if read is None else ("version", *same)
            unchanged = [JOBS.c[name].is_not_distinct_from(getattr(read, name)) for name in names]
            chosen = JOBS.update().where(JOBS.c.job_id == job_id, *unchanged)
            row = tx.execute(chosen.values(**columns).returning(JOBS)).first()
            if row is None:
                raise Conflict(f"job {_get(tx, job_id).job_id} has moved on")
            return _job(row)

    # --- jobs: leases -------------------------------------------------------------------------------------------------

    @patient
    def claim(self, job_id: str, seconds: float) -> bool:
        """Lease a job for this process, unless another living process holds it; a lease of its own is renewed."""
        now = datetime.now(UTC)
        lease = {"claimed_by": this_process(), "claimed_until": now + timedelta(seconds=seconds)}
        with self.transaction() as tx:
            job = _get(tx, job_id, lock=True)
            held = job.claimed_until is not None and job.claimed_until > now
            if held and job.claimed_by != this_process() and is_alive(job.claimed_by):
                return False
            tx.execute(JOBS.update().where(JOBS.c.job_id == job_id).values(**lease))
        return True

    @patient
    def release(self, job_ids: Iterable[str], look_at: datetime | None = None) -> None:
        """Give up this process's leases; those of jobs that are being sent stay.

        Args:
            look_at: when those that are still open are to be looked at next; by default that stays as it is.
        """
        values: dict[str, Any] = {"claimed_until": None}
        if look_at is not None:
            values["look_at"] = sa.case((JOBS.c.state.in_(OPEN), look_at), else_=JOBS.c.look_at)
        mine = JOBS.c.job_id.in_(list(job_ids)) & (JOBS.c.claimed_by == this_process()) & (JOBS.c.state != "submitting")
        with self.transaction() as tx:
            tx.execute(JOBS.update().where(mine).values(**values))

    @patient
    def due(self, limit: int, seconds: float, now: datetime | None = None) -> list[Job]:
        """Lease the open jobs that are to be looked at now and that nobody holds.

        Args:
            limit: most jobs to take.
            seconds: of the lease.
            now: the time, by default this machine's.

        Returns:
            Those that are out, then the others; in both the highest priority first, then who has waited longest.
        """
        now = now or datetime.now(UTC)
        ripe = UNENDED & JOBS.c.state.in_(OPEN) & (JOBS.c.look_at <= now)
        with self.engine.connect() as connection:
            holders = [row[0] for row in connection.execute(sa.select(JOBS.c.claimed_by).where(ripe).distinct())]
        if not holders:
            return []
        dead = [holder for holder in holders if holder and not is_alive(holder)]
        free = JOBS.c.claimed_until.is_(None) | (JOBS.c.claimed_until <= now) | JOBS.c.claimed_by.in_(dead)
        lease = {"claimed_by": this_process(), "claimed_until": now + timedelta(seconds=seconds)}
        query = (
            sa.select(JOBS.c.job_id)
            .where(ripe, free)
            .order_by(JOBS.c.state == "intended", JOBS.c.priority.desc(), JOBS.c.look_at, JOBS.c.job_id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        with self.transaction() as tx:
            chosen = [row[0] for row in tx.execute(query)]
            if not chosen:
                return []
            leased = tx.execute(JOBS.update().where(JOBS.c.job_id.in_(chosen)).values(**lease).returning(JOBS)).all()
        jobs = {row.job_id: _job(row) for row in leased}
        return [jobs[job_id] for job_id in chosen]

    @patient
    def open_jobs(self, backend: str | None = None, *, tx: sa.Connection | None = None) -> int:
        """How many jobs a backend (any backend) has or may have now."""
        query = sa.select(sa.func.count()).select_from(JOBS).where(UNENDED, JOBS.c.state.in_(SENT))
        if backend is not None:
            query = query.where(JOBS.c.backend == backend)
        with self.engine.connect() if tx is None else nullcontext(tx) as connection:
            return int(connection.execute(query).scalar_one())

    # --- jobs: reads --------------------------------------------------------------------------------------------------

    @patient
    def job(self, job_id: str) -> Job:
        """The job of this id.

        Raises:
            InvariantError: there is none.
        """
        with self.engine.connect() as tx:
            return _get(tx, job_id)

    @patient
    def jobs(self, *, state: str | None = None, instance: str | None = None) -> list[Job]:
        """Jobs, oldest first.

        Args:
            state: only those in this state.
            instance: only those that answer an envelope of this instance, also one that came after the job's own.
        """
        query = sa.select(JOBS).order_by(JOBS.c.created_at, JOBS.c.job_id)
        if state:
            query = query.filter_by(state=state)
        if instance:
            asked = sa.select(ENVELOPES.c.idempotency_key).where(ENVELOPES.c.instance == instance)
            query = query.where(JOBS.c.idempotency_key.in_(asked))
        with self.engine.connect() as tx:
            return [_job(r) for r in tx.execute(query)]

    @patient
    def snapshot(self, *, tx: sa.Connection | None = None) -> tuple[list[Job], list[dict[str, Any]]]:
        """All jobs and all events, of one moment; with ``reading()`` as ``tx``, of the same moment as other reads."""
        with self.reading() if tx is None else nullcontext(tx) as tx:
            jobs = [_job(r) for r in tx.execute(sa.select(JOBS).order_by(JOBS.c.created_at, JOBS.c.job_id))]
            events = [
                dict(r._mapping) for r in tx.execute(sa.select(EVENTS).order_by(EVENTS.c.job_id, EVENTS.c.sequence))
            ]
        return jobs, events

    @patient
    def envelope(self, digest: str) -> JobEnvelope:
        """The stored envelope, verified against its digest.

        Raises:
            InvariantError: missing or altered.
        """
        with self.engine.connect() as tx:
            document = tx.execute(sa.select(ENVELOPES.c.document).filter_by(digest=digest)).scalar()
        if document is None:
            raise InvariantError(f"the ledger has no envelope {digest}")
        return envelope_of(document, digest)


def _job(row: Any) -> Job:
    # by position, which a test compares: twice as fast as by name
    return Job(*row)


def _get(tx: sa.Connection, job_id: str, lock: bool = False) -> Job:
    query = sa.select(JOBS).where(JOBS.c.job_id == job_id)
    # SQLite has the whole database locked already and ignores the row lock
    row = tx.execute(query.with_for_update() if lock else query).first()
    return _known(None if row is None else _job(row), job_id)


def _known(job: Job | None, job_id: str) -> Job:
    if job is None:
        raise InvariantError(f"the ledger has no job {job_id}")
    return job


def _locked(tx: sa.Connection, job_ids: set[str]) -> dict[str, Job]:
    """Jobs by their ids, locked in the order of these, so that two processes never wait for each other."""
    query = sa.select(JOBS).where(JOBS.c.job_id.in_(job_ids)).order_by(JOBS.c.job_id)
    return {row.job_id: _job(row) for row in tx.execute(query.with_for_update())}


def _by_key(tx: sa.Connection, keys: Sequence[str]) -> dict[str, Job]:
    rows = tx.execute(sa.select(JOBS).where(JOBS.c.idempotency_key.in_(keys)))
    return {row.idempotency_key: _job(row) for row in rows}
