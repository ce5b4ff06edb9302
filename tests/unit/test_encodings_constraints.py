"""Constraints in canonical form: decimals exactly, other fractions with their error, groups of exactly one."""

from __future__ import annotations

import dimod
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_assets.encodings.adaptive import Adaptive
from hybrid_assets.encodings.arrays import exactly_one, higher_values, linear_constraints, states
from hybrid_assets.encodings.discretised import STEPS, Discretised
from hybrid_assets.encodings.penalty import Penalty
from hybrid_assets.encodings.unbalanced import Unbalanced
from hybrid_assets.problems.base import Program
from resources.failures import InfeasibleError, InputError

Row = tuple[list[tuple[int, float]], str, float]


def program(n: int, rows: list[Row], linear: list[float] | None = None) -> Program:
    cqm = dimod.ConstrainedQuadraticModel()
    cqm.add_variables("BINARY", n)
    cqm.set_objective(dimod.BinaryQuadraticModel.from_numpy_vectors(linear or -np.ones(n), ([], [], []), 0.0, "BINARY"))
    for k, (terms, sense, rhs) in enumerate(rows):
        cqm.add_constraint(terms, sense, rhs, label=f"c{k}")
    return Program(cqm, "test")


def test_decimals_become_integers_that_say_the_same() -> None:
    (c,) = linear_constraints(program(3, [([(0, 0.1), (1, 0.25), (2, -1.5)], ">=", 0.3)]).cqm) or []
    assert (c.coefficients.tolist(), c.sense, c.rhs) == ([-2, -5, 30], "le", -6)
    assert (c.scale, c.error) == (-20, 0.0)


def test_a_right_hand_side_between_the_steps_of_the_grid_is_rounded_down() -> None:
    (c,) = linear_constraints(program(2, [([(0, 0.5), (1, 1.5)], "<=", 1.9)]).cqm) or []
    assert (c.coefficients.tolist(), c.rhs) == ([1, 3], 3)


def test_no_common_divisor_reaches_the_right_hand_side() -> None:
    p = program(3, [([(0, 2.0), (1, 4.0), (2, 6.0)], "==", 5.0)])
    with pytest.raises(InfeasibleError, match="constraint c0: no assignment satisfies it"):
        Penalty().encode(p)


@given(st.lists(st.integers(1, 99), min_size=2, max_size=6), st.integers(0, 300))
@settings(max_examples=40, deadline=None)
def test_penalties_of_decimals_keep_the_optimum(hundredths: list[int], rhs: int) -> None:
    n = len(hundredths)
    p = program(
        n, [([(i, a / 100) for i, a in enumerate(hundredths)], "<=", rhs / 100)], [-float(a) for a in hundredths]
    )
    encoded = Penalty().encode(p)
    lowest = dimod.ExactSolver().sample(encoded.bqm).first.energy
    sums = states(np.arange(2**n), n).astype(int) @ hundredths
    assert lowest == pytest.approx(-sums[sums <= rhs].max(), abs=1e-6)
    assert Penalty().audit(p, encoded, 0).discretisation_error == 0.0


@given(st.lists(st.floats(0.01, 10.0), min_size=2, max_size=8), st.floats(0.1, 0.9))
@settings(max_examples=40, deadline=None)
def test_rounding_lets_nothing_in_and_loses_only_what_is_closer_than_the_declared_error(
    weights: list[float], share: float
) -> None:
    a = np.array([w * np.pi / 3 for w in weights])
    rhs = share * a.sum()
    p = program(len(a), [(list(enumerate(a)), "<=", rhs)])
    assert not Penalty().accepts(p)
    (c,) = linear_constraints(p.cqm, STEPS) or []
    x = states(np.arange(2 ** len(a)), len(a))
    allowed = c.violation(x) == 0
    activity = x @ a
    assert not allowed[activity > rhs + 1e-6].any()
    assert allowed[activity < rhs - c.error - 1e-9].all()
    assert c.error <= 2 * len(a) * a.sum() / STEPS
    if not c.redundant:
        encoded = Discretised().encode(p)
        assert Discretised().audit(p, encoded, 0).discretisation_error == c.error
        assert encoded.bqm.num_variables <= len(a) + 11


def test_rounding_never_claims_that_there_is_no_solution() -> None:
    p = program(2, [([(0, -1 / 3), (1, -1 / 7)], "<=", -1 / 3 - 1 / 7)])
    with pytest.raises(InputError, match="rounded to 1024 steps") as refused:
        Discretised().encode(p)
    assert not isinstance(refused.value, InfeasibleError)
    with pytest.raises(InputError, match="rounded to 1024 steps"):
        Unbalanced().encode(p)


def test_groups_are_disjoint_and_the_rest_keeps_its_order() -> None:
    rows: list[Row] = [
        ([(0, 1.0), (1, 1.0)], "==", 1),
        ([(1, 1.0), (2, 1.0)], "==", 1),
        ([(2, -1.0), (3, -1.0)], "==", -1),
        ([(4, 1.0), (5, 1.0)], "<=", 1),
        ([(4, 1.0), (5, 1.0)], "==", 2),
    ]
    groups, others = exactly_one(linear_constraints(program(6, rows).cqm) or [])
    assert [c.label for c in groups] == ["c0", "c2"]
    assert [c.label for c in others] == ["c1", "c3", "c4"]


def test_values_of_higher_terms_in_all_states() -> None:
    terms = {(0, 1, 2): 2.0, (1, 2, 3): -0.5, (0, 1, 2, 3): 4.0}
    x = states(np.arange(16), 4)
    expected = sum(c * x[:, list(k)].prod(axis=1) for k, c in terms.items())
    np.testing.assert_array_equal(higher_values(terms, 4), expected)


def test_the_adaptive_weight_is_smaller_and_says_how_it_came_about() -> None:
    p = program(24, [([(i, 1.0 + i % 4) for i in range(24)], "<=", 20)], [-float(1 + i % 5) for i in range(24)])
    proven, found = Penalty().encode(p), Adaptive().encode(p)
    assert proven.penalty_weight is not None
    assert found.penalty_weight is not None
    assert found.penalty_weight < proven.penalty_weight
    search = found.detail["weight"]["search"]
    assert (found.penalty_weight, "no counter-example") in search or found.penalty_weight == proven.penalty_weight
    assert found.digest == Adaptive().encode(p).digest
    audit = Adaptive().audit(p, found, 5)
    assert audit.penalty_verdict in ("no counter-example", "proven")
    assert audit.auxiliary_variables == found.bqm.num_variables - 24 > 0


def test_unbalanced_needs_no_slack_and_its_minimum_of_knapsacks_is_mostly_feasible_and_good() -> None:
    n, feasible, gaps = 10, 0, []
    x = states(np.arange(2**n), n)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        worth, weight = rng.integers(5, 60, n), rng.integers(5, 50, n)
        room = int(weight.sum() // 2)
        p = program(n, [([(i, float(w)) for i, w in enumerate(weight)], "<=", room)], [-float(v) for v in worth])
        encoded = Unbalanced().encode(p)
        assert encoded.bqm.num_variables == n
        best = x[np.argmin(encoded.bqm.energies((x, range(n))))].astype(int)
        if best @ weight <= room:
            feasible += 1
            fits = x.astype(int) @ weight <= room
            gaps.append(1 - best @ worth / (x.astype(int) @ worth)[fits].max())
    assert feasible >= 17
    assert np.mean(gaps) < 0.05
