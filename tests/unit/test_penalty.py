"""The penalty encoding against brute force: optimum preserved, bounds really bounds, verdicts that can say no."""

from __future__ import annotations

import time
from dataclasses import replace

import dimod
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_assets.encodings.arrays import LinearConstraint, QuadraticForm, linear_constraints, states
from hybrid_assets.encodings.penalty import MARGIN, Penalty
from hybrid_assets.encodings.slack import slack_bits, slack_coefficients
from hybrid_assets.encodings.weights import bounds, feasible_share
from hybrid_assets.problems.base import Program
from resources.failures import InfeasibleError, InputError, InvariantError

PENALTY = Penalty()


def program(n: int, seed: int, constraints: list[tuple[list[tuple[int, float]], str, float]] = ()) -> Program:
    """A random quadratic objective of mixed sign and scale, with the given constraints."""
    rng = np.random.default_rng(seed)
    i, j = np.triu_indices(n, 1)
    scale = 10.0 ** rng.integers(-3, 3)
    cqm = dimod.ConstrainedQuadraticModel()
    cqm.set_objective(
        dimod.BinaryQuadraticModel.from_numpy_vectors(
            scale * rng.normal(rng.normal(), 1, n), (i, j, scale * rng.normal(rng.normal(), 1, i.size)), 1.5, "BINARY"
        )
    )
    for k, (terms, sense, rhs) in enumerate(constraints):
        cqm.add_constraint(terms, sense, rhs, label=f"c{k}")
    return Program(cqm, "test")


def brute(p: Program) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All states, their objective and whether dimod finds them feasible."""
    n = len(p.cqm.variables)
    every = states(np.arange(2**n), n)
    feasible = np.ones(2**n, dtype=bool)
    for c in p.cqm.constraints.values():
        gap = c.lhs.energies((every, range(n))) - c.rhs
        feasible &= {"==": np.abs(gap) < 1e-9, "<=": gap < 1e-9, ">=": gap > -1e-9}[c.sense.value]
    return every, p.cqm.objective.energies((every, range(n))), feasible


def threshold(p: Program, constraints: list[LinearConstraint]) -> float:
    """The least weight that is not too small, by enumeration: (f* − f(x)) / V(x) at its largest."""
    every, values, feasible = brute(p)
    violations = sum(c.violation(every) ** 2 for c in constraints)
    if feasible.all():
        return 0.0
    return max(float(((values[feasible].min() - values[~feasible]) / violations[~feasible]).max()), 0.0)


def cardinality(n: int, k: int, sense: str = "==") -> list[tuple[list[tuple[int, float]], str, float]]:
    return [([(i, 1.0) for i in range(n)], sense, k)]


@st.composite
def programs(draw: st.DrawFn) -> Program:
    n = draw(st.integers(2, 6))
    rows = draw(
        st.lists(
            st.tuples(
                st.lists(st.integers(-3, 3), min_size=n, max_size=n),
                st.sampled_from(["==", "<=", ">="]),
                st.integers(-3, 4),
            ),
            max_size=2,
        )
    )
    return program(n, draw(st.integers(0, 10**6)), [([*enumerate(map(float, a))], s, r) for a, s, r in rows])


@given(programs())
@settings(max_examples=50, deadline=None)
def test_encoding_is_exact_or_refuses(p: Program) -> None:
    every, values, feasible = brute(p)
    assert PENALTY.accepts(p)
    if not feasible.any():
        with pytest.raises(InfeasibleError, match="no assignment satisfies"):
            PENALTY.encode(p)
        return
    encoded = PENALTY.encode(p)
    n, q = encoded.program_variables, encoded.bqm.num_variables
    bits = states(np.arange(2**q), q)
    energies = encoded.bqm.energies((bits, range(q)))
    # every assignment's lowest energy is the one embed finds; it is the objective exactly where feasible
    lowest = np.full(2**n, np.inf)
    np.minimum.at(lowest, np.arange(2**q) % 2**n, energies)
    embedded = np.array([PENALTY.embed(encoded, x) for x in every])
    tolerance = 1e-9 * (1 + np.abs(energies).max())
    np.testing.assert_allclose(encoded.bqm.energies((embedded, range(q))), lowest, atol=tolerance, rtol=0)
    np.testing.assert_allclose(lowest[feasible], values[feasible], atol=tolerance, rtol=0)
    best = PENALTY.decode(encoded, bits[np.argmin(energies)])
    assert feasible[int(best @ (1 << np.arange(n)))]
    assert energies.min() == pytest.approx(values[feasible].min(), abs=tolerance)
    audit = PENALTY.audit(p, encoded, seed=1)
    assert audit.penalty_verdict in ("proven", "not needed")
    assert audit.feasible_share == pytest.approx(feasible.mean())


@given(st.integers(2, 9), st.integers(0, 10**6), st.data())
@settings(max_examples=50, deadline=None)
def test_every_bound_is_enough(n: int, seed: int, data: st.DataObject) -> None:
    split = data.draw(st.integers(1, n))
    rows = [([(i, 1.0) for i in range(split)], data.draw(st.sampled_from(["==", "<=", ">="])), split // 2)]
    if split < n:
        rows.append(([(i, -1.0) for i in range(split, n)], "==", -data.draw(st.integers(0, n - split))))
    p = program(n, seed, rows)
    constraints = [c for c in linear_constraints(p.cqm) or [] if not c.redundant]
    if not constraints:
        return
    _, values, feasible = brute(p)
    every = states(np.arange(2**n), n)
    violations = sum(c.violation(every) ** 2 for c in constraints)
    objective = QuadraticForm.of(p.cqm)
    low, high = objective.range()
    assert low <= values.min() + 1e-9 * abs(low)
    assert high >= values.max() - 1e-9 * abs(high)
    found = bounds(objective, constraints)
    assert set(found) == {"range", "marginal"}
    least = threshold(p, constraints)
    for bound in (*found.values(), least):
        weight = bound * 1.0001 + 1e-9
        assert (values + weight * violations)[~feasible].min() > values[feasible].min()
        assert least <= bound * (1 + 1e-9)


@given(st.integers(2, 8), st.integers(0, 10**6), st.data())
@settings(max_examples=50, deadline=None)
def test_monotone_bound_is_enough(n: int, seed: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    sign = np.where(rng.random(n) < data.draw(st.sampled_from([0.0, 0.3, 1.0])), -1, 1)
    rows = []
    for _ in range(data.draw(st.integers(1, 3))):
        a = sign * rng.integers(0, 6, n)
        if a.any():
            low, high = int(a[a < 0].sum()), int(a[a > 0].sum())
            rows.append(([*enumerate(map(float, a))], "<=", float(data.draw(st.integers(low, high)))))
    p = program(n, seed, rows)
    constraints = [c for c in linear_constraints(p.cqm) or [] if not c.redundant]
    objective = QuadraticForm.of(p.cqm)
    found = bounds(objective, constraints)
    if "monotone" not in found:
        return
    every, values, feasible = brute(p)
    violations = sum(c.violation(every) ** 2 for c in constraints)
    weight = found["monotone"] * 1.0001 + 1e-9
    if not feasible.all():
        assert (values + weight * violations)[~feasible].min() > values[feasible].min()


def test_enumeration_is_the_exact_threshold() -> None:
    weights = [(i, 1.0 + i % 3) for i in range(8)]
    p = program(8, 5, [(weights, "==", 5)])
    objective, constraints = QuadraticForm.of(p.cqm), linear_constraints(p.cqm) or []
    found = bounds(objective, constraints)
    least = threshold(p, constraints)
    assert set(found) == {"range"}
    assert 0 < least < found["range"]
    assert PENALTY.audit(p, PENALTY.weighted(p, least * 1.001), 0).penalty_verdict == "proven"
    refuted = PENALTY.audit(p, PENALTY.weighted(p, least * 0.999), 0)
    assert refuted.penalty_verdict == "refuted"
    state = np.array([int(b) for b in refuted.penalty_evidence.split("state ")[1].split(" ")[0]])
    assert state @ [a for _, a in weights] != 5


def test_verdicts_above_the_enumeration_limit() -> None:
    p = program(40, 3, cardinality(40, 10))
    encoded = PENALTY.encode(p)
    found = bounds(QuadraticForm.of(p.cqm), linear_constraints(p.cqm) or [])
    assert set(found) == {"range", "marginal"}
    assert found["marginal"] < found["range"]
    assert encoded.penalty_weight == pytest.approx(MARGIN * found["marginal"])
    proven = PENALTY.audit(p, encoded, 0)
    assert proven.penalty_verdict == "proven"
    assert "marginal bound" in proven.penalty_evidence
    assert PENALTY.audit(p, PENALTY.weighted(p, 0.9 * found["marginal"]), 0).penalty_verdict == "no counter-example"
    refuted = PENALTY.audit(p, PENALTY.weighted(p, 1e-6 * found["marginal"]), 0)
    assert refuted.penalty_verdict == "refuted"
    assert "infeasible state" in refuted.penalty_evidence


@given(st.integers(0, 5000))
@settings(max_examples=50, deadline=None)
def test_slack_reaches_exactly_its_span(span: int) -> None:
    coefficients = slack_coefficients(span)
    assert sum(coefficients) == span
    for value in {0, 1, span // 3, span // 2, span - 1, span} & set(range(span + 1)):
        assert int(np.dot(slack_bits(value, coefficients), coefficients)) == value


def test_redundant_constraints_cost_nothing() -> None:
    p = program(5, 1, cardinality(5, 5, "<="))
    encoded = PENALTY.encode(p)
    assert encoded.bqm.num_variables == 5
    assert encoded.penalty_weight is None
    assert encoded.detail["redundant"] == ["c0"]
    assert PENALTY.audit(p, encoded, 0).penalty_verdict == "not needed"


def test_variable_order_and_absent_variables() -> None:
    cqm = dimod.ConstrainedQuadraticModel()
    cqm.add_variables("BINARY", [3, 1, 0, 2])
    cqm.set_objective(dimod.BinaryQuadraticModel({3: 1.0}, {(3, 1): -4.0}, 0.0, "BINARY"))
    encoded = PENALTY.encode(Program(cqm, "test"))
    assert list(encoded.bqm.variables) == [0, 1, 2, 3]
    assert encoded.bqm.energy({0: 1, 1: 1, 2: 0, 3: 1}) == -3.0


@pytest.mark.parametrize(
    ("terms", "sense", "rhs"),
    [([(0, 1 / 3), (1, 1.0)], "<=", 1), ([(0, 1.0), (1, 1.0)], "==", 0.5), ([(0, 1e9), (1, 1.0)], "<=", 1)],
)
def test_what_it_does_not_accept(terms: list[tuple[int, float]], sense: str, rhs: float) -> None:
    p = program(3, 0, [(terms, sense, rhs)])
    assert not PENALTY.accepts(p)
    with pytest.raises(InputError, match="integer coefficients"):
        PENALTY.encode(p)


def test_quadratic_and_soft_constraints_and_other_variables_are_refused() -> None:
    x, y = dimod.Binaries([0, 1])
    quadratic, soft, integer = (dimod.ConstrainedQuadraticModel() for _ in range(3))
    for cqm in (quadratic, soft):
        cqm.set_objective(x + y)
    quadratic.add_constraint(x * y == 1)
    soft.add_constraint(x + y == 1, weight=2.0)
    integer.set_objective(dimod.Integer(0))
    for cqm in (quadratic, soft, integer):
        assert not PENALTY.accepts(Program(cqm, "test"))


def test_impossible_constraint_is_one_clear_sentence() -> None:
    with pytest.raises(
        InfeasibleError, match=r"constraint c0: no assignment satisfies it.*between 0 and 4.*asks for 5"
    ):
        PENALTY.encode(program(4, 0, cardinality(4, 5)))


def test_audit_refuses_a_model_that_does_not_agree() -> None:
    p = program(8, 2, cardinality(8, 3))
    encoded = PENALTY.encode(p)
    broken = encoded.bqm.copy()
    broken.add_quadratic(0, 1, 1e-6 * broken.quadratic[0, 1])
    with pytest.raises(InvariantError, match="not objective"):
        PENALTY.audit(p, replace(encoded, bqm=broken), 0)


def test_feasible_share_closed_form_against_samples() -> None:
    constraints = linear_constraints(program(30, 0, cardinality(30, 14)).cqm) or []
    share = feasible_share(constraints, 30, np.random.default_rng(0))
    drawn = np.random.default_rng(1).integers(0, 2, (200_000, 30))
    assert share == pytest.approx(np.mean(drawn.sum(axis=1) == 14), rel=0.03)


def test_a_thousand_edges_are_audited_quickly() -> None:
    rng = np.random.default_rng(0)
    n, edges = 800, 19_176
    pairs = rng.choice(n * (n - 1) // 2, edges, replace=False)
    i, j = (index[pairs] for index in np.triu_indices(n, 1))
    cqm = dimod.ConstrainedQuadraticModel()
    cqm.set_objective(
        dimod.BinaryQuadraticModel.from_numpy_vectors(np.ones(n), (i, j, -2.0 * np.ones(edges)), 0.0, "BINARY")
    )
    start = time.process_time()
    p = Program(cqm, "cut")
    audit = PENALTY.audit(p, PENALTY.encode(p), 0)
    assert time.process_time() - start < 1.0
    assert audit.penalty_verdict == "not needed"
    assert audit.interactions == edges
    assert audit.feasible_share == 1.0
    assert audit.coefficient_range == 2.0
