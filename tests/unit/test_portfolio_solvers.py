"""The portfolio's solvers: SCIP against enumeration, its bound, the swap heuristics' quality and reproducibility."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_assets import registry
from hybrid_assets.problems.portfolio import Portfolio, PortfolioOptions
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.solvers.base import SolveTask
from hybrid_assets.solvers.conformance import enumerated
from hybrid_assets.solvers.scip import Scip
from hybrid_assets.solvers.selection import SelectionSearch
from tests.conformance.test_families import port
from tests.conformance.test_solvers import task

FAMILY = Portfolio()
HEURISTICS = ("swap-greedy", "swap-tabu", "swap-annealing")
SHARED = Path(os.environ["HYBRID_INSTANCES"]) if "HYBRID_INSTANCES" in os.environ else None


def portfolio(size: int, seed: int, **options: object) -> SolveTask:
    return task(FAMILY, port(size, seed), **options)


@settings(max_examples=10, deadline=None)
@given(
    st.integers(0, 1000),
    st.integers(2, 6),
    st.sampled_from([0.0, 0.3, 0.9, 0.99, 1.0]),
    st.sampled_from([(0.0, 1.0), (0.01, 1.0), (0.1, 0.55)]),
)
def test_scip_is_enumeration(seed: int, held: int, risk_aversion: float, bounds: tuple[float, float]) -> None:
    small = portfolio(
        8, seed, cardinality=held, risk_aversion=risk_aversion, min_weight=bounds[0], max_weight=bounds[1]
    )
    best = enumerated(small)
    result = Scip().solve(small, 30.0, seed)
    assert result.status == "optimal"
    assert result.objective == pytest.approx(best, rel=1e-9, abs=1e-15)
    assert result.bound is not None
    assert best - 1e-6 * abs(best) - 1e-12 <= result.bound <= best + 1e-9 * abs(best) + 1e-15


def test_scip_stops_in_time_with_a_bound() -> None:
    large = portfolio(60, 0, cardinality=8, risk_aversion=0.98)
    result = Scip().solve(large, 1.5, 0)
    assert result.seconds < 20
    assert result.objective is not None
    assert FAMILY.evaluate(large.instance, result.values).feasible  # type: ignore[arg-type]
    assert result.bound is not None
    assert result.bound <= result.objective
    # even without a moment to search there is a bound, and it is not trivial
    hurried = Scip().solve(large, 0.01, 0)
    assert hurried.bound is not None
    assert hurried.objective is not None
    assert hurried.bound <= result.objective + 1e-12
    assert hurried.objective - hurried.bound < abs(hurried.objective)


@pytest.mark.parametrize("name", HEURISTICS)
def test_heuristics_reach_the_optimum_of_small_instances(name: str) -> None:
    for seed in range(4):
        small = portfolio(11, seed, cardinality=4, risk_aversion=0.95)
        best = enumerated(small)
        result = registry.solver(name).solve(replace(small, target=best), 10.0, seed)
        # greedy may stop at a local optimum, the others have the time to leave it
        assert result.objective == pytest.approx(best, rel=0.02 if name == "swap-greedy" else 1e-9)


@pytest.mark.parametrize("name", HEURISTICS)
def test_heuristics_are_reproducible(name: str) -> None:
    small = portfolio(30, 3, cardinality=6, risk_aversion=0.9)
    found = registry.solver(name).solve(small, 1.0, 0).objective
    assert found is not None
    to_target = replace(small, target=found)
    one, two = (registry.solver(name).solve(to_target, 30.0, 0) for _ in range(2))
    assert one.evaluations == two.evaluations
    assert [v for _, v in one.trajectory] == [v for _, v in two.trajectory]
    np.testing.assert_array_equal(one.values, two.values)


def test_swap_estimates_bound_the_exact_change() -> None:
    """With all neighbours asked for, each one is a swap, and none is missing or doubled."""
    search = SelectionSearch(portfolio(12, 1, cardinality=4), 10.0)
    chosen = np.array([0, 3, 5, 9])
    _, weights = search.score(chosen[None, :])
    neighbours = search.swaps(chosen, weights[0], 10_000)
    assert neighbours.shape == (4 * 8, 4)
    assert ((neighbours != chosen).sum(axis=1) == 1).all()
    assert len({frozenset(n.tolist()) for n in neighbours}) == 32
    values, _ = search.score(neighbours)
    few, _ = search.score(search.swaps(chosen, weights[0], 12))
    # the most promising third holds the best neighbour
    assert few.min() == pytest.approx(values.min())


def test_a_target_is_never_what_a_solver_returns() -> None:
    small = portfolio(10, 2, cardinality=3)
    impossible = enumerated(small) - 1.0
    result = registry.solver("swap-tabu").solve(replace(small, target=impossible), 0.3, 0)
    assert result.objective is not None
    assert result.objective > impossible + 0.5


FAST = ("port1_K10_l0.8", "port1_K5_l0", "port1_K10_l0.95")


@pytest.mark.parametrize("name", FAST if SHARED else [])
def test_published_optima(name: str) -> None:
    assert SHARED is not None
    known = json.loads((SHARED / "portfolio" / "cardinality" / f"{name}.json").read_text())
    raw = FAMILY.read(SourceFile.open(SHARED / known["data"]))[0]
    options = PortfolioOptions(cardinality=known["K"], risk_aversion=known["lambda"], min_weight=known["eps"])
    instance = FAMILY.normalize(raw, options, name)
    whole = SolveTask(FAMILY, instance)
    for solver in ("scip", *HEURISTICS):
        result = registry.solver(solver).solve(replace(whole, target=known["objective"]), 20.0, 0)
        assert result.objective == pytest.approx(known["objective"], rel=1e-7)
