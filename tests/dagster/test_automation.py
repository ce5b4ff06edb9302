"""Stage 10 is asked for when a decision changed: whole, once per burst, never for an unchanged version.

Every test evaluates the real conditions of the real definitions, tick by tick, and reports events as runs would.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from hybrid_assets.definitions import build_defs
from resources.home import Home

STAGE_10 = dg.AssetSelection.groups("5_publication")
KEYS = ["maxcut.a", "maxcut.b"]
#: Well inside a ten-minute slot of the clock.
NOON = datetime(2031, 5, 5, 12, 1, tzinfo=UTC)


class Daemon:
    """Ticks of the publishing sensor on an instance where runs are only reported, never executed."""

    def __init__(self, instance: dg.DagsterInstance, defs: dg.Definitions) -> None:
        self.instance, self.defs, self.now = instance, defs, NOON
        self.repository = defs.get_repository_def()
        self.stage = {key.to_user_string() for key in STAGE_10.resolve(self.repository.asset_graph)}
        self.cursor = None
        instance.add_dynamic_partitions("instances", KEYS)

    def tick(self, after: float = 30) -> set[str]:
        """The assets asked for ``after`` seconds after the tick before."""
        self.now += timedelta(seconds=after)
        result = dg.evaluate_automation_conditions(
            self.defs, self.instance, STAGE_10, evaluation_time=self.now, cursor=self.cursor
        )
        self.cursor = result.cursor
        return {r.key.to_user_string() for r in result.results if not r.true_subset.is_empty}

    def decide(self, version: str, key: str = "maxcut.a", run_id: str = "", asset: str = "decisions") -> None:
        """A materialization of a stage with this data version."""
        self._store(dg.AssetMaterialization(asset, partition=key, tags={"dagster/data_version": version}), run_id)

    def begin(self, job: str, key: str | None = None) -> dg.DagsterRun:
        """A run of a job, begun and not yet done."""
        return self.instance.create_run_for_job(
            self.repository.get_job(job),
            status=dg.DagsterRunStatus.STARTED,
            tags={"dagster/partition": key} if key else {},
        )

    def end(self, run: dg.DagsterRun, success: bool = True) -> None:
        """The end of a run."""
        if success:
            self.instance.report_dagster_event(_event("PIPELINE_SUCCESS", run), run.run_id)
        else:
            self.instance.report_run_failed(run)

    def publish(self) -> None:
        """A whole publication between two ticks."""
        run = self.begin("publication")
        self.published(run, *self.stage)
        self.end(run)

    def published(self, run: dg.DagsterRun, *assets: str) -> None:
        """Materializations of stage 10 by a run."""
        for name in assets:
            self._store(dg.AssetMaterialization(dg.AssetKey.from_user_string(name)), run.run_id)

    def _store(self, event: dg.AssetMaterialization, run_id: str) -> None:
        from dagster._core.events import StepMaterializationData

        if not run_id:
            self.instance.report_runless_asset_event(event)
            return
        data = StepMaterializationData(event, [])
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        self.instance.report_dagster_event(_event("ASSET_MATERIALIZATION", run, data), run_id)


def _event(kind: str, run: dg.DagsterRun, data: object = None) -> dg.DagsterEvent:
    return dg.DagsterEvent(event_type_value=kind, job_name=run.job_name, event_specific_data=data)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def defs(tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    return build_defs(environment="dev", home=Home(tmp_path_factory.mktemp("home")))


@pytest.fixture
def daemon(defs: dg.Definitions) -> Iterator[Daemon]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Daemon(instance, defs)


def test_the_stage_is_what_the_story_says(daemon: Daemon) -> None:
    assert {"control_snapshot", "published_warehouse", "report", "marts/leaderboard"} <= daemon.stage
    assert any(name.startswith("staging/") for name in daemon.stage)


def test_what_exists_before_the_first_tick_is_not_asked_for(daemon: Daemon) -> None:
    daemon.decide("1")
    assert daemon.tick() == set()
    assert daemon.tick() == set()


def test_a_changed_decision_asks_for_the_whole_stage_once(daemon: Daemon) -> None:
    daemon.tick()
    daemon.decide("1")
    assert daemon.tick() == daemon.stage
    assert daemon.tick() == set()
    daemon.publish()
    assert daemon.tick() == set()
    daemon.decide("2")
    assert daemon.tick() == daemon.stage
    assert daemon.tick() == set()


@pytest.mark.parametrize("stage", ["normalized_inputs", "quantum_jobs", "baseline_runs"])
def test_any_stage_counts(daemon: Daemon, stage: str) -> None:
    daemon.tick()
    daemon.decide("1", asset=stage)
    assert daemon.tick() == daemon.stage


def test_an_unchanged_answer_asks_for_nothing(daemon: Daemon) -> None:
    daemon.decide("1")
    daemon.tick()
    daemon.decide("1")
    assert daemon.tick() == set()
    daemon.decide("1")
    assert daemon.tick() == set()


def test_one_burst_is_one_publication(daemon: Daemon) -> None:
    daemon.tick()
    runs = [daemon.begin("instance_line", key) for key in KEYS]
    for run, key in zip(runs, KEYS, strict=True):
        daemon.decide("1", key, run.run_id)
        assert daemon.tick() == set()
    daemon.end(runs[0])
    assert daemon.tick() == set()
    daemon.end(runs[1])
    assert daemon.tick() == daemon.stage
    assert daemon.tick() == set()


def test_a_burst_that_does_not_end_is_published_after_the_longest_wait(daemon: Daemon) -> None:
    daemon.tick()
    # hours without work must not count as waiting
    daemon.tick(after=3 * 3600)
    daemon.begin("instance_line", "maxcut.b")
    daemon.decide("1")
    asked = [bool(daemon.tick()) for _ in range(24)]
    assert asked.count(True) == 1, "more than one publication in twelve minutes, or none"
    assert asked.index(True) > 2, "the burst was not waited for"
    assert asked.index(True) <= 20, "the wait is longer than ten minutes"
    daemon.decide("2")
    assert daemon.tick() == set(), "the next wait starts with the next change"


def test_a_change_during_a_publication_is_published_afterwards(daemon: Daemon) -> None:
    daemon.tick()
    daemon.decide("1")
    assert daemon.tick() == daemon.stage
    run = daemon.begin("publication")
    assert daemon.tick() == set()
    daemon.published(run, "control_snapshot")
    daemon.decide("2")
    assert daemon.tick() == set(), "a second publication beside the first, or half of one"
    daemon.published(run, *(daemon.stage - {"control_snapshot"}))
    daemon.end(run)
    assert daemon.tick() == daemon.stage, "the change was lost"
    daemon.publish()
    assert [daemon.tick() for _ in range(3)] == [set(), set(), set()]


def test_a_change_in_the_same_moment_as_the_request_is_not_lost(daemon: Daemon) -> None:
    daemon.tick()
    daemon.decide("1")
    assert daemon.tick() == daemon.stage
    run = daemon.begin("publication")
    daemon.decide("2")
    assert daemon.tick() == set()
    daemon.published(run, *daemon.stage)
    daemon.end(run)
    assert daemon.tick() == daemon.stage


def test_what_somebody_published_is_not_published_again(daemon: Daemon) -> None:
    daemon.tick()
    line = daemon.begin("instance_line", "maxcut.a")
    daemon.decide("1", "maxcut.a", line.run_id)
    daemon.tick()
    daemon.end(line)
    daemon.publish()
    assert [daemon.tick() for _ in range(3)] == [set(), set(), set()]


def test_the_snapshot_alone_is_no_publication(daemon: Daemon) -> None:
    daemon.tick()
    line = daemon.begin("instance_line", "maxcut.a")
    daemon.decide("1", "maxcut.a", line.run_id)
    daemon.tick()
    daemon.instance.report_runless_asset_event(dg.AssetMaterialization("control_snapshot"))
    daemon.tick()
    daemon.end(line)
    assert daemon.tick() == daemon.stage


def test_a_failed_publication_waits_for_the_next_change(daemon: Daemon) -> None:
    daemon.tick()
    daemon.decide("1")
    assert daemon.tick() == daemon.stage
    run = daemon.begin("publication")
    daemon.tick()
    daemon.end(run, success=False)
    assert [daemon.tick(after=600) for _ in range(3)] == [set(), set(), set()]
    daemon.decide("2")
    assert daemon.tick() == daemon.stage


def test_the_sensor_runs_where_the_environment_says_and_one_publication_at_a_time(defs: dg.Definitions) -> None:
    sensor = defs.get_repository_def().get_sensor_def("publish_on_change")
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    assert isinstance(sensor, dg.AutomationConditionSensorDefinition)
    assert sensor.run_tags["hybrid/publication"] == "one"
    production = build_defs(environment="production").get_repository_def().get_sensor_def("publish_on_change")
    assert production.default_status is dg.DefaultSensorStatus.STOPPED
