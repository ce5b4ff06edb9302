"""Sensors and schedules: who asks for stages 2 to 9.

Here: the sensors of the inbox, of open jobs and of cancelled runs, and the nightly schedules. Not here: stage 10
(``automation``) or how a file is read (``landing``).
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.storage.tags import PRIORITY_TAG

from hybrid_assets.assets.landed_files import observation, register
from hybrid_assets.jobs import baselines_again, instance_line, maintenance, process_batch
from hybrid_assets.landing import land_found, scan
from hybrid_assets.line import BACKEND, BATCH, CONTINUES, LINE, bury_dead_runs, known_backend, stale_stages
from hybrid_assets.request import parse
from resources.audit import actor
from resources.controls import Mode
from resources.dispatcher import Dispatcher
from resources.failures import HybridError, InputError
from resources.home import inbox
from resources.ledger import Ledger
from resources.ledger_tables import TERMINAL, Job
from resources.reconciler import recent

#: Above this many changed instances, one batch run answers them all.
BATCH_ABOVE = 10
#: Seconds between looks at the inbox; a file is taken when two looks in a row see the same size and time.
LOOK_EVERY = 10
#: Seconds between ticks over the jobs that are out, and longest work of one; each job has its own growing interval.
FOLLOW_EVERY, FOLLOW_SECONDS = 5, 20.0
#: When something that did not help is asked for again.
ASK_AGAIN = timedelta(minutes=1)


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
    keys: dict[str, int] = {}
    wrong = []
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
        stale = [landing for landing in landings if stale_stages(instance, graph, landing.instance)]
        keys |= {landing.instance: parse(landing.options, landing.name).priority or 0 for landing in stale}
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
        run_requests=requests(keys, ledger),
        asset_events=[*wrong, *gone],
        skip_reason=None if keys else dg.SkipReason("; ".join(notes) or "nothing new"),
        cursor=json.dumps({"seen": now_seen, "taken": taken}),
    )


def requests(keys: Mapping[str, int], ledger: Ledger) -> list[dg.RunRequest]:
    """One run per instance, with the backend that its request names, or one for all above ``BATCH_ABOVE``.

    Args:
        keys: instances, each with its request's priority.
    """
    if len(keys) > BATCH_ABOVE:
        ordered = sorted(keys, key=lambda key: -keys[key])
        return [_batch(ordered, tags={PRIORITY_TAG: str(keys[ordered[0]])})]
    return [
        dg.RunRequest(
            job_name="instance_line",
            partition_key=key,
            tags={PRIORITY_TAG: str(priority), **known_backend(ledger, key, continues=False)},
        )
        for key, priority in keys.items()
    ]


def _batch(keys: list[str], stages: Sequence[str] = LINE, tags: Mapping[str, str] | None = None) -> dg.RunRequest:
    config = {"keys": keys, "stages": list(stages)}
    return dg.RunRequest(job_name="process_batch", run_config={"ops": {"run_batch": {"config": config}}}, tags=tags)


def follow(
    cursor: str | None, dispatcher: Dispatcher, instance: dg.DagsterInstance, graph: BaseAssetGraph
) -> dg.SensorResult:
    """Reconcile the jobs that are out, and ask for the remaining stages of instances whose jobs have ended.

    Every end of a job asks once, whatever became of it: of a job without a result the run says why. The cursor holds
    the newest end seen, the jobs that were open, and the instances still to be continued, so a tick that dies is made
    good by the next one. Jobs that go on to a backend on this machine are run by the partition's own run.
    """
    state: dict[str, Any] = json.loads(cursor) if cursor else {"since": None, "out": [], "keys": [], "here": {}}
    looked, problems = _reconcile(dispatcher, time.monotonic() + FOLLOW_SECONDS)
    since = datetime.fromisoformat(state["since"]) if state["since"] else None
    jobs = recent(dispatcher, since, state["out"])
    waiting = dict.fromkeys([*state["keys"], *(key for job, key in jobs if job.ended_at is not None)])
    here = {key for job, key in jobs if _runs_here(dispatcher, job)}
    now = datetime.now(UTC)
    # a run may leave such a job as it is (a limit, a death): it is asked for again, but not at every tick
    asked = {k: at for k, at in state["here"].items() if k in here and now - datetime.fromisoformat(at) < ASK_AGAIN}
    waiting |= dict.fromkeys(sorted(here - asked.keys()))
    ready, later = _to_continue(waiting, instance, graph)
    asked |= {key: now.isoformat() for key in ready if key in here}
    out = {job.job_id for job, _ in jobs if job.ended_at is None}
    ends = [job.ended_at.isoformat() for job, _ in jobs if job.ended_at is not None]
    notes = [f"{len(out)} jobs open, {looked} looked at", *problems[:3]]
    return dg.SensorResult(
        run_requests=continuations(ready, dispatcher),
        skip_reason=None if ready else dg.SkipReason("; ".join(notes)),
        cursor=json.dumps(
            {"since": max(ends, default=state["since"]), "out": sorted(out), "keys": later, "here": asked}
        ),
    )


def _reconcile(dispatcher: Dispatcher, until: float) -> tuple[int, list[str]]:
    """Rounds of reconciliation until nothing is due; how many jobs were looked at, and what went wrong."""
    looked = 0
    problems: list[str] = []
    while True:
        done = dispatcher.reconcile(local=False)
        looked, problems = looked + done.looked, problems + done.problems
        if not done.looked or time.monotonic() > until:
            return looked, problems


def _runs_here(dispatcher: Dispatcher, job: Job) -> bool:
    """Whether a job only waits for a run on this machine."""
    if job.state != "intended" or dispatcher.is_remote(job.backend):
        return False
    return dispatcher.controls.mode(job.backend) is not Mode.PAUSED


def _to_continue(
    keys: Iterable[str], instance: dg.DagsterInstance, graph: BaseAssetGraph
) -> tuple[dict[str, list[str]], list[str]]:
    """Instances whose remaining stages can run now, with those stages; and those to be looked at by the next tick."""
    ready: dict[str, list[str]] = {}
    later: list[str] = []
    busy, until = _busy(instance) if keys else set(), time.monotonic() + FOLLOW_SECONDS
    for key in keys:
        if key in busy or time.monotonic() > until:
            later.append(key)
        elif instance.has_dynamic_partition("instances", key) and not _was_cancelled(instance, key):
            stages = stale_stages(instance, graph, key)
            if "quantum_samples" in stages and "quantum_jobs" not in stages:
                ready[key] = stages
    return ready, later


def _busy(instance: dg.DagsterInstance) -> set[str]:
    """Partitions that a run is working on, or is about to."""
    active = [
        dg.DagsterRunStatus.QUEUED,
        dg.DagsterRunStatus.NOT_STARTED,
        dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.STARTED,
        dg.DagsterRunStatus.CANCELING,
    ]
    return {key for run in instance.get_runs(dg.RunsFilter(statuses=active)) for key in keys_of(run)}


def _was_cancelled(instance: dg.DagsterInstance, key: str) -> bool:
    """Whether a person has stopped the newest run of a partition, or the batch it was part of."""
    newest = next(iter(instance.get_runs(dg.RunsFilter(tags={"dagster/partition": key}), limit=1)), None)
    if newest is not None and BATCH in newest.tags:
        newest = instance.get_run_by_id(newest.tags[BATCH]) or newest
    return newest is not None and newest.status is dg.DagsterRunStatus.CANCELED


def keys_of(run: dg.DagsterRun) -> list[str]:
    """The instances that a run takes through stages of the line."""
    if run.job_name == "process_batch":
        config: Any = run.run_config
        return list(config["ops"]["run_batch"]["config"]["keys"])
    return [run.tags["dagster/partition"]] if "dagster/partition" in run.tags else []


def continuations(ready: Mapping[str, list[str]], dispatcher: Dispatcher) -> list[dg.RunRequest]:
    """One run per instance, or one for all above ``BATCH_ABOVE``. Priority, correlation id and backend of the job are
    the run's."""
    newest = {key: dispatcher.ledger.jobs(instance=key)[-1] for key in ready}
    keys = sorted(ready, key=lambda key: -newest[key].priority)
    if len(ready) > BATCH_ABOVE:
        tags = {CONTINUES: "yes", PRIORITY_TAG: str(newest[keys[0]].priority)}
        return [_batch(keys, LINE[LINE.index("quantum_samples") :], tags)]
    return [
        dg.RunRequest(
            job_name="instance_line",
            partition_key=key,
            asset_selection=[dg.AssetKey(stage) for stage in ready[key]],
            tags={
                CONTINUES: "yes",
                PRIORITY_TAG: str(newest[key].priority),
                BACKEND: newest[key].backend,
                **({"hybrid/correlation_id": newest[key].correlation_id} if newest[key].instance == key else {}),
            },
        )
        for key in keys
    ]


def stop_cancelled(cursor: str | None, dispatcher: Dispatcher, instance: dg.DagsterInstance) -> dg.SensorResult:
    """Cancel, at their providers, the open jobs of runs that a person has cancelled.

    A run whose process was only interrupted or restarted ends as failed, never as cancelled, and keeps its jobs. What
    cannot be cancelled now (the provider is away) stays in the cursor and is tried again.
    """
    now = datetime.now(UTC)
    state: dict[str, Any] = json.loads(cursor) if cursor else {"since": now.isoformat(), "seen": [], "jobs": {}}
    # a little further back, because a run's row may be written later than it says
    back = datetime.fromisoformat(state["since"]) - timedelta(minutes=1)
    cancelled = dg.RunsFilter(statuses=[dg.DagsterRunStatus.CANCELED], updated_after=back)
    records = [record for record in instance.get_run_records(cancelled) if record.start_time is not None]
    first = cursor is None
    jobs: dict[str, dict[str, str]] = state["jobs"]
    for record in [] if first else records:
        run = record.dagster_run
        if run.run_id not in state["seen"] and _sends(run):
            for key in (key for key in keys_of(run) if _is_last(instance, run, key)):
                jobs |= {
                    job.job_id: {"run": run.run_id, "after": now.isoformat()}
                    for job in dispatcher.ledger.jobs(instance=key)
                    if job.state not in TERMINAL and job.instance == key
                }
    notes, left = [], {}
    for job_id, task in jobs.items():
        if datetime.fromisoformat(task["after"]) > now:
            left[job_id] = task
            continue
        try:
            job = dispatcher.cancel(job_id, by=actor(), reason=f"run {task['run']} was cancelled in Dagster")
            notes.append(f"{job_id} is {job.state}")
        except HybridError as error:
            notes.append(str(error))
            if dispatcher.ledger.job(job_id).state not in TERMINAL:
                left[job_id] = task | {"after": (now + ASK_AGAIN).isoformat()}
    return dg.SensorResult(
        skip_reason=dg.SkipReason("; ".join(notes) or "no run was cancelled"),
        cursor=json.dumps({"since": now.isoformat(), "seen": [r.dagster_run.run_id for r in records], "jobs": left}),
    )


def _is_last(instance: dg.DagsterInstance, run: dg.DagsterRun, key: str) -> bool:
    """Whether no later run that sends jobs has taken the partition up again: its jobs are no longer this run's."""
    runs = instance.get_runs(dg.RunsFilter(tags={"dagster/partition": key}))
    last = next((other for other in runs if _sends(other)), None)
    return last is not None and run.run_id in (last.run_id, last.tags.get(BATCH))


def _sends(run: dg.DagsterRun) -> bool:
    """Whether a run's stages are those that send jobs."""
    if run.job_name == "baselines_again":
        return False
    stages = {dg.AssetKey("quantum_jobs"), dg.AssetKey("quantum_samples")}
    return run.asset_selection is None or bool(run.asset_selection & stages)


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

    @dg.sensor(
        name="cancelled_runs",
        minimum_interval_seconds=FOLLOW_EVERY,
        # it only stops things, so it runs everywhere
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Cancels the open jobs of a cancelled run at their providers.",
    )
    def cancelled_runs_sensor(
        context: dg.SensorEvaluationContext, dispatcher: dg.ResourceParam[Dispatcher]
    ) -> dg.SensorResult:
        return stop_cancelled(context.cursor, dispatcher, context.instance)

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
    return [inbox_sensor, open_jobs_sensor, cancelled_runs_sensor], [nightly_baselines, nightly_suite, weekly]
