"""The ledger's database: connections, locks, patience. SQLite in WAL mode or PostgreSQL, with the same behaviour.

Here: what differs between the two and nothing else. Not here: jobs (``ledger``), tables (``ledger_tables``).
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, Self, TypeVar
from weakref import WeakSet

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from tenacity import retry, retry_if_exception, stop_after_delay, wait_random_exponential

from resources import migrations
from resources.failures import FailureClass, HybridError, InputError

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds by which the clocks of this machine and of the database server may differ.
CLOCKS_APART = 2.0
#: Names the advisory lock under which PostgreSQL's schema is upgraded.
_UPGRADE_LOCK = 4_719_305_221
#: PostgreSQL's serialization failure, deadlock, lock not available.
_PASSING = frozenset({"40001", "40P01", "55P03"})
#: What it says to who would connect while it starts, recovers or has too many connections; the driver keeps no code.
_LATER = ("FATAL:  the database system is ", "FATAL:  sorry, too many clients", "FATAL:  remaining connection slots")


def _is_contention(error: BaseException) -> bool:
    """Whether trying again can help: the database is busy, or (PostgreSQL) chose this transaction to give way."""
    if not isinstance(error, sa.exc.OperationalError):
        return False
    if isinstance(error.orig, sqlite3.Error):
        # the low byte is the primary code; the rest tells variants of it apart
        return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    if getattr(error.orig, "pgcode", None) in _PASSING or any(said in str(error.orig) for said in _LATER):
        return True
    # a connection lost while committing is not here: nobody knows whether it was committed
    return bool(error.statement and error.connection_invalidated)


#: Seconds in all, and milliseconds for which SQLite waits by itself.
_PATIENCE, _BUSY = 30.0, 2000
_again = retry(
    retry=retry_if_exception(_is_contention),
    wait=wait_random_exponential(multiplier=0.01, max=0.5),
    stop=stop_after_delay(_PATIENCE),
    reraise=True,
)


def patient(method: Callable[P, T]) -> Callable[P, T]:
    """Run a transaction again while the database is busy; one that has joined another (``tx``) cannot be."""
    repeated = _again(method)

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except sa.exc.OperationalError as error:
            if kwargs.get("tx") is not None or not _is_contention(error):
                raise
        return repeated(*args, **kwargs)

    return call


class Conflict(HybridError):
    """Another process was there first."""

    failure_class = FailureClass.TRANSIENT


def _lock_file(connection: sa.Connection) -> None:
    """Begin a writing transaction on SQLite, whose own way of waiting sleeps up to 100 ms while the file is free."""
    deadline, pause = time.monotonic() + _PATIENCE, 0.001
    # SQLAlchemy's way to the driver takes longer than the three statements
    driver: Any = connection.connection.dbapi_connection
    driver.execute("PRAGMA busy_timeout=0")
    try:
        while True:
            try:
                driver.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as raised:
                error = sa.exc.OperationalError("BEGIN IMMEDIATE", None, raised)
                # a snapshot that this connection still reads from does not pass by waiting
                stale = getattr(raised, "sqlite_errorcode", 0) == sqlite3.SQLITE_BUSY_SNAPSHOT
                if stale or not _is_contention(error) or time.monotonic() > deadline:
                    raise error from raised
            time.sleep(random.uniform(0, pause))
            pause = min(1.5 * pause, 0.02)
    finally:
        driver.execute(f"PRAGMA busy_timeout={_BUSY}")


def _engine(url: str | sa.URL) -> sa.Engine:
    """The engine behind a URL, whose password no message repeats."""
    fix = "give sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise InputError("HYBRID_LEDGER", "value", "it is no database URL", fix) from None
    kind = parsed.drivername.partition("+")[0]
    if kind in ("postgresql", "postgres"):
        # a password among the options would be printed with them
        secret = parsed.query.get("password")
        parsed = parsed.set(drivername="postgresql+psycopg2").difference_update_query(["password"])
        if isinstance(secret, str):
            parsed = parsed.set(password=secret)
    elif kind != "sqlite":
        raise InputError("HYBRID_LEDGER", "value", f"{kind} is no database for a ledger", fix)
    try:
        engine = sa.create_engine(parsed, connect_args={} if kind == "sqlite" else _sessions())
    except ImportError as error:
        raise InputError(
            "HYBRID_LEDGER", "value", f"PostgreSQL cannot be spoken to ({error})", "install hybrid-assets[postgres]"
        ) from None
    if kind == "sqlite":

        @sa.event.listens_for(engine, "connect")
        def _pragmas(connection: Any, _: Any) -> None:
            connection.execute(f"PRAGMA busy_timeout={_BUSY}")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA foreign_keys=ON")

    else:

        @sa.event.listens_for(engine, "checkout")
        def _no_ended_session(connection: Any, record: Any, proxy: Any) -> None:
            # a new one is made: a statement that commits by itself could not be repeated
            if connection.has_ended():
                raise sa.exc.DisconnectionError

    return engine


def _sessions() -> dict[str, Any]:
    # imports the driver
    from resources.postgresql import Session

    return {"connection_factory": Session}


class Database:
    """A database behind a SQLAlchemy URL (``sqlite:///…`` or ``postgresql://…``) with the ledger's tables in it.

    Raises:
        InputError: the database cannot be opened or written, or is none; its clock and this machine's disagree.
    """

    def __init__(self, url: str | sa.URL) -> None:
        self.engine = _engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        #: PostgreSQL: at most one connection, for the next transaction of the process that made it.
        self._kept: list[sa.Connection] = []
        _OPENED.add(self)
        try:
            self._prepare()
        except sa.exc.DBAPIError as error:
            fix = "check that it is a ledger and can be written, or move it away"
            if not self.is_sqlite:
                fix = "check HYBRID_LEDGER and that its server answers"
            raise InputError(
                self.place, "ledger", f"it cannot be used ({' '.join(str(error.orig).split())})", fix
            ) from None

        if not self.is_sqlite:
            self._compare_clocks()

    def _compare_clocks(self) -> None:
        """Leases, timeouts and settling times are compared by several machines: their clocks must agree."""
        with self.engine.connect() as connection:
            theirs: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        apart = (datetime.now(UTC) - theirs).total_seconds()
        if abs(apart) > CLOCKS_APART:
            raise InputError(
                self.place,
                "clock",
                f"this machine's clock is {abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} the database's",
                "set both by a time server",
            )

    @classmethod
    def at(cls, path: Path) -> Self:
        """The SQLite database in this file."""
        return cls(sa.URL.create("sqlite", database=str(path)))

    @property
    def place(self) -> str:
        """The database's name or file, without a secret."""
        return self.engine.url.database or self.engine.dialect.name

    @patient
    def _prepare(self) -> None:
        with self.engine.connect() as connection:
            if migrations.is_current(connection):
                return
        with self.transaction() as tx:
            if not self.is_sqlite:
                # SQLite's write lock is enough: of processes that start together one upgrades, the others wait for it
                tx.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})")
            migrations.upgrade(tx)

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A connection that may write, committed at the end, rolled back by any exception.

        SQLite: the whole database is locked for writing. PostgreSQL: read committed; lock the rows you decide on. It
        begins with its first statement, in one message, and what ``Prepared.later`` said goes out with its end.
        """
        if not self.is_sqlite:
            with self.at_once() as connection:
                session: Any = connection.connection.dbapi_connection
                session.begin()
                yield connection
                connection.commit()
                if session.bundling:
                    # nothing was said, so SQLAlchemy knows of no transaction
                    session.commit()
            return
        with self.engine.connect() as connection:
            # take the write lock at once: a read that upgrades later fails under load
            _lock_file(connection)
            try:
                yield connection
                connection.commit()
            except BaseException:
                connection.rollback()
                raise

    @contextmanager
    def at_once(self) -> Iterator[sa.Connection]:
        """A connection for one statement that is a transaction of its own: on PostgreSQL one round trip, not three.

        PostgreSQL's is kept for the next time, since taking one from a pool and giving it back costs as much as a
        statement.
        """
        if self.is_sqlite:
            with self.transaction() as tx:
                yield tx
            return
        connection = self._take()
        try:
            yield connection
        except BaseException:
            self._give_up(connection)
            raise
        if connection.in_transaction():
            connection.rollback()
        if self._kept:
            self._give_up(connection)
        else:
            self._kept.append(connection)

    def _take(self) -> sa.Connection:
        """A connection to PostgreSQL in which the driver begins no transactions: the one that was kept, or another."""
        session: Any
        with suppress(IndexError):
            connection = self._kept.pop()
            session = connection.connection.dbapi_connection
            if not session.has_ended():
                return connection
            connection.invalidate()
            connection.close()
        connection = self.engine.connect()
        session = connection.connection.dbapi_connection
        session.autocommit = True
        return connection

    def _give_up(self, connection: sa.Connection) -> None:
        """Back to the pool, with nothing begun."""
        with connection:
            if connection.invalidated:
                return
            session: Any = connection.connection.dbapi_connection
            try:
                # not left to SQLAlchemy, which calls it once: after a commit that failed, by its pool
                session.rollback()
                session.autocommit = False
            except self.engine.dialect.loaded_dbapi.Error:
                # the server is gone; what went wrong before is what counts
                connection.invalidate()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection for several reads of one consistent view."""
        with self.engine.connect() as connection:
            # not as an option of SQLAlchemy's, after which the driver says more at every change of autocommit
            first = "BEGIN" if self.is_sqlite else "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
            connection.exec_driver_sql(first)
            yield connection

    def joined(self, tx: sa.Connection | None) -> Any:
        """A context manager: the running transaction if there is one (it goes on afterwards), else a new one."""
        return self.transaction() if tx is None else nullcontext(tx)

    def insert(self, table: sa.Table) -> Any:
        """An insert of this dialect, which can say ``on_conflict_do_nothing``."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)


_OPENED: WeakSet[Database] = WeakSet()
#: A child's: its parent's connections, whose answers are the parent's. Never closed, which would be said to the server.
_PARENTS: list[Any] = []


def _leave_to_the_parent() -> None:
    for database in list(_OPENED):
        _PARENTS.extend((database.engine.pool, database._kept))
        database._kept = []
        database.engine.dispose(close=False)


os.register_at_fork(after_in_child=_leave_to_the_parent)
