"""The inbox through real ticks, the schedules, and the batch they ask for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.definitions.sensor_definition import SensorExecutionData

from hybrid_assets.definitions import build_defs
from hybrid_assets.line import BACKEND, BATCH, CONTINUES, LINE, PROCESS, bury_dead_runs
from hybrid_assets.sensors import BATCH_ABOVE
from resources.home import Home
from tests.dagster.conftest import OTHER_RING, QUICK, RING, Platform

#: Two instances in OR-Library's format for unconstrained quadratic programs.
TWO_QUBOS = "2\n2 2\n1 1 3\n1 2 -2\n2 2\n1 1 -3\n2 2 5\n"


class Inbox(Platform):
    """A platform with an inbox of its own, looked at by the real sensor."""

    cursor: str | None = None

    @property
    def place(self) -> Path:
        """The watched folder."""
        return self.home.root / "inbox"

    def drop(self, name: str, text: str = RING, family: str = "maxcut", **options: object) -> Path:
        """Put a file (and the YAML beside it) into the inbox."""
        path = self.place / family / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if options:
            path.with_suffix(".yaml").write_text(yaml.safe_dump(options))
        return path

    def tick(self) -> SensorExecutionData:
        """One look of the sensor."""
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            repository_def=self.repository,
            resources=self.repository.get_top_level_resources(),
        )
        # what a daemon does around every tick
        with partition_loading_context(dynamic_partitions_store=self.instance):
            data = self.repository.get_sensor_def("inbox").evaluate_tick(context)
        self.cursor = data.cursor
        for event in data.asset_events:
            self.instance.report_runless_asset_event(event)  # type: ignore[arg-type]
        return data

    def asked(self) -> list[str]:
        """Keys that one look asks for, whether singly or as a batch."""
        keys: list[str] = []
        for request in self.tick().run_requests or []:
            keys += [request.partition_key] if request.partition_key else _batch_of(request)
        return keys

    def keys(self) -> list[str]:
        """The partitions."""
        return sorted(self.instance.get_dynamic_partitions("instances"))


def _batch_of(request: dg.RunRequest) -> list[str]:
    return list(request.run_config["ops"]["run_batch"]["config"]["keys"])


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    monkeypatch.setenv("HYBRID_ENV", "dev")
    monkeypatch.setenv("HYBRID_INBOX", str(tmp_path / "inbox"))
    with dg.DagsterInstance.ephemeral() as instance:
        yield Inbox(Home(tmp_path).prepare(), instance)


# --- looks ----------------------------------------------------------------------------------------------------------


def test_a_new_file_is_taken_at_the_second_look(inbox: Inbox) -> None:
    assert inbox.asked() == []
    inbox.drop("ring.mc")
    first = inbox.tick()
    assert first.run_requests == []
    assert "1 still changing" in (first.skip_message or "")
    assert inbox.keys() == []
    (request,) = inbox.tick().run_requests or []
    assert (request.job_name, request.partition_key) == ("instance_line", "maxcut.ring")
    assert inbox.keys() == ["maxcut.ring"]
    assert inbox.asked() == []


def test_a_growing_file_is_not_taken(inbox: Inbox) -> None:
    path = inbox.drop("ring.mc", RING[:10])
    for end in range(15, len(RING), 5):
        assert inbox.asked() == []
        path.write_text(RING[:end])
    assert inbox.keys() == []
    path.write_text(RING)
    assert inbox.asked() == []
    assert inbox.asked() == ["maxcut.ring"]


def test_the_names_of_half_copied_files_are_never_taken(inbox: Inbox) -> None:
    for name in ("a.mc.part", "b.tmp", ".c.mc.x81", "d.mc~", "notes.md"):
        inbox.drop(name)
    assert [inbox.asked() for _ in range(3)] == [[], [], []]


def test_a_changed_file_or_request_asks_again_and_only_then(inbox: Inbox) -> None:
    inbox.drop("ring.mc", **QUICK)
    inbox.tick()
    assert inbox.asked() == ["maxcut.ring"]
    assert inbox.process("maxcut.ring").problem is None
    assert inbox.stale("maxcut.ring") == []

    os.utime(inbox.place / "maxcut" / "ring.mc", (1, 1))
    assert [inbox.asked(), inbox.asked()] == [[], []], "a touched file is no other input"

    inbox.drop("ring.mc", OTHER_RING, **QUICK)
    assert [inbox.asked(), inbox.asked()] == [[], ["maxcut.ring"]]
    assert inbox.stale("maxcut.ring") == list(LINE)
    inbox.drop("ring.mc", OTHER_RING, **QUICK, seed=5)
    assert [inbox.asked(), inbox.asked()] == [[], ["maxcut.ring"]]


def test_the_priority_of_the_request_is_the_run_s(inbox: Inbox) -> None:
    inbox.drop("ring.mc", priority=9)
    inbox.drop("other.mc", OTHER_RING)
    inbox.tick()
    asked = {request.partition_key: request.tags["dagster/priority"] for request in inbox.tick().run_requests or []}
    assert asked == {"maxcut.ring": "9", "maxcut.other": "0"}
    inbox.drop("third.mc", OTHER_RING.replace("5 6 1", "5 6 9"), priority=11)
    inbox.tick()
    (refused,) = inbox.tick().asset_events
    assert "third.yaml: priority: input should be less than or equal to 10" in str(refused.description)


def test_the_backend_that_a_request_names_is_the_run_s(inbox: Inbox) -> None:
    inbox.drop("ring.mc", backend="aer", **QUICK)
    inbox.drop("other.mc", OTHER_RING)
    inbox.tick()
    requests = list(inbox.tick().run_requests or [])
    assert {r.partition_key: r.tags.get(BACKEND) for r in requests} == {"maxcut.ring": "aer", "maxcut.other": None}


def test_what_was_run_by_hand_is_not_asked_for_again(inbox: Inbox) -> None:
    inbox.drop("ring.mc", **QUICK)
    landings, refused = inbox.land_inbox()
    assert ([landing.instance for landing in landings], refused) == (["maxcut.ring"], [])
    assert inbox.process("maxcut.ring").problem is None
    assert [inbox.asked(), inbox.asked()] == [[], []]


def test_a_look_that_died_is_made_good(inbox: Inbox) -> None:
    inbox.drop("ring.mc")
    inbox.tick()
    before = inbox.cursor
    assert inbox.asked() == ["maxcut.ring"]
    # the daemon died before it stored the cursor and launched the run
    inbox.cursor = before
    assert inbox.asked() == ["maxcut.ring"]


def test_the_request_beside_the_file_takes_effect(inbox: Inbox) -> None:
    inbox.drop("ring.mc", owner="team:grid", sensitivity="confidential", best_known=13.0, backend="annealer", **QUICK)
    inbox.tick()
    assert inbox.asked() == ["maxcut.ring"]
    assert inbox.process("maxcut.ring").problem is None
    row = inbox.rows("normalized_inputs", "maxcut.ring").iloc[0]
    assert (row["owner"], row["sensitivity"], row["best_known"]) == ("team:grid", "confidential", 13.0)
    assert json.loads(row["options"])["shots"] == QUICK["shots"]
    assert set(inbox.rows("quantum_samples", "maxcut.ring")["backend"]) == {"annealer"}


# --- bad, gone, many ------------------------------------------------------------------------------------------------


def test_a_bad_file_is_refused_once_with_one_sentence(inbox: Inbox) -> None:
    inbox.drop("good.mc")
    inbox.drop("bad.mc", "6 3\n1 2 1\n2 3 x\n")
    inbox.drop("odd.mc", colour="blue")
    inbox.tick()
    data = inbox.tick()
    assert [request.partition_key for request in data.run_requests or []] == ["maxcut.good"]
    said = sorted(str(event.description) for event in data.asset_events)
    assert [sentence.split(":")[0] for sentence in said] == ["bad.mc", "odd.yaml"]
    assert all("\n" not in sentence for sentence in said)
    assert inbox.keys() == ["maxcut.good"]
    again = inbox.tick()
    assert (again.run_requests, list(again.asset_events), again.skip_message) == ([], [], "nothing new")
    inbox.drop("bad.mc")
    inbox.tick()
    assert inbox.asked() == ["maxcut.bad"]


def test_only_bad_files_are_said_in_the_tick(inbox: Inbox) -> None:
    inbox.drop("bad.mc", "")
    inbox.tick()
    assert (inbox.tick().skip_message or "").startswith("1 refused: bad.mc: file: it is empty")


def test_a_deleted_file_is_reported_and_retired_by_hand(inbox: Inbox) -> None:
    path = inbox.drop("ring.mc", **QUICK)
    inbox.tick()
    inbox.tick()
    assert inbox.process("maxcut.ring").problem is None
    path.unlink()
    data = inbox.tick()
    assert data.run_requests == []
    assert data.skip_message == "deleted: maxcut.ring"
    (event,) = data.asset_events
    assert event.partition == "maxcut.ring"
    assert "hybrid retire maxcut.ring" in str(event.description)
    assert inbox.tick().skip_message == "nothing new", "it is reported once"
    assert inbox.keys() == ["maxcut.ring"]
    assert inbox.stale("maxcut.ring") == [], "a missing file is no other input"

    inbox.retire("maxcut.ring")
    assert inbox.keys() == []
    assert len(inbox.rows("decisions", "maxcut.ring")) == 1
    path.write_text(OTHER_RING)
    assert [inbox.asked(), inbox.asked()] == [[], ["maxcut.ring"]]
    assert inbox.keys() == ["maxcut.ring"]


def test_a_file_deleted_before_the_first_look_is_reported(inbox: Inbox) -> None:
    path = inbox.drop("ring.mc")
    inbox.land_inbox()
    path.unlink()
    assert inbox.tick().skip_message == "deleted: maxcut.ring"


def test_a_file_given_by_hand_is_not_the_inbox_s(inbox: Inbox) -> None:
    inbox.landed(name="solved.mc")
    (inbox.home.root / "files" / "solved.mc").unlink()
    assert inbox.tick().skip_message == "nothing new"


def test_a_file_with_several_instances_gives_several_partitions(inbox: Inbox) -> None:
    inbox.drop("bqp2.txt", TWO_QUBOS, family="qubo")
    inbox.tick()
    assert inbox.asked() == ["qubo.bqp2-1", "qubo.bqp2-2"]
    assert inbox.keys() == ["qubo.bqp2-1", "qubo.bqp2-2"]
    inbox.drop("bqp2.txt", "1\n2 2\n1 1 3\n1 2 -2\n", family="qubo")
    inbox.tick()
    data = inbox.tick()
    assert [event.partition for event in data.asset_events] == ["qubo.bqp2-1", "qubo.bqp2-2"]


def test_a_large_burst_is_one_batch(inbox: Inbox) -> None:
    names = [f"g{number:03d}.mc" for number in range(200)]
    for number, name in enumerate(names):
        urgent = {"priority": 9} if number == 150 else {}
        inbox.drop(name, RING.replace("5 6 1", f"5 6 {number + 2}"), **urgent)
    inbox.tick()
    (request,) = inbox.tick().run_requests or []
    assert (request.job_name, request.tags["dagster/priority"]) == ("process_batch", "9")
    others = [f"maxcut.g{number:03d}" for number in range(200) if number != 150]
    assert _batch_of(request) == ["maxcut.g150", *others]
    assert len(inbox.keys()) == 200
    for name in names[:BATCH_ABOVE]:
        inbox.drop(name, OTHER_RING)
    inbox.tick()
    assert [r.job_name for r in inbox.tick().run_requests or []] == ["instance_line"] * BATCH_ABOVE


# --- the batch ------------------------------------------------------------------------------------------------------


def repository_of_home() -> dg.RepositoryDefinition:
    """What a run worker loads: the definitions of ``HYBRID_HOME``."""
    return build_defs().get_repository_def()


def test_a_batch_runs_them_all_and_fails_for_the_one_that_failed(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBRID_HOME", str(platform.home.root))
    batch = ReconstructableRepository.for_module(__name__, "repository_of_home").get_reconstructable_job(
        "process_batch"
    )
    keys = [platform.landed(name=f"batch{seed}.mc", seed=seed) for seed in (11, 12)]
    keys.append(platform.landed(name="batch13.mc", seed=13, backend="aer"))
    store = platform.dispatcher.artifacts
    broken = platform.dispatcher.ledger.landing(keys[1])
    assert broken is not None
    platform.dispatcher.ledger.land(type(broken)(**{**vars(broken), "content_ref": store.put(b"2 1\n1 2 0\n")}))
    config = {"ops": {"run_batch": {"config": {"keys": keys}}}}
    result = dg.execute_job(batch, platform.instance, run_config=config, raise_on_error=False)
    assert not result.success
    (failed,) = (event for event in result.all_events if event.is_step_failure)
    sentence = str(failed.step_failure_data.user_failure_data.description)  # type: ignore[union-attr]
    assert sentence.startswith(f"1 of 3 instances failed: {keys[1]}: batch12.mc: edges: ")
    for key in (keys[0], keys[2]):
        assert set(platform.versions(key)) == set(LINE)
    assert platform.versions(keys[1]) == {}
    runs = platform.instance.get_runs(dg.RunsFilter(tags={"hybrid/batch": result.run_id}))
    assert sorted((run.tags["dagster/partition"], run.is_success) for run in runs) == [
        (keys[0], True),
        (keys[1], False),
        (keys[2], True),
    ]
    assert {run.tags["dagster/partition"]: run.tags.get(BACKEND) for run in runs} == dict.fromkeys(keys[:2]) | {
        keys[2]: "aer"
    }

    good = {"ops": {"run_batch": {"config": {"keys": [keys[0]], "stages": list(LINE[3:])}}}}
    again = dg.execute_job(batch, platform.instance, run_config=good, tags={CONTINUES: "yes"})
    assert again.success
    (part,) = platform.instance.get_runs(dg.RunsFilter(tags={BATCH: again.run_id}))
    # what its job has run on
    assert part.tags[BACKEND] == platform.dispatcher.ledger.jobs(instance=keys[0])[-1].backend


# --- schedules and house-keeping ------------------------------------------------------------------------------------


def test_the_nightly_schedules_ask_for_every_instance(platform: Platform) -> None:
    night = datetime(2026, 3, 4, 2, 0, tzinfo=UTC)
    instance = dg.DagsterInstance.local_temp()  # a schedule's context opens the instance again by its reference

    def asked(name: str) -> list[dg.RunRequest]:
        context = dg.build_schedule_context(
            instance=instance, scheduled_execution_time=night, repository_def=platform.repository
        )
        schedule = platform.repository.get_schedule_def(name)
        with partition_loading_context(dynamic_partitions_store=instance):
            return list(schedule.evaluate_tick(context).run_requests or [])

    assert asked("nightly_suite") == []
    assert asked("nightly_baselines") == []
    instance.add_dynamic_partitions("instances", ["maxcut.b", "maxcut.a"])
    baselines = asked("nightly_baselines")
    assert {(r.partition_key, r.run_key) for r in baselines} == {
        ("maxcut.a", "2026-03-04:maxcut.a"),
        ("maxcut.b", "2026-03-04:maxcut.b"),
    }
    (suite,) = asked("nightly_suite")
    assert _batch_of(suite) == ["maxcut.a", "maxcut.b"]
    crons = {
        name: platform.repository.get_schedule_def(name).cron_schedule
        for name in ("nightly_baselines", "nightly_suite", "weekly_maintenance")
    }
    assert len(set(crons.values())) == 3


def test_the_nightly_and_weekly_jobs_leave_the_line_fresh(platform: Platform) -> None:
    key = platform.landed(name="nightly.mc", seed=21)
    platform.run(key)
    result = platform.repository.get_job("baselines_again").execute_in_process(
        instance=platform.instance, partition_key=key, raise_on_error=False
    )
    assert result.success
    done = {event.asset_key.path[-1] for event in result.get_asset_materialization_events() if event.asset_key}
    assert done == {"baseline_runs", "baseline_comparisons", "decisions"}
    assert platform.stale(key) == []
    before = platform.rows("baseline_runs", key)
    assert platform.repository.get_job("maintenance").execute_in_process(instance=platform.instance).success
    assert platform.rows("baseline_runs", key).equals(before)


def test_only_dead_processes_are_buried(platform: Platform) -> None:
    job = platform.repository.get_job("instance_line")
    started = dg.DagsterRunStatus.STARTED
    elsewhere = platform.instance.create_run_for_job(job, status=started, tags={PROCESS: "another-host:1"})
    nobody_s = platform.instance.create_run_for_job(job, status=started)
    host = os.uname().nodename
    dead = platform.instance.create_run_for_job(job, status=started, tags={PROCESS: f"{host}:{2**22 + 1}"})
    assert bury_dead_runs(platform.instance) == [dead.run_id]
    states = {run.run_id: run.status for run in platform.instance.get_runs()}
    assert states[dead.run_id] is dg.DagsterRunStatus.FAILURE
    assert states[elsewhere.run_id] is states[nobody_s.run_id] is started
