"""The audit log: every row in its place, and no way to change it that is not seen."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resources import audit
from resources.audit import GENESIS, AuditLog
from resources.failures import InvariantError
from resources.ledger import Ledger
from resources.ledger_tables import AUDIT, AUDIT_HEAD
from tests.unit.test_envelope import envelope


@pytest.fixture
def log(ledger_url: str) -> AuditLog:
    log = AuditLog(Ledger(ledger_url))
    for number in range(6):
        log.append(actor="reconciler", action="submit", job_id=f"job-{number}", detail={"cost": 0.1, "ü": [number]})
    return log


def tamper(log: AuditLog, *statements: sa.Executable) -> None:
    """Do what the triggers forbid, and undo it all afterwards with ``restore``."""
    with log.ledger.transaction() as tx:
        if log.ledger.is_sqlite:
            for (name,) in tx.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").all():
                tx.exec_driver_sql(f"DROP TRIGGER {name}")
        else:
            for table in ("audit_log", "audit_head"):
                tx.exec_driver_sql(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        for statement in statements:
            tx.execute(statement)


def test_rows_are_chained_from_the_first(log: AuditLog) -> None:
    rows = log.rows()
    assert [row["sequence"] for row in rows] == list(range(1, 7))
    assert [row["previous"] for row in rows] == [GENESIS, *(row["digest"] for row in rows[:-1])]
    assert len({row["digest"] for row in rows}) == 6
    assert log.head() == (6, rows[-1]["digest"])
    assert log.verify() == []


def test_an_empty_log_is_intact(ledger_url: str) -> None:
    assert AuditLog(Ledger(ledger_url)).verify() == []


def test_a_row_comes_with_the_decision_or_not_at_all(log: AuditLog) -> None:
    job = log.ledger.intend(envelope())

    def given_up() -> None:
        with log.ledger.transaction() as tx:
            audit.append(tx, actor="a", action="b")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        given_up()
    assert log.head()[0] == 6
    log.ledger.move(job.job_id, "submitting", also=lambda tx: audit.append(tx, actor="me", action="submit"))
    assert log.head()[0] == 7
    with pytest.raises(InvariantError):
        log.ledger.move(job.job_id, "rejected", also=lambda tx: audit.append(tx, actor="me", action="no"))
    assert log.head()[0] == 7
    assert log.verify() == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET reason = 'another' WHERE sequence = 2",
        "DELETE FROM audit_log WHERE sequence = 6",
        "DELETE FROM audit_head",
        "UPDATE audit_head SET sequence = 3",
        "UPDATE audit_head SET digest = 'x'",
    ],
)
def test_the_database_refuses_to_change_a_row(log: AuditLog, statement: str) -> None:
    before = log.rows(), log.head()
    with pytest.raises(sa.exc.DBAPIError, match="append-only"), log.ledger.transaction() as tx:
        tx.exec_driver_sql(statement)
    assert (log.rows(), log.head()) == before


def test_the_database_refuses_its_own_ways_around(log: AuditLog) -> None:
    around = (
        [f"INSERT OR REPLACE INTO {t} SELECT * FROM {t} LIMIT 1" for t in ("audit_log", "audit_head")]
        if log.ledger.is_sqlite
        else ["TRUNCATE audit_log", "TRUNCATE audit_head"]
    )
    for statement in around:
        with pytest.raises(sa.exc.DBAPIError, match="append-only"), log.ledger.transaction() as tx:
            tx.exec_driver_sql(statement)
    assert log.verify() == []


COLUMNS = [column.name for column in AUDIT.columns if column.name != "sequence"]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=st.integers(1, 6), column=st.sampled_from(COLUMNS), value=st.text("abc", min_size=1))
def test_any_altered_field_is_found(log: AuditLog, row: int, column: str, value: str) -> None:
    (kept,) = (r for r in log.rows() if r["sequence"] == row)
    here = AUDIT.update().where(AUDIT.c.sequence == row)
    tamper(log, here.values({column: value}))
    assert any(f"row {row} " in problem for problem in log.verify())
    tamper(log, here.values({column: kept[column]}))
    assert log.verify() == []


def test_missing_rows_are_found(log: AuditLog) -> None:
    tamper(log, AUDIT.delete().where(AUDIT.c.sequence == 2))
    assert log.verify() == ["row 2 is missing"]
    tamper(log, AUDIT.delete().where(AUDIT.c.sequence.in_([1, 4])))
    assert log.verify() == ["rows 1 to 2 are missing", "row 4 is missing"]
    tamper(log, AUDIT.delete())
    assert log.verify() == ["the tail was cut: rows 1 to 6 are missing"]


def test_a_cut_tail_and_a_foreign_head_are_found(log: AuditLog) -> None:
    rows = log.rows()
    tamper(log, AUDIT.delete().where(AUDIT.c.sequence >= 5))
    assert log.verify() == ["the tail was cut: rows 5 to 6 are missing"]
    tamper(log, AUDIT_HEAD.update().values(sequence=3, digest=rows[2]["digest"]))
    assert log.verify() == ["the head is foreign: it ends at row 3, the log at row 4"]
    tamper(log, AUDIT_HEAD.update().values(sequence=4, digest=rows[2]["digest"]))
    assert log.verify() == ["the head is foreign: it does not end with row 4"]
    tamper(log, AUDIT_HEAD.delete())
    assert log.verify() == ["the head is missing"]
    with pytest.raises(InvariantError, match="lost its head"):
        log.append(actor="a", action="b")


def test_a_row_replaced_with_a_valid_digest_is_found(log: AuditLog) -> None:
    row = log.rows()[2] | {"actor": "somebody else"}
    del row["digest"]
    tamper(log, AUDIT.update().where(AUDIT.c.sequence == 3).values(**row, digest=audit.digest_of(row)))
    assert log.verify() == ["row 4 does not follow row 3: one of them was replaced"]


def test_many_writers_make_one_chain(ledger_url: str) -> None:
    AuditLog(Ledger(ledger_url))

    def write(writer: int) -> None:
        log = AuditLog(Ledger(ledger_url))
        for number in range(10):
            log.append(actor=f"writer {writer}", action="count", subject=str(number))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    log = AuditLog(Ledger(ledger_url))
    assert log.head()[0] == 40
    assert log.verify() == []
    assert {(row["actor"], row["subject"]) for row in log.rows()} == {
        (f"writer {writer}", str(number)) for writer in range(4) for number in range(10)
    }


def test_the_actor_is_who_is_named_else_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_USER", " ada ")
    assert audit.actor() == "ada"
    monkeypatch.delenv("HYBRID_USER")
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "grace")
    assert audit.actor() == "grace"
