"""One instance through stages 2 to 9 for real: what is stored, versioned, shown, refused, continued."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from hybrid_assets import checks, contracts
from hybrid_assets.line import LINE, Outcome, stale_stages
from hybrid_assets.session import open_session
from resources.backends.aer import Aer
from resources.backends.base import Capabilities, JobHandle, ProviderStatus
from resources.envelope import JobResult
from resources.failures import InputError
from resources.home import Home
from tests.dagster.conftest import OTHER_RING, QUICK, RING, Platform


@pytest.fixture(scope="module")
def ring(platform: Platform) -> tuple[str, Outcome]:
    """An instance that went through the whole line, and how its run ended."""
    key = platform.landed(name="whole.mc")
    assert platform.stale(key) == list(LINE)
    return key, platform.run(key)


def test_every_table_has_rows(platform: Platform, ring: tuple[str, Outcome]) -> None:
    key, outcome = ring
    assert outcome.problem is None
    assert not outcome.pending
    for table in LINE:
        rows = platform.rows(table, key)
        assert len(rows) > 0, table
        assert set(rows["data_version"]) == {platform.versions(key)[table]}
    decided = platform.rows("decisions", key).iloc[0]
    assert decided["objective"] == 13.0, "alternating sides cut every edge"
    assert decided["feasible"]
    assert platform.rows("baseline_comparisons", key)["best_quantum"].notna().all()


def test_every_check_passed_on_its_partition(platform: Platform, ring: tuple[str, Outcome]) -> None:
    key, _ = ring
    for stage in LINE:
        expected = {"schema", *(check.name for check in checks.of(stage))}
        assert platform.evaluations(key, stage) == dict.fromkeys(expected, True), stage


def test_a_second_run_gives_the_same_versions_and_no_second_job(platform: Platform, ring: tuple[str, Outcome]) -> None:
    key, _ = ring
    before = platform.versions(key)
    assert all(re.fullmatch("[0-9a-f]{64}", version) for version in before.values())
    samples = platform.rows("quantum_samples", key)
    assert platform.stale(key) == []
    assert platform.run(key).problem is None
    assert platform.versions(key) == before
    assert platform.stale(key) == []
    jobs = platform.dispatcher.ledger.jobs(instance=key)
    assert [job.state for job in jobs] == ["succeeded"]
    assert jobs[0].attempts == 1
    assert len(platform.rows("quantum_samples", key)) == len(samples), "rows were appended, not replaced"


def test_metadata_is_what_a_person_wants(platform: Platform, ring: tuple[str, Outcome]) -> None:
    key, _ = ring
    pictures = set()
    for stage in LINE:
        event = _newest(platform, stage, key)
        assert event.metadata["dagster/partition_row_count"].value == len(platform.rows(stage, key))
        for name, value in event.metadata.items():
            if isinstance(value, dg.MarkdownMetadataValue) and value.value:
                pictures |= {stage} if value.value.startswith("![plot](data:image/") else set()
                assert "nan" not in value.value.lower().split("base64")[0].split(), name
    assert pictures >= {"normalized_inputs", "quantum_samples", "baseline_runs", "decisions"}
    assert _newest(platform, "quantum_samples", key).metadata["shots"].value == QUICK["shots"]
    expected = _newest(platform, "quantum_jobs", key).metadata
    assert expected["coupling_map"].value == "heavy-hex"
    assert expected["device_priced_as"].value == "ibm, USD"
    row = platform.rows("quantum_jobs", key).iloc[0]
    assert row["device_cost"] == expected["device_cost"].value > 0
    assert row["estimated_two_qubit_gates"] > row["estimated_logical_two_qubit_gates"] > 0
    table = _newest(platform, "baseline_runs", key).metadata["runs"].value
    assert isinstance(table, str)
    assert "| cpsat | optimal | 13 | 13 |" in table
    assert _newest(platform, "decisions", key).metadata["objective"].value == 13.0


def test_assets_are_described_owned_grouped_and_checked(platform: Platform) -> None:
    graph = platform.repository.asset_graph
    groups = []
    for key in graph.materializable_asset_keys:
        node = graph.get(key)
        assert node.description, key
        assert node.owners == ["team:hybrid-assets"], key
        assert node.kinds, key
        groups.append(node.group_name)
    assert sorted(set(groups)) == ["1_inputs", "2_quantum", "3_evidence", "4_decisions", "5_publication"]
    for stage in LINE:
        node = graph.get(dg.AssetKey(stage))
        assert node.code_version
        schema = node.metadata["dagster/column_schema"]
        assert isinstance(schema, dg.TableSchema)
        assert [column.name for column in schema.columns] == list(contracts.TABLES[stage].columns)
        assert all(column.description for column in schema.columns), stage
        found = graph.get_check_keys_for_assets({dg.AssetKey(stage)})
        assert found, stage
        for check in found:
            spec = graph.get_check_spec(check)
            assert spec.blocking, check
            assert spec.description, check


def test_the_story_is_one_line_in_the_lineage(platform: Platform) -> None:
    graph = platform.repository.asset_graph
    assert dg.AssetKey("landed_files") in graph.get(dg.AssetKey("normalized_inputs")).parent_keys
    for later, earlier in zip(LINE[1:], LINE, strict=False):
        ancestors = graph.get_ancestor_asset_keys(dg.AssetKey(later))
        assert dg.AssetKey(earlier) in ancestors or later == "baseline_runs"


# --- staleness ------------------------------------------------------------------------------------------------------


def test_a_changed_file_makes_the_whole_line_stale_and_new(platform: Platform) -> None:
    key = platform.landed(name="edited.mc", seed=3)
    platform.run(key)
    before = platform.versions(key)
    assert platform.landed(RING, name="edited.mc", seed=3) == key
    assert platform.stale(key) == [], "landing the same bytes again changes nothing"
    assert platform.landed(OTHER_RING, name="edited.mc", seed=3) == key
    assert platform.stale(key) == list(LINE)
    assert platform.run(key).problem is None
    after = platform.versions(key)
    assert {stage for stage in LINE if after[stage] == before[stage]} == set()
    assert platform.rows("decisions", key)["objective"].tolist() == [14.0]
    assert len(platform.dispatcher.ledger.jobs(instance=key)) == 2
    platform.landed(OTHER_RING, name="edited.mc", seed=4)
    assert platform.stale(key) == list(LINE), "another request is another input"


@pytest.mark.filterwarnings("ignore::dagster.PreviewWarning", "ignore::dagster.BetaWarning")
def test_a_changed_code_version_makes_its_stage_and_the_rest_stale(
    platform: Platform, ring: tuple[str, Outcome]
) -> None:
    key, _ = ring
    changed = platform.defs.map_resolved_asset_specs(
        func=lambda spec: spec.replace_attributes(code_version="next"), selection="scored_candidates"
    )
    stale = stale_stages(platform.instance, changed.get_repository_def().asset_graph, key)
    assert stale == ["scored_candidates", "baseline_comparisons", "decisions"]


# --- honest answers -------------------------------------------------------------------------------------------------


def test_a_surrogate_never_fills_best_quantum(platform: Platform) -> None:
    key = platform.landed(name="annealed.mc", backend="annealer")
    assert platform.run(key).problem is None
    row = platform.rows("baseline_comparisons", key).iloc[0]
    assert row["best_surrogate"] == 13.0
    assert row[["best_quantum", "best_quantum_raw", "quantum_backend", "quantum_evidence_class"]].isna().all()
    assert row["winner"] != "quantum"
    assert set(platform.rows("quantum_samples", key)["evidence_class"]) == {"surrogate"}
    assert platform.rows("decisions", key).iloc[0]["source"] != "quantum"


class Liar(Aer):
    """Reports energies that the program does not give."""

    def result(self, handle: JobHandle) -> JobResult:
        honest = super().result(handle)
        shifted = tuple(s.model_copy(update={"energy": s.energy - 1.0}) for s in honest.samples)
        return honest.model_copy(update={"samples": shifted})


def test_a_wrong_energy_stores_nothing_and_fails_the_check(platform: Platform) -> None:
    key = platform.landed(name="lied.mc", seed=1)
    outcome = platform.run(key, defs=platform.with_backends(aer=Liar()))
    assert outcome.problem is not None
    assert "the backend reports energy" in outcome.problem
    assert "\n" not in outcome.problem
    assert platform.rows("quantum_samples", key).empty
    assert "quantum_samples" not in platform.versions(key)
    evaluations = platform.evaluations(key, "quantum_samples")
    assert evaluations.pop("energies") is False
    assert set(evaluations.values()) == {True}
    # what does not depend on the samples is there
    assert {"normalized_inputs", "encoded_problems", "quantum_jobs"} <= set(platform.versions(key))
    assert "decisions" not in platform.versions(key)


class Held(Aer):
    """A provider that takes its time."""

    finished = False

    def capabilities(self) -> Capabilities:
        return replace(super().capabilities(), remote=True)

    def status(self, handle: JobHandle) -> ProviderStatus:
        known = super().status(handle)
        return known if self.finished else ProviderStatus.RUNNING


def test_a_pending_job_is_a_green_run_that_is_continued(platform: Platform) -> None:
    backend = Held()
    defs = platform.with_backends(aer=backend)
    key = platform.landed(name="held.mc", seed=2)
    outcome = platform.run(key, defs=defs)
    assert outcome.problem is None
    assert outcome.pending
    assert platform.instance.get_run_by_id(outcome.run_id).status is dg.DagsterRunStatus.SUCCESS  # type: ignore[union-attr]
    assert set(platform.versions(key)) == {"normalized_inputs", "encoded_problems", "quantum_jobs", "baseline_runs"}
    for table in ("quantum_samples", "scored_candidates", "baseline_comparisons", "decisions"):
        assert platform.rows(table, key).empty
    (job,) = platform.dispatcher.ledger.jobs(instance=key)
    assert job.state == "submitted"
    rest = platform.stale(key)
    assert rest == ["quantum_samples", "scored_candidates", "baseline_comparisons", "decisions"]

    assert platform.run(key, rest, defs).pending, "it is still running"
    backend.finished = True
    outcome = platform.run(key, rest, defs)
    assert (outcome.problem, outcome.pending) == (None, False)
    assert platform.stale(key) == []
    (done,) = platform.dispatcher.ledger.jobs(instance=key)
    assert (done.job_id, done.state, done.attempts) == (job.job_id, "succeeded", 1)


# --- bad input ------------------------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_normalized_stores_nothing(platform: Platform) -> None:
    with pytest.raises(InputError):
        platform.landed("6 2\n1 2 1\n3 3 1\n", name="refused.mc")
    key = platform.landed(name="broken.mc")
    # the sensor lands what parses; what normalization refuses fails the run
    landing = platform.dispatcher.ledger.landing(key)
    assert landing is not None
    platform.dispatcher.ledger.land(
        type(landing)(**{**vars(landing), "content_ref": platform.dispatcher.artifacts.put(b"2 1\n1 2 0\n")})
    )
    outcome = platform.run(key)
    assert outcome.problem is not None
    assert outcome.problem.startswith("broken.mc: ")
    assert "\n" not in outcome.problem
    assert outcome.failure_class == "input"
    assert platform.versions(key) == {}
    assert all(platform.rows(table, key).empty for table in LINE)
    assert platform.dispatcher.ledger.jobs(instance=key) == []


def test_a_partition_without_a_file_says_so(platform: Platform) -> None:
    platform.instance.add_dynamic_partitions("instances", ["maxcut.nowhere"])
    outcome = platform.run("maxcut.nowhere")
    assert outcome.problem is not None
    assert "no file has landed" in outcome.problem


# --- kill -9 --------------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from resources import sending
from resources.home import Home
from resources.lake import Lake
from hybrid_assets.landing import Address
from hybrid_assets.request import parse
from hybrid_assets.session import open_session

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

place, when = Path(sys.argv[1]), sys.argv[2]
if when == "sending":
    sending.deliver = die
else:
    stored = Lake.write
    Lake.write = lambda lake, table, *rest: stored(lake, table, *rest) if table != when else die()
with open_session(home=Home(place / "home")) as session:
    landing = session.land_file(Address(place / "ring.mc", 0), "maxcut", parse({request!r}, "ring"))
    session.process(landing.instance)
"""


@pytest.mark.parametrize("when", ["sending", "scored_candidates"])
def test_after_a_kill_the_next_run_finishes_and_nothing_is_doubled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    (tmp_path / "ring.mc").write_text(RING)
    script = KILLED.replace("{request!r}", repr(QUICK))
    killed = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), when],
        capture_output=True,
        text=True,
        env={**os.environ, "HYBRID_ENV": "dev"},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.setenv("HYBRID_ENV", "dev")
    key = "maxcut.ring"
    with open_session(home=Home(tmp_path / "home")) as session:
        assert [run.status for run in session.instance.get_runs()] == [dg.DagsterRunStatus.FAILURE], (
            "the dead run looks alive, and would be waited for"
        )
        assert session.lake.read("decisions", [key]).empty
        rest = session.stale(key)
        assert rest
        outcome = session.process(key, rest)
        assert (outcome.problem, outcome.pending) == (None, False)
        assert session.stale(key) == []
        (job,) = session.dispatcher.ledger.jobs(instance=key)
        assert (job.state, job.attempts) == ("succeeded", 2 if when == "sending" else 1)
        samples = session.lake.read("quantum_samples", [key])
        assert samples["count"].sum() == QUICK["shots"]
        assert not samples["bits"].duplicated().any()
        assert len(session.lake.read("decisions", [key])) == 1
        assert session.instance.get_dynamic_partitions("instances") == [key]


def _newest(platform: Platform, stage: str, key: str) -> Any:
    records = platform.instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey(stage), asset_partitions=[key]), limit=1
    ).records
    return records[0].asset_materialization
