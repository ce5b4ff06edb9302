"""Sensors and schedules: who asks for stages 2 to 9.

Here: the inbox sensor, the sensor of open jobs and the nightly schedules. Not here: stage 10 (``automation``) or how
a file is read (``landing``).
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph

from hybrid_assets.assets.landed_files import observation, register
from hybrid_assets.jobs import baselines_again, instance_line, maintenance, process_batch
from hybrid_assets.landing import land_found, scan
from hybrid_assets.line import LINE, bury_dead_runs, stale_stages
from resources.dispatcher import Dispatcher
from resources.failures import InputError
from resources.home import inbox

#: Above this many changed instances, one batch run answers them all.
BATCH_ABOVE = 10
#: Seconds between looks at the inbox; a file is taken when two looks in a row see the same size and time.
LOOK_EVERY = 10
#: Seconds between ticks over the jobs that are out, and longest work of one; each job has its own growing interval.
FOLLOW_EVERY, FOLLOW_SECONDS = 5, 20.0


def look(
    cursor: str | None, dispatcher: Dispatcher, instance: dg.DagsterInstance, graph: BaseAssetGraph
) -> dg.SensorResult:
    """One look at the inbox: what is new, changed, still being copied, wrong or gone.

    The cursor holds the stamp (size and time) of every file as last seen and as last taken. What has landed is
    registered at once and asked for while it is stale, so a look that dies half-way is made good by the next one, and
    what ``hybrid run`` has answered already is left alone.
    """
    ledger = dispatcher.ledger
    state: dict[str, dict[str, str]] = json.loads(cursor) if cursor else {}
    found = {str(f.path): f for f in scan(inbox())}
    now_seen = {path: f.stamp for path, f in found.items()}
    # a file that vanished is forgotten, so that it counts as new when it comes back
    taken = {path: stamp for path, stamp in state.get("taken", {}).items() if path in found}
    present = {landing.instance for landing in ledger.landings() if landing.state == "present"}
    keys, wrong = [], []
    for path, file in found.items():
        if taken.get(path) == file.stamp or state.get("seen", {}).get(path) != file.stamp:
            continue
        taken[path] = file.stamp
        try:
            landings = land_found(ledger, dispatcher.artifacts, file)
        except InputError as error:
            wrong.append(dg.AssetObservation("landed_files", description=str(error), metadata={"path": path}))
            continue
        for landing in landings:
            register(instance, landing)
        keys += [landing.instance for landing in landings if stale_stages(instance, graph, landing.instance)]
    for landing in ledger.landings():
        lost = Path(landing.path).is_relative_to(inbox()) and landing.path not in found
        if landing.state == "present" and lost:
            ledger.mark_landing(landing.instance, "deleted")
    gone = [
        observation(landing, f"It is no longer in the inbox; `hybrid retire {landing.instance}` retires its partition.")
        for landing in ledger.landings()
        if landing.state == "deleted" and landing.instance in present
    ]
    unfinished = sum(1 for path, stamp in now_seen.items() if taken.get(path) != stamp)
    notes = [f"{len(wrong)} refused: {'; '.join(str(w.description) for w in wrong[:3])}"] if wrong else []
    notes += [f"deleted: {', '.join(str(g.partition) for g in gone[:5])}"] if gone else []
    notes += [f"{unfinished} still changing"] if unfinished else []
    return dg.SensorResult(
        run_requests=requests(keys),
        asset_events=[*wrong, *gone],
        skip_reason=None if keys else dg.SkipReason("; ".join(notes) or "nothing new"),
        cursor=json.dumps({"seen": now_seen, "taken": taken}),
    )


def requests(keys: list[str]) -> list[dg.RunRequest]:
    """One run per instance, or one for all above ``BATCH_ABOVE``."""
    if len(keys) > BATCH_ABOVE:
        return [dg.RunRequest(job_name="process_batch", run_config={"ops": {"run_batch": {"config": {"keys": keys}}}})]
    return [dg.RunRequest(job_name="instance_line", partition_key=key) for key in keys]


def follow(
    cursor: str | None, dispatcher: Dispatcher, instance: dg.DagsterInstance, graph: BaseAssetGraph
) -> dg.SensorResult:
    """Reconcile the jobs that are out, and ask for the remaining stages of instances whose jobs have ended.

    The cursor holds the end of the newest job seen and the instances still to be continued, so a tick that dies is
    made good by the next one. Jobs that go on to a backend on this machine are run by the partition's own run.
    """
    state: dict[str, Any] = json.loads(cursor) if cursor else {"since": "", "open": []}
    until = time.monotonic() + FOLLOW_SECONDS
    looked = 0
    problems: list[str] = []
    while True:
        done = dispatcher.reconcile(local=False)
        looked, problems = looked + done.looked, problems + done.problems
        if not done.looked or time.monotonic() > until:
            break
    jobs = dispatcher.ledger.jobs()
    ended = [job for job in jobs if job.ended_at is not None]
    here = [job for job in jobs if job.state == "intended" and not dispatcher.is_remote(job.backend)]
    fresh = [job for job in ended if job.ended_at is not None and job.ended_at.isoformat() > state["since"]]
    priority = {job.instance: job.priority for job in jobs}
    present = set(instance.get_dynamic_partitions("instances"))
    waiting = dict.fromkeys([*state["open"], *(job.instance for job in [*fresh, *here])])
    busy = _busy(instance) if waiting else set()
    ready, later = {}, []
    for key in waiting:
        stages = stale_stages(instance, graph, key) if key in present else []
        if key in busy:
            later.append(key)
        elif "quantum_samples" in stages and "quantum_jobs" not in stages:
            ready[key] = stages
    out = sum(1 for job in jobs if job.ended_at is None)
    notes = [f"{out} jobs open, {looked} looked at", *problems[:3]]
    return dg.SensorResult(
        run_requests=continuations(ready, priority),
        skip_reason=None if ready else dg.SkipReason("; ".join(notes)),
        cursor=json.dumps(
            {
                "since": max((job.ended_at.isoformat() for job in ended if job.ended_at), default=state["since"]),
                "open": later,
            }
        ),
    )


def _busy(instance: dg.DagsterInstance) -> set[str]:
    """Partitions that a run is working on, or is about to."""
    active = [
        dg.DagsterRunStatus.QUEUED,
        dg.DagsterRunStatus.NOT_STARTED,
        dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.STARTED,
    ]
    runs = instance.get_runs(dg.RunsFilter(statuses=active))
    return {run.tags["dagster/partition"] for run in runs if "dagster/partition" in run.tags}


def continuations(ready: dict[str, list[str]], priority: dict[str, int]) -> list[dg.RunRequest]:
    """One run per instance, or one for all above ``BATCH_ABOVE``; the job's priority is the run's."""
    if len(ready) > BATCH_ABOVE:
        config = {"keys": list(ready), "stages": list(LINE[LINE.index("quantum_samples") :])}
        return [dg.RunRequest(job_name="process_batch", run_config={"ops": {"run_batch": {"config": config}}})]
    return [
        dg.RunRequest(
            job_name="instance_line",
            partition_key=key,
            asset_selection=[dg.AssetKey(stage) for stage in stages],
            tags={"dagster/priority": str(priority.get(key, 0))},
        )
        for key, stages in ready.items()
    ]


def build(run_by_default: bool) -> tuple[list[dg.SensorDefinition], list[dg.ScheduleDefinition]]:
    """The sensors and schedules, started by themselves where the environment says so."""
    status = dg.DefaultSensorStatus.RUNNING if run_by_default else dg.DefaultSensorStatus.STOPPED

    @dg.sensor(
        name="inbox",
        jobs=[instance_line, process_batch],
        minimum_interval_seconds=LOOK_EVERY,
        default_status=status,
        description="New and changed files in the inbox become partitions and runs; deleted ones are reported.",
    )
    def inbox_sensor(context: dg.SensorEvaluationContext, dispatcher: dg.ResourceParam[Dispatcher]) -> dg.SensorResult:
        bury_dead_runs(context.instance)
        assert context.repository_def is not None, "a sensor is evaluated within its definitions"
        return look(context.cursor, dispatcher, context.instance, context.repository_def.asset_graph)

    @dg.sensor(
        name="open_jobs",
        jobs=[instance_line, process_batch],
        minimum_interval_seconds=FOLLOW_EVERY,
        default_status=status,
        description="Polls jobs that are out, in batches and at growing intervals, and continues their partitions.",
    )
    def open_jobs_sensor(
        context: dg.SensorEvaluationContext, dispatcher: dg.ResourceParam[Dispatcher]
    ) -> dg.SensorResult:
        assert context.repository_def is not None, "a sensor is evaluated within its definitions"
        return follow(context.cursor, dispatcher, context.instance, context.repository_def.asset_graph)

    on = dg.DefaultScheduleStatus.RUNNING if run_by_default else dg.DefaultScheduleStatus.STOPPED

    @dg.schedule(
        job=baselines_again,
        cron_schedule="0 2 * * *",
        default_status=on,
        description="Nightly: the baselines of every instance again.",
    )
    def nightly_baselines(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        for key in context.instance.get_dynamic_partitions("instances"):
            yield dg.RunRequest(partition_key=key, run_key=f"{context.scheduled_execution_time:%Y-%m-%d}:{key}")

    @dg.schedule(
        job=process_batch,
        cron_schedule="0 3 * * *",
        default_status=on,
        description="Nightly: the whole suite of instances in one run.",
    )
    def nightly_suite(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        keys = sorted(context.instance.get_dynamic_partitions("instances"))
        if not keys:
            return dg.SkipReason("there is no instance yet")
        return dg.RunRequest(run_config={"ops": {"run_batch": {"config": {"keys": keys}}}})

    weekly = dg.ScheduleDefinition(
        name="weekly_maintenance",
        job=maintenance,
        cron_schedule="0 5 * * 0",
        default_status=on,
        description="Weekly: compact and vacuum the lake.",
    )
    return [inbox_sensor, open_jobs_sensor], [nightly_baselines, nightly_suite, weekly]
