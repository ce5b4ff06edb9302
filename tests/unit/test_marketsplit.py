"""The market split family: its format, messages, proxy, walk and solvers."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_assets.problems.base import Instance
from hybrid_assets.problems.conformance import source
from hybrid_assets.problems.packing.marketsplit import MarketSplit
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.solvers import split_halves
from hybrid_assets.solvers.base import ClassicalSolver, SolveTask
from hybrid_assets.solvers.split_annealing import SplitAnnealing
from hybrid_assets.solvers.split_halves import SplitHalves
from hybrid_assets.solvers.split_highs import SplitHighs
from resources.failures import InputError

SHARED = Path(os.environ["HYBRID_INSTANCES"]) / "qoblib/marketsplit" if "HYBRID_INSTANCES" in os.environ else None
FAMILY = MarketSplit()
SMALL = "# two rows\n2 3\n 4 3 2  6\n 1 5 2  6\n"


def instance_of(text: str) -> Instance:
    return FAMILY.normalize(FAMILY.read(source(text.encode()))[0], FAMILY.options(), "m")


def text_of(matrix: np.ndarray, targets: np.ndarray) -> str:
    rows = [" ".join(map(str, [*row, b])) for row, b in zip(matrix.tolist(), targets.tolist(), strict=True)]
    return "\n".join([f"{len(targets)} {matrix.shape[1]}", *rows]) + "\n"


def test_objective_and_proxy() -> None:
    instance = instance_of(SMALL)
    # residuals (0, -3), (1, 0), (3, 2)
    points = np.array([[1, 0, 1], [1, 1, 0], [1, 1, 1]], dtype=np.int8)
    assert [FAMILY.evaluate(instance, x).objective for x in points] == [3, 1, 5]
    assert FAMILY.model(instance).energies(points).tolist() == [9, 1, 13]
    assert not FAMILY.exact_program


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("2 3\n4 3 2 6\n1 5 2\n", "line 3", "before all 4 coefficients"),
        ("1 3\n4 3 2 6\n1\n", "line 3", "'1' follows the 1 rows"),
        ("1 3\n4 x 2 6\n", "line 2", "'x' stands among"),
        ("1 3\n4 -1 2 6\n", "line 2", "'-1' stands among"),
        ("1 3\n4 1.5 2 6\n", "line 2", "1.5 is no whole number"),
        ("1 3\n4 100000000 2 6\n", "line 2", "add up to more than"),
        ("1 1\n4 2\n", "line 1", "number of bits is '1'"),
        ("1 2\n0 0 5\n", "coefficients", "all are 0"),
    ],
)
def test_malformed_files_name_their_line(text: str, line: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        instance_of(text)
    assert caught.value.field == line
    assert problem in str(caught.value)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(2, 9))
def test_halves_are_exact(seed: int, rows: int, bits: int) -> None:
    """Also where no split exists: all residuals of a smaller sum are ruled out."""
    rng = np.random.default_rng(seed)
    matrix = rng.integers(0, 8, (rows, bits))
    matrix[0, 0] += 1
    instance = instance_of(text_of(matrix, rng.integers(0, 3 * bits, rows)))
    points = (np.arange(2**bits)[:, None] >> np.arange(bits)) & 1
    best = min(FAMILY.evaluate(instance, x).objective for x in points)
    found = SplitHalves().solve(SolveTask(FAMILY, instance), 60.0, 0)
    if best <= 6:
        assert found.status == "optimal"
        assert found.objective == found.bound == best
    else:
        # many residuals to rule out; what is claimed holds
        assert found.bound is not None
        assert found.objective is not None
        assert found.bound <= best <= found.objective


@pytest.mark.parametrize("solver", [SplitHalves(), SplitHighs(), SplitAnnealing()], ids=lambda s: s.name)
def test_a_planted_split_is_found(solver: ClassicalSolver) -> None:
    rng = np.random.default_rng(1)
    matrix = rng.integers(0, 50, (2, 14))
    instance = instance_of(text_of(matrix, matrix @ rng.integers(0, 2, 14)))
    found = solver.solve(SolveTask(FAMILY, instance), 60.0, 0)
    assert (found.status, found.objective, found.bound) == ("optimal", 0, 0)
    assert found.values is not None
    assert FAMILY.evaluate(instance, found.values).objective == 0


def test_pieces_and_prefixes_cover_all_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither half fits its limit: the rest of the bits is walked through one by one."""
    from hybrid_assets.solvers import split_halves

    monkeypatch.setattr(split_halves, "KEPT_BITS", 4)
    monkeypatch.setattr(split_halves, "PIECE_BITS", 3)
    rng = np.random.default_rng(2)
    matrix = rng.integers(0, 60, (2, 13))
    planted = rng.integers(0, 2, 13)
    planted[-6:] = 1
    instance = instance_of(text_of(matrix, matrix @ planted))
    found = SplitHalves().solve(SolveTask(FAMILY, instance), 60.0, 0)
    assert (found.status, found.objective) == ("optimal", 0)


def test_a_thousand_rows_are_no_recursion() -> None:
    found = list(split_halves._residuals(1_000, 1))
    assert len(found) == 2_000
    assert all(np.abs(residual).sum() == 1 for residual in found)


def test_residuals_are_all_vectors_of_their_sum() -> None:
    wanted = {v for v in product(range(-3, 4), repeat=3) if sum(map(abs, v)) == 3}
    found = [tuple(residual.tolist()) for residual in split_halves._residuals(3, 3)]
    assert len(found) == len(set(found))
    assert set(found) == wanted


def test_a_small_budget_keeps_few_sums() -> None:
    matrix = np.random.default_rng(0).integers(0, 99, (6, 50))
    kept = [split_halves._Halves(matrix, matrix.sum(axis=1) // 2, 0, budget).kept for budget in (0.0, 0.5, 20.0)]
    assert kept == [0, 21, 25]


def test_blocks_are_the_squared_residuals() -> None:
    rng = np.random.default_rng(3)
    matrix = rng.integers(0, 50, (3, 18))
    instance = instance_of(text_of(matrix, matrix.sum(axis=1) // 2))
    landscape = FAMILY.landscape(instance)
    state = landscape.start(0)
    bits = ((np.arange(64)[:, None] >> np.arange(6)) & 1).astype(np.int8)
    for kind in landscape.kinds:
        block = landscape.block(state, kind, 6, rng)
        assert block is not None
        reached = [landscape.apply(state, block, x).state for x in bits]
        squares = [float((s.cache**2).sum()) for s in reached]
        assert block.energies(bits).tolist() == pytest.approx(squares)
        assert [s.cost for s in reached] == [FAMILY.evaluate(instance, s.data).objective for s in reached]


@pytest.mark.skipif(SHARED is None, reason="HYBRID_INSTANCES is not set")
def test_recorded_splits_meet_all_targets() -> None:
    assert SHARED is not None
    files = sorted(SHARED.glob("*.dat"))
    assert len(files) == 32
    for file in files:
        assert FAMILY.recognises(SourceFile.open(file))
        instance = FAMILY.normalize(FAMILY.read(SourceFile.open(file))[0], FAMILY.options(), file.stem)
        bits = np.array(file.with_suffix(".opt.sol").read_text().split(), dtype=np.int8)
        assert FAMILY.evaluate(instance, bits).objective == 0


@pytest.mark.skipif(SHARED is None, reason="HYBRID_INSTANCES is not set")
@pytest.mark.parametrize("name", ["ms_03_100_012", "ms_04_200_030", "ms_05_050_002"])
def test_halves_find_published_splits(name: str) -> None:
    assert SHARED is not None
    instance = FAMILY.normalize(FAMILY.read(SourceFile.open(SHARED / f"{name}.dat"))[0], FAMILY.options(), name)
    found = SplitHalves().solve(SolveTask(FAMILY, instance), 120.0, 0)
    assert (found.status, found.objective) == ("optimal", 0)
