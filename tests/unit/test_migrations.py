"""The ledger's schema: old ledgers are brought along without loss, later ones are refused, both databases agree."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from resources.audit import AuditLog
from resources.failures import InputError, InvariantError
from resources.ledger import Ledger
from resources.ledger_tables import METADATA, OPEN, TRANSITIONS
from resources.migrations import HEAD, VERSION_TABLE
from tests.unit.test_envelope import envelope

PROJECT = Path(__file__).resolve().parents[2]
WRITTEN = datetime(2026, 10, 1, 12, 30, tzinfo=UTC)
#: The statements with which the asset line's ledger made its tables.
OLD_TABLES = (
    "CREATE TABLE jobs (job_id VARCHAR NOT NULL, idempotency_key VARCHAR NOT NULL, envelope_digest VARCHAR NOT NULL, "
    "instance VARCHAR NOT NULL, family VARCHAR NOT NULL, correlation_id VARCHAR NOT NULL, backend VARCHAR NOT NULL, "
    "state VARCHAR NOT NULL, attempts INTEGER NOT NULL, claimed_by VARCHAR, provider_id VARCHAR, result_ref VARCHAR, "
    "error VARCHAR, fallback_path VARCHAR NOT NULL, created_at MOMENT NOT NULL, updated_at MOMENT NOT NULL, "
    "PRIMARY KEY (job_id), UNIQUE (idempotency_key))",
    "CREATE INDEX ix_jobs_instance ON jobs (instance)",
    "CREATE INDEX ix_jobs_state ON jobs (state)",
    "CREATE INDEX ix_jobs_envelope_digest ON jobs (envelope_digest)",
    "CREATE TABLE envelopes (digest VARCHAR NOT NULL, document VARCHAR NOT NULL, created_at MOMENT NOT NULL, "
    "PRIMARY KEY (digest))",
    "CREATE TABLE landings (instance VARCHAR NOT NULL, family VARCHAR NOT NULL, name VARCHAR NOT NULL, "
    "path VARCHAR NOT NULL, member INTEGER NOT NULL, source_digest VARCHAR NOT NULL, content_ref VARCHAR NOT NULL, "
    "options VARCHAR NOT NULL, state VARCHAR NOT NULL, updated_at MOMENT NOT NULL, PRIMARY KEY (instance))",
    "CREATE TABLE job_events (job_id VARCHAR NOT NULL, sequence INTEGER NOT NULL, state VARCHAR NOT NULL, "
    "at MOMENT NOT NULL, detail VARCHAR NOT NULL, PRIMARY KEY (job_id, sequence), "
    "FOREIGN KEY(job_id) REFERENCES jobs (job_id))",
)
#: An envelope as version 1 wrote it, and what version 1 said its idempotency key and digest are.
OLD_ENVELOPE = (
    '{"schema_version":"1","correlation_id":"request-1","purpose":"propose candidates","owner":"team:ü",'
    f'"problem_type":"maxcut","instance":"maxcut.g1","input_digest":"{"a" * 64}","encoding":"penalty",'
    f'"encoding_digest":"{"b" * 64}","payload_ref":"{"c" * 64}","payload_variables":4,"kind":"sample",'
    '"algorithm":{"name":"qaoa-ramp","version":"1","depth":5,"ramp_lengths":[2.0,4.0,6.0,8.0,12.0],"shots":1024,'
    '"tuning_shots":256,"training_circuits":40,"cvar_alpha":0.1,"seed":0},"backend":"aer","expected_shape":[1024,4],'
    '"timeout":{"queue":60.0,"execution":60.0,"total":120.0},"fallback":["annealer"],"priority":3,'
    '"sensitivity":"internal","cost_ceiling":0.0,"repetition":0,"round":0,"parent_digest":null,"tags":{}}'
)
OLD_KEY = "5f635a7825ba5bf9e558203f0563a0e8cba9a7b96e1f5ddc23dfcdfda4ecce0f"
OLD_DIGEST = "3ec16387775b5643ff48b34bb5b37e6d54e640a243afa4502bc0ff23c2a327b3"
OLD_JOBS = (
    "INSERT INTO jobs VALUES (:job, :key, :digest, 'maxcut.g1', 'maxcut', 'request-1', :backend, :state, 1, "
    "'elsewhere:17', NULL, NULL, NULL, '[]', :at, :at)"
)


def make_old(url: str) -> list[dict[str, object]]:
    """A ledger of the asset line: a job in every state, events, an envelope twice asked for, a landing."""
    engine = sa.create_engine(url)
    with engine.begin() as tx:
        for statement in OLD_TABLES:
            kind = "DATETIME" if engine.dialect.name == "sqlite" else "TIMESTAMP WITH TIME ZONE"
            tx.exec_driver_sql(statement.replace("MOMENT", kind))
        moment = sa.bindparam("at", WRITTEN, sa.DateTime(timezone=True))
        other = OLD_ENVELOPE.replace("maxcut.g1", "maxcut.twin")
        for digest, document in ((OLD_DIGEST, OLD_ENVELOPE), ("twin", other), ("altered", "{}")):
            values = {"digest": digest, "document": document}
            tx.execute(sa.text("INSERT INTO envelopes VALUES (:digest, :document, :at)").bindparams(moment), values)
        for number, state in enumerate(TRANSITIONS):
            job = {
                "job": f"job-{number}",
                "key": OLD_KEY if state == "succeeded" else f"key-{number}",
                "digest": OLD_DIGEST if state == "succeeded" else "altered",
                "backend": "annealer" if state == "succeeded" else "aer",
                "state": state,
            }
            tx.execute(sa.text(OLD_JOBS).bindparams(moment), job)
            for sequence in (1, 2):
                event = sa.text("INSERT INTO job_events VALUES (:job, :sequence, 'intended', :at, 'said')")
                tx.execute(event.bindparams(moment), {"job": f"job-{number}", "sequence": sequence})
        landed = sa.text("INSERT INTO landings VALUES ('maxcut.g1','maxcut','g','/g',0,'a','b','{}','present',:at)")
        tx.execute(landed.bindparams(moment))
        rows = [dict(row._mapping) for row in tx.execute(sa.text("SELECT * FROM jobs ORDER BY job_id"))]
    engine.dispose()
    return rows


def test_the_newest_revision_is_the_last() -> None:
    config = Config()
    config.set_main_option("script_location", "resources:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


@pytest.mark.parametrize("old", [False, True])
def test_a_migrated_ledger_has_the_tables_that_the_code_knows(ledger_url: str, old: bool) -> None:
    if old:
        make_old(ledger_url)
    with Ledger(ledger_url).engine.connect() as tx:
        context = MigrationContext.configure(tx, opts={"compare_type": True, "version_table": VERSION_TABLE})
        assert compare_metadata(context, METADATA) == []
        tables = set(sa.inspect(tx).get_table_names())
    assert tables == {*METADATA.tables, VERSION_TABLE}


def test_a_ledger_of_the_asset_line_loses_nothing(ledger_url: str) -> None:
    before = make_old(ledger_url)
    ledger = Ledger(ledger_url)
    with ledger.engine.connect() as tx:
        after = [dict(row._mapping) for row in tx.execute(sa.text("SELECT * FROM jobs ORDER BY job_id"))]
    assert [{name: row[name] for name in before[0]} for row in after] == before
    jobs, events = ledger.snapshot()
    assert len(jobs) == len(TRANSITIONS)
    assert len(events) == 2 * len(jobs)
    for job in jobs:
        # what its provider got as its key
        assert job.provider_key == job.idempotency_key
        assert job.version == 2
        assert job.look_at == (WRITTEN if job.state in OPEN else None)
        assert (job.ended_at is None) == (job.state in OPEN | {"awaiting_approval"})
        assert job.claimed_until == (WRITTEN + timedelta(minutes=10) if job.state == "submitting" else None)
    (done,) = ledger.jobs(state="succeeded")
    assert (done.owner, done.priority, done.hop) == ("team:ü", 3, 1)
    assert ledger.jobs(instance="maxcut.twin") == [done]
    assert ledger.landing("maxcut.g1") is not None
    assert AuditLog(ledger).head() == (0, "0" * 64)
    with pytest.raises(InvariantError, match="schema_version is 1"):
        ledger.envelope(OLD_DIGEST)
    # and it can be worked with
    assert {job.state for job in ledger.due(100, 60)} == OPEN
    assert ledger.move(ledger.jobs(state="failed")[0].job_id, "intended").version == 3
    assert ledger.intend(envelope()).version == 1


def test_a_ledger_from_the_future_is_refused(ledger_url: str) -> None:
    ledger = Ledger(ledger_url)
    with ledger.transaction() as tx:
        tx.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(InputError, match=r"later version of this software \(revision 9999, known up to \d+\); update"):
        Ledger(ledger_url)


def test_a_ledger_at_its_newest_revision_opens_without_alembic(ledger_url: str) -> None:
    Ledger(ledger_url)
    code = (
        "import sys; from resources.ledger import Ledger; Ledger(sys.argv[1]).jobs(); print('alembic' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, ledger_url], cwd=PROJECT, capture_output=True, text=True
    )
    assert done.stdout.strip() == "False", done.stderr


def test_ledgers_opened_together_are_upgraded_once(ledger_url: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    make_old(ledger_url)
    with ThreadPoolExecutor(4) as pool:
        ledgers = list(pool.map(lambda _: Ledger(ledger_url), range(4)))
    assert len({json.dumps([job.job_id for job in ledger.jobs()]) for ledger in ledgers}) == 1


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hunter2@localhost:1/ledger",
        "postgresql://localhost:1/ledger?user=me&password=hunter2",
        "mysql://me:hunter2@localhost/ledger",
        "postgresql://me:hunter2@localhost:port/ledger",
        "hunter2",
    ],
)
def test_a_password_is_never_said(url: str) -> None:
    with pytest.raises(InputError) as caught:
        Ledger(url)
    told = f"{caught.value} {caught.value!r} {caught.value.__cause__!r}"
    assert "hunter2" not in told
    assert caught.value.fix
