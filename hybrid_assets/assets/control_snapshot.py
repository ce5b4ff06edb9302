"""Stage 10, first: the ledger and the event log as tables, so that marts can read them."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from hybrid_assets import automation, contracts
from hybrid_assets.assets.stage import OWNERS, column_schema
from hybrid_assets.line import LINE
from resources.dispatcher import Dispatcher
from resources.envelope import digest_of
from resources.lake import Lake
from resources.ledger import Job

#: Newest events exported per asset and per check; older ones stay in Dagster's own log.
NEWEST = 5000
TABLES = ("control_jobs", "control_job_events", "control_materializations")


@dg.asset(
    group_name="5_publication",
    kinds={"sqlite", "delta"},
    owners=OWNERS,
    code_version="1",
    deps=[*LINE],
    automation_condition=automation.on_change,
    description="Jobs and their states (read in one transaction of the ledger), materializations and check results, "
    "as tables of the lake.",
    metadata={
        "jobs": column_schema("control_jobs"),
        "job events": column_schema("control_job_events"),
        "materializations": column_schema("control_materializations"),
    },
)
def control_snapshot(
    context: dg.AssetExecutionContext, dispatcher: dg.ResourceParam[Dispatcher], lake: dg.ResourceParam[Lake]
) -> dg.MaterializeResult:
    """Export ledger and event log."""
    jobs, events = dispatcher.ledger.snapshot()
    rows = {
        "control_jobs": [job_row(job, dispatcher) for job in jobs],
        "control_job_events": [{**event, "at": _utc(event["at"])} for event in events],
        "control_materializations": [*materializations(context.instance), *checks(context.instance)],
    }
    for table in TABLES:
        lake.write(table, contracts.frame_of(table, rows[table]), None, {"run_id": context.run.run_id})
    version = digest_of([len(rows[t]) for t in TABLES] + [[j.job_id, j.state] for j in jobs])
    return dg.MaterializeResult(
        data_version=dg.DataVersion(version), metadata={table: len(found) for table, found in rows.items()}
    )


def job_row(job: Job, dispatcher: Dispatcher) -> dict[str, Any]:
    """A job with what its result says about it."""
    result = dispatcher.stored_result(job.job_id) if job.result_ref else None
    measured: dict[str, Any] = {}
    if result is not None:
        measured = {
            "evidence_class": str(result.evidence_class),
            **{f"{k}_seconds": v for k, v in result.timings.model_dump().items()},
            **{
                k: float(getattr(result, k))
                for k in (
                    "shots",
                    "tuning_shots",
                    "circuits",
                    "width",
                    "depth",
                    "two_qubit_gates",
                    "estimated_cost",
                    "actual_cost",
                )
            },
            "fallback_path": json.dumps([hop.model_dump() for hop in result.fallback_path]),
            "parameters": json.dumps(result.parameters),
            "sdk_versions": json.dumps(result.sdk_versions),
            "calibration": json.dumps(result.calibration),
        }
    row = dict.fromkeys(contracts.TABLES["control_jobs"].columns)
    row |= {"fallback_path": "[]", "parameters": "{}", "sdk_versions": "{}", "calibration": "null"}
    row |= {k: v for k, v in job.__dict__.items() if k in row} | measured
    return row | {"created_at": _utc(job.created_at), "updated_at": _utc(job.updated_at)}


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


def _utc(moment: datetime) -> datetime:
    """SQLite gives times back without their zone; they were stored as UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
