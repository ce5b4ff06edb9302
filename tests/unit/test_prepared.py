"""Statements of the hot path: values, rows and errors as SQLAlchemy's own execution gives them."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa

from resources.database import Database, _is_contention, patient
from resources.ledger import Ledger
from resources.ledger_tables import BREAKERS, CONTROLS
from resources.prepared import Prepared

WRITE = Prepared(BREAKERS.insert().values({column.name: sa.bindparam(column.name) for column in BREAKERS.columns}))
READ = Prepared(sa.select(BREAKERS).where(BREAKERS.c.backend == sa.bindparam("asked")), BREAKERS.columns)
LATE = datetime(2026, 11, 21, 23, 30, 0, 123456, timezone(timedelta(hours=-5)))


def row(backend: str) -> dict[str, object]:
    return {
        **{"backend": backend, "state": "open", "failures": 3, "opened": 1, "open_until": LATE},
        **{"probe_by": None, "probe_until": None, "reason": "100 % 'sure': %(x)s ?", "updated_at": LATE},
    }


@pytest.fixture
def database(ledger_url: str) -> Database:
    return Ledger(ledger_url)


@pytest.mark.parametrize("count", [1, 2, 250])
def test_what_is_written_is_what_sqlalchemy_reads_and_the_other_way_round(database: Database, count: int) -> None:
    with database.transaction() as tx:
        WRITE.many(tx, [row(f"qpu-{number}") for number in range(count)])
        (mine,) = READ.rows(tx, {"asked": "qpu-0"})
    with database.engine.connect() as tx:
        theirs = tx.execute(sa.select(BREAKERS).order_by(BREAKERS.c.backend)).all()
    assert len(theirs) == count
    assert mine == tuple(theirs[0]) == tuple(row("qpu-0").values())
    assert mine[4].astimezone(UTC) == LATE


def test_what_is_rolled_back_was_never_there(database: Database) -> None:
    def given_up() -> None:
        with database.transaction() as tx:
            WRITE.once(tx, row("qpu"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        given_up()
    with database.engine.connect() as tx:
        assert READ.rows(tx, {"asked": "qpu"}) == []


def test_an_error_is_sqlalchemys_and_ends_the_transaction_alone(database: Database) -> None:
    def twice() -> None:
        with database.transaction() as tx:
            WRITE.many(tx, [row("qpu"), row("qpu")])

    with pytest.raises(sa.exc.IntegrityError):
        twice()
    with database.transaction() as tx:
        WRITE.once(tx, row("qpu"))
    with database.engine.connect() as tx:
        assert len(READ.rows(tx, {"asked": "qpu"})) == 1


def test_a_single_statement_is_kept_without_a_commit(database: Database) -> None:
    with database.at_once() as tx:
        WRITE.once(tx, row("qpu"))
    mode = Prepared(CONTROLS.delete().where(CONTROLS.c.backend == sa.bindparam("asked")))
    # the connection that served it begins transactions again
    with database.engine.connect() as tx:
        mode.once(tx, {"asked": "qpu"})
        WRITE.once(tx, row("other"))
        tx.rollback()
    with database.engine.connect() as tx:
        assert [len(READ.rows(tx, {"asked": name})) for name in ("qpu", "other")] == [1, 0]


def test_a_lost_connection_is_tried_again_only_where_nothing_can_have_been_kept(database: Database) -> None:
    if database.is_sqlite:
        pytest.skip("SQLite has no connection to lose")

    def lost(begin: Callable[[], AbstractContextManager[sa.Connection]]) -> sa.exc.OperationalError:
        def cut_off() -> None:
            with begin() as tx:
                pid = int(tx.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())
                with database.engine.connect() as other:
                    other.exec_driver_sql(f"SELECT pg_terminate_backend({pid}, 5000)")
                WRITE.once(tx, row("qpu"))

        with pytest.raises(sa.exc.OperationalError) as raised:
            cut_off()
        return raised.value

    assert not _is_contention(lost(database.at_once))
    assert _is_contention(lost(database.transaction))


def test_a_server_that_has_forgotten_its_plans_is_told_again(database: Database) -> None:
    if database.is_sqlite:
        pytest.skip("SQLite keeps no plans")
    with database.transaction() as tx:
        WRITE.once(tx, row("qpu"))
    with database.engine.connect() as tx:
        READ.rows(tx, {"asked": "qpu"})
        tx.connection.invalidate()
    with database.engine.connect() as tx:
        assert len(READ.rows(tx, {"asked": "qpu"})) == 1


def test_what_waits_goes_out_before_what_follows_and_with_the_end(database: Database) -> None:
    if database.is_sqlite:
        pytest.skip("PostgreSQL's own")

    def count(tx: sa.Connection) -> int:
        return len(tx.execute(sa.select(BREAKERS)).all())

    refusal = ValueError("refused")
    with database.transaction() as tx:
        WRITE.later(tx, row("first"), refusal)
        with database.engine.connect() as other:
            # nothing is locked yet
            WRITE.many(other, [row("first")])
            other.rollback()
        assert count(tx) == 1
        WRITE.later(tx, row("second"), refusal)

    def refused() -> None:
        with database.transaction() as tx:
            WRITE.once(tx, row("third"))
            WRITE.later(tx, row("fourth") | {"reason": None}, refusal)

    def given_up() -> None:
        with database.transaction() as tx:
            WRITE.later(tx, row("fifth"), refusal)
            raise KeyboardInterrupt

    with pytest.raises(ValueError, match="refused"):
        refused()
    with pytest.raises(KeyboardInterrupt):
        given_up()
    with database.transaction() as tx:
        assert count(tx) == 2


def test_a_transaction_without_statements_leaves_nothing_begun(database: Database) -> None:
    with database.transaction():
        pass
    with database.at_once() as tx:
        WRITE.once(tx, row("qpu"))
    with database.engine.connect() as tx:
        assert len(READ.rows(tx, {"asked": "qpu"})) == 1


@pytest.mark.parametrize("whose", ["at_once", "sqlalchemy"])
def test_what_would_wait_is_run_now_where_no_transaction_of_ours_ends(database: Database, whose: str) -> None:
    if database.is_sqlite:
        pytest.skip("PostgreSQL's own")
    with database.at_once() if whose == "at_once" else database.engine.begin() as tx:
        WRITE.later(tx, row("qpu"), ValueError("refused"))
    with database.engine.connect() as tx:
        assert len(READ.rows(tx, {"asked": "qpu"})) == 1


def test_who_goes_on_after_a_failed_statement_is_told_that_nothing_was_kept(database: Database) -> None:
    if database.is_sqlite:
        pytest.skip("SQLite undoes the statement alone")

    def gone_on() -> None:
        with database.transaction() as tx:
            WRITE.once(tx, row("qpu"))
            with suppress(sa.exc.IntegrityError):
                WRITE.once(tx, row("qpu"))

    with pytest.raises(sa.exc.InternalError, match="rolled back"):
        gone_on()
    with database.at_once() as tx:
        assert READ.rows(tx, {"asked": "qpu"}) == []
        WRITE.once(tx, row("other"))
    with database.engine.connect() as tx:
        assert len(READ.rows(tx, {"asked": "other"})) == 1


def test_sessions_that_the_server_has_ended_serve_nobody(database: Database) -> None:
    if database.is_sqlite:
        pytest.skip("SQLite has no sessions")
    other = Ledger(database.engine.url)
    for begin in (database.at_once, database.transaction, database.reading, database.engine.connect):
        with database.at_once() as kept, database.engine.connect() as pooled:
            mine: list[int] = [tx.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() for tx in (kept, pooled)]
        with other.engine.connect() as tx:
            for pid in mine:
                tx.exec_driver_sql(f"SELECT pg_terminate_backend({pid}, 5000)")
        # the first of these would not be tried again
        with begin() as tx:
            assert READ.rows(tx, {"asked": "qpu"}) == []


def test_a_server_without_a_free_connection_is_waited_for(database: Database) -> None:
    if database.is_sqlite:
        pytest.skip("SQLite has no server")
    database.engine.dispose()
    database._kept.clear()
    crowd, engine = ExitStack(), sa.create_engine(database.engine.url, poolclass=sa.NullPool)

    def crowded() -> None:
        for _ in range(1000):
            crowd.enter_context(engine.connect())

    with pytest.raises(sa.exc.OperationalError, match="too many clients"):
        crowded()
    leaving = threading.Timer(0.2, crowd.close)
    leaving.start()

    @patient
    def asked() -> int:
        with database.at_once() as tx:
            return len(READ.rows(tx, {"asked": "qpu"}))

    assert asked() == 0
    leaving.join()


def test_a_forked_child_talks_over_none_of_its_parents_connections(database: Database) -> None:
    if database.is_sqlite:
        pytest.skip("SQLite's have no number")

    def servers() -> list[int]:
        # a read comes first
        with database.engine.connect() as pooled, database.at_once() as kept:
            return [int(tx.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()) for tx in (kept, pooled)]

    mine = servers()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, json.dumps(servers()).encode())
            database.engine.dispose()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        theirs = json.load(answer)
    assert len({*mine, *theirs}) == 4
    assert servers() == mine


def test_an_interrupt_while_a_plan_is_made_spoils_no_connection(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database.is_sqlite:
        pytest.skip("SQLite has no plans")
    from resources import postgresql

    execute = postgresql._Cursor.execute

    def interrupted(cursor: postgresql._Cursor, query: object, values: object = None) -> None:
        execute(cursor, query, values)
        if str(query).startswith("PREPARE"):
            raise KeyboardInterrupt

    for begin in (database.at_once, database.transaction, database.engine.connect):
        with monkeypatch.context() as patch:
            patch.setattr(postgresql._Cursor, "execute", interrupted)
            with pytest.raises(KeyboardInterrupt), begin() as tx:
                READ.rows(tx, {"asked": "qpu"})
        with begin() as tx:
            assert READ.rows(tx, {"asked": "qpu"}) == []
        database.engine.dispose()
        database._kept.clear()


def test_a_connection_lost_at_the_end_is_not_tried_again(database: Database) -> None:
    if database.is_sqlite:
        pytest.skip("SQLite has no connection to lose")
    tries = 0

    @patient
    def cut_off() -> None:
        nonlocal tries
        tries += 1
        with database.transaction() as tx:
            pid = int(tx.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())
            WRITE.later(tx, row("qpu"), ValueError("refused"))
            with database.engine.connect() as other:
                other.exec_driver_sql(f"SELECT pg_terminate_backend({pid}, 5000)")

    with pytest.raises(sa.exc.OperationalError):
        cut_off()
    assert tries == 1
    with database.transaction() as tx:
        assert READ.rows(tx, {"asked": "qpu"}) == []


def test_one_connection_serves_transactions(database: Database) -> None:
    if database.is_sqlite:
        pytest.skip("SQLite's are not kept")

    def server() -> int:
        with database.transaction() as tx:
            return int(tx.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())

    def level(tx: sa.Connection) -> str:
        return str(tx.exec_driver_sql("SHOW transaction_isolation").scalar_one())

    mine = server()
    with database.reading() as tx:
        assert level(tx) == "repeatable read"
    with database.at_once() as tx:
        assert level(tx) == "read committed"
    with database.transaction() as tx, database.transaction() as second:
        # one inside another has its own
        assert tx.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() == mine
        assert second.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() != mine
