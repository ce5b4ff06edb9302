"""Routing in the line: decided once, by the environment's policy file and what is known about the backends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from typer.testing import CliRunner

from hybrid_assets import cli, contracts
from hybrid_assets.request import Resolved
from hybrid_assets.routes import history
from resources.controls import Mode
from resources.failures import InputError
from tests.dagster.conftest import RING, Platform
from tests.rows import rows

ONE = "normalized_inputs"
POLICY = """
version: t
breaker: {open_seconds: 3600}
routes:
  - name: all
    then: {backends: [aer, lightning], fallback: [annealer, heuristic], budget_seconds: 5}
"""


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that rules while a test runs."""
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    monkeypatch.setenv("HYBRID_POLICY", str(file))
    return file


@pytest.fixture
def restored(platform: Platform) -> Iterator[None]:
    """Whatever a test sets for a backend is taken back."""
    yield
    for name in ("aer", "lightning"):
        platform.dispatcher.controls.set(name, Mode.OPEN, "test", "over")
        platform.dispatcher.breakers.succeeded(name)


def resolved(platform: Platform, key: str) -> Resolved:
    return Resolved.model_validate_json(platform.rows(ONE, key).iloc[0]["options"])


def explanation(platform: Platform, key: str) -> str:
    (record,) = platform.instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey(ONE), asset_partitions=[key]), limit=1
    ).records
    assert record.asset_materialization is not None
    value = record.asset_materialization.metadata["routing"].value
    assert isinstance(value, str)
    return value


def test_the_decision_is_made_once_and_every_envelope_carries_it(platform: Platform, policy: Path) -> None:
    key = platform.landed(name="once.mc", impact="high", cost_ceiling=7.5)
    assert platform.run(key, [ONE, "encoded_problems"]).problem is None
    found = resolved(platform, key)
    assert (found.backend, found.fallback, found.tier) == ("aer", ("lightning", "annealer", "heuristic"), "simulator")
    assert "route all: taken" in explanation(platform, key)
    assert "backend aer: taken (the first that can be used)" in explanation(platform, key)
    # whatever the policy says by now, stage 4 does what was decided
    policy.write_text(POLICY.replace("[aer, lightning]", "[lightning]"))
    outcome = platform.run(key, ["quantum_jobs"])
    (job,) = platform.dispatcher.ledger.jobs(instance=key)
    envelope = platform.dispatcher.ledger.envelope(job.envelope_digest)
    assert outcome.problem is None
    assert (envelope.backend, envelope.fallback) == ("aer", found.fallback)
    assert envelope.policy_version == found.policy_version
    assert found.policy_version.startswith("t+")
    assert (envelope.impact, envelope.cost_ceiling) == ("high", 7.5)


def test_only_a_policy_that_routes_otherwise_makes_an_answer_stale(platform: Platform, policy: Path) -> None:
    key = platform.landed(name="stale.mc")
    assert platform.run(key, [ONE]).problem is None
    decided = platform._decided_otherwise
    assert not decided(key)
    policy.write_text(POLICY + "replay: {per_hour: 3}\n")
    assert not decided(key), "another version, the same route"
    policy.write_text(POLICY.replace("[aer, lightning]", "[lightning, aer]"))
    assert decided(key)
    policy.write_text(POLICY.replace("annealer, heuristic", "heuristic"))
    assert decided(key)
    policy.write_text(POLICY.replace("budget_seconds: 5", "budget_seconds: 9"))
    assert not decided(key), "the request names its own budget"
    policy.write_text(POLICY.replace("backends: [aer, lightning]", "backends: [ibm]"))
    assert decided(key), "nobody can take it: the run says why"
    policy.write_text(POLICY)
    assert not decided(key)


def test_what_people_and_breakers_say_counts_when_it_is_decided(
    platform: Platform, policy: Path, restored: None
) -> None:
    dispatcher = platform.dispatcher
    first, second, third = (platform.landed(name=f"set{n}.mc") for n in range(3))
    assert platform.run(first, [ONE]).problem is None
    dispatcher.controls.set("aer", Mode.DRAINED, "ada", "maintenance")
    assert platform.run(second, [ONE]).problem is None
    assert resolved(platform, second).backend == "lightning"
    assert resolved(platform, second).fallback[0] == "aer"
    assert "it was drained by ada (maintenance)" in explanation(platform, second)
    dispatcher.controls.set("aer", Mode.KILLED, "ada", "smoke")
    for _ in range(dispatcher.policy.breaker.failures):
        dispatcher.breakers.failed("lightning", "no answer")
    assert platform.run(third, [ONE]).problem is None
    found = resolved(platform, third)
    assert (found.backend, found.fallback) == ("lightning", ("annealer", "heuristic"))
    assert "aer: passed by, it was killed by ada (smoke)" in explanation(platform, third)
    assert "backend lightning is left alone" in explanation(platform, third)
    # what has been decided stays decided
    assert not platform._decided_otherwise(first)


def test_a_backend_s_record_comes_from_the_lake(platform: Platform, policy: Path) -> None:
    def compared(n: int, winner: str, gap: float, **other: object) -> None:
        key = f"maxcut.record-{n}"
        row = {"winner": winner, "quantum_gap": gap, **other}
        frame = contracts.frame_of("baseline_comparisons", rows("baseline_comparisons", key, **row), file="test")
        platform.lake.write("baseline_comparisons", frame, [key], {})

    for n, (winner, gap) in enumerate([("classical", 0.2), ("classical", 0.1), ("tie", 0.0)]):
        compared(n, winner, gap)
    compared(3, "classical", 0.5, quantum_backend="lightning")
    compared(4, "none", 0.0, best_quantum=None, quantum_backend=None, quantum_evidence_class=None)
    shown = history(platform.lake, "maxcut")
    assert (shown["aer"].wins, shown["aer"].ties, shown["aer"].losses, shown["aer"].median_gap) == (0, 1, 2, 0.1)
    assert (shown["lightning"].jobs, shown["lightning"].median_gap) == (1, 0.5)
    assert history(platform.lake, "portfolio") == {}
    proven = (
        "routes:\n  - name: proven\n    when: {quality: {min_jobs: 3, min_win_or_tie_rate: 0.5}}\n"
        "    then: {backends: [aer]}\n"
    )
    policy.write_text(POLICY.replace("routes:\n", proven))
    key = platform.landed(name="record.mc")
    assert platform.run(key, [ONE]).problem is None
    assert "it won or tied 1 of 3 comparisons on maxcut (33 %), asked are 50 %" in explanation(platform, key)
    assert "route proven: passed by" in explanation(platform, key)
    assert resolved(platform, key).backend == "aer", "by the second route"


# --- the commands ---------------------------------------------------------------------------------------------------


@pytest.fixture
def hybrid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """The command with a home of its own and a file beside it."""
    for variable in ("HYBRID_IBM_TOKEN", "HYBRID_BRAKET_DEVICE", "DWAVE_API_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.delenv("HYBRID_POLICY", raising=False)
    monkeypatch.setenv("HYBRID_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HYBRID_ENV", "dev")
    (tmp_path / "ring.mc").write_text(RING)
    return CliRunner()


def test_route_says_where_a_file_would_go_and_stores_nothing(hybrid: CliRunner, tmp_path: Path) -> None:
    done = hybrid.invoke(cli.app, ["route", str(tmp_path / "ring.mc"), "--family", "maxcut", "--json"])
    document = json.loads(done.stdout)
    assert (document["instance"], document["backend"], document["environment"]) == ("maxcut.ring", "aer", "dev")
    explained = hybrid.invoke(cli.app, ["route", str(tmp_path / "ring.mc"), "--family", "maxcut", "--explain"])
    assert all(line in explained.stdout for line in document["explanation"])
    assert "policy dev-" in explained.stdout
    (tmp_path / "ring.yaml").write_text("backend: annealer\n")
    asked = hybrid.invoke(cli.app, ["route", str(tmp_path / "ring.mc"), "--family", "maxcut", "--json"])
    assert json.loads(asked.stdout)["backend"] == "annealer"
    assert not [path for path in (tmp_path / "home" / "artifacts").rglob("*") if path.is_file()]


def test_production_stops_with_one_sentence_per_backend(
    hybrid: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBRID_ENV", "production")
    done = hybrid.invoke(cli.app, ["route", str(tmp_path / "ring.mc"), "--family", "maxcut"])
    assert done.exit_code == 1
    for variable in ("HYBRID_IBM_TOKEN", "HYBRID_BRAKET_DEVICE", "DWAVE_API_TOKEN"):
        assert str(done.exception).count(variable) == 1
    (tmp_path / "ring.yaml").write_text("sensitivity: confidential\n")
    here = hybrid.invoke(cli.app, ["route", str(tmp_path / "ring.mc"), "--family", "maxcut", "--json"])
    assert (json.loads(here.stdout)["backend"], json.loads(here.stdout)["name"]) == ("aer", "what stays here")


@pytest.mark.parametrize("command", ["run", "route ring.mc --family maxcut", "solve ring.mc --family maxcut"])
def test_a_wrong_policy_is_one_sentence(
    hybrid: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY + "colour: red\n")
    monkeypatch.setenv("HYBRID_POLICY", str(tmp_path / "policy.yaml"))
    (tmp_path / "maxcut").mkdir()
    (tmp_path / "maxcut" / "ring.mc").write_text(RING)
    monkeypatch.setenv("HYBRID_INBOX", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.chdir(tmp_path)
    done = hybrid.invoke(cli.app, command.split())
    assert isinstance(done.exception, InputError)
    assert str(done.exception).startswith("policy.yaml: colour: this key is unknown; use one of approval")


def test_doctor_knows_every_backend_and_the_policy(hybrid: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    done = hybrid.invoke(cli.app, ["doctor"])
    assert done.exit_code == 0, done.exception
    assert "policy dev-" in done.stdout
    for name in ("aer", "lightning", "annealer", "ibm", "braket", "dwave", "emulator", "heuristic"):
        assert f"│ {name} " in done.stdout, name
    assert "HYBRID_IBM_TOKEN" in done.stdout
    monkeypatch.setenv("HYBRID_POLICY", "no-such-file.yaml")
    broken = hybrid.invoke(cli.app, ["doctor"])
    assert broken.exit_code == 0
    assert "policy: no-such-file.yaml: HYBRID_POLICY: it cannot be read" in broken.stdout
