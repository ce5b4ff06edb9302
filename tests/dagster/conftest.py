"""A platform in a temporary home: land files, run the line for real, look at what it left."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.definitions.sensor_definition import SensorExecutionData

from hybrid_assets.definitions import build_defs
from hybrid_assets.landing import Address
from hybrid_assets.line import LINE, Outcome, run_line
from hybrid_assets.request import parse
from hybrid_assets.session import Session
from resources import sending
from resources.artifacts import ArtifactStore
from resources.backends.base import QuantumBackend
from resources.dispatcher import Dispatcher
from resources.emulator.running import Running, serve_in_background
from resources.environments import backend_factories
from resources.home import Home
from resources.ledger import Ledger
from resources.ledger_tables import JOBS, Job
from tests.waiting import PATIENCE

#: Six nodes and eight edges; alternating sides cut every edge, 13 in all.
RING = "6 8\n1 2 1\n2 3 2\n3 4 1\n4 5 3\n5 6 1\n6 1 2\n1 4 1\n2 5 2\n"
#: Another graph on as many nodes.
OTHER_RING = RING.replace("4 5 3", "4 5 4")
#: A budget that no machine uses up: backends are done long before, baselines end at the proven optimum.
QUICK = {"budget": 120.0, "shots": 200, "depth": 2}


class Platform(Session):
    """A session whose files, requests and definitions the test gives."""

    def file(self, text: str = RING, name: str = "ring.mc") -> Path:
        """A data file outside the inbox."""
        path = self.home.root / "files" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def landed(self, text: str = RING, name: str = "ring.mc", family: str = "maxcut", **request: Any) -> str:
        """Key of a file that has landed."""
        address = Address(self.file(text, name), 0)
        return self.land_file(address, family, parse(QUICK | request, name)).instance

    def run(self, key: str, stages: Sequence[str] = LINE, defs: dg.Definitions | None = None) -> Outcome:
        """Run stages with these definitions.

        However slow the machine is, jobs that are sent in this run are not looked at before it has ended; after that
        every open job is due.
        """
        repository = defs.get_repository_def() if defs else self.repository
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sending, "FIRST_LOOK", 3600.0)
            outcome = run_line(repository.get_job("instance_line"), self.instance, key, stages)
        self.hurry()
        return outcome

    def hurry(self) -> None:
        """Every open job is due now."""
        with self.dispatcher.ledger.engine.begin() as tx:
            tx.execute(JOBS.update().where(JOBS.c.look_at.is_not(None)).values(look_at=datetime.now(UTC)))

    def with_backends(self, **backends: QuantumBackend) -> dg.Definitions:
        """Definitions whose dispatcher sends to these backends, on the same ledger."""
        factories = {**backend_factories(), **{name: (lambda b=b: b) for name, b in backends.items()}}
        dispatcher = Dispatcher(Ledger.at(self.home.ledger), ArtifactStore(self.home.artifacts), factories)
        return build_defs(environment="dev", home=self.home, dispatcher=dispatcher)

    def rows(self, table: str, key: str) -> pd.DataFrame:
        """The stored rows of an instance."""
        return self.lake.read(table, [key])

    def versions(self, key: str) -> dict[str, str]:
        """The newest data version of each stage, as Dagster knows it."""
        found = {}
        for stage in LINE:
            newest = self.instance.fetch_materializations(
                dg.AssetRecordsFilter(dg.AssetKey(stage), asset_partitions=[key]), limit=1
            ).records
            if newest and newest[0].asset_materialization:
                found[stage] = (newest[0].asset_materialization.tags or {})["dagster/data_version"]
        return found

    def evaluations(self, key: str, stage: str) -> dict[str, bool]:
        """Whether each check of a stage passed when it was last evaluated on this partition."""
        found = {}
        for check in self.repository.asset_graph.get_check_keys_for_assets({dg.AssetKey(stage)}):
            history = self.instance.event_log_storage.get_asset_check_execution_history(check, limit=20)
            for record in reversed(history):
                event = record.event.dagster_event if record.event else None
                evaluation = event.event_specific_data if event else None
                if evaluation is not None and getattr(evaluation, "partition", None) == key:
                    found[check.name] = evaluation.passed
        return found


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """One platform for the tests of a file; each takes instances of its own."""
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        patch.setenv("HYBRID_ENV", "dev")
        yield Platform(Home(tmp_path_factory.mktemp("home")).prepare(), instance)


class Staging(Platform):
    """A platform in staging, whose sensors are evaluated and whose requested runs are run by the test."""

    def __init__(self, home: Home, instance: dg.DagsterInstance) -> None:
        super().__init__(home, instance)
        self.cursors: dict[str, str | None] = {}

    def tick(self, sensor: str = "open_jobs", keep: bool = True) -> SensorExecutionData:
        """One evaluation of a sensor.

        Args:
            keep: whether its cursor is stored, as it is not when the daemon dies.
        """
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursors.get(sensor),
            repository_def=self.repository,
            resources=self.repository.get_top_level_resources(),
        )
        # what a daemon does around every tick
        with partition_loading_context(dynamic_partitions_store=self.instance):
            data = self.repository.get_sensor_def(sensor).evaluate_tick(context)
        if keep:
            self.cursors[sensor] = data.cursor
        return data

    def asked(self, keep: bool = True) -> list[dg.RunRequest]:
        """The runs that one tick over the open jobs asks for."""
        return list(self.tick(keep=keep).run_requests or [])

    def execute(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """A requested run, as the daemon would have it."""
        return self.repository.get_job(request.job_name or "instance_line").execute_in_process(
            instance=self.instance,
            partition_key=request.partition_key,
            asset_selection=list(request.asset_selection) if request.asset_selection else None,
            tags=dict(request.tags),
            run_config=request.run_config,
            raise_on_error=False,
        )

    def job(self, key: str) -> Job:
        """The newest job of an instance."""
        return self.dispatcher.ledger.jobs(instance=key)[-1]

    def told(self, key: str, action: str) -> list[tuple[str, str]]:
        """Subject and reason of an instance's rows of one kind in the audit log."""
        mine = {job.job_id for job in self.dispatcher.ledger.jobs(instance=key)}
        rows = [row for row in self.dispatcher.audit.rows() if row["job_id"] in mine and row["action"] == action]
        return [(row["subject"], row["reason"]) for row in rows]

    def executions(self, running: Running, key: str) -> dict[str, int]:
        """How many results the emulator has stored of each of an instance's jobs."""
        stored: Any = running.admin("executions")["executions"]
        mine = {job.provider_key: job.job_id for job in self.dispatcher.ledger.jobs(instance=key)}
        return {mine[name]: row["executions"] for name, row in stored.items() if name in mine}

    def follow(self, seconds: float = PATIENCE) -> list[dg.ExecuteInProcessResult]:
        """Ticks, and the runs they ask for, until no job is open and nothing is asked for."""
        done, until = [], time.monotonic() + seconds
        while time.monotonic() < until:
            requests = self.asked()
            done += [self.execute(request) for request in requests]
            jobs = self.dispatcher.ledger.jobs()
            if not requests and all(job.ended_at or job.state == "awaiting_approval" for job in jobs):
                return done
            time.sleep(0.05)
        raise AssertionError(f"still open: {[job for job in self.dispatcher.ledger.jobs() if job.ended_at is None]}")


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A provider emulator for all tests."""
    with serve_in_background(tmp_path_factory.mktemp("emulator"), queue_seconds=0.0, patience=PATIENCE) as running:
        yield running


@contextmanager
def staging_at(home: Home, url: str) -> Iterator[Staging]:
    """A platform in staging on the emulator at this URL."""
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        patch.setenv("HYBRID_ENV", "staging")
        patch.setenv("HYBRID_EMULATOR_URL", url)
        patch.setenv("HYBRID_EMULATOR_DEVICE", "quick-8")
        yield Staging(home.prepare(), instance)


@pytest.fixture(scope="module")
def staging(emulator: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staging]:
    """One platform in staging for the tests of a file; each takes instances (and seeds) of its own."""
    with staging_at(Home(tmp_path_factory.mktemp("staging")), emulator.url) as platform:
        yield platform
