"""The sensor of open jobs, tick by tick: each end of a job asks for one continuation, whatever dies in between."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.instance.config import ConcurrencyConfig
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from hybrid_assets import sensors
from hybrid_assets.assets.stage import QUANTUM
from hybrid_assets.line import BACKEND, CONTINUES, LINE, PROCESS, bury_dead_runs
from hybrid_assets.session import open_session
from resources.controls import Mode
from resources.emulator.running import Running
from resources.home import Home
from tests.dagster.conftest import Staging
from tests.waiting import until

TO_THE_JOB = LINE[:3]


def out(staging: Staging, name: str, seed: int, **request: object) -> str:
    """Key of an instance whose job is out."""
    key = staging.landed(name=f"{name}.mc", seed=seed, **request)
    assert staging.run(key, TO_THE_JOB).problem is None
    assert staging.job(key).state == "submitted"
    return key


def ended(staging: Staging, key: str) -> list[dg.RunRequest]:
    """What the tick that sees the end of the job asks for."""
    requests: list[dg.RunRequest] = []

    def over() -> bool:
        assert requests == []
        requests.extend(staging.asked())
        return staging.job(key).ended_at is not None

    until(over)
    return requests


def begin(staging: Staging, key: str, status: dg.DagsterRunStatus) -> dg.DagsterRun:
    """A run of the partition that has not ended."""
    job = staging.repository.get_job("instance_line")
    return staging.instance.create_run_for_job(job, status=status, tags={"dagster/partition": key})


def test_nothing_open_asks_for_nothing(staging: Staging) -> None:
    data = staging.tick()
    assert data.run_requests == []
    assert data.skip_message == "0 jobs open, 0 looked at"


def test_a_continuation_runs_what_is_left_with_the_job_s_priority_and_id(staging: Staging) -> None:
    key = out(staging, "left", 101, priority=7)
    (request,) = ended(staging, key)
    job = staging.job(key)
    assert (request.job_name, request.partition_key) == ("instance_line", key)
    assert [k.to_user_string() for k in request.asset_selection or []] == list(LINE[3:])
    tags = {name: request.tags[name] for name in ("dagster/priority", "hybrid/backend", "hybrid/correlation_id")}
    assert tags == {
        "dagster/priority": "7",
        "hybrid/backend": "emulator",
        "hybrid/correlation_id": job.correlation_id,
    }
    assert staging.asked() == []


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.NOT_STARTED])
def test_a_partition_with_a_run_is_left_until_the_run_has_ended(staging: Staging, status: dg.DagsterRunStatus) -> None:
    key = out(staging, f"busy-{status.value.lower()}", 102 if status.value == "STARTED" else 103)
    run = begin(staging, key, status)
    assert ended(staging, key) == []
    assert staging.asked() == []
    staging.instance.report_run_failed(run)
    assert [request.partition_key for request in staging.asked()] == [key]
    assert staging.asked() == [], "once per end of a job"


def test_a_tick_that_dies_is_made_good(staging: Staging) -> None:
    key = out(staging, "killed", 104)
    lost: list[dg.RunRequest] = []
    until(lambda: lost.extend(staging.asked(keep=False)) or lost)
    assert [request.partition_key for request in lost] == [key]
    # nothing of it was stored: the next tick asks for the same
    assert [request.partition_key for request in staging.asked()] == [key]
    assert staging.asked() == []


def test_what_ended_while_nobody_looked_is_found(staging: Staging) -> None:
    key = out(staging, "unseen", 105)
    # another process has seen it end, at a time that the cursor has passed already
    until(lambda: staging.dispatcher.reconcile() and staging.job(key).ended_at)
    state = json.loads(staging.cursors["open_jobs"] or "{}")
    state |= {"since": "2100-01-01T00:00:00+00:00", "out": [staging.job(key).job_id]}
    staging.cursors["open_jobs"] = json.dumps(state)
    assert [request.partition_key for request in staging.asked()] == [key]
    staging.cursors["open_jobs"] = None
    staging.asked()


def test_many_at_once_are_one_batch_by_priority(staging: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors, "BATCH_ABOVE", 1)
    keys = [out(staging, f"many-{n}", 110 + n, priority=n) for n in range(2)]
    runs = [begin(staging, key, dg.DagsterRunStatus.STARTED) for key in keys]
    for key in keys:
        assert ended(staging, key) == []
    for run in runs:
        staging.instance.report_run_failed(run)
    (request,) = staging.asked()
    config = request.run_config["ops"]["run_batch"]["config"]
    assert (request.job_name, config["keys"], config["stages"]) == ("process_batch", keys[::-1], list(LINE[3:]))
    assert (request.tags["dagster/priority"], CONTINUES in request.tags) == ("1", True)
    # the batch holds its instances, too
    batch = staging.instance.create_run_for_job(
        staging.repository.get_job("process_batch"),
        status=dg.DagsterRunStatus.STARTED,
        run_config=request.run_config,
    )
    staging.cursors["open_jobs"] = None
    assert not set(keys) & {r.partition_key for r in staging.asked()}
    staging.instance.report_run_failed(batch)
    staging.asked()


def test_two_instances_with_one_job_are_both_continued(staging: Staging) -> None:
    first = out(staging, "twin-a", 106)
    second = staging.landed(name="twin-b.mc", seed=106)
    assert staging.run(second, TO_THE_JOB).problem is None
    assert staging.job(first).job_id == staging.job(second).job_id
    assert {request.partition_key for request in ended(staging, first)} == {first, second}


def test_a_failed_job_is_one_red_run_and_sent_again_only_by_a_person(staging: Staging, emulator: Running) -> None:
    key = out(staging, "failed", 107)
    job = staging.job(key)
    staging.dispatcher.ledger.move(job.job_id, "failed", "told", expect="submitted", error="backend: it burnt down")
    (request,) = ended(staging, key)
    run = staging.execute(request)
    (step,) = [event for event in run.all_events if event.is_step_failure]
    assert "it burnt down" in str(step.step_failure_data.user_failure_data.description)  # type: ignore[union-attr]
    assert staging.job(key).attempts == 1, "a sensor must not send it again"
    assert [staging.asked() for _ in range(2)] == [[], []]
    assert staging.run(key, LINE[3:]).pending
    assert staging.job(key).attempts == 2
    (again,) = staging.follow()
    assert again.success
    assert staging.stale(key) == []


def test_a_command_that_waits_does_not_send_a_failed_job_again(staging: Staging) -> None:
    key = out(staging, "waited-for", 109)
    job_id = staging.job(key).job_id
    staging.dispatcher.ledger.move(job_id, "failed", "told", expect="submitted", error="backend: it burnt down")
    ((_, outcome, _),) = staging.finish([key])
    assert outcome.problem is not None
    assert "it burnt down" in outcome.problem
    assert staging.job(key).attempts == 1
    staging.asked()


def test_a_paused_backend_on_this_machine_is_waited_for(
    staging: Staging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: t\nroutes:\n  - {name: all, then: {backends: [aer]}}\n")
    monkeypatch.setenv("HYBRID_POLICY", str(policy))
    key = staging.landed(name="paused.mc", seed=108)
    dispatcher = staging.dispatcher
    dispatcher.control("aer", Mode.PAUSED, by="ada", reason="lunch")
    assert staging.run(key, LINE).pending
    assert staging.job(key).state == "intended"
    assert [staging.asked() for _ in range(2)] == [[], []]
    dispatcher.control("aer", Mode.OPEN, by="ada", reason="back")
    (request,) = staging.asked()
    assert request.partition_key == key
    assert staging.asked() == [], "not at every tick"
    staging.hurry()
    assert staging.execute(request).success
    assert staging.stale(key) == []


def test_the_queue_holds_back_the_runs_of_a_busy_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon's own step on the shipped ``dagster.yaml``, with room for more runs than it ships."""
    monkeypatch.setenv("HYBRID_ENV", "dev")
    with open_session(home=Home(tmp_path)) as session:
        instance, line = session.instance, session.repository.get_job("instance_line")
        limits = instance.get_concurrency_config()
        assert limits.run_queue_config is not None
        queue = limits.run_queue_config._replace(max_concurrent_runs=20)
        module = LoadableTargetOrigin(module_name="hybrid_assets.definitions", executable_path=sys.executable)
        place = ManagedGrpcPythonEnvCodeLocationOrigin(module, location_name="hybrid_assets")
        origin = RemoteJobOrigin(RemoteRepositoryOrigin(place, "__repository__"), line.name)
        roomy = ConcurrencyConfig(pool_config=limits.pool_config, run_queue_config=queue)

        def run(backend: str, status: dg.DagsterRunStatus) -> str:
            tags = {BACKEND: backend}
            return instance.create_run_for_job(line, status=status, tags=tags, remote_job_origin=origin).run_id

        run("ibm", dg.DagsterRunStatus.STARTED)
        queued = [run(backend, dg.DagsterRunStatus.QUEUED) for backend in ("ibm", "ibm", "dwave")]
        with QueuedRunCoordinatorDaemon(interval_seconds=1) as daemon:
            chosen = daemon._get_runs_to_dequeue(instance, roomy, fixed_iteration_time=None)
        assert {one.run_id for one in chosen} == set(queued) - {queued[1]}


def test_a_dead_run_gives_its_slots_in_the_pool_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_ENV", "dev")
    with open_session(home=Home(tmp_path)) as session:
        storage, repository = session.instance.event_log_storage, session.repository
        dead = session.instance.create_run_for_job(
            repository.get_job("instance_line"),
            status=dg.DagsterRunStatus.STARTED,
            tags={PROCESS: f"{os.uname().nodename}:{2**22 + 1}"},
        )
        storage.initialize_concurrency_limit_to_default(QUANTUM)
        assert storage.claim_concurrency_slot(QUANTUM, dead.run_id, "quantum_jobs").is_claimed
        assert storage.get_concurrency_info(QUANTUM).active_slot_count == 1
        assert bury_dead_runs(session.instance) == [dead.run_id]
        found = storage.get_concurrency_info(QUANTUM)
        assert (found.slot_count, found.active_slot_count) == (4, 0)
