"""Sensors and schedules: who asks for stages 2 to 9.

Here: the inbox sensor and the nightly schedules. Not here: stage 10 (``automation``) or how a file is read
(``landing``).
"""

import json
from collections.abc import Iterator

import dagster as dg

from hybrid_assets.assets.landed_files import observation
from hybrid_assets.jobs import baselines_again, instance_line, maintenance, process_batch
from hybrid_assets.landing import land_found, scan
from hybrid_assets.line import bury_dead_runs
from hybrid_assets.partitions import instances
from resources.dispatcher import Dispatcher
from resources.failures import InputError
from resources.home import inbox

#: Above this many changed instances, one batch run answers them all.
BATCH_ABOVE = 10
#: Seconds between looks at the inbox; a file is taken when two looks in a row see the same size and time.
LOOK_EVERY = 10


def look(cursor: str | None, dispatcher: Dispatcher) -> dg.SensorResult:
    """One look at the inbox: what is new, changed, still being copied, wrong or gone.

    The cursor holds the stamp (size and time) of every file as last seen and as last taken.
    """
    state: dict[str, dict[str, str]] = json.loads(cursor) if cursor else {}
    seen, taken = state.get("seen", {}), state.get("taken", {})
    found = {str(f.path): f for f in scan(inbox())}
    now_seen = {path: f.stamp for path, f in found.items()}
    ready = [f for path, f in found.items() if seen.get(path) == f.stamp and taken.get(path) != f.stamp]
    keys, events, wrong = [], [], []
    for file in ready:
        taken[str(file.path)] = file.stamp
        try:
            for landing in land_found(dispatcher.ledger, dispatcher.artifacts, file):
                keys.append(landing.instance)
                events.append(observation(landing))
        except InputError as error:
            wrong.append(str(error))
            events.append(dg.AssetObservation("landed_files", description=str(error),
                                              metadata={"path": str(file.path), "refused": str(error)}))
    gone = []
    for landing in dispatcher.ledger.landings():
        if landing.path in taken and landing.path not in found and landing.state == "present":
            dispatcher.ledger.mark_landing(landing.instance, "deleted")
            gone.append(landing.instance)
            events.append(dg.AssetObservation(
                "landed_files", partition=landing.instance,
                description=f"{landing.name} was deleted; `hybrid retire {landing.instance}` retires its partition",
            ))
    # a file that vanished is forgotten here, so that it counts as new when it comes back
    taken = {path: stamp for path, stamp in taken.items() if path in found}
    unfinished = sum(1 for path, stamp in now_seen.items() if taken.get(path) != stamp)
    notes = [f"{len(wrong)} refused: {'; '.join(wrong[:3])}"] if wrong else []
    notes += [f"deleted: {', '.join(gone[:5])}"] if gone else []
    notes += [f"{unfinished} still changing"] if unfinished else []
    return dg.SensorResult(
        run_requests=requests(keys),
        dynamic_partitions_requests=[instances.build_add_request(keys)] if keys else [],
        asset_events=events,
        skip_reason=None if keys else dg.SkipReason("; ".join(notes) or "nothing new"),
        cursor=json.dumps({"seen": now_seen, "taken": taken}),
    )


def requests(keys: list[str]) -> list[dg.RunRequest]:
    """One run per instance, or one for all above ``BATCH_ABOVE``."""
    if len(keys) > BATCH_ABOVE:
        return [dg.RunRequest(job_name="process_batch", run_config={"ops": {"run_batch": {"config": {"keys": keys}}}})]
    return [dg.RunRequest(job_name="instance_line", partition_key=key) for key in keys]


def build(run_by_default: bool) -> tuple[list[dg.SensorDefinition], list[dg.ScheduleDefinition]]:
    """The sensors and schedules, started by themselves where the environment says so."""
    status = dg.DefaultSensorStatus.RUNNING if run_by_default else dg.DefaultSensorStatus.STOPPED

    @dg.sensor(name="inbox", jobs=[instance_line, process_batch], minimum_interval_seconds=LOOK_EVERY,
               default_status=status,
               description="New and changed files in the inbox become partitions and runs; deleted ones are reported.")
    def inbox_sensor(context: dg.SensorEvaluationContext, dispatcher: dg.ResourceParam[Dispatcher]) -> dg.SensorResult:
        bury_dead_runs(context.instance)
        return look(context.cursor, dispatcher)

    on = dg.DefaultScheduleStatus.RUNNING if run_by_default else dg.DefaultScheduleStatus.STOPPED

    @dg.schedule(job=baselines_again, cron_schedule="0 2 * * *", default_status=on,
                 description="Nightly: the baselines of every instance again.")
    def nightly_baselines(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        for key in context.instance.get_dynamic_partitions("instances"):
            yield dg.RunRequest(partition_key=key, run_key=f"{context.scheduled_execution_time:%Y-%m-%d}:{key}")

    @dg.schedule(job=process_batch, cron_schedule="0 3 * * *", default_status=on,
                 description="Nightly: the whole suite of instances in one run.")
    def nightly_suite(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        keys = sorted(context.instance.get_dynamic_partitions("instances"))
        if not keys:
            return dg.SkipReason("there is no instance yet")
        return dg.RunRequest(run_config={"ops": {"run_batch": {"config": {"keys": keys}}}})

    weekly = dg.ScheduleDefinition(name="weekly_maintenance", job=maintenance, cron_schedule="0 5 * * 0",
                                   default_status=on, description="Weekly: compact and vacuum the lake.")
    return [inbox_sensor], [nightly_baselines, nightly_suite, weekly]
