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


@dataclass(frozen=True)
class Outcome:
    """How a run of the line ended.

    Attributes:
        run_id: Dagster's.
        problem: one sentence, ``None`` after success.
        failure_class: of the problem, where it has one.
        pending: the run is green but a job is still open.
    """

    run_id: str
    problem: str | None = None
    failure_class: str | None = None
    pending: bool = False


def stale_stages(instance: dg.DagsterInstance, graph: BaseAssetGraph, key: str) -> list[str]:
    """The stages of this partition that are missing or out of date, by data and code versions."""
    from dagster._core.loader import LoadingContextForTest  # the one concrete context outside a web request

    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    return [s for s in LINE if resolver.get_status(dg.AssetKey(s), key) != StaleStatus.FRESH]


def run_line(
    job: dg.JobDefinition, instance: dg.DagsterInstance, key: str, stages: Sequence[str] = LINE,
    tags: Mapping[str, str] | None = None, run_config: Mapping[str, Any] | None = None,
) -> Outcome:
    """Run stages of one partition in this process."""
    result = job.execute_in_process(
        instance=instance, partition_key=key, raise_on_error=False, tags=dict(tags or {}),
        asset_selection=[dg.AssetKey(s) for s in stages], run_config=run_config,
    )
    if result.success:
        done = {e.asset_key.path[-1] for e in result.get_asset_materialization_events() if e.asset_key}
        return Outcome(result.run_id, pending=not done.issuperset(stages))
    for event in result.all_events:
        if event.is_step_failure:
            return Outcome(result.run_id, *problem_of(event.step_failure_data))
    return Outcome(result.run_id, "the run failed before any step")


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
