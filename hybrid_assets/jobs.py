"""Jobs: one instance through stages 2 to 9, a batch of them in one run, the publication, maintenance, and what people
decide about quantum jobs.

Here: selections and the op jobs. Not here: who launches them (``sensors``, ``automation``, ``cli``).
"""

import time
from typing import Literal

import dagster as dg
from pydantic import Field

from hybrid_assets.automation import ONE_AT_A_TIME
from hybrid_assets.line import BATCH, CONTINUES, LINE, known_backend, run_line
from resources.backends import notes
from resources.dispatcher import Dispatcher
from resources.failures import HybridError
from resources.lake import Lake

instance_line = dg.define_asset_job(
    "instance_line",
    selection=dg.AssetSelection.assets(*LINE),
    description="One instance through stages 2 to 9, in process.",
)

baselines_again = dg.define_asset_job(
    "baselines_again",
    selection=dg.AssetSelection.assets("baseline_runs", "baseline_comparisons", "decisions"),
    description="Baselines, comparison and decision of one instance once more (nightly telemetry).",
)

publication = dg.define_asset_job(
    "publication",
    selection=dg.AssetSelection.groups("5_publication"),
    description="Stage 10: snapshot, marts, swap, report. One at a time.",
    tags=ONE_AT_A_TIME,
)


class Batch(dg.Config):
    """Instances of one burst, and the stages to run for each."""

    keys: list[str]
    stages: list[str] = Field(default_factory=lambda: list(LINE))


@dg.op(description="Runs each instance's line in turn, in this process; one failing instance does not stop the rest.")
def run_batch(context: dg.OpExecutionContext, config: Batch, dispatcher: dg.ResourceParam[Dispatcher]) -> None:
    """Run the line for every key of the batch; jobs for a remote backend go out together at its end."""
    failed = {}
    tags = {BATCH: context.run.run_id}
    tags |= {name: context.run.tags[name] for name in (CONTINUES,) if name in context.run.tags}
    for number, key in enumerate(config.keys, start=1):
        started = time.perf_counter()
        job = context.repository_def.get_job("instance_line")
        # not queued, but the queue counts it among the runs of its backend
        of_key = tags | known_backend(dispatcher.ledger, key, CONTINUES in tags)
        outcome = run_line(job, context.instance, key, config.stages, of_key)
        problem = outcome.problem
        state = f"failed: {problem}" if problem else "pending" if outcome.pending else "done"
        context.log.info(f"[{number}/{len(config.keys)}] {key}: {state} ({time.perf_counter() - started:.1f} s)")
        if problem:
            failed[key] = problem
    held = [
        job.job_id for key in config.keys for job in dispatcher.ledger.jobs(instance=key) if job.state == "intended"
    ]
    if held:
        dispatcher.send_held(held)
        context.log.info(f"{len(held)} jobs sent together")
    if failed:
        raise dg.Failure(
            f"{len(failed)} of {len(config.keys)} instances failed: "
            + "; ".join(f"{k}: {p}" for k, p in list(failed.items())[:5]),
            allow_retries=False,
        )


@dg.job(description="A burst of instances as one run: a sensor-launched run costs seconds, an instance does not.")
def process_batch() -> None:
    """All instances of a burst."""
    run_batch()


class Retention(dg.Config):
    """How much history maintenance keeps."""

    retention_hours: int = 24 * 30


@dg.op(description="Compact the lake's tables and remove files that no version within the retention needs.")
def maintain(context: dg.OpExecutionContext, config: Retention, lake: dg.ResourceParam[Lake]) -> None:
    """Compact and vacuum."""
    context.log.info(f"lake: {lake.compact_and_vacuum(config.retention_hours)}")
    context.log.info(f"notes of jobs that ended without a result: {notes.sweep(config.retention_hours)} removed")


@dg.job(description="Compaction and retention of the lake.")
def maintenance() -> None:
    """House-keeping of the lake."""
    maintain()


class Answer(dg.Config):
    """What a person says about a job that waits."""

    job_id: str
    decision: Literal["approved", "rejected"]
    by: str
    reason: str


@dg.op(description="Answer a job in awaiting_approval; who, when and why stand in the audit log.")
def decide(context: dg.OpExecutionContext, config: Answer, dispatcher: dg.ResourceParam[Dispatcher]) -> None:
    """Approve or reject."""
    try:
        job = dispatcher.decide(config.job_id, config.decision, by=config.by, reason=config.reason)
    except HybridError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    context.log.info(f"{job.job_id} is {job.state}")


@dg.job(description="Approve or reject a job that waits for a person.")
def approval() -> None:
    """As `hybrid approve` and `hybrid reject`."""
    decide()


class Stop(dg.Config):
    """Which job to stop."""

    job_id: str
    by: str
    reason: str


@dg.op(description="Cancel an open job, at its provider too.")
def stop(context: dg.OpExecutionContext, config: Stop, dispatcher: dg.ResourceParam[Dispatcher]) -> None:
    """Cancel."""
    try:
        job = dispatcher.cancel(config.job_id, by=config.by, reason=config.reason)
    except HybridError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    context.log.info(f"{job.job_id} is {job.state}")


@dg.job(description="Cancel an open job, at its provider too.")
def cancellation() -> None:
    """As `hybrid cancel`."""
    stop()
