"""Statements of the hot path: values, rows and errors as SQLAlchemy's own execution gives them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
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


def test_one_connection_serves_transactions_and_is_nobodys_childs(database: Database) -> None:
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
    kept = server()
    # as after a fork
    database._process = -1
    assert server() != kept
