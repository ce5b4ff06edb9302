"""The portfolio's landscape: blocks against the QP, one-swap descent, known optima through the engine."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest

from hybrid_assets.problems.base import Instance
from hybrid_assets.problems.conformance import source
from hybrid_assets.problems.portfolio import Portfolio, PortfolioOptions
from hybrid_assets.problems.portfolio_landscape import PortfolioLandscape
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.proposals.arms.qaoa import Qaoa
from hybrid_assets.proposals.engine import Budget, search
from hybrid_assets.proposals.walk import WalkSettings
from tests.conformance.test_families import port

FAMILY = Portfolio()
SHARED = Path(os.environ["HYBRID_INSTANCES"]) if "HYBRID_INSTANCES" in os.environ else None


def instance(size: int, seed: int, **options: object) -> Instance:
    raw = FAMILY.read(source(port(size, seed)))[0]
    return FAMILY.normalize(raw, PortfolioOptions.model_validate(options), "name")


def value_of(given: Instance, bits: np.ndarray) -> float:
    return FAMILY.complete(given, bits.astype(np.int8)).evaluation.objective


def test_energies_of_replacements_are_the_family_s_objectives() -> None:
    given = instance(20, 1, cardinality=6, risk_aversion=0.9)
    landscape = PortfolioLandscape(given)
    state = landscape.start(0)
    for kind, size, groups in (("exchange", 8, 2), ("random", 12, 3), ("exchange", 16, 4), ("exchange", 3, 1)):
        block = landscape.block(state, kind, size, np.random.default_rng(1))
        assert block is not None
        assert len(block.groups) == groups
        assert block.exact == (groups <= 2)
        members = [list(group) for group in block.groups]
        assert sum(map(len, members)) == block.size <= size
        # current bits with up to two groups changed, each to any of its assets
        for one, two in itertools.product(members[0], members[-1]):
            bits = block.current.copy()
            bits[members[0]] = 0
            bits[one] = 1
            if groups > 1:
                bits[members[-1]] = 0
                bits[two] = 1
            after = landscape.apply(state, block, bits).state
            assert after.data.sum() == 6
            energy = float(block.energies(bits[None, :])[0])
            assert energy == pytest.approx(value_of(given, after.data), abs=1e-12)
            assert after.cost == pytest.approx(energy, abs=1e-12)


def test_swaps_are_made_one_by_one() -> None:
    given = instance(16, 2, cardinality=5, risk_aversion=0.8)
    landscape = PortfolioLandscape(given)
    state = landscape.start(1)
    block = landscape.block(state, "swaps", 8, np.random.default_rng(0))
    assert block is not None
    assert block.size == 5
    assert block.groups == ()
    assert set(block.move.leavers) == set(np.flatnonzero(state.data))
    for k in range(5):
        bits = np.zeros(5, dtype=np.int8)
        bits[k] = 1
        after = landscape.apply(state, block, bits).state
        assert after.data[block.move.leavers[k]] == 0
        assert after.data[block.move.newcomers[k, 0]] == 1
        assert after.cost == pytest.approx(state.cost + block.linear[k], abs=1e-12)


def test_bits_that_break_groups_still_hold_k_assets() -> None:
    given = instance(16, 2, cardinality=5)
    landscape = PortfolioLandscape(given)
    state = landscape.start(1)
    block = landscape.block(state, "exchange", 8, np.random.default_rng(0))
    assert block is not None
    for bits in (np.zeros(8, dtype=np.int8), np.ones(8, dtype=np.int8)):
        step = landscape.apply(state, block, bits)
        assert step.repaired
        assert step.state.data.sum() == 5


@pytest.mark.parametrize(
    "options",
    [{"risk_aversion": 0.95}, {"risk_aversion": 0.3, "max_weight": 0.4}, {"risk_aversion": 1.0, "min_weight": 0.0}],
    ids=["risk", "bounds", "variance"],
)
def test_polished_states_have_no_better_swap(options: dict[str, object]) -> None:
    given = instance(18, 3, cardinality=5, **options)
    landscape = PortfolioLandscape(given)
    for seed in range(3):
        start = landscape.start(seed)
        step = landscape.polish(start, 100_000)
        state = step.state
        assert state.cost <= start.cost
        assert step.evaluations >= 5 * 13
        chosen, outside = np.flatnonzero(state.data), np.flatnonzero(state.data == 0)
        for leaver, newcomer in itertools.product(chosen, outside):
            bits = state.data.copy()
            bits[leaver], bits[newcomer] = 0, 1
            assert value_of(given, bits) >= state.cost - 1e-8 * abs(state.cost) - 1e-12
        assert landscape.polish(start, 7).evaluations <= 7


def test_selections_without_weights_are_mended() -> None:
    sectors = {str(k): "odd" if k % 2 else "even" for k in range(1, 13)}
    given = instance(12, 5, cardinality=3, sectors=sectors, sector_limits={"odd": 0.2}, max_weight=0.5)
    landscape = PortfolioLandscape(given)
    # two odd and one even: 0.2 + 0.5 is less than 1
    state, mended = landscape._state(np.array([0, 2, 5]))
    assert mended
    assert state.feasible
    assert FAMILY.evaluate(given, landscape.values(state)).feasible
    assert state.data[[0, 2]].sum() <= 1
    costs = landscape.costs(np.array([[0, 2, 5], [0, 3, 5]]))
    assert costs[0] > costs[1] + landscape.charge / 2


# -- published instances (development only) --------------------------------------------------------------------------

KNOWN = ("port1_K10_l0.95", "port3_K10_l0.9", "port5_K10_l0.8")


@pytest.mark.parametrize("name", KNOWN if SHARED else [])
def test_published_optima_are_reached(name: str) -> None:
    """QAOA's proposals with one-swap polish are within 0.01 % (normalized) after at most 40 trips."""
    assert SHARED is not None
    known = json.loads((SHARED / "portfolio" / "cardinality" / f"{name}.json").read_text())
    raw = FAMILY.read(SourceFile.open(SHARED / known["data"]))[0]
    options = PortfolioOptions(cardinality=known["K"], risk_aversion=known["lambda"], min_weight=known["eps"])
    given = FAMILY.normalize(raw, options, name)
    settings = WalkSettings(sizes=(8,), polish=True)
    found = search(PortfolioLandscape(given), Qaoa(), Budget(trips=40), 0, settings)
    draws = FAMILY.random_assignments(given, 50, 0)
    mean = np.mean([FAMILY.complete(given, draw).evaluation.objective for draw in draws])
    assert (found.state.cost - known["objective"]) / (mean - known["objective"]) <= 1e-4
