"""One instance through the line: which stages are stale, and running them in this process.

Here: what ``hybrid run``, ``hybrid solve`` and ``process_batch`` share. Not here: the stages (``assets``) or what a
terminal shows (``cli``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.execution.plan.objects import ErrorSource

from hybrid_assets.request import parse
from resources.ledger import Ledger, is_alive, this_process

if TYPE_CHECKING:
    from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph

#: Stages 2 to 9, in order.
LINE = (
    "normalized_inputs",
    "encoded_problems",
    "quantum_jobs",
    "quantum_samples",
    "scored_candidates",
    "baseline_runs",
    "baseline_comparisons",
    "decisions",
)
#: Run tag that names the process a run lives in.
PROCESS = "hybrid/process"
#: Run tag that names the batch a run is part of.
BATCH = "hybrid/batch"
#: Run tag with the backend of its jobs, where that is known before the run; ``dagster.yaml`` limits the runs of each.
BACKEND = "hybrid/backend"
#: Run tag of a run that only goes on after a job has ended: it does not send again what has failed.
CONTINUES = "hybrid/continues"


@dataclass(frozen=True)
class Outcome:
    """How a run of the line ended.

    Attributes:
        run_id: Dagster's.
        problem: one sentence, ``None`` after success.
        failure_class: of the problem, where it has one.
        pending: the run is green but a job is still open.
        infeasible: the problem is that the instance provably has no solution.
    """

    run_id: str
    problem: str | None = None
    failure_class: str | None = None
    pending: bool = False
    infeasible: bool = False


def stale_stages(instance: dg.DagsterInstance, graph: BaseAssetGraph, key: str) -> list[str]:
    """The stages of this partition to run: those missing or out of date by data and code versions, and all that
    follow from them."""
    from dagster._core.loader import LoadingContextForTest  # the one concrete context outside a web request

    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    stale: set[dg.AssetKey] = set()
    for stage in map(dg.AssetKey, LINE):
        # Dagster's own status looks one step up only
        if graph.get(stage).parent_keys & stale or resolver.get_status(stage, key) != StaleStatus.FRESH:
            stale.add(stage)
    return [stage for stage in LINE if dg.AssetKey(stage) in stale]


def run_line(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    key: str,
    stages: Sequence[str] = LINE,
    tags: Mapping[str, str] | None = None,
    run_config: Mapping[str, Any] | None = None,
) -> Outcome:
    """Run stages of one partition in this process.

    Raises:
        KeyboardInterrupt: somebody interrupted it. Dagster only fails the run, and whoever runs several would go on.
    """
    result = job.execute_in_process(
        instance=instance,
        partition_key=key,
        raise_on_error=False,
        tags=here(tags),
        asset_selection=[dg.AssetKey(s) for s in stages],
        run_config=run_config,
    )
    if result.success:
        done = {e.asset_key.path[-1] for e in result.get_asset_materialization_events() if e.asset_key}
        return Outcome(result.run_id, pending=not done.issuperset(stages))
    failures = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    if any(data.error_source is ErrorSource.INTERRUPT for data in failures):
        raise KeyboardInterrupt
    if failures:
        return Outcome(result.run_id, *problem_of(failures[0]), infeasible=_proves_none(failures[0]))
    return Outcome(result.run_id, "the run failed before any step")


def known_backend(ledger: Ledger, key: str, continues: bool) -> dict[str, str]:
    """The run tag ``BACKEND`` of an instance, empty before a route is known.

    Args:
        continues: the run goes on after a job, whose backend counts; otherwise the one that the request names.
    """
    landing, jobs = ledger.landing(key), ledger.jobs(instance=key) if continues else []
    named = parse(landing.options, landing.name).backend if landing is not None else None
    if jobs:
        named = jobs[-1].backend
    return {BACKEND: named} if named else {}


def here(tags: Mapping[str, str] | None = None) -> dict[str, str]:
    """Tags of a run in this process, so that ``bury_dead_runs`` can tell when it died."""
    return {**(tags or {}), PROCESS: this_process()}


def bury_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark the runs as failed whose process is gone, and return their ids.

    Dagster watches only runs that its own launcher started. Others would look alive for ever, fill the queue's limit
    and keep the publication waiting.
    """
    unfinished = [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
    dead = [
        run
        for run in instance.get_runs(dg.RunsFilter(statuses=unfinished))
        if PROCESS in run.tags and not is_alive(run.tags[PROCESS])
    ]
    for run in dead:
        instance.report_run_failed(run, f"Its process {run.tags[PROCESS]} died; run the instance again.")
        if instance.event_log_storage.supports_global_concurrency_limits:
            # its slots in a pool would stay taken where no daemon runs
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return [run.run_id for run in dead]


def _proves_none(data: Any) -> bool:
    user = data.user_failure_data
    said = user.metadata.get("infeasible") if user is not None else None
    return said is not None and bool(said.value)


def problem_of(data: Any) -> tuple[str, str | None]:
    """The sentence and failure class of a step failure."""
    user = data.user_failure_data
    if user is not None:
        kind = user.metadata.get("failure_class")
        return user.description or user.label, str(kind.value) if kind is not None else None
    error = data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return (error.message.strip().splitlines()[-1] if error else "unknown error"), None
