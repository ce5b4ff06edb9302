"""The knapsack family: its three layouts, messages, values, walk and solvers."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_assets.problems.base import Instance, ProblemFamily
from hybrid_assets.problems.conformance import source
from hybrid_assets.problems.graphs.maxcut import MaxCut
from hybrid_assets.problems.landscape import random_bits
from hybrid_assets.problems.packing.knapsack import Knapsack
from hybrid_assets.problems.packing.knapsack_bag import Bag, Items
from hybrid_assets.problems.packing.marketsplit import MarketSplit
from hybrid_assets.problems.qubo import Qubo
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.solvers.base import SolveTask
from hybrid_assets.solvers.knapsack_dp import KnapsackDp
from hybrid_assets.solvers.knapsack_search import KnapsackSearch
from resources.envelope import PostProcessing
from resources.failures import InputError

SHARED = Path(os.environ["HYBRID_INSTANCES"]) if "HYBRID_INSTANCES" in os.environ else None
FAMILY = Knapsack()
SINGLE = "4 11\n8 4\n10 5\n15 8\n4 3\n"
SEVERAL = "2\n3 2 9\n6 5 8\n2 3 4\n5.5 1 2\n6 7\n4 1 0\n4 5 6 7\n2 3 4 5\n8\n"
PAIRS = "name\n4\n4 0 7 3\n1 0 5\n2 0\n3\n\n0\n9\n3 2 4 5\n\nComments\n"


def instances(text: str) -> list[Instance]:
    return [FAMILY.normalize(raw, FAMILY.options(), "k") for raw in FAMILY.read(source(text.encode()))]


def single(values: list[int], weights: list[int], capacity: int) -> Instance:
    lines = [f"{len(values)} {capacity}", *(f"{v} {w}" for v, w in zip(values, weights, strict=True))]
    return instances("\n".join(lines) + "\n")[0]


def brute(instance: Instance) -> float:
    n = instance.size
    points = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    found = [FAMILY.evaluate(instance, x) for x in points]
    return max(e.objective for e in found if e.feasible)


def test_single() -> None:
    (instance,) = instances(SINGLE)
    assert instance.settings["layout"] == "single"
    assert FAMILY.evaluate(instance, np.array([0, 0, 1, 1])).objective == 19
    over = FAMILY.evaluate(instance, np.array([1, 0, 1, 0]))
    assert over.objective == 23
    assert over.violations == {"capacity-1": 1.0}


@pytest.mark.parametrize(
    ("family", "text"),
    [
        (FAMILY, SINGLE),
        (MarketSplit(), "1 4\n4 3 2 5 7\n"),
        (MaxCut(), "4 3\n1 2 1\n2 3 1\n3 4 1\n"),
        (Qubo(), "4 3\n1 1 -3\n2 3 2\n4 4 -1\n"),
    ],
    ids=lambda given: given.name if isinstance(given, ProblemFamily) else "",
)
def test_what_is_neither_0_nor_1_is_no_bit(family: ProblemFamily, text: str) -> None:
    # 0.9 of an item has its value and, cut off, no weight
    instance = family.normalize(family.read(source(text.encode()))[0], family.options(), "b")
    assert family.evaluate(instance, np.array([1.0, 0.0, 0.0, 0.0])).feasible
    found = family.evaluate(instance, np.array([0.9, 2.0, 0.0, 1.0]))
    assert found.violations["values that are no bits"] == 2


def test_several_instances_with_decimals() -> None:
    first, second = instances(SEVERAL)
    assert (first.size, second.size) == (3, 4)
    assert first.arrays["weights"].tolist() == [[2, 3, 4], [55, 10, 20]]
    assert first.arrays["capacities"].tolist() == [6, 70]
    assert "exactly" in first.notes[0]
    # item 1 and 3: 6 and 7.5 where 6 and 7 are allowed
    assert FAMILY.evaluate(first, np.array([1, 0, 1])).violations == {"capacity-2": 0.5}
    assert FAMILY.constraints(first)["capacities"] == [6.0, 7.0]


def test_pairs() -> None:
    (instance,) = instances(PAIRS)
    # 4 + 7 and the pair (1, 3), whose value is 0; then 0 + 3 and the pair (2, 4), which is 0
    assert FAMILY.evaluate(instance, np.array([1, 0, 1, 0])).objective == 11
    assert FAMILY.evaluate(instance, np.array([1, 0, 0, 1])).objective == 4 + 3 + 5
    assert FAMILY.evaluate(instance, np.array([0, 1, 1, 0])).objective == 0 + 7 + 2
    program = FAMILY.model(instance)
    assert program.energies(np.array([[1, 0, 0, 1], [0, 1, 1, 0]])).tolist() == [-12, -9]


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("4 11\n8 4\n10 5\n15 8\n", "line 4", "before all 8 values and weights"),
        ("2 11\n8 4\n10 x\n", "line 3", "'x' stands among"),
        ("2 11\n8 4\n-10 5\n", "line 3", "'-10' stands among"),
        ("2 11\n8 4\n10 5\n1 1\n", "line 4", "'1' follows the 2 items"),
        ("0 11\n", "line 1", "number of items is '0'"),
        ("1\n2 1 0\n5 6\n1 2\n", "line 4", "before all 1 capacities"),
        ("1\n2 1 0\n5 6\n1 nan\n3\n", "line 4", "'nan' stands among"),
        ("name\n3\n1 2 3\n1 2\n1\n\n1\n5\n1 1 1\n", "line 7", "type 1, an equation"),
        ("name\n3\n1 2 3\n1 2\n1\n\n0\n5\n1 1\n", "line 9", "before all 3 weights"),
        ("1 2 3\n", "line 1", "no knapsack"),
    ],
)
def test_malformed_files_name_their_line(text: str, line: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        FAMILY.read(source(text.encode()))
    assert caught.value.field == line
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1 3\n5 0.1234567\n", "more than 6 decimals"),
        ("2 3\n5 4\n5 9\n", "no item fits"),
        ("9 1e15\n" + "5 1e15\n" * 9, "more than 2\\^53"),
    ],
)
def test_senseless_instances_are_refused(text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        instances(text)


def test_a_cycle_is_a_graph() -> None:
    cycle = source(b"4 4\n1 2\n2 3\n3 4\n1 4\n")
    assert MaxCut().recognises(cycle)
    assert not FAMILY.recognises(cycle)
    assert not MaxCut().recognises(source(SINGLE.encode()))


def test_items_that_never_fit_are_no_variables() -> None:
    instance = single([5, 9, 4], [3, 8, 2], 5)
    assert FAMILY.program_size(instance) == 2
    assert FAMILY.constraints(instance)["fixed to 0"] == ["2"]
    assert any("fixed to 0" in note for note in instance.notes)
    assert FAMILY.complete(instance, np.array([1, 1])).values.tolist() == [1, 0, 1]


def test_repair_drops_the_least_value_per_weight() -> None:
    instance = single([8, 1, 9], [4, 4, 4], 8)
    solution = FAMILY.complete(instance, np.array([1, 1, 1]))
    assert solution.values.tolist() == [1, 0, 1]
    assert solution.post_processing is PostProcessing.REPAIRED


def test_random_choices_are_uniform() -> None:
    # 3 of 4 choices of two items fit; each comes about a third of the time
    instance = single([1, 1], [3, 4], 5)
    draws = FAMILY.random_assignments(instance, 3000, 1)
    shares = np.bincount(draws @ [1, 2], minlength=4) / 3000
    assert shares[3] == 0
    # five standard deviations
    assert np.all(np.abs(shares[:3] - 1 / 3) < 0.045)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 30)), min_size=1, max_size=9),
    st.integers(30, 120),
)
def test_dynamic_program_is_exact(items: list[tuple[int, int]], capacity: int) -> None:
    instance = single([v for v, _ in items], [w for _, w in items], capacity)
    found = KnapsackDp().solve(SolveTask(FAMILY, instance), 20.0, 0)
    assert found.status == "optimal"
    assert found.objective == found.bound == brute(instance)


def test_dynamic_program_knows_its_limits() -> None:
    rng = np.random.default_rng(0)
    weights = rng.integers(10**10, 10**11, 60)
    instance = single(rng.integers(10**3, 10**4, 60).tolist(), weights.tolist(), int(weights.sum() // 2))
    found = KnapsackDp().solve(SolveTask(FAMILY, instance), 20.0, 0)
    assert found.status == "feasible"
    assert found.objective is not None
    assert found.bound is not None
    assert found.objective <= found.bound <= 1.01 * found.objective


@pytest.mark.parametrize("text", [SINGLE, SEVERAL, PAIRS])
def test_a_walk_keeps_gains_room_and_value(text: str) -> None:
    for instance in instances(text):
        landscape, rng = FAMILY.landscape(instance), np.random.default_rng(1)
        state = landscape.start(0)
        for step in range(60):
            block = landscape.block(state, landscape.kinds[step % 3], 3, rng)
            if block is not None:
                state = landscape.apply(state, block, random_bits(block, 1, rng)[0]).state
            fresh = Bag.of(instance, state.data)
            assert np.allclose(state.cache.gains, fresh.gains)
            assert np.array_equal(state.cache.room, fresh.room)
            assert fresh.room.min() >= 0
            assert -state.cost == FAMILY.evaluate(instance, state.data).objective


def test_descent_reaches_a_swap_optimum() -> None:
    rng = np.random.default_rng(2)
    instance = single(rng.integers(1, 50, 25).tolist(), rng.integers(1, 50, 25).tolist(), 200)
    landscape = FAMILY.landscape(instance)
    state = landscape.polish(landscape.start(3), 10**6).state
    for j in np.flatnonzero(state.data == 0):
        for i in (-1, *np.flatnonzero(state.data == 1).tolist()):
            moved = state.data.copy()
            moved[j] = 1
            if i >= 0:
                moved[i] = 0
            after = FAMILY.evaluate(instance, moved)
            assert not after.feasible or after.objective <= -state.cost


def test_loops_keep_room_and_gains() -> None:
    """Several parts of one run: what a loop leaves behind is what the next one counts on."""
    from hybrid_assets.problems.packing.knapsack_loops import rebuild

    rng = np.random.default_rng(6)
    text = "\n".join(["1", "40 2 0", *(" ".join(map(str, rng.integers(1, 60, 40))) for _ in range(3)), "300 280"])
    for instance in (*instances(text), *instances(PAIRS)):
        bag = Bag.greedy(instance, rng)
        items, order = bag.items, bag.items.fitting
        for _ in range(5):
            if not len(items.pairs):
                rebuild(bag.x, items.values, items.weights, bag.room, order, 20, 8.0, 300, 50.0, 20.0, rng)
            bag.anneal(300, 20.0, 10.0, rng)
            fresh = Bag.of(items, bag.x)
            assert np.array_equal(bag.room, fresh.room)
            assert np.allclose(bag.gains, fresh.gains)
            assert bag.room.min() >= 0


def test_blocks_point_below_the_capacity() -> None:
    """The best bits of a block are feasible, or nearly: the penalty does not ask for what cannot be."""
    rng = np.random.default_rng(4)
    instance = single(rng.integers(20, 60, 40).tolist(), rng.integers(20, 60, 40).tolist(), 800)
    landscape, bits = FAMILY.landscape(instance), (np.arange(256)[:, None] >> np.arange(8)) & 1
    state = landscape.start(1)
    for seed in range(20):
        block = landscape.block(state, "border", 8, np.random.default_rng(seed))
        assert block is not None
        best = bits[np.argmin(block.energies(bits))].astype(np.int8)
        room = state.cache.room + (block.current.astype(int) - best) @ landscape.items.weights[block.move]
        assert room.min() >= -60


def test_prices_are_those_of_the_relaxation() -> None:
    # one and a half of the items fit: the second one sets the price, 6 for a weight of 4
    items = Items.of(single([10, 6, 1], [4, 4, 4], 6))
    assert items.prices.tolist() == [1.5]
    several = instances(SEVERAL)[0]
    assert Items.of(several).prices.shape == (2,)


@pytest.mark.skipif(SHARED is None, reason="HYBRID_INSTANCES is not set")
def test_recorded_solutions_have_the_recorded_values() -> None:
    assert SHARED is not None
    rows = [
        row
        for row in csv.DictReader((SHARED / "MANIFEST.tsv").open(), delimiter="\t")
        if row["family"] in ("mknap", "qkp")
    ]
    checked = 0
    for row in rows:
        if row["own_solution_file"]:
            number = int(row["instance"].split("#")[1]) - 1 if "#" in row["instance"] else 0
            raw = FAMILY.read(SourceFile.open(SHARED / row["file"]))[number]
            instance = FAMILY.normalize(raw, FAMILY.options(), row["instance"])
            bits = np.array(list((SHARED / row["own_solution_file"]).read_text().strip()), dtype=np.int8)
            found = FAMILY.evaluate(instance, bits)
            assert found.feasible
            assert found.objective == float(row["best_known"])
            checked += 1
    assert checked == 50


@pytest.mark.skipif(SHARED is None, reason="HYBRID_INSTANCES is not set")
@pytest.mark.parametrize(
    ("file", "number", "best"),
    [("mknap/mknap1.txt", 2, 4015), ("mknap/mknap1.txt", 3, 6120), ("qkp/jeu_100_25_2.txt", 0, 56525)],
)
def test_search_reaches_known_optima(file: str, number: int, best: float) -> None:
    assert SHARED is not None
    raw = FAMILY.read(SourceFile.open(SHARED / "packing" / file))[number]
    task = SolveTask(FAMILY, FAMILY.normalize(raw, FAMILY.options(), "k"), target=best)
    assert KnapsackSearch().solve(task, 60.0, 0).objective == best
