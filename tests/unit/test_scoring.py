"""Scored candidates: whose evidence a row carries, and what counts as reaching it again."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hybrid_assets import registry
from hybrid_assets.problems.base import Instance
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.proposals.prepared import Prepared, prepare
from hybrid_assets.proposals.rounds import random_control, random_mean
from hybrid_assets.proposals.scoring import score

PORT = (
    b"4\n"
    + b"0.01 0.1\n0.02 0.2\n0.03 0.3\n0.015 0.1\n"
    + b"".join(f"{i} {j} {1.0 if i == j else 0.1}\n".encode() for i in range(1, 5) for j in range(i, 5))
)


def instance() -> tuple[Instance, Prepared]:
    family = registry.family("portfolio")
    (raw,) = family.read(SourceFile("port.txt", PORT, "digest"))
    made = family.normalize(raw, family.options(cardinality=2), "port")  # type: ignore[call-arg]
    return made, prepare(family, made, 16, 0)


def samples(prepared: Prepared, jobs: list[tuple[int, int, str, str, list[str]]]) -> pd.DataFrame:
    """Rows of ``quantum_samples``: (round, repetition, backend, evidence class, read-outs) per job."""
    rows = []
    for round_, repetition, backend, evidence, readouts in jobs:
        for bits in readouts:
            energy = prepared.encoded.bqm.energy({i: int(b) for i, b in enumerate(bits)})
            rows.append(
                {
                    "job_id": f"job-{round_}-{repetition}",
                    "round": round_,
                    "repetition": repetition,
                    "bits": bits,
                    "energy": energy,
                    "count": 10,
                    "shots": 10 * len(readouts),
                    "seconds": 0.5,
                    "backend": backend,
                    "evidence_class": evidence,
                }
            )
    return pd.DataFrame(rows)


def test_a_repetition_that_fell_back_to_a_surrogate_never_counts_as_quantum() -> None:
    made, prepared = instance()
    frame = samples(prepared, [(0, 0, "aer", "simulator", ["1100"]), (0, 1, "annealer", "surrogate", ["0011", "1001"])])
    rows = pd.DataFrame(score(registry.family("portfolio"), made, prepared, frame, {}, "portfolio.port", 0))
    quantum, surrogate = rows[rows["arm"] == "quantum"], rows[rows["arm"] == "surrogate"]
    assert set(quantum["backend"]) == {"aer"}
    assert set(quantum["evidence_class"]) == {"simulator"}
    assert len(quantum) == 1
    assert set(surrogate["backend"]) == {"annealer"}
    assert list(surrogate["rank"]) == [1, 2]


def test_iterative_families_count_whole_runs() -> None:
    made, prepared = instance()
    family = registry.family("portfolio")
    best = min(
        ("1100", "1010", "1001", "0110", "0101", "0011"),
        key=lambda bits: family.complete(made, np.array([int(b) for b in bits], dtype=np.int8)).evaluation.objective,
    )
    other = "1100" if best != "1100" else "1010"
    frame = samples(
        prepared,
        [
            (0, 0, "aer", "simulator", [other]),
            (1, 0, "aer", "simulator", [best]),
            (0, 1, "aer", "simulator", [other]),
            (1, 1, "aer", "simulator", [other]),
            (0, 2, "aer", "simulator", [best]),
        ],
    )
    rows = pd.DataFrame(score(family, made, prepared, frame, {}, "portfolio.port", 0))
    top = rows[rows["arm"] == "quantum"].sort_values("objective").iloc[0]
    assert (top["confidence_unit"], top["hits"]) == ("runs", 2)
    assert np.isclose(top["p"], 2 / 3)


def test_shots_that_reach_the_same_objective_are_hits() -> None:
    made, prepared = instance()
    frame = samples(prepared, [(0, 0, "aer", "simulator", ["1100", "1111", "0111"])])
    rows = pd.DataFrame(score(registry.family("portfolio"), made, prepared, frame, {}, "portfolio.port", 0))
    top = rows[(rows["arm"] == "quantum") & (rows["rank"] == 1)].iloc[0]
    assert top["confidence_unit"] == "shots"
    assert 10 <= top["hits"] <= 30
    control = rows[rows["arm"] == "random_control"]
    assert set(control["evidence_class"]) == {"classical"}
    assert control["shots"].iloc[0] == 30


def test_a_repetition_that_a_heuristic_answered_has_an_arm_of_its_own() -> None:
    made, prepared = instance()
    frame = samples(
        prepared, [(0, 0, "aer", "simulator", ["1100"]), (0, 1, "heuristic", "classical", ["0011", "1001"])]
    )
    rows = pd.DataFrame(score(registry.family("portfolio"), made, prepared, frame, {}, "portfolio.port", 0))
    assert rows.groupby("arm")["backend"].agg(set).to_dict() == {
        "quantum": {"aer"},
        "fallback": {"heuristic"},
        "random_control": {"uniform random"},
    }
    assert set(rows.loc[rows["arm"] == "fallback", "evidence_class"]) == {"classical"}


@pytest.mark.parametrize(
    ("name", "content"),
    [("jobshop", "2 1\n0 3\n0 2\n"), ("binpacking", "6\n10\n6\n5\n4\n3\n2\n5\n")],
)
def test_the_control_of_a_whole_program_needs_no_base(name: str, content: str) -> None:
    family = registry.family(name)
    (raw,) = family.read(SourceFile(f"{name}.txt", content.encode(), "digest"))
    made = family.normalize(raw, family.options(), name)
    prepared = prepare(family, made, 60, 0)
    assert not prepared.partial
    nothing = np.zeros(len(prepared.narrowed.fixed), dtype=np.int8)
    prepared = replace(prepared, narrowed=replace(prepared.narrowed, fixed=nothing))
    drawn = random_control(family, made, prepared, 20, 0)
    assert sum(candidate.count for candidate in drawn) == 20
    assert all(candidate.solution.evaluation.feasible for candidate in drawn)
    assert np.isfinite(random_mean(family, made, prepared, 0))


def test_what_post_selection_dropped_is_charged_and_what_it_kept_is_called_so() -> None:
    made, prepared = instance()
    frame = samples(prepared, [(0, 0, "aer", "simulator", ["1100", "0011"])])
    family = registry.family("portfolio")
    plain, chosen = (
        pd.DataFrame(score(family, made, prepared, frame, {}, "portfolio.port", 0, selected=selected))
        for selected in (None, {"job-0-0": 60})
    )
    before, after = (rows[rows["arm"] == "quantum"].iloc[0] for rows in (plain, chosen))
    assert (before["post_processing"], after["post_processing"]) == ("raw", "postselected")
    # 60 shots of 80 are dropped: each kept one counts a quarter
    assert after["hits"] == before["hits"]
    assert after["p"] == pytest.approx(before["p"] / 4)
    assert set(chosen.loc[chosen["arm"] == "random_control", "shots"]) == {80}


def test_the_control_draws_the_shots_of_the_tuning_too() -> None:
    made, prepared = instance()
    frame = samples(prepared, [(0, 0, "aer", "simulator", ["1100", "0011"])])
    family = registry.family("portfolio")
    for tuning, draws in (({}, 20), ({"job-0-0": 300}, 320)):
        rows = pd.DataFrame(score(family, made, prepared, frame, {}, "portfolio.port", 0, tuning=tuning))
        assert set(rows.loc[rows["arm"] == "random_control", "shots"]) == {draws}
        assert set(rows.loc[rows["arm"] == "quantum", "shots"]) == {20}
