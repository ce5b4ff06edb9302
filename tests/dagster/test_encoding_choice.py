"""The encoding that a request names: whole, in trips, refused."""

import json

import numpy as np
import pytest

from resources.failures import InputError
from tests.dagster.conftest import Platform

#: Three facilities on three places.
SMALL = "3\n0 1 2\n3 0 4\n5 6 0\n\n7 1 2\n3 8 4\n5 6 9\n"


def assignment(n: int, seed: int) -> str:
    flow, distance = np.random.default_rng(seed).integers(1, 20, (2, n, n))
    return f"{n}\n" + "\n\n".join("\n".join(" ".join(map(str, row)) for row in matrix) for matrix in (flow, distance))


def test_the_encoding_asked_for_is_the_one_that_is_stored_and_decoded(platform: Platform) -> None:
    key = platform.landed(SMALL, "walls.dat", family="qap", encoding="domain-wall")
    assert platform.run(key).problem is None
    row = platform.rows("encoded_problems", key).iloc[0]
    assert row["encoding"] == "domain-wall"
    assert row["encoded_variables"] < row["program_variables"] == 9
    candidates = platform.rows("scored_candidates", key)
    assert candidates["feasible"].all()
    assert platform.stale(key) == []


def test_trips_whose_programs_it_takes_have_it_too(platform: Platform) -> None:
    key = platform.landed(assignment(7, 1), "large.dat", family="qap", encoding="domain-wall", trips=8)
    assert platform.run(key).problem is None
    row = platform.rows("encoded_problems", key).iloc[0]
    assert json.loads(row["narrowing"])["walk"]["encoding"] == "domain-wall"
    ledger = platform.dispatcher.ledger
    sent = {ledger.envelope(job.envelope_digest).encoding for job in ledger.jobs(instance=key)}
    assert sent == {"domain-wall", "penalty"}, "some neighbourhoods have groups"
    assert platform.rows("quantum_samples", key)["round"].nunique() == 8
    candidates = platform.rows("scored_candidates", key)
    assert candidates["feasible"].all()
    assert candidates["feasible_mass"].between(0, 1).all()
    assert (candidates.loc[candidates["arm"] == "random_control", "feasible_mass"] == 1).all()


def test_trips_that_it_does_not_take_have_the_usual_one(platform: Platform) -> None:
    edges = [(i, j) for i in range(1, 31) for j in range(i + 1, 31) if (i * j) % 5 == 1]
    text = f"30 {len(edges)}\n" + "".join(f"{i} {j} 1\n" for i, j in edges)
    key = platform.landed(text, "cut.mc", encoding="domain-wall", trips=2)
    assert platform.run(key).problem is None
    row = platform.rows("encoded_problems", key).iloc[0]
    assert row["encoding"] == "penalty"
    assert json.loads(row["narrowing"])["walk"]["encoding"] == "domain-wall"


def test_groups_reach_the_simulator_that_keeps_them(platform: Platform) -> None:
    key = platform.landed(SMALL, "groups.dat", family="qap", encoding="one-hot-xy", backend="statevector")
    assert platform.run(key).problem is None
    row = platform.rows("encoded_problems", key).iloc[0]
    assert (row["encoding"], row["preparation_depth"]) == ("one-hot-xy", 4)
    candidates = platform.rows("scored_candidates", key)
    quantum, control = (candidates[candidates["arm"] == arm].iloc[0] for arm in ("quantum", "random_control"))
    assert quantum["leakage"] == control["leakage"] == 0.0
    # rows are kept, so that of 27 states in the groups 6 are feasible; of 512 it would be 6 too
    assert quantum["feasible_mass"] > 6 / 27
    assert control["feasible_mass"] == 1.0


def test_who_cannot_keep_groups_is_passed_by_with_the_reason(platform: Platform) -> None:
    key = platform.landed(SMALL, "refused.dat", family="qap", encoding="one-hot-xy", backend="aer")
    assert platform.run(key).problem is None
    (job,) = platform.dispatcher.ledger.jobs(instance=key)
    (hop,) = json.loads(job.fallback_path)
    assert (hop["backend"], hop["failure_class"], job.backend) == ("aer", "capability", "statevector")
    assert hop["reason"].startswith("backend aer does not keep the encoding's groups of exactly one 1")


def test_one_that_does_not_take_the_program_ends_the_run_with_a_sentence(platform: Platform) -> None:
    outcome = platform.run(platform.landed(name="no-groups.mc", encoding="domain-wall"))
    assert outcome.failure_class == "input"
    assert outcome.problem is not None
    assert "the encoding domain-wall cannot express the program" in outcome.problem


def test_an_unknown_one_is_refused_before_anything_is_stored(platform: Platform) -> None:
    with pytest.raises(InputError, match=r"no encoding is registered as 'bricks'; use one of adaptive, .*penalty"):
        platform.landed(name="unknown.mc", encoding="bricks")
    assert platform.dispatcher.ledger.landing("maxcut.unknown") is None
