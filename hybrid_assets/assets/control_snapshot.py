"""Stage 10, first: ledger, audit log and event log as tables, so that marts can read them.

Here: what is read and how it becomes rows. Not here: the tables' columns (``contracts.control``), what marts make of
them (``dbt_project``).
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from hybrid_assets import automation, contracts
from hybrid_assets.assets.stage import OWNERS, column_schema
from hybrid_assets.line import LINE
from resources.artifacts import ArtifactStore
from resources.audit import AuditLog
from resources.database import patient
from resources.dispatcher import Dispatcher
from resources.envelope import JobResult, digest_of
from resources.failures import InvariantError
from resources.lake import Lake
from resources.ledger import Job, Ledger, result_of
from resources.money import bills

#: Newest events exported per asset and per check; older ones stay in Dagster's own log.
NEWEST = 5000
TABLES = ("control_jobs", "control_job_events", "control_values", "control_materializations", "control_audit")
#: What a result says that is stored as a number of the job, under the same name.
MEASURED = (
    "shots",
    "tuning_shots",
    "discarded_shots",
    "circuits",
    "width",
    "depth",
    "two_qubit_gates",
    "logical_depth",
    "logical_two_qubit_gates",
    "success_probability",
    "expectation_raw",
    "expectation_mitigated",
    "estimated_cost",
    "actual_cost",
)
#: … and as JSON.
DOCUMENTED = ("parameters", "sdk_versions", "calibration", "layout")


@dataclass(frozen=True)
class Moment:
    """Ledger and audit log at one moment; ``bills`` are what jobs were charged, by id, over all their submissions;
    ``findings`` are what is wrong with the audit log, and in which rows."""

    jobs: list[Job]
    events: list[dict[str, Any]]
    bills: dict[str, float]
    audit: list[dict[str, Any]]
    findings: list[tuple[int, str]]


@dg.asset(
    group_name="5_publication",
    kinds={"sqlite", "delta"},
    owners=OWNERS,
    code_version="2",
    deps=[*LINE],
    automation_condition=automation.on_change,
    description="Jobs, their states and the audit log (read in one transaction of the ledger), materializations and "
    "check results, as tables of the lake.",
    metadata={
        "jobs": column_schema("control_jobs"),
        "job events": column_schema("control_job_events"),
        "values": column_schema("control_values"),
        "materializations": column_schema("control_materializations"),
        "audit log": column_schema("control_audit"),
    },
)
def control_snapshot(
    context: dg.AssetExecutionContext, dispatcher: dg.ResourceParam[Dispatcher], lake: dg.ResourceParam[Lake]
) -> dg.MaterializeResult:
    """Export ledger, audit log and event log."""
    now = moment(dispatcher.audit)
    jobs, values, unreadable = job_rows(now.jobs, dispatcher.artifacts, now.bills, dispatcher.ledger)
    rows = {
        "control_jobs": jobs,
        "control_job_events": now.events,
        "control_values": values,
        "control_materializations": [*materializations(context.instance), *checks(context.instance)],
        "control_audit": audit_rows(now.audit, {row for row, _ in now.findings}),
    }
    for table in TABLES:
        lake.write(table, contracts.frame_of(table, rows[table]), None, {"run_id": context.run.run_id})
    version = digest_of([len(rows[t]) for t in TABLES] + [[j.job_id, j.state] for j in now.jobs])
    for problem in [text for _, text in now.findings] + unreadable:
        context.log.error(problem)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(version),
        metadata={
            **{table: len(found) for table, found in rows.items()},
            "audit_verified": not now.findings,
            "audit_problems": len(now.findings),
            "unreadable_results": len(unreadable),
        },
    )


@patient
def moment(log: AuditLog) -> Moment:
    """Ledger and audit log in one read transaction."""
    with log.ledger.reading() as tx:
        return Moment(*log.ledger.snapshot(tx=tx), bills(tx), log.rows(tx=tx), log.findings(tx=tx))


def job_rows(
    jobs: list[Job], artifacts: ArtifactStore, charged: Mapping[str, float], ledger: Ledger
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """Jobs with their results, the values of those that have some, and what is wrong with results that cannot be read:
    one must not hold up all others."""
    rows: list[dict[str, Any]] = []
    values: list[dict[str, Any]] = []
    unreadable: list[str] = []
    # one result at a time: together they would be large
    for job in jobs:
        result = None
        if job.result_ref:
            try:
                result = result_of(job, artifacts.get(job.result_ref))
            except InvariantError as error:
                unreadable.append(f"{job.job_id}: {error}")
        # what ran elsewhere without an answer was paid for too
        rows.append(job_row(job, result) | ({"actual_cost": charged[job.job_id]} if job.job_id in charged else {}))
        if result and result.values:
            values += value_rows(job, result, ledger.envelope(job.envelope_digest).kind)
    return rows, values, unreadable


def value_rows(job: Job, result: JobResult, kind: str) -> list[dict[str, Any]]:
    """The values of a job of this kind, one row each."""
    return [
        {
            "job_id": job.job_id,
            "kind": kind,
            "row_index": i,
            "column_index": j,
            "value": value,
            "standard_error": result.standard_errors[i][j],
            "raw_value": result.raw_values[i][j] if result.raw_values else None,
            "post_processing": str(result.post_processing),
        }
        for i, row in enumerate(result.values)
        for j, value in enumerate(row)
    ]


def job_row(job: Job, result: JobResult | None) -> dict[str, Any]:
    """A job with what its result says about it."""
    row: dict[str, Any] = dict.fromkeys(contracts.TABLES["control_jobs"].columns)
    row |= dict.fromkeys(DOCUMENTED, "null") | {"parameters": "{}", "sdk_versions": "{}", "noise_dominated": False}
    row |= {k: v for k, v in job.__dict__.items() if k in row}
    if result is None:
        return row
    numbers = {k: getattr(result, k) for k in MEASURED}
    return (
        row
        | {f"{k}_seconds": v for k, v in result.timings.model_dump().items()}
        | {k: None if v is None else float(v) for k, v in numbers.items()}
        | {k: json.dumps(getattr(result, k)) for k in DOCUMENTED}
        | {
            "evidence_class": str(result.evidence_class),
            "backend_version": result.backend_version,
            "noise_dominated": result.noise_dominated,
            "cached": job.cached or result.cached,
        }
    )


def audit_rows(log: list[dict[str, Any]], broken: Collection[int]) -> list[dict[str, Any]]:
    """The audit log as stored, with the verdict on each row."""
    return [{**row, "verified": row["sequence"] not in broken} for row in log]


def materializations(instance: dg.DagsterInstance) -> Iterator[dict[str, Any]]:
    """The newest materializations of the stages."""
    for stage in LINE:
        for record in instance.fetch_materializations(dg.AssetKey(stage), limit=NEWEST).records:
            done = record.asset_materialization
            assert done is not None
            tags = done.tags or {}
            yield _event(
                stage,
                done.partition,
                record.run_id,
                record.timestamp,
                "materialization",
                data_version=tags.get("dagster/data_version"),
                code_version=tags.get("dagster/code_version"),
            )


def checks(instance: dg.DagsterInstance) -> Iterator[dict[str, Any]]:
    """The newest check results of the stages."""
    from hybrid_assets import checks as invariants

    for stage in LINE:
        for name in ("schema", *(check.name for check in invariants.of(stage))):
            key = dg.AssetCheckKey(dg.AssetKey(stage), name)
            for record in instance.event_log_storage.get_asset_check_execution_history(key, limit=NEWEST):
                event = record.event
                evaluated = event.dagster_event if event else None
                if evaluated is None or evaluated.event_type != dg.DagsterEventType.ASSET_CHECK_EVALUATION:
                    continue  # planned, not yet answered
                found = evaluated.asset_check_evaluation_data
                yield _event(
                    stage,
                    found.partition or record.partition,
                    record.run_id,
                    record.create_timestamp,
                    "check",
                    check_name=name,
                    passed=str(found.passed).lower(),
                    blocking=str(bool(found.blocking)).lower(),
                )


def _event(asset: str, partition: str | None, run_id: str, at: float, event: str, **more: Any) -> dict[str, Any]:
    row = dict.fromkeys(contracts.TABLES["control_materializations"].columns)
    return (
        row
        | {
            "asset": asset,
            "instance": partition,
            "family": partition.split(".")[0] if partition else None,
            "run_id": run_id,
            "at": datetime.fromtimestamp(at, UTC),
            "event": event,
        }
        | more
    )
