"""Higher terms, domain walls and groups left to the mixer against brute force."""

from __future__ import annotations

from dataclasses import replace

import dimod
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_assets.encodings.arrays import QuadraticForm, states
from hybrid_assets.encodings.domain_wall import DomainWall
from hybrid_assets.encodings.narrowing import narrow
from hybrid_assets.encodings.one_hot_xy import OneHotXY, preparation_depth
from hybrid_assets.encodings.penalty import Penalty
from hybrid_assets.encodings.quadratized import Quadratized
from hybrid_assets.encodings.samples import feasible_mass, leakage
from hybrid_assets.encodings.substitution import substituted
from hybrid_assets.problems.base import Program, Reference
from resources.failures import InfeasibleError, InputError, InvariantError


def form(n: int, rng: np.random.Generator) -> QuadraticForm:
    i, j = np.triu_indices(n, 1)
    return QuadraticForm.build(rng.normal(size=n), i, j, rng.normal(size=i.size), 0.5)


def grouped(sizes: list[int], free: int, seed: int, limit: bool = False) -> Program:
    """Groups with exactly one 1, then free variables; optionally a limit across all of them."""
    n = sum(sizes) + free
    rng = np.random.default_rng(seed)
    cqm = dimod.ConstrainedQuadraticModel()
    cqm.add_variables("BINARY", n)
    cqm.set_objective(form(n, rng).bqm())
    start = 0
    for k, size in enumerate(sizes):
        cqm.add_constraint([(start + i, 1.0) for i in range(size)], "==", 1, label=f"group{k}")
        start += size
    if limit:
        weights = rng.integers(1, 4, n)
        cqm.add_constraint([(i, float(w)) for i, w in enumerate(weights)], "<=", len(sizes) * 2, label="limit")
    return Program(cqm, "grouped")


def feasible(p: Program) -> np.ndarray:
    x = states(np.arange(2 ** len(p.cqm.variables)), len(p.cqm.variables))
    return x[[p.cqm.check_feasible(dict(enumerate(map(int, row)))) for row in x]]


@st.composite
def polynomials(draw: st.DrawFn) -> tuple[QuadraticForm, dict[tuple[int, ...], float]]:
    n = draw(st.integers(3, 6))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    terms = draw(st.lists(st.sets(st.integers(0, n - 1), min_size=3), min_size=1, max_size=5))
    return form(n, rng), {tuple(sorted(term)): float(rng.normal()) for term in terms}


@given(polynomials())
@settings(max_examples=60, deadline=None)
def test_products_have_the_polynomial_as_their_least_energy_in_every_state(
    polynomial: tuple[QuadraticForm, dict[tuple[int, ...], float]],
) -> None:
    native, higher = polynomial
    n = len(native.linear)
    quadratic, products = substituted(native, higher)
    x = states(np.arange(2**n), n)
    expected = native.all_values() + sum(c * x[:, list(k)].prod(axis=1) for k, c in higher.items())
    least = quadratic.all_values().reshape(-1, 2**n).min(axis=0)
    np.testing.assert_allclose(least, expected, atol=1e-9)
    assert len(products) <= sum(len(term) - 2 for term in higher)


def test_a_pair_that_many_terms_share_is_replaced_once() -> None:
    higher = {(0, 1, k): 1.0 for k in range(2, 7)}
    quadratic, (product,) = substituted(QuadraticForm.build(np.zeros(7), *np.zeros((3, 0), int), 0.0), higher)
    assert (product.first, product.second, product.strength) == (0, 1, 5.0)
    assert len(quadratic.linear) == 8


def test_native_and_quadratic_terms_are_both_counted() -> None:
    cqm = dimod.ConstrainedQuadraticModel()
    cqm.add_variables("BINARY", 5)
    cqm.set_objective(dimod.BinaryQuadraticModel({0: -1.0}, {(0, 1): 2.0}, 0.0, "BINARY"))
    cqm.add_constraint([(i, 1.0) for i in range(5)], "==", 2, label="count")
    p = Program(cqm, "higher", {(0, 1, 2): -3.0, (0, 1, 3, 4): 2.5})
    assert not Penalty().accepts(p)
    encoded = Quadratized().encode(p)
    audit = Quadratized().audit(p, encoded, 0)
    assert (audit.native_terms, audit.auxiliary_variables) == (3, 2)
    assert audit.interactions == encoded.bqm.num_interactions > audit.native_terms
    assert Quadratized().extra_variables(p) == 2
    assert audit.penalty_verdict == "proven"
    weak = Quadratized().weighted(p, 1e-9)
    assert Quadratized().audit(p, weak, 0).penalty_verdict == "refuted"


@given(st.integers(0, 10**6), st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_narrowing_conditions_higher_terms(seed: int, q: int) -> None:
    n = 7
    rng = np.random.default_rng(seed)
    cqm = dimod.ConstrainedQuadraticModel()
    cqm.add_variables("BINARY", n)
    cqm.set_objective(form(n, rng).bqm())
    higher = {tuple(sorted(rng.choice(n, 3 + k % 3, replace=False).tolist())): float(rng.normal()) for k in range(6)}
    p = Program(cqm, "higher", higher)
    narrowed = narrow(p, Reference(rng.integers(0, 2, n).astype(np.int8), rng.random(n), "random"), q)
    x = states(np.arange(2**q), q)
    np.testing.assert_allclose(narrowed.program.energies(x), p.energies(narrowed.lift(x)), atol=1e-9)
    assert all(len(term) > 2 for term in narrowed.program.higher)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(0, 2), st.booleans(), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_domain_walls_keep_the_optimum_with_fewer_bits(sizes: list[int], free: int, limit: bool, seed: int) -> None:
    p = grouped(sizes, free, seed, limit)
    encoding, allowed = DomainWall(), feasible(p)
    if not len(allowed):
        with pytest.raises(InfeasibleError):
            encoding.encode(p)
        return
    encoded = encoding.encode(p)
    q = encoded.bqm.num_variables
    slack = sum(len(c["slack_coefficients"]) for c in encoded.detail["constraints"])
    assert q == sum(sizes) + free - len(sizes) + slack
    if not 0 < q <= 16:
        return
    bits = states(np.arange(2**q), q)
    energies = encoded.bqm.energies((bits, range(q)))
    best = encoding.decode(encoded, bits[np.argmin(energies)])
    assert (allowed == best).all(axis=1).any()
    assert energies.min() == pytest.approx(p.energies(allowed).min(), abs=1e-9 * np.abs(energies).max())
    audit = encoding.audit(p, encoded, 0)
    assert audit.penalty_verdict == "proven"
    assert audit.auxiliary_variables == slack - len(sizes)


def test_a_wall_too_many_decodes_to_an_infeasible_assignment() -> None:
    p = grouped([4], 0, 0)
    encoded = DomainWall().encode(p)
    assert DomainWall().decode(encoded, np.array([1, 1, 0], np.int8)).tolist() == [0, 0, 1, 0]
    assert DomainWall().decode(encoded, np.array([0, 1, 0], np.int8)).tolist() == [1, 0, 1, 0]


def test_domain_walls_with_too_small_a_weight_are_refuted() -> None:
    p = grouped([4, 4, 4], 0, 3)
    weak = DomainWall().weighted(p, 1e-3)
    assert DomainWall().audit(p, weak, 0).penalty_verdict == "refuted"


@pytest.mark.parametrize("limit", [False, True])
def test_groups_for_the_mixer_are_exact_inside(limit: bool) -> None:
    p = grouped([3, 4], 1, 5, limit)
    encoding = OneHotXY()
    encoded = encoding.encode(p)
    assert encoded.detail["groups"] == [[0, 1, 2], [3, 4, 5, 6]]
    allowed = feasible(p)
    embedded = np.array([encoding.embed(encoded, x) for x in allowed])
    q = encoded.bqm.num_variables
    np.testing.assert_allclose(encoded.bqm.energies((embedded, range(q))), p.energies(allowed), atol=1e-6)
    audit = encoding.audit(p, encoded, 0)
    assert audit.penalty_verdict == ("proven" if limit else "not needed")
    assert (encoded.penalty_weight is None) == (not limit)
    assert audit.preparation_depth == 4
    if not limit:
        assert q == 8
        pairs = {frozenset(pair) for pair in encoded.bqm.quadratic}
        assert pairs == {frozenset(pair) for pair in p.cqm.objective.quadratic}
    else:
        weak = encoding.weighted(p, 1e-9)
        assert encoding.audit(p, weak, 0).penalty_verdict == "refuted"


def test_depth_grows_with_the_logarithm_of_the_largest_group() -> None:
    assert [preparation_depth([list(range(m))]) for m in (1, 2, 3, 4, 5, 8, 9)] == [0, 2, 4, 4, 6, 6, 8]
    assert preparation_depth([[0], [1, 2, 3]]) == 4


def test_leakage_and_feasible_mass_count_raw_shots() -> None:
    p = grouped([2, 2], 0, 0)
    encoded = OneHotXY().encode(p)
    bits = np.array([[1, 0, 0, 1], [1, 1, 0, 1], [0, 0, 0, 0]], np.int8)
    counts = np.array([6, 3, 1])
    assert leakage(encoded, bits, counts) == pytest.approx(0.4)
    assert feasible_mass(OneHotXY(), p, encoded, bits, counts) == pytest.approx(0.6)


def test_encodings_of_groups_refuse_programs_without_any() -> None:
    p = grouped([], 3, 0)
    for encoding in (DomainWall(), OneHotXY()):
        assert not encoding.accepts(p)
        with pytest.raises(InputError, match=f"the {encoding.name} encoding"):
            encoding.encode(p)


@pytest.mark.parametrize("encoding", [DomainWall(), OneHotXY(), Quadratized()], ids=lambda e: e.name)
def test_audits_refuse_a_model_that_does_not_agree(encoding: Penalty | DomainWall) -> None:
    p = grouped([3, 3], 1, 2)
    encoded = encoding.encode(p)
    broken = encoded.bqm.copy()
    broken.offset += 1e-3
    with pytest.raises(InvariantError, match="not objective"):
        encoding.audit(p, replace(encoded, bqm=broken), 0)
