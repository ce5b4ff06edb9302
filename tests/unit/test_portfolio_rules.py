"""Sector limits, turnover and lots of a portfolio: options, violations, weights against a grid, SCIP, the landscape."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hybrid_assets.problems.base import Instance
from hybrid_assets.problems.conformance import source
from hybrid_assets.problems.portfolio import Portfolio, PortfolioOptions
from hybrid_assets.problems.portfolio_ruled import nearest_selection, relaxed_weights, ruled_weights
from hybrid_assets.problems.portfolio_rules import Rules
from hybrid_assets.solvers.base import SolveTask
from hybrid_assets.solvers.scip import Scip
from hybrid_assets.solvers.swap_tabu import SwapTabu
from resources.envelope import PostProcessing
from resources.failures import InfeasibleError, InputError
from tests.conformance.test_families import port

FAMILY = Portfolio()
SECTORS = {str(k): ("odd", "even")[k % 2 == 0] for k in range(1, 9)}


def instance(size: int = 8, seed: int = 0, **options: object) -> Instance:
    raw = FAMILY.read(source(port(size, seed), "file.txt"))[0]
    return FAMILY.normalize(raw, PortfolioOptions.model_validate(options), "name")


def grid(parts: int, count: int) -> np.ndarray:
    """All positive multiples of 1/parts of ``count`` assets that add up to 1."""
    cuts = np.array(list(itertools.combinations(range(1, parts), count - 1))).reshape(-1, count - 1)
    edges = np.hstack([np.zeros((len(cuts), 1)), cuts, np.full((len(cuts), 1), parts)])
    return np.diff(edges, axis=1) / parts


def best_of_grid(given: Instance, parts: int) -> float:
    """The best feasible objective over all selections and all positive multiples of 1/parts."""
    count, best = given.settings["cardinality"], np.inf
    for picked in itertools.combinations(range(given.size), count):
        for weights in grid(parts, count):
            values = np.zeros(given.size)
            values[list(picked)] = weights
            found = FAMILY.evaluate(given, values)
            best = min(best, found.objective) if found.feasible else best
    return best


# -- options ---------------------------------------------------------------------------------------------------------


def test_instances_without_rules_are_what_they_were() -> None:
    text = b" 3\n .001 .05\n .002 .04\n .003 .06\n 1 1 1\n 1 2 .5\n 1 3 .2\n 2 2 1\n 2 3 -.1\n 3 3 1\n"
    plain = FAMILY.normalize(FAMILY.read(source(text))[0], PortfolioOptions(), "name")
    assert plain.digest == "fff22f099b0587b5de098b10ed30b8bdae2b0209008881b14e9897dad5b4081f"
    assert Rules.of(plain).plain
    assert set(plain.arrays) == {"mean", "covariance"}


def test_rules_are_part_of_the_instance() -> None:
    options = {"sectors": SECTORS, "sector_limits": {"odd": 0.4}, "previous": {"3": 0.5}, "turnover": 1.5, "lots": 0.1}
    found = instance(cardinality=3, **options)
    assert found.settings | options == found.settings
    assert found.arrays["sector"].tolist() == [0, -1] * 4
    assert found.arrays["previous"].tolist() == [0, 0, 0.5, 0, 0, 0, 0, 0]
    assert found.digest not in {
        instance(cardinality=3, **{**options, k: None}).digest for k in ("lots", "sector_limits")
    }
    assert Instance.from_bytes(found.to_bytes()).digest == found.digest
    # names may be numbers, as YAML reads them
    assert PortfolioOptions.model_validate({"sectors": {1: "a"}}).sectors == {"1": "a"}


@pytest.mark.parametrize(
    ("options", "kind", "expected"),
    [
        ({"sectors": {"9": "odd"}}, InputError, "options of file.txt: sectors: there is no asset '9'"),
        (
            {"sectors": SECTORS, "sector_limits": {"od": 0.5}},
            InputError,
            "options of file.txt: sector_limits: no asset is in sector 'od'",
        ),
        (
            {"sector_limits": {"odd": 0.5}},
            InputError,
            "options of file.txt: sector_limits: no asset is in sector 'odd'",
        ),
        ({"turnover": 0.5}, InputError, "options of file.txt: turnover: it means nothing without previous"),
        ({"previous": {"1": 0.5}}, InputError, "options of file.txt: previous: it means nothing without turnover"),
        (
            {"previous": {"x": 0.5}, "turnover": 0.5},
            InputError,
            "options of file.txt: previous: there is no asset 'x'",
        ),
        ({"lots": 0.3}, InfeasibleError, "options of file.txt: no solution exists: lots: no multiples of 0.3 make"),
        (
            {"sectors": SECTORS, "sector_limits": {"odd": 0.4, "even": 0.5}},
            InfeasibleError,
            "options of file.txt: no solution exists: sector_limits: no 3 assets",
        ),
        # three assets of one lot each are not five lots
        (
            {"lots": 0.2, "max_weight": 0.35},
            InfeasibleError,
            "options of file.txt: no solution exists: lots: no 3 assets with weights from 0.2 to 0.2",
        ),
        (
            {"previous": {"1": 1.0}, "turnover": 0.3, "max_weight": 0.6},
            InfeasibleError,
            "options of file.txt: no solution exists: turnover: 0.3 is less than any portfolio needs; "
            "allow at least 0.8",
        ),
    ],
)
def test_contradictions(options: dict[str, object], kind: type[InputError], expected: str) -> None:
    with pytest.raises(InputError) as error:
        instance(**{"cardinality": 3, **options})
    assert type(error.value) is kind
    assert str(error.value).startswith(expected)


def test_violations_are_named() -> None:
    given = instance(
        cardinality=2,
        sectors=SECTORS,
        sector_limits={"odd": 0.5},
        previous={"1": 0.5, "2": 0.5},
        turnover=0.6,
        lots=0.25,
    )

    def violations(**weights: float) -> dict[str, float]:
        values = np.zeros(8)
        for name, weight in weights.items():
            values[int(name[1:]) - 1] = weight
        return {k: round(v, 9) for k, v in FAMILY.evaluate(given, values).violations.items()}

    assert violations(a1=0.5, a2=0.5) == {}
    assert violations(a1=0.75, a2=0.25) == {"sector odd": 0.25}
    assert violations(a2=0.5, a4=0.5) == {"turnover": 0.4}
    assert violations(a1=0.4, a2=0.6) == {"lots": 0.1}


# -- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("risk_aversion", [0.0, 0.5, 0.95, 1.0])
@pytest.mark.parametrize(
    "options",
    [
        {"sectors": SECTORS, "sector_limits": {"odd": 0.3}},
        {"previous": {"1": 0.6, "4": 0.4}, "turnover": 0.7},
        {"sectors": SECTORS, "sector_limits": {"odd": 0.4}, "previous": {"1": 0.6, "4": 0.4}, "turnover": 0.9},
    ],
    ids=["sectors", "turnover", "both"],
)
def test_weights_under_rules_are_the_best_of_a_grid(risk_aversion: float, options: dict[str, object]) -> None:
    given = instance(seed=3, cardinality=3, risk_aversion=risk_aversion, min_weight=0.05, **options)
    rules, weights, solved = Rules.of(given), grid(40, 3), 0
    for picked in itertools.combinations(range(8), 3):
        values = np.zeros((len(weights), 8))
        values[:, picked] = weights
        kept = [e.objective for e in (FAMILY.evaluate(given, v) for v in values[::3]) if e.feasible]
        found = ruled_weights(given, rules, np.array(picked))
        if found is None:
            assert not kept
            continue
        solved += 1
        full = np.zeros(8)
        full[list(picked)] = found
        assert FAMILY.evaluate(given, full).feasible
        # no exchange of weight between two assets that stays feasible pays
        value = FAMILY.evaluate(given, full).objective
        assert value <= min(kept, default=np.inf) + 1e-9
        for i, j in itertools.permutations(picked, 2):
            moved = full.copy()
            moved[i] -= 1e-4
            moved[j] += 1e-4
            after = FAMILY.evaluate(given, moved)
            assert not after.feasible or after.objective >= value - 1e-9
    assert solved > 0


def test_lots_are_the_best_of_all() -> None:
    """Rounding and exchanges find the best multiples of most selections, and feasible ones of all that have some."""
    given = instance(seed=5, cardinality=3, risk_aversion=0.9, lots=0.1, sectors=SECTORS, sector_limits={"odd": 0.5})
    rules, hit, possible = Rules.of(given), 0, 0
    for picked in itertools.combinations(range(8), 3):
        kept = []
        for weights in grid(10, 3):
            values = np.zeros(8)
            values[list(picked)] = weights
            found = FAMILY.evaluate(given, values)
            kept += [found.objective] if found.feasible else []
        found_weights = ruled_weights(given, rules, np.array(picked))
        assert (found_weights is None) == (not kept)
        if found_weights is not None:
            values = np.zeros(8)
            values[list(picked)] = found_weights
            found = FAMILY.evaluate(given, values)
            assert found.feasible
            possible += 1
            hit += found.objective <= min(kept) + 1e-12
    assert possible > 40
    assert hit >= 0.9 * possible


def test_completion_moves_to_the_nearest_selection_with_weights() -> None:
    given = instance(cardinality=3, sectors=SECTORS, sector_limits={"odd": 0.3}, max_weight=0.6)
    all_odd = np.array([1, 0, 1, 0, 1, 0, 0, 0], dtype=np.int8)
    done = FAMILY.complete(given, all_odd)
    assert done.evaluation.feasible
    assert done.post_processing is PostProcessing.REPAIRED
    # one of three odd ones is not enough to go: 0.6 + 0.3 is below 1
    assert np.count_nonzero(done.values[all_odd == 1]) == 1
    fits = np.array([1, 1, 0, 1, 0, 0, 0, 0], dtype=np.int8)
    kept = FAMILY.complete(given, fits)
    assert kept.post_processing is PostProcessing.RAW
    np.testing.assert_array_equal((kept.values > 0).astype(np.int8), fits)


def test_nearest_selection_prefers_low_values() -> None:
    given = instance(cardinality=2, sectors=SECTORS, sector_limits={"odd": 0.1}, max_weight=0.95)
    preference = np.array([0, 9, 0, 7, 0, 3, 0, 8.0])
    held = np.array([1, 0, 1, 0, 0, 0, 0, 0])
    found = nearest_selection(Rules.of(given), held, preference)
    assert found is not None
    assert found.sum() == 2
    # one of the two stays, the best of the others comes
    assert found[5] == 1
    assert found[0] + found[2] == 1


def test_relaxation_bounds_every_portfolio() -> None:
    given = instance(seed=2, cardinality=3, risk_aversion=0.7, sectors=SECTORS, sector_limits={"odd": 0.2})
    relaxed = relaxed_weights(given, 0.7)
    assert relaxed[::2].sum() <= 0.2 + 1e-6
    bound = FAMILY.evaluate(given, relaxed).objective
    for draw in FAMILY.random_assignments(given, 30, 0):
        assert FAMILY.complete(given, draw).evaluation.objective >= bound - 1e-9


def test_frontier_keeps_the_limits() -> None:
    returns = []
    for limit in (1.0, 0.1):
        given = instance(cardinality=3, sectors=SECTORS, sector_limits={"even": limit})
        chosen = FAMILY.complete(given, np.array([0, 1, 0, 1, 1, 0, 0, 0], dtype=np.int8)).values
        axes = FAMILY.plot_solution(given, {"accepted": chosen}).axes[0]
        returns.append(np.asarray(axes.lines[0].get_ydata()).max())
        assert "accepted" in {text.get_text() for text in axes.get_legend().get_texts()}
    assert returns[1] < returns[0] - 1e-4


# -- solvers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"lots": 0.1},
        {"lots": 0.1, "sectors": SECTORS, "sector_limits": {"odd": 0.4}},
        {"lots": 0.1, "previous": {"1": 0.6, "4": 0.4}, "turnover": 0.8},
    ],
    ids=["lots", "sectors", "turnover"],
)
def test_scip_proves_the_best_lots(options: dict[str, object]) -> None:
    given = instance(6, 4, cardinality=3, risk_aversion=0.95, **{**options, **_fitting(options)})
    best = best_of_grid(given, 10)
    result = Scip().solve(SolveTask(FAMILY, given), 30.0, 0)
    assert result.status == "optimal"
    assert result.values is not None
    assert FAMILY.evaluate(given, result.values).feasible
    assert result.objective == pytest.approx(best, rel=1e-6)
    assert result.bound is not None
    assert best - 1e-5 * abs(best) <= result.bound <= best + 1e-9
    heuristic = SwapTabu().solve(SolveTask(FAMILY, given, target=best), 0.5, 0)
    assert heuristic.values is not None
    assert FAMILY.evaluate(given, heuristic.values).feasible
    assert heuristic.objective >= best - 1e-12
    assert heuristic.objective <= best + 0.05 * abs(best)


def _fitting(options: dict[str, object]) -> dict[str, object]:
    """Sectors of six assets only."""
    return {"sectors": {k: v for k, v in SECTORS.items() if int(k) <= 6}} if "sectors" in options else {}
