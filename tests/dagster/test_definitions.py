"""What Dagster loads: valid by its own commands, in every environment, with refusals in one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from hybrid_assets.definitions import build_defs
from resources.environments import SETTINGS
from resources.failures import InputError
from resources.home import PROJECT, Home
from tests.dagster.conftest import Platform


def test_dagster_s_own_commands_find_the_definitions_valid(tmp_path: Path) -> None:
    commands = [["dagster", "definitions", "validate", "-w", "workspace.yaml"], ["dg", "check", "defs"]]
    scripts = Path(sys.executable).parent
    environment = {**os.environ, "HYBRID_HOME": str(tmp_path), "VIRTUAL_ENV": sys.prefix, "DAGSTER_HOME": ""}
    running = [
        subprocess.Popen([scripts / command[0], *command[1:]], cwd=PROJECT, text=True, env=environment,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for command in commands
    ]  # fmt: skip
    said = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(said)
    assert "Validation successful for code location hybrid_assets" in said[0]
    assert "All definitions loaded successfully" in said[1]
    assert list(tmp_path.iterdir()) == [], "loading definitions makes no state"


@pytest.mark.parametrize("environment", SETTINGS)
def test_every_environment_loads_and_only_resources_differ(environment: str, tmp_path: Path) -> None:
    defs = build_defs(environment=environment, home=Home(tmp_path))
    dg.Definitions.validate_loadable(defs)
    dev = build_defs(environment="dev", home=Home(tmp_path)).get_repository_def()
    repository = defs.get_repository_def()
    assert repository.asset_graph.get_all_asset_keys() == dev.asset_graph.get_all_asset_keys()
    assert repository.asset_graph.asset_check_keys == dev.asset_graph.asset_check_keys
    assert {job.name for job in repository.get_all_jobs()} == {job.name for job in dev.get_all_jobs()}
    on = dg.DefaultSensorStatus.STOPPED if environment == "production" else dg.DefaultSensorStatus.RUNNING
    assert {sensor.name: sensor.default_status for sensor in repository.sensor_defs} == {
        "inbox": on,
        "publish_on_change": on,
        "open_jobs": on,
        # it only stops things
        "cancelled_runs": dg.DefaultSensorStatus.RUNNING,
    }
    assert {schedule.default_status.value for schedule in repository.schedule_defs} == {on.value}
    assert list(tmp_path.iterdir()) == []


def test_the_environment_s_name_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_ENV", "prod")
    with pytest.raises(InputError, match="there is no environment 'prod'; use one of dev, staging, production"):
        build_defs()


def test_an_unknown_replacement_is_refused() -> None:
    with pytest.raises(InputError, match=r"dispatch: there is no such resource; use one of .*dispatcher"):
        build_defs(dispatch=None)


def test_every_run_stays_in_its_process() -> None:
    repository = build_defs(environment="dev").get_repository_def()
    for job in repository.get_all_jobs():
        assert job.executor_def.name == "in_process", job.name


def test_production_stops_at_the_missing_credentials(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith(("HYBRID_IBM", "HYBRID_BRAKET", "DWAVE", "AWS"))]:
        monkeypatch.delenv(variable)
    key = platform.landed(name="costly.mc", seed=31)
    outcome = platform.run(key, defs=build_defs(environment="production", home=platform.home))
    assert outcome.problem is not None
    for variable in ("HYBRID_IBM_TOKEN", "HYBRID_BRAKET_DEVICE", "DWAVE_API_TOKEN"):
        assert outcome.problem.count(variable) == 1, "one sentence per backend"
    assert "\n" not in outcome.problem
    assert outcome.failure_class == "capability"
    assert platform.versions(key) == {}
    assert platform.dispatcher.ledger.jobs(instance=key) == [], "nothing is intended that cannot be sent"
