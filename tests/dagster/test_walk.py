"""Instances that are larger than the device: one trip after the other through the line."""

import itertools
import json

import numpy as np
import pytest

from hybrid_assets.line import LINE
from resources.controls import Mode
from resources.emulator.running import Running
from tests.dagster.conftest import Platform, Staging
from tests.waiting import until


def graph(nodes: int, seed: int) -> str:
    rng = np.random.default_rng(seed)
    edges = [(i, j) for i in range(1, nodes + 1) for j in range(i + 1, nodes + 1) if rng.random() < 0.15]
    return f"{nodes} {len(edges)}\n" + "".join(f"{i} {j} {rng.integers(1, 9)}\n" for i, j in edges)


def test_a_large_instance_is_walked_in_trips(platform: Platform) -> None:
    key = platform.landed(graph(40, 1), "large.mc", trips=4)
    assert platform.run(key).problem is None
    record = json.loads(platform.rows("encoded_problems", key)["narrowing"].iloc[0])
    assert record["of"] == 40
    assert record["walk"]["trips"] == 4
    samples = platform.rows("quantum_samples", key)
    assert set(samples["round"]) == set(range(4))
    assert samples["job_id"].nunique() == 4
    assert samples["bits"].str.len().max() <= record["walk"]["size"] * record["walk"]["batch"]
    candidates = platform.rows("scored_candidates", key)
    assert set(candidates["arm"]) == {"quantum", "random_control"}
    assert candidates["narrowed"].all()
    decision = platform.rows("decisions", key).iloc[0]
    # part of it was decided classically, so it is never called quantum
    assert decision["source"] in ("hybrid", "classical")
    assert platform.stale(key) == []


def test_the_stages_after_the_samples_can_be_repeated(platform: Platform) -> None:
    key = platform.landed(graph(32, 2), "again.mc", trips=3, polish=False)
    assert platform.run(key).problem is None
    before = platform.versions(key)
    assert platform.run(key, ["scored_candidates", "baseline_comparisons"]).problem is None
    assert platform.versions(key)["scored_candidates"] == before["scored_candidates"]
    assert set(platform.rows("scored_candidates", key)["post_processing"]) <= {"raw", "repaired"}


def test_a_walk_that_the_clock_ended_ends_there_again(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    key = platform.landed(graph(32, 5), "clock.mc", trips=4)
    readings = itertools.count(step=1e6)
    with monkeypatch.context() as slow:
        slow.setattr("hybrid_assets.proposals.trips.time.perf_counter", lambda: next(readings))
        assert platform.run(key).problem is None
    before = platform.versions(key)
    assert set(platform.rows("quantum_samples", key)["round"]) == {0}
    assert platform.run(key, ["quantum_samples", "scored_candidates"]).problem is None
    assert platform.versions(key) == before
    assert len(platform.dispatcher.ledger.jobs(instance=key)) == 1


def test_where_no_neighbourhood_has_anything_to_offer_the_instance_is_narrowed_once(platform: Platform) -> None:
    """Two tasks on one machine leave no block of critical moves, but more start times than a device has room for."""
    key = platform.landed("2 1\n0 30\n0 20\n", "two.txt", family="jobshop")
    assert platform.run(key).problem is None
    record = json.loads(platform.rows("encoded_problems", key)["narrowing"].iloc[0])
    assert "walk" not in record
    assert record["of"] > record["kept"]
    assert platform.rows("decisions", key)["objective"].iloc[0] == 50


def test_trips_of_a_remote_backend_wait_for_each_other(staging: Staging, emulator: Running) -> None:
    key = staging.landed(graph(24, 3), "remote.mc", trips=2, seed=31)
    assert staging.run(key).pending
    assert len(staging.dispatcher.ledger.jobs(instance=key)) == 1
    runs = staging.follow()
    assert all(run.success for run in runs)
    jobs = staging.dispatcher.ledger.jobs(instance=key)
    assert len(jobs) == 2
    assert staging.executions(emulator, key) == {job.job_id: 1 for job in jobs}
    assert set(staging.versions(key)) == set(LINE)


@pytest.mark.parametrize("wrong", [{"trips": 0}, {"polish": "perhaps"}])
def test_wrong_requests_are_refused(platform: Platform, wrong: dict[str, object]) -> None:
    from resources.failures import InputError

    with pytest.raises(InputError, match=next(iter(wrong))):
        platform.landed(graph(20, 4), "wrong.mc", **wrong)


def test_a_walk_is_approved_once_and_goes_on_without_the_device_from_a_trip_that_was_stopped(
    staging: Staging, emulator: Running
) -> None:
    key = staging.landed(graph(24, 6), "stopped.mc", trips=3, seed=32, impact="high")
    assert staging.run(key).pending
    first = staging.job(key)
    assert "all 3 jobs" in staging.dispatcher.approvals.waiting()[-1].why
    staging.dispatcher.decide(first.job_id, "approved", by="ada", reason="go")
    until(lambda: staging.dispatcher.reconcile() and staging.job(key).state == "succeeded")
    staging.dispatcher.control("emulator", Mode.PAUSED, by="ada", reason="to see the second trip")
    (request,) = staging.asked()
    assert staging.execute(request).success
    second = staging.job(key)
    assert (second.state, second.job_id == first.job_id) == ("intended", False)
    staging.dispatcher.cancel(second.job_id, by="ada", reason="that was enough")
    staging.dispatcher.control("emulator", Mode.OPEN, by="ada", reason="seen")
    assert all(run.success for run in staging.follow())
    jobs = staging.dispatcher.ledger.jobs(instance=key)
    assert [(job.backend, job.state) for job in jobs] == [
        ("emulator", "succeeded"),
        ("emulator", "cancelled"),
        ("heuristic", "succeeded"),
        ("heuristic", "succeeded"),
    ]
    assert staging.executions(emulator, key) == {first.job_id: 1}
    evidence = staging.rows("quantum_samples", key).groupby("round")["evidence_class"].first()
    assert evidence.tolist() == ["emulator", "classical", "classical"]
    path = json.loads(staging.rows("decisions", key)["path"].iloc[0])
    stops = [step for step in path if "was cancelled by ada: that was enough" in step]
    assert stops == [f"left emulator for heuristic: {second.job_id} was cancelled by ada: that was enough"]
    assert staging.stale(key) == []
