"""The bin packing family: its two layouts, messages, bounds, program, walk and solvers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_assets.encodings.penalty import Penalty
from hybrid_assets.problems.base import Instance
from hybrid_assets.problems.conformance import source
from hybrid_assets.problems.landscape import random_bits
from hybrid_assets.problems.packing.binpacking import BinPacking, fewest_bins, layout, numbered, packed
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.solvers.arc_flow import ArcFlow
from hybrid_assets.solvers.base import SolveTask
from hybrid_assets.solvers.fit_decreasing import FitDecreasing
from resources.envelope import PostProcessing
from resources.failures import InfeasibleError, InputError

SHARED = Path(os.environ["HYBRID_INSTANCES"]) / "packing/binpack" if "HYBRID_INSTANCES" in os.environ else None
FAMILY = BinPacking()
LIBRARY = "2\n u4_00\n 10 4 3\n6\n5\n4\n3\n u3_01\n 7.5 3 2\n5\n2.5\n4\n"


def instance_of(sizes: list[int], capacity: int) -> Instance:
    text = "\n".join(map(str, [len(sizes), capacity, *sizes])) + "\n"
    return FAMILY.normalize(FAMILY.read(source(text.encode()))[0], FAMILY.options(), "b")


def fewest_by_enumeration(sizes: list[int], capacity: int) -> int:
    """Items one by one into every open bin or a new one."""

    def place(k: int, loads: tuple[int, ...]) -> int:
        if k == len(sizes):
            return len(loads)
        options = [(*loads[:b], load + sizes[k], *loads[b + 1 :]) for b, load in enumerate(loads)]
        fitting = [o for o in options if max(o) <= capacity]
        return min(place(k + 1, o) for o in [*fitting, (*loads, sizes[k])])

    return place(0, ())


def test_library_files_hold_several_instances() -> None:
    raws = FAMILY.read(source(LIBRARY.encode()))
    first, second = (FAMILY.normalize(raw, FAMILY.options(), "b") for raw in raws)
    assert first.arrays["sizes"].tolist() == [6, 5, 4, 3]
    assert second.arrays["sizes"].tolist() == [50, 25, 40]
    assert second.arrays["capacity"].tolist() == [75]
    assert FAMILY.constraints(second)["capacity"] == 7.5
    # 5 and 4 together are 1.5 above 7.5
    found = FAMILY.evaluate(second, np.array([1, 0, 1]))
    assert found.objective == 2
    assert found.violations == {"capacity of bin 1": 1.5}


def test_number_of_bins() -> None:
    instance = instance_of([6, 5, 4, 3], 10)
    assert FAMILY.evaluate(instance, np.array([3, 7, 3, 7])).objective == 2
    assert FAMILY.evaluate(instance, np.array([0, 1, 2, 3])).objective == 4


@pytest.mark.parametrize(
    ("text", "field", "problem"),
    [
        ("3\n10\n6\n5\n", "line 4", "before all 3 sizes"),
        ("2\n10\n6\n5\n1\n", "line 5", "'1' follows the 2 sizes"),
        ("2\n10\n6\nx\n", "line 4", "'x' stands among the sizes"),
        ("1\n u\n 10 2 1\n6\n", "line 4", "before all 2 sizes"),
        ("1\n u\n 10 0 1\n6\n", "line 3", "number of items is '0'"),
        ("2\n u\n 10 1 1\n6\n", "line 4", "ends before the instance's name"),
        ("2\n10\n6\n0\n", "item 2", "its size is 0"),
        ("2\n10\n6\n0.0000001\n", "sizes", "more than 6 decimals"),
    ],
)
def test_malformed_files_name_their_line(text: str, field: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        FAMILY.normalize(FAMILY.read(source(text.encode()))[0], FAMILY.options(), "b")
    assert caught.value.field == field
    assert problem in str(caught.value)


def test_a_number_too_long_to_convert_is_no_count() -> None:
    assert not FAMILY.recognises(source(b"9" * 5_000 + b"\n10\n5\n"))


def test_an_item_larger_than_a_bin_is_infeasible() -> None:
    with pytest.raises(InfeasibleError, match="item 2: its size 11 is above the capacity 10"):
        instance_of([6, 11, 3], 10)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=7), st.integers(20, 30))
def test_bounds_enclose_the_optimum_and_solvers_reach_it(sizes: list[int], capacity: int) -> None:
    instance = instance_of(sizes, capacity)
    best = fewest_by_enumeration(sizes, capacity)
    assert fewest_bins(instance) <= best <= len(np.unique(packed(instance)))
    exact = ArcFlow().solve(SolveTask(FAMILY, instance), 20.0, 0)
    assert exact.status == "optimal"
    assert exact.objective == best


def test_bound_sees_what_the_volume_does_not() -> None:
    # three items above half the capacity: volume 18 of 10 would fit two bins
    assert fewest_bins(instance_of([6, 6, 6], 10)) == 3
    # 7 shares with nothing from 4 on: 7, 7 | 6 with 4 | 4, 4
    assert fewest_bins(instance_of([7, 7, 6, 4, 4, 4], 10)) == 4


def test_arc_flow_beats_best_fit() -> None:
    instance = instance_of([44, 28, 28, 27, 24, 22, 21, 21, 21, 16, 16, 15, 9, 8], 100)
    assert fewest_bins(instance) == 3
    assert len(np.unique(packed(instance))) == 4
    for solver in (ArcFlow(), FitDecreasing()):
        found = solver.solve(SolveTask(FAMILY, instance), 30.0, 1)
        assert found.values is not None
        assert FAMILY.evaluate(instance, found.values).feasible
        assert found.status == "optimal"
        assert found.objective == 3


def test_program_leaves_out_symmetric_packings() -> None:
    instance = instance_of([3, 6, 4, 5], 10)
    where = layout(instance)
    assert where.order.tolist() == [1, 3, 2, 0]
    assert where.options.tolist() == [1, 2, 2, 2]
    assert FAMILY.program_size(instance) == len(FAMILY.model(instance).cqm.variables) == 8
    bits = FAMILY.assignment(instance, np.array([9, 5, 5, 9]))
    assert bits.tolist() == [1, 0, 1, 1, 0, 0, 1, 1]


def test_program_is_refused_where_it_is_too_large() -> None:
    instance = instance_of([7] * 200, 20)
    assert FAMILY.program_size(instance) > 5_000
    with pytest.raises(InputError, match="too large to hold"):
        FAMILY.model(instance)
    assert "cpsat-program" not in FAMILY.baselines(instance)


def test_repair_moves_the_smallest_items() -> None:
    instance = instance_of([6, 5, 4, 3], 10)
    # 6, 4 and 3 in bin 0: 3 has to go to bin 1, where 5 is
    solution = FAMILY.complete(instance, np.array([1, 0, 1, 1, 0, 1, 0, 1], dtype=np.int8))
    assert solution.values.tolist() == [0, 1, 0, 1]
    assert solution.post_processing is PostProcessing.REPAIRED


def test_penalty_encoding_takes_the_program() -> None:
    instance = instance_of([6, 5, 4, 3], 10)
    program, encoding = FAMILY.model(instance), Penalty()
    encoded = encoding.encode(program)
    bits = FAMILY.assignment(instance, packed(instance))
    energy = encoded.bqm.energy(encoding.embed(encoded, bits))
    assert energy == pytest.approx(2.0)


def test_numbers_follow_the_first_item() -> None:
    assert numbered(np.array([7, 2, 7, 0])).tolist() == [0, 1, 0, 2]


def test_a_walk_stays_feasible_and_reaches_fewer_bins() -> None:
    rng = np.random.default_rng(3)
    instance = instance_of(rng.integers(20, 60, 50).tolist(), 100)
    landscape = FAMILY.landscape(instance)
    # one item a bin
    state = landscape.state_of(np.arange(50))
    assert state.cost == 50
    for step in range(300):
        block = landscape.block(state, landscape.kinds[step % 3], 8, rng)
        if block is None:
            continue
        tried = random_bits(block, 64, rng)
        step_ = landscape.apply(state, block, tried[np.argmin(block.energies(tried))])
        assert FAMILY.evaluate(instance, step_.state.data).feasible
        if step_.state.cost <= state.cost:
            state = step_.state
    assert state.cost < 30


def test_block_energy_is_the_change_of_squared_loads() -> None:
    rng = np.random.default_rng(5)
    instance = instance_of(rng.integers(5, 40, 30).tolist(), 100)
    landscape = FAMILY.landscape(instance)
    state = landscape.start(1)
    squares = float(((state.cache / 100) ** 2).sum())
    checked = 0
    for seed in range(30):
        block = landscape.block(state, landscape.kinds[seed % 3], 8, np.random.default_rng(seed))
        if block is None:
            continue
        for bits in random_bits(block, 8, rng):
            step = landscape.apply(state, block, bits)
            change = float(block.energies(np.stack([bits, block.current])) @ [1, -1])
            if not step.repaired:
                assert change == pytest.approx(squares - float(((step.state.cache / 100) ** 2).sum()))
                checked += 1
    assert checked > 30


@pytest.mark.skipif(SHARED is None, reason="HYBRID_INSTANCES is not set")
def test_recorded_packings_have_their_number_of_bins() -> None:
    assert SHARED is not None
    raws = FAMILY.read(SourceFile.open(SHARED / "binpack1.txt"))
    rows = [line.split() for line in (SHARED / "binpack1_sln.txt").read_text().splitlines() if line.split()]
    starts = [k for k, row in enumerate(rows) if row[0].startswith("u120")]
    assert len(raws) == len(starts) == 20
    for raw, start, stop in zip(raws, starts, [*starts[1:], len(rows)], strict=True):
        instance = FAMILY.normalize(raw, FAMILY.options(), rows[start][0])
        bins = np.full(120, -1)
        for number, row in enumerate(rows[start + 2 : stop]):
            bins[list(map(int, row))] = number
        found = FAMILY.evaluate(instance, bins)
        assert found.feasible
        assert found.objective == float(rows[start + 1][1]) == stop - start - 2


@pytest.mark.skipif(SHARED is None, reason="HYBRID_INSTANCES is not set")
@pytest.mark.parametrize(("number", "best"), [(2, 46), (9, 46), (19, 49)])
def test_search_proves_known_optima(number: int, best: float) -> None:
    assert SHARED is not None
    raw = FAMILY.read(SourceFile.open(SHARED / "binpack1.txt"))[number]
    found = FitDecreasing().solve(SolveTask(FAMILY, FAMILY.normalize(raw, FAMILY.options(), "u")), 120.0, 0)
    assert (found.objective, found.status) == (best, "optimal")
