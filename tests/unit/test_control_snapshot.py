"""The snapshot shows ledger and audit log as they were at one moment, and what is wrong with either."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import sqlalchemy as sa

from hybrid_assets.assets.control_snapshot import audit_rows, job_rows, moment
from hybrid_assets.contracts import arrow_schema, frame_of
from resources.artifacts import ArtifactStore
from resources.audit import AuditLog
from resources.envelope import PAULI, Algorithm, JobEnvelope, JobResult, digest_of
from resources.lake import Lake
from resources.ledger import Job, Ledger
from resources.ledger_tables import AUDIT
from resources.money import Spending, month_of
from resources.policy import Policy
from tests.rows import rows
from tests.unit.test_audit import tamper
from tests.unit.test_envelope import envelope, result

NOISY = {
    "success_probability": 0.01,
    "logical_depth": 3,
    "logical_two_qubit_gates": 2,
    "layout": (2, 0),
    "expectation_raw": -1.5,
    "expectation_mitigated": -1.75,
    "discarded_shots": 7,
    "calibration": {"time": "2026-01-01T00:00:00+00:00"},
}


def succeeded(ledger: Ledger, artifacts: ArtifactStore, asked: JobEnvelope | None = None, **changes: Any) -> Job:
    """A job with a stored result."""
    job = ledger.intend(asked or envelope())
    made = JobResult(**(result() | {"envelope_digest": job.envelope_digest} | changes))
    ledger.move(job.job_id, "submitting", attempts=1)
    ledger.move(job.job_id, "submitted", sent_at=datetime.now(UTC))
    return ledger.move(
        job.job_id,
        "succeeded",
        result_ref=artifacts.put(made.model_dump_json().encode()),
        evidence_class=str(made.evidence_class),
    )


def test_a_job_has_its_results_numbers_and_its_own(ledger_url: str, tmp_path: Path) -> None:
    ledger, artifacts = Ledger(ledger_url), ArtifactStore(tmp_path)
    job = succeeded(ledger, artifacts, **NOISY)
    found, values, unreadable = job_rows([job], artifacts, {}, ledger)
    assert (values, unreadable) == ([], [])
    (row,) = frame_of("control_jobs", found).to_dict("records")
    for name, value in NOISY.items():
        if name in ("layout", "calibration"):
            assert json.loads(row[name]) == (list(value) if isinstance(value, tuple) else value)
        else:
            assert row[name] == value, name
    assert row["noise_dominated"]
    assert not row["cached"]
    assert (row["owner"], row["policy_version"], row["priority"]) == (job.owner, job.policy_version, job.priority)
    assert (row["sent_at"], row["ended_at"]) == (job.sent_at, job.ended_at)
    assert str(row["started_at"]) == "NaT"


def test_a_job_costs_what_all_its_submissions_were_charged(ledger_url: str, tmp_path: Path) -> None:
    ledger, artifacts = Ledger(ledger_url), ArtifactStore(tmp_path)
    spending, job = Spending(ledger, Policy()), succeeded(ledger, artifacts, actual_cost=2.0)
    with ledger.transaction() as tx:
        # one ran without an answer, one answered, one never began
        for key, amount in (("first", 1.5), (job.provider_key, 2.0), ("third", 9.0)):
            spending.reserve(tx, [(replace(job, provider_key=key), amount)])
        spending.settle(tx, replace(job, provider_key="first"), math.nan)
        spending.settle(tx, job, 2.0)
        spending.release(tx, replace(job, provider_key="third"))
    now = moment(AuditLog(ledger))
    (row,) = job_rows(now.jobs, artifacts, now.bills, ledger)[0]
    assert row["actual_cost"] == 3.5 == spending.spent(job.owner, month_of()).money


def test_a_job_without_a_result_has_the_ledgers_numbers(ledger_url: str, tmp_path: Path) -> None:
    ledger = Ledger(ledger_url)
    job = ledger.intend(envelope())
    job = ledger.touch(job.job_id, estimated_cost=1.25, evidence_class="classical", cached=True)
    (row,) = frame_of("control_jobs", job_rows([job], ArtifactStore(tmp_path), {}, ledger)[0]).to_dict("records")
    assert (row["estimated_cost"], row["evidence_class"], row["cached"]) == (1.25, "classical", True)
    assert (row["success_probability"] != row["success_probability"], row["noise_dominated"]) == (True, False)


def test_values_are_rows_with_their_errors(ledger_url: str, tmp_path: Path) -> None:
    ledger, artifacts = Ledger(ledger_url), ArtifactStore(tmp_path)
    tables = {"values": ((0.5, -1.0),), "standard_errors": ((0.1, 0.0),), "raw_values": ((0.4, -0.9),)}
    asked = envelope(kind="kernel", algorithm=Algorithm(name=PAULI))
    job = succeeded(ledger, artifacts, asked, samples=(), post_processing="mitigated", **tables)
    first, second = frame_of("control_values", job_rows([job], artifacts, {}, ledger)[1]).to_dict("records")
    assert (first["job_id"], first["kind"], first["row_index"], first["column_index"]) == (job.job_id, "kernel", 0, 0)
    assert (first["value"], first["standard_error"], first["raw_value"]) == (0.5, 0.1, 0.4)
    assert (second["column_index"], second["value"], second["post_processing"]) == (1, -1.0, "mitigated")


def test_one_damaged_result_does_not_hold_up_the_others(ledger_url: str, tmp_path: Path) -> None:
    ledger, artifacts = Ledger(ledger_url), ArtifactStore(tmp_path)
    good = succeeded(ledger, artifacts)
    other = ledger.intend(envelope(repetition=1))
    gone = ledger.touch(other.job_id, result_ref=digest_of("gone"))
    # the result of another job
    foreign = ledger.touch(ledger.intend(envelope(repetition=2)).job_id, result_ref=good.result_ref)
    found, _, unreadable = job_rows([good, gone, foreign], artifacts, {}, ledger)
    assert [(row["job_id"], row["width"]) for row in found] == [
        (good.job_id, 2.0), (gone.job_id, None), (foreign.job_id, None)
    ]  # fmt: skip
    assert [problem.partition(":")[0] for problem in unreadable] == [gone.job_id, foreign.job_id]


def test_ledger_and_audit_log_are_of_one_moment(ledger_url: str) -> None:
    ledger, elsewhere = Ledger(ledger_url), Ledger(ledger_url)
    log = AuditLog(ledger)
    first = ledger.intend(envelope())
    log.append(actor="a", action="submit", job_id=first.job_id)
    late: list[str] = []

    @sa.event.listens_for(ledger.engine, "after_cursor_execute")
    def meanwhile(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "FROM jobs" in statement and not late:
            late.append(elsewhere.intend(envelope(repetition=1)).job_id)
            AuditLog(elsewhere).append(actor="b", action="submit", job_id=late[0])

    now = moment(log)
    assert late
    assert [job.job_id for job in now.jobs] == [first.job_id] == [row["job_id"] for row in now.audit]
    assert {event["job_id"] for event in now.events} == {first.job_id}
    assert now.findings == []
    assert [job.job_id for job in moment(log).jobs] == [first.job_id, late[0]]


def test_altered_and_missing_rows_are_marked(ledger_url: str) -> None:
    log = AuditLog(Ledger(ledger_url))
    for number in range(6):
        log.append(actor="reconciler", action="submit", job_id=f"job-{number}", detail={"n": number})
    here = AUDIT.c.sequence
    tamper(log, AUDIT.update().where(here == 2).values(reason="x", at="?", detail="no JSON"),
           AUDIT.delete().where(here == 4))  # fmt: skip
    now = moment(log)
    frame = frame_of("control_audit", audit_rows(now.audit, {row for row, _ in now.findings}))
    assert dict(zip(frame["sequence"], frame["verified"], strict=True)) == {
        1: True, 2: False, 3: True, 5: False, 6: True
    }  # fmt: skip
    # a row that is marked intact can be proven to be: the texts are those that were hashed
    for row in frame.drop(columns="verified").to_dict("records"):
        intact = digest_of({k: v for k, v in row.items() if k != "digest"}) == row["digest"]
        assert intact == (row["sequence"] != 2)
    tamper(log, AUDIT.delete().where(here == 6))
    assert [row for row, _ in moment(log).findings] == [2, 5, 5]


def test_a_lake_from_before_the_control_plane_is_extended(tmp_path: Path) -> None:
    schema = arrow_schema("control_jobs")
    before = pa.schema(list(schema)[: schema.names.index("error") + 1])
    frame = frame_of("control_jobs", rows("control_jobs"))
    old = Lake(tmp_path, {"control_jobs": before})
    old.ensure_tables()
    old.write("control_jobs", frame[before.names], None, {})
    new = Lake(tmp_path, {"control_jobs": schema})
    new.ensure_tables()
    assert list(new.read("control_jobs")) == list(frame)
    new.write("control_jobs", frame, None, {})
    pd.testing.assert_frame_equal(new.read("control_jobs"), frame)
