"""Evidence: intervals that cover, gaps with the right sign, sides that cannot be mixed up, decisions with a reason."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from hybrid_assets.contracts import frame_of
from hybrid_assets.evidence.comparison import compare
from hybrid_assets.evidence.confidence import clopper_pearson, confidence
from hybrid_assets.evidence.decision import decide
from hybrid_assets.evidence.gaps import Sense, better, gap, lift, winner

SENSES = st.sampled_from(["min", "max"])
VALUES = st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 3))


# --- confidence ------------------------------------------------------------------------------------------------------


@given(st.integers(1, 300), st.floats(0.001, 0.999), st.sampled_from([0.8, 0.95, 0.99]))
@settings(max_examples=50, deadline=None)
def test_interval_covers_every_proportion(trials: int, p: float, level: float) -> None:
    """Exact coverage: the probability, over all outcomes, that the interval holds the truth."""
    intervals = np.array([clopper_pearson(k, trials, level) for k in range(trials + 1)])
    covered = (intervals[:, 0] <= p) & (p <= intervals[:, 1])
    assert stats.binom.pmf(np.arange(trials + 1), trials, p)[covered].sum() >= level - 1e-9


@pytest.mark.parametrize(("shots", "p"), [(64, 0.05), (256, 0.01), (1024, 0.002)])
def test_confidence_interval_covers_in_simulation(shots: int, p: float) -> None:
    """Simulated experiments: the interval holds the true probability of reaching the state again, and is not idle."""
    truth = 1 - (1 - p) ** shots
    found = [confidence(int(k), shots) for k in np.random.default_rng(7).binomial(shots, p, 2000)]
    coverage = np.mean([c.confidence_low <= truth <= c.confidence_high for c in found])
    assert 0.94 <= coverage < 1.0
    # a repeat really reaches it as often as the formula says
    assert np.mean(np.random.default_rng(8).binomial(shots, p, 20_000) > 0) == pytest.approx(truth, abs=0.01)


@given(st.integers(1, 2000), st.data())
@settings(max_examples=50, deadline=None)
def test_confidence_is_monotone_and_inside_its_interval(trials: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, trials))
    repeats = data.draw(st.integers(1, 5000))
    c = confidence(hits, trials, repeats)
    assert 0 <= c.p_low <= c.p <= c.p_high <= 1
    assert 0 <= c.confidence_low <= c.confidence <= c.confidence_high <= 1
    assert c.confidence == pytest.approx(1 - (1 - hits / trials) ** repeats, abs=1e-12)
    if hits < trials:
        assert confidence(hits + 1, trials, repeats).confidence_low >= c.confidence_low
    assert confidence(hits, trials, repeats + 1).confidence >= c.confidence


def test_edges_and_the_single_hit() -> None:
    none, all_ = confidence(0, 1024), confidence(1024, 1024)
    assert (none.confidence, none.confidence_low) == (0.0, 0.0)
    assert none.confidence_high == pytest.approx(1 - 0.025, abs=1e-9)
    assert (all_.confidence, all_.p_high) == (1.0, 1.0)
    assert all_.p_low == pytest.approx(0.025 ** (1 / 1024))
    once = confidence(1, 1024)
    assert once.confidence == pytest.approx(0.632, abs=1e-3)
    assert (once.confidence_low, once.confidence_high) == pytest.approx((0.025, 0.996), abs=1e-3)


@pytest.mark.parametrize(("hits", "trials", "repeats"), [(2, 1, None), (-1, 5, None), (0, 0, None), (1, 5, 0)])
def test_impossible_counts_are_refused(hits: int, trials: int, repeats: int | None) -> None:
    with pytest.raises(ValueError, match="need"):
        confidence(hits, trials, repeats)


# --- gaps ------------------------------------------------------------------------------------------------------------


@given(VALUES, VALUES, SENSES)
@settings(max_examples=50, deadline=None)
def test_gap_sign_and_scale(objective: float, reference: float, sense: Sense) -> None:
    assume(reference != 0)
    g = gap(objective, reference, sense)
    assert g is not None
    assert abs(g) == pytest.approx(abs(objective - reference) / abs(reference))
    worse = objective > reference if sense == "min" else objective < reference
    assert (g > 0) == worse
    assert gap(reference, reference, sense) == 0
    assert gap(-objective, -reference, "max" if sense == "min" else "min") == g


@given(VALUES, VALUES, VALUES, SENSES, st.floats(0.1, 10), VALUES)
@settings(max_examples=50, deadline=None)
def test_normalized_gap_ignores_unit_and_origin(
    objective: float, reference: float, mean: float, sense: Sense, unit: float, origin: float
) -> None:
    assume(better(reference, mean, sense) and abs(reference - mean) > 1)
    g = gap(objective, reference, sense, "normalized", mean)
    moved = gap(unit * objective + origin, unit * reference + origin, sense, "normalized", unit * mean + origin)
    assert g == pytest.approx(moved, rel=1e-6, abs=1e-6)
    assert gap(mean, reference, sense, "normalized", mean) == pytest.approx(1)


def test_gaps_without_a_scale_are_not_invented() -> None:
    assert gap(1.0, 0.0, "min") is None
    assert gap(0.0, 0.0, "min") == 0
    assert gap(1.0, 2.0, "min", "normalized", None) is None
    assert gap(1.0, 2.0, "max", "normalized", 3.0) is None  # chance cannot beat the reference
    assert gap(None, 2.0, "max") is None
    assert lift(None, 0.1) is None


def test_lift_is_positive_when_quantum_beats_chance() -> None:
    quantum, random = (gap(x, 10.0, "max", "normalized", 0.0) for x in (9.0, 6.0))
    assert lift(quantum, random) == pytest.approx((9 - 6) / (10 - 0))


@given(st.one_of(st.none(), VALUES), st.one_of(st.none(), VALUES), SENSES)
@settings(max_examples=50, deadline=None)
def test_winner(quantum: float | None, classical: float | None, sense: Sense) -> None:
    won = winner(quantum, classical, sense)
    flipped = {"quantum": "classical", "classical": "quantum"}
    assert winner(classical, quantum, sense) == flipped.get(won, won)
    if quantum is None and classical is None:
        assert won == "none"
    elif quantum is None or classical is None:
        assert won == ("classical" if quantum is None else "quantum")
    elif quantum == classical:
        assert won == "tie"
    else:
        assert won == ("quantum" if (quantum > classical) == (sense == "max") else "classical")


def test_tolerance_is_relative() -> None:
    assert winner(1e7, 1e7 + 1, "max") == "classical"
    assert winner(1e-7, 1.1e-7, "max") == "classical"
    assert winner(1.0, 1.0 + 1e-7, "max", tolerance=1e-6) == "tie"


# --- comparison and decision -----------------------------------------------------------------------------------------


def candidate(objective: float, arm: str = "quantum", **changes: Any) -> dict[str, Any]:
    evidence, backend = {
        "quantum": ("simulator", "aer"),
        "surrogate": ("surrogate", "annealer"),
        "fallback": ("classical", "heuristic"),
        "random_control": ("classical", "uniform random"),
    }[arm]
    return {
        "arm": arm,
        "round": 0,
        "rank": 1,
        "values": json.dumps([objective]),
        "objective": objective,
        "feasible": True,
        "count": 1,
        "shots": 10,
        "seconds": 0.5,
        "confidence": 0.6,
        "confidence_low": 0.1,
        "confidence_high": 0.9,
        "evidence_class": evidence,
        "post_processing": "raw",
        "narrowed": False,
        "backend": backend,
    } | changes


def baseline(objective: float | None, **changes: Any) -> dict[str, Any]:
    return {
        "solver": "scip",
        "objective": objective,
        "bound": None,
        "feasible": objective is not None,
        "status": "feasible" if objective is not None else "no solution",
        "seconds": 1.0,
        "budget_seconds": 5.0,
        "values": json.dumps([objective]) if objective is not None else None,
        "evidence_class": "classical",
    } | changes


def row(
    candidates: list[dict[str, Any]],
    baselines: list[dict[str, Any]],
    sense: Sense = "max",
    best_known: float | None = None,
    **more: Any,
) -> dict[str, Any]:
    made = compare(
        instance="maxcut.test",
        family="maxcut",
        envelope_digest="d",
        sense=sense,
        candidates=candidates,
        baselines=baselines,
        random_mean=more.pop("random_mean", 5.0),
        best_known=best_known,
        budget_seconds=5.0,
        **more,
    )
    frame_of("baseline_comparisons", [made | {"data_version": "v"}])  # satisfies the contract of its table
    return made


def answer(
    candidates: list[dict[str, Any]], baselines: list[dict[str, Any]], sense: Sense = "max", **more: Any
) -> dict[str, Any]:
    made = decide(row(candidates, baselines, sense), candidates, baselines, **more)
    about = dict.fromkeys(
        ("envelope_digest", "input_digest", "correlation_id", "environment", "owner", "data_version"), "x"
    )
    moment = {"decided_at": np.datetime64("2026-01-01", "us").astype(object).astimezone()}
    stored = made | {"path": json.dumps(made["path"]), "seconds": 1.0, "seconds_by_phase": "{}", **about, **moment}
    frame_of("decisions", [{"instance": "maxcut.test", "family": "maxcut"} | stored])
    assert made["reason"].endswith(".")
    assert "\n" not in made["reason"]
    return made


SCORED = st.lists(
    st.builds(
        candidate,
        VALUES,
        st.sampled_from(["quantum", "surrogate", "fallback", "random_control"]),
        feasible=st.booleans(),
        narrowed=st.booleans(),
        post_processing=st.sampled_from(["raw", "repaired", "polished"]),
    ),
    max_size=6,
)
SOLVED = st.lists(st.builds(baseline, st.one_of(st.none(), VALUES)), max_size=3)


@given(SCORED, SOLVED, SENSES)
@settings(max_examples=20, deadline=None)
def test_sides_are_never_mixed_up(
    candidates: list[dict[str, Any]], baselines: list[dict[str, Any]], sense: Sense
) -> None:
    made = row(candidates, baselines, sense)
    pick = max if sense == "max" else min

    def top(rows: list[dict[str, Any]]) -> float | None:
        return pick((r["objective"] for r in rows if r["feasible"]), default=None)

    quantum = [c for c in candidates if c["arm"] == "quantum"]
    assert made["best_quantum"] == top(quantum)
    assert made["best_quantum_raw"] == top([c for c in quantum if c["post_processing"] == "raw"])
    assert made["best_surrogate"] == top([c for c in candidates if c["arm"] == "surrogate"])
    assert made["best_random"] == top([c for c in candidates if c["arm"] == "random_control"])
    assert made["best_classical"] == top(baselines)
    gaps = [made[f"{side}_gap"] for side in ("quantum", "classical", "surrogate", "random")]
    assert all(g is None or g >= 0 for g in gaps)
    assert made["reference_kind"] == "best found"
    if made["best_quantum"] is None:
        assert made["quantum_lift"] is None

    decided = answer(candidates, baselines, sense)
    seam = top([c for c in candidates if c["arm"] in ("quantum", "surrogate")])
    classical = top([*baselines, *(c for c in candidates if c["arm"] == "fallback")])
    reached = [v for v in (seam, classical) if v is not None]
    if not reached:
        assert (decided["decision"], decided["source"], decided["feasible"]) == ("review", "none", False)
    else:
        assert decided["objective"] == pytest.approx(pick(reached), rel=1e-8)
        accepted = seam is not None and (classical is None or not better(reached[1], reached[0], sense))
        assert decided["decision"] == ("accepted" if accepted else "fallback")
        assert (decided["source"] == "classical") == (not accepted)
    if decided["source"] == "quantum":
        best = [c for c in quantum if c["feasible"] and c["objective"] == decided["objective"]]
        assert any(c["post_processing"] == "raw" and not c["narrowed"] for c in best)


@pytest.mark.parametrize(
    ("solved", "best_known", "reference", "kind"),
    [
        (baseline(10.0), None, 10.0, "best found"),
        (baseline(10.0), 12.0, 12.0, "best known"),
        (baseline(10.0), 9.0, 10.0, "best found"),  # out of date
        (baseline(10.0, status="optimal", bound=10.0), None, 10.0, "proven"),
        (baseline(10.0, status="optimal", bound=10.0), 10.0, 10.0, "best known"),
        (baseline(10.0, status="optimal", bound=10.0), 12.0, 10.0, "proven"),  # contradicts the proof
        (baseline(10.0, bound=20.0), None, 10.0, "best found"),  # an open bound is no reference
        (baseline(None), 12.0, 12.0, "best known"),
    ],
)
def test_reference(solved: dict[str, Any], best_known: float | None, reference: float, kind: str) -> None:
    made = row([candidate(8.0)], [solved], best_known=best_known)
    assert (made["reference"], made["reference_kind"]) == (reference, kind)
    assert made["quantum_gap"] == pytest.approx((reference - 8.0) / reference)


@pytest.mark.parametrize(("sense", "tightest"), [("max", 11.0), ("min", 15.0)])
def test_bound_is_the_tightest_proven_one(sense: Sense, tightest: float) -> None:
    assert row([], [baseline(10.0, bound=15.0), baseline(9.0, bound=11.0)], sense)["bound"] == tightest


def test_nulls_of_frames_are_nulls() -> None:
    made = row([candidate(8.0)], [baseline(None) | {"objective": float("nan"), "bound": float("nan")}])
    assert made["best_classical"] is None
    assert made["bound"] is None
    assert made["winner"] == "quantum"


def test_a_decision_without_a_bound_has_none() -> None:
    candidates, baselines = [candidate(8.0)], [baseline(9.0)]
    stored = row(candidates, baselines) | {"bound": float("nan"), "classical_gap": float("nan")}
    made = decide(stored, candidates, baselines)
    assert made["decision"] == "fallback"
    assert (made["bound"], made["gap"]) == (None, None)


def test_normalized_gaps_of_a_portfolio() -> None:
    made = row(
        [candidate(-0.9), candidate(-0.5, "random_control")],
        [baseline(-1.0, status="optimal")],
        "min",
        gap_kind="normalized",
        random_mean=1.0,
    )
    assert made["quantum_gap"] == pytest.approx(0.05)
    assert made["random_gap"] == pytest.approx(0.25)
    assert made["quantum_lift"] == pytest.approx(0.2)
    assert "random mean" in made["gap_definition"]


def test_equal_baselines_name_the_proof_then_the_fastest() -> None:
    equal = [
        baseline(10.0, solver="tabu", seconds=0.1),
        baseline(10.0, solver="cpsat", status="optimal", seconds=2.0),
        baseline(10.0, solver="scip", status="optimal", seconds=1.0),
    ]
    made = row([], equal)
    assert (made["best_classical_solver"], made["classical_seconds"]) == ("scip", 1.0)


@pytest.mark.parametrize(
    ("changes", "source"),
    [
        ({}, "quantum"),
        ({"narrowed": True}, "hybrid"),
        ({"post_processing": "repaired"}, "hybrid"),
        ({"post_processing": "postselected"}, "quantum"),
    ],
)
def test_ties_are_accepted_and_called_ties(changes: dict[str, Any], source: str) -> None:
    decided = answer([candidate(10.0, **changes)], [baseline(10.0, status="optimal")])
    assert (decided["decision"], decided["source"]) == ("accepted", source)
    assert decided["reason"].startswith("Tie")
    assert "optimal" in decided["reason"]
    assert decided["evidence_class"] == "simulator"
    assert decided["confidence"] == 0.6


def test_untouched_bits_answer_before_equal_touched_ones() -> None:
    touched, raw = candidate(10.0, post_processing="polished", values="[1]"), candidate(10.0, values="[2]")
    assert answer([touched, raw], [])["values"] == "[2]"
    assert answer([candidate(10.0, "surrogate"), touched], [])["source"] == "hybrid"


def test_classical_wins() -> None:
    decided = answer([candidate(9.0)], [baseline(10.0)])
    assert (decided["decision"], decided["source"], decided["evidence_class"]) == ("fallback", "classical", "classical")
    assert decided["reason"] == "Classical wins: scip with 10 against aer with 9."
    assert decided["confidence"] is None
    assert decided["gap"] == 0


def test_failures_are_told() -> None:
    decided = answer([], [baseline(10.0)], failure="aer timed out", hops=["left lightning: saturated"])
    assert decided["decision"] == "fallback"
    assert "aer timed out" in decided["reason"]
    assert decided["path"][0] == "left lightning: saturated"
    assert any("failed, aer timed out" in step for step in decided["path"])


def test_nothing_feasible_is_for_people() -> None:
    decided = answer([candidate(9.0, feasible=False)], [baseline(None)])
    assert (decided["decision"], decided["source"], decided["objective"]) == ("review", "none", None)
    proven = answer([], [baseline(None, status="infeasible")])
    assert "scip proved that there is none" in proven["reason"]


def test_a_surrogate_answers_under_its_own_name() -> None:
    decided = answer([candidate(11.0, "surrogate")], [baseline(10.0)])
    assert (decided["source"], decided["evidence_class"]) == ("surrogate", "surrogate")
    assert "surrogate (classical sampler)" in decided["reason"]


def test_the_random_control_never_answers() -> None:
    decided = answer([candidate(99.0, "random_control"), candidate(9.0)], [baseline(10.0)])
    assert decided["objective"] == 10.0


def test_a_fallback_answers_as_classical_and_is_never_quantum() -> None:
    stood_in = candidate(11.0, "fallback", post_processing="repaired")
    made = row([stood_in], [baseline(10.0)])
    assert (made["best_quantum"], made["best_surrogate"], made["best_classical"]) == (None, None, 10.0)
    assert (made["winner"], made["quantum_seconds"], made["quantum_lift"]) == ("classical", 0.0, None)
    assert (made["reference"], made["reference_kind"]) == (11.0, "best found")
    decided = answer([stood_in], [baseline(10.0)], hops=["left aer for heuristic: no device"])
    assert (decided["decision"], decided["source"], decided["evidence_class"]) == ("fallback", "classical", "classical")
    assert (decided["solver_or_backend"], decided["objective"], decided["gap"]) == ("heuristic", 11.0, 0.0)
    assert (decided["post_processing"], decided["confidence"]) == ("repaired", 0.6)
    assert decided["reason"] == (
        "the quantum job was answered by the heuristic fallback, best heuristic with 11, so the answer is the "
        "classical one: heuristic with 11."
    )
    assert decided["path"][:2] == [
        "left aer for heuristic: no device",
        "quantum job: answered by the heuristic fallback, best heuristic with 11",
    ]


@pytest.mark.parametrize("objective", [9.0, 10.0])
def test_a_baseline_answers_before_a_fallback_that_is_no_better(objective: float) -> None:
    decided = answer([candidate(objective, "fallback")], [baseline(10.0, status="optimal")])
    assert (decided["solver_or_backend"], decided["gap"], decided["confidence"]) == ("scip", 0.0, None)
    assert f"answered by the heuristic fallback, best heuristic with {objective:g}" in decided["reason"]


def test_a_fallback_without_a_feasible_answer_is_told() -> None:
    decided = answer([candidate(9.0, "fallback", feasible=False)], [baseline(None)])
    assert decided["decision"] == "review"
    assert "answered by the heuristic fallback, none feasible" in decided["reason"]


def test_a_quantum_candidate_beside_a_fallback_is_compared_with_it() -> None:
    decided = answer([candidate(9.0), candidate(11.0, "fallback")], [baseline(None)])
    assert (decided["decision"], decided["solver_or_backend"]) == ("fallback", "heuristic")
    assert decided["reason"] == "Classical wins: heuristic with 11 against aer with 9."
