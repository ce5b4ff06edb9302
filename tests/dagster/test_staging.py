"""The same asset graph in dev and staging: in staging jobs are out, sensors follow them, and whatever happens at the
provider is told in every table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from dagster._core.definitions.reconstruct import ReconstructableRepository

from hybrid_assets.definitions import build_defs
from hybrid_assets.line import LINE
from resources.backends.emulator import Emulator
from resources.emulator.running import Running, serve_in_background
from resources.home import Home
from tests.dagster.conftest import Platform, Staging, staging_at
from tests.waiting import PATIENCE


def test_the_job_is_out_after_the_first_run_and_a_tick_goes_on(staging: Staging, emulator: Running) -> None:
    key = staging.landed(name="ring.mc", seed=1)
    first = staging.run(key)
    assert first.problem is None
    assert first.pending
    assert set(staging.versions(key)) == {"normalized_inputs", "encoded_problems", "quantum_jobs", "baseline_runs"}
    job = staging.job(key)
    assert (job.state, job.backend, job.result_ref) == ("submitted", "emulator", None)

    (run,) = staging.follow()
    assert run.success
    assert set(staging.versions(key)) == set(LINE)
    assert staging.stale(key) == []
    samples, decision = staging.rows("quantum_samples", key), staging.rows("decisions", key).iloc[0]
    assert set(samples["evidence_class"]) == {"emulator"}
    assert set(samples["backend"]) == {"emulator"}
    assert decision["environment"] == "staging"
    compared = staging.rows("baseline_comparisons", key).iloc[0]
    assert (compared["quantum_backend"], compared["quantum_evidence_class"]) == ("emulator", "emulator")
    assert staging.executions(emulator, key) == {job.job_id: 1}
    assert staging.asked() == [], "what is decided is not asked for again"
    # one request, one id, through both runs
    assert decision["correlation_id"] == job.correlation_id == first.run_id


def test_dev_differs_in_nothing_but_the_name_of_its_environment(staging: Staging, tmp_path: Path) -> None:
    key = staging.landed(name="same.mc", seed=2)
    assert staging.run(key).pending
    staging.follow()
    dev = Staging(Home(tmp_path).prepare(), staging.instance)
    graph = dev.repository.asset_graph
    assert staging.repository.asset_graph.get_all_asset_keys() == graph.get_all_asset_keys()
    assert staging.repository.asset_graph.asset_check_keys == graph.asset_check_keys


def test_no_row_of_dev_looks_like_one_of_staging(platform: Platform) -> None:
    key = platform.landed(name="same.mc", seed=2)
    assert not platform.run(key).pending
    assert set(platform.rows("quantum_samples", key)["evidence_class"]) == {"simulator"}
    assert platform.rows("baseline_comparisons", key).iloc[0]["quantum_evidence_class"] == "simulator"
    assert platform.rows("decisions", key).iloc[0]["environment"] == "dev"


def test_a_family_that_refines_goes_through_its_rounds(staging: Staging, emulator: Running) -> None:
    rng = np.random.default_rng(5)
    paths = 100 * np.exp(np.cumsum(rng.normal(0.0005, 0.01, (60, 6)), axis=0))
    days = [f"2024-{1 + day // 28:02d}-{1 + day % 28:02d}" for day in range(60)]
    rows = [",".join(map(str, [day, *path.round(4)])) for day, path in zip(days, paths, strict=True)]
    text = "\n".join(["date,A,B,C,D,E,F", *rows]) + "\n"
    key = staging.landed(text, "prices.csv", "portfolio", constraints={"cardinality": 3})
    assert staging.run(key, LINE[:3]).problem is None
    runs = staging.follow()
    assert all(run.success for run in runs)
    jobs = staging.dispatcher.ledger.jobs(instance=key)
    rounds = staging.rows("quantum_samples", key)[["repetition", "round"]].drop_duplicates()
    assert len(rounds) > 1
    # rounds that ask for the very same job share it
    assert 1 < len(jobs) <= len(rounds)
    assert set(staging.rows("quantum_samples", key)["evidence_class"]) == {"emulator"}
    assert staging.executions(emulator, key) == {job.job_id: 1 for job in jobs}
    assert {job.correlation_id for job in jobs} == {jobs[0].correlation_id}


def test_a_job_that_fails_at_the_provider_is_answered_by_the_next_backend(staging: Staging, emulator: Running) -> None:
    key = staging.landed(name="unlucky.mc", seed=3)
    emulator.admin("faults", {"faults": [{"fault": "failed_job", "times": 1}]})
    try:
        assert staging.run(key, LINE[:3]).problem is None
        (run,) = staging.follow()
    finally:
        emulator.admin("faults", {"faults": []})
    assert run.success
    job = staging.job(key)
    assert (job.state, job.backend, job.hop) == ("succeeded", "aer-noisy", 1)
    (hop,) = json.loads(job.fallback_path)
    assert hop["reason"] == "emulator says that the job failed"
    assert [h.reason for h in staging.dispatcher.stored_result(job.job_id).fallback_path] == [hop["reason"]]
    assert set(staging.rows("quantum_samples", key)["backend"]) == {"aer-noisy"}
    assert staging.told(key, "fallback") == [("emulator → aer-noisy", f"backend: {hop['reason']}")]
    assert staging.dispatcher.audit.verify() == []


def test_an_emulator_that_goes_down_is_left_with_its_reason(tmp_path: Path) -> None:
    with (
        serve_in_background(tmp_path / "emulator", queue_seconds=0.0, patience=PATIENCE) as running,
        staging_at(Home(tmp_path / "home"), running.url) as staging,
    ):
        key = staging.landed(name="alone.mc")
        assert staging.run(key, LINE[:2]).problem is None
        running.kill()
        assert staging.run(key, LINE[2:]).problem is None
        staging.follow()
        job = staging.job(key)
        assert (job.state, job.backend) == ("succeeded", "aer-noisy")
        (hop,) = json.loads(job.fallback_path)
        assert (hop["backend"], hop["next_backend"]) == ("emulator", "aer-noisy")
        assert "emulator" in hop["reason"]
        ((subject, reason),) = staging.told(key, "fallback")
        assert (subject, reason) == ("emulator → aer-noisy", f"{hop['failure_class']}: {hop['reason']}")
        assert staging.stale(key) == []


def test_stage_4_again_finds_the_same_job(staging: Staging, emulator: Running) -> None:
    key = staging.landed(name="again.mc", seed=4)
    first = staging.run(key, LINE[:3])
    job = staging.job(key)
    # once more while it is out, as a re-execution, and after it has ended
    assert staging.run(key, ["quantum_jobs"]).problem is None
    again = staging.repository.get_job("instance_line").execute_in_process(
        instance=staging.instance,
        partition_key=key,
        asset_selection=[dg.AssetKey("quantum_jobs")],
        tags={"dagster/parent_run_id": first.run_id, "dagster/root_run_id": first.run_id},
    )
    assert again.success
    staging.follow()
    assert staging.run(key, ["quantum_jobs"]).problem is None
    assert [j.job_id for j in staging.dispatcher.ledger.jobs(instance=key)] == [job.job_id]
    assert staging.executions(emulator, key) == {job.job_id: 1}


def repository_of_home() -> dg.RepositoryDefinition:
    """What a run worker loads: the definitions of ``HYBRID_HOME``."""
    return build_defs().get_repository_def()


def test_a_burst_goes_out_as_one_submission(
    staging: Staging, emulator: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [staging.landed(name=f"burst-{seed}.mc", seed=20 + seed) for seed in range(3)]
    sizes: list[int] = []
    original = Emulator.submit_many

    def spy(self: Emulator, jobs: Any) -> Any:
        sizes.append(len(jobs))
        return original(self, jobs)

    monkeypatch.setattr(Emulator, "submit_many", spy)
    monkeypatch.setenv("HYBRID_HOME", str(staging.home.root))
    monkeypatch.setenv("HYBRID_ENV", "staging")
    job = ReconstructableRepository.for_module(__name__, "repository_of_home").get_reconstructable_job("process_batch")
    config = {"ops": {"run_batch": {"config": {"keys": keys, "stages": list(LINE[:4])}}}}
    assert dg.execute_job(job, staging.instance, run_config=config).success
    assert sizes == [3]
    assert {staging.job(key).attempts for key in keys} == {1}
    staging.follow()
    for key in keys:
        assert staging.executions(emulator, key) == {staging.job(key).job_id: 1}
        assert set(staging.versions(key)) == set(LINE)
