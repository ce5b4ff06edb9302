"""The tsp family: TSPLIB files line by line, known tours, exact neighbourhoods, polish and solvers."""

from __future__ import annotations

import json
import os
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_assets import registry
from hybrid_assets.problems.base import PROGRAM_VARIABLES, Instance
from hybrid_assets.problems.conformance import source
from hybrid_assets.problems.routing.routing_distances import MATRIX_FORMATS, between, matrix, weights_expected
from hybrid_assets.problems.routing.tour import TourLandscape
from hybrid_assets.problems.routing.tsp import Tsp
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.solvers.base import SolveTask
from resources.failures import InputError

SHARED = Path(os.environ["HYBRID_INSTANCES"]) / "routing" if "HYBRID_INSTANCES" in os.environ else None

SQUARE = """NAME : square
TYPE : TSP
DIMENSION : 4
EDGE_WEIGHT_TYPE : EUC_2D
NODE_COORD_SECTION
1 0 0
2 0 30
3 40 30
4 40 0
EOF
"""


def normalized(text: str) -> Instance:
    family = Tsp()
    return family.normalize(family.read(source(text.encode(), "a.tsp"))[0], family.options(), "a")


def random_instance(n: int, seed: int, *, symmetric: bool = True) -> Instance:
    weights = np.random.default_rng(seed).integers(1, 100, (n, n))
    if symmetric:
        weights = np.triu(weights, 1) + np.triu(weights, 1).T
    kind = "TSP" if symmetric else "ATSP"
    head = f"TYPE : {kind}\nDIMENSION : {n}\nEDGE_WEIGHT_TYPE : EXPLICIT\nEDGE_WEIGHT_FORMAT : FULL_MATRIX\n"
    return normalized(f"{head}EDGE_WEIGHT_SECTION\n{' '.join(map(str, weights.reshape(-1)))}\nEOF\n")


# -- files -----------------------------------------------------------------------------------------------------------


def test_a_square() -> None:
    instance = normalized(SQUARE)
    assert instance.size == 4
    assert Tsp().evaluate(instance, np.array([0, 1, 2, 3])).objective == 140
    assert Tsp().evaluate(instance, np.array([0, 2, 1, 3])).objective == 180
    assert Tsp().evaluate(instance, np.array([0, 2, 2, 3])).violations == {"cities": 1}


def test_halves_are_rounded_up() -> None:
    places = np.array([[0.0, 0.0], [2.5, 0.0], [0.0, 3.5]])
    assert between(places, "EUC_2D")[0].tolist() == [0, 3, 4]
    assert between(places, "CEIL_2D")[1, 2] == 5
    assert between(places, "MAN_2D")[1, 2] == 6
    assert between(places, "MAX_2D")[1, 2] == 4


def test_pseudo_euclidean_distances_never_round_down() -> None:
    # sqrt(10 000 / 10) = 31.6, sqrt(160 / 10) = 4
    places = np.array([[0.0, 0.0], [100.0, 0.0], [4.0, 12.0]])
    assert between(places, "ATT")[0].tolist() == [0, 32, 4]


@pytest.mark.parametrize("form", sorted(MATRIX_FORMATS))
def test_every_order_of_a_matrix(form: str) -> None:
    full = np.array([[0, 1, 2, 3], [1, 0, 4, 5], [2, 4, 0, 6], [3, 5, 6, 0]])
    part, by_columns, diagonal = MATRIX_FORMATS[form]
    kept = {
        "full": lambda i, j: True,
        "upper": lambda i, j: i <= j if diagonal else i < j,
        "lower": lambda i, j: i >= j if diagonal else i > j,
    }[part]
    cells = [(i, j) for i in range(4) for j in range(4)]
    if by_columns:
        cells.sort(key=lambda cell: (cell[1], cell[0]))
    numbers = [full[i, j] for i, j in cells if kept(i, j)]
    assert len(numbers) == weights_expected(4, form)
    assert np.array_equal(matrix(np.array(numbers), 4, form), full)


@pytest.mark.parametrize(
    ("change", "line", "says"),
    [
        (("3 40 30", "3 forty 30"), "line 8", "'forty'"),
        (("3 40 30", "3 40"), "line 8", "2 fields"),
        (("3 40 30", "9 40 30"), "line 8", "'9'"),
        (("3 40 30", "2 40 30"), "line 8", "line 7"),
        (("3 40 30\n", ""), "line 5", "place 3 is missing"),
        (("3 40 30", "3 40 nan"), "line 8", "out of range"),
        (("DIMENSION : 4", "DIMENSION : 2"), "line 3", "from 3"),
        (("DIMENSION : 4\n", ""), "DIMENSION", "missing"),
        (("EUC_2D", "EUC_9D"), "line 4", "EUC_9D"),
        (("EUC_2D", "EXPLICIT"), "EDGE_WEIGHT_FORMAT", "missing"),
        (("NAME : square", "square"), "line 1", "no section"),
        (("NODE_COORD", "FIXED_EDGES"), "line 5", "not supported"),
        (("EOF\n", "EOF\nmore\n"), "line 11", "after EOF"),
        (("TYPE : TSP", "TYPE : TSP\nTYPE : TSP"), "line 3", "twice"),
    ],
)
def test_wrong_lines_are_named(change: tuple[str, str], line: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        normalized(SQUARE.replace(*change))
    assert line in str(caught.value)
    assert says in str(caught.value)
    assert "a.tsp" in str(caught.value)


def test_a_symmetric_problem_has_symmetric_weights() -> None:
    head = "TYPE : TSP\nDIMENSION : 3\nEDGE_WEIGHT_TYPE : EXPLICIT\nEDGE_WEIGHT_FORMAT : FULL_MATRIX\n"
    with pytest.raises(InputError, match="from 1 to 3"):
        normalized(f"{head}EDGE_WEIGHT_SECTION\n0 1 2\n1 0 3\n9 3 0\n")


def test_decimal_weights_stay_exact() -> None:
    head = "TYPE : TSP\nDIMENSION : 3\nEDGE_WEIGHT_TYPE : EXPLICIT\nEDGE_WEIGHT_FORMAT : UPPER_ROW\n"
    instance = normalized(f"{head}EDGE_WEIGHT_SECTION\n0.1 0.2 0.7\n")
    assert Tsp().evaluate(instance, np.array([0, 1, 2])).objective == 1.0


# -- program and landscape -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_programs_optimum_is_the_shortest_tour(symmetric: bool) -> None:
    instance = random_instance(6, 1, symmetric=symmetric)
    family, program = Tsp(), Tsp().model(instance)
    tours = np.array([[0, *rest] for rest in permutations(range(1, 6))])
    lengths = np.array([family.evaluate(instance, tour).objective for tour in tours])
    bits = np.array([family.assignment(instance, tour) for tour in tours])
    assert np.allclose(program.energies(bits), lengths)
    assert len(np.unique(bits, axis=0)) == len(tours)


def test_large_programs_are_refused_and_counted() -> None:
    instance = random_instance(73, 0)
    assert Tsp().program_size(instance) == 72**2 > PROGRAM_VARIABLES
    with pytest.raises(InputError, match="landscape"):
        Tsp().model(instance)


def test_the_kept_bits_of_a_reference_are_one_window() -> None:
    instance = random_instance(9, 3)
    reference = Tsp().reference(instance, Tsp().model(instance), 0)
    top = np.argsort(-reference.priority, kind="stable")[:9]
    assert reference.assignment[top].sum() == 3
    assert len(set(top // 8)) == len(set(top % 8)) == 3


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["segments", "swap"]), st.booleans())
def test_moves_are_exact_for_all_bits(seed: int, kind: str, symmetric: bool) -> None:
    instance = random_instance(24, seed % 7, symmetric=symmetric)
    landscape = TourLandscape(instance)
    state = landscape.start(seed)
    block = landscape.block(state, kind, 6, np.random.default_rng(seed))
    if block is None:
        return
    bits = (np.arange(2**block.size)[:, None] >> np.arange(block.size) & 1).astype(np.int8)
    costs = [landscape.apply(state, block, b).state.cost for b in bits]
    assert np.allclose(block.energies(bits), costs)


@pytest.mark.parametrize("kind", ["window", "cluster"])
def test_reorderings_are_exact_for_all_orders(kind: str) -> None:
    landscape = TourLandscape(random_instance(12, 5, symmetric=False))
    state = landscape.start(0)
    for seed in range(6):
        block = landscape.block(state, kind, 16, np.random.default_rng(seed))
        assert block is not None
        assert block.size == 16
        for order in permutations(range(4)):
            bits = np.eye(4, dtype=np.int8)[list(order)].reshape(-1)
            step = landscape.apply(state, block, bits)
            assert not step.repaired
            assert step.state.cost == pytest.approx(float(block.energies(bits[None, :])[0]))
        # a city twice costs more than any order, and is repaired
        twice = np.eye(4, dtype=np.int8)[[0, 0, 2, 3]].reshape(-1)
        assert block.energies(twice[None, :])[0] > max(state.cost, float(block.energies(block.current[None, :])[0]))
        assert landscape.apply(state, block, twice).repaired


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(4, 40), st.booleans())
def test_polish_gives_shorter_tours(seed: int, n: int, symmetric: bool) -> None:
    landscape = TourLandscape(random_instance(n, seed % 11, symmetric=symmetric))
    state = landscape.state_of(np.random.default_rng(seed).permutation(n))
    polished = landscape.polish(state, 100_000).state
    assert sorted(polished.data) == list(range(n))
    assert polished.cost <= state.cost
    # a local optimum stays one
    assert landscape.polish(polished, 100_000).state.digest == polished.digest


# -- known optima ----------------------------------------------------------------------------------------------------


def known(name: str) -> tuple[Instance, np.ndarray]:
    """A benchmark with the tour that is shipped with it."""
    assert SHARED is not None
    path = next(SHARED.glob(f"*/{name}.*tsp"))
    family = Tsp()
    instance = family.normalize(family.read(SourceFile.open(path))[0], family.options(), name)
    own = path.with_suffix(".own_tour.json")
    if own.exists():
        tour = np.array(json.loads(own.read_text()))
        # some count from 0, some from 1
        return instance, tour - tour.min()
    words = path.with_suffix(".opt.tour").read_text().split("TOUR_SECTION")[1].split()
    return instance, np.array([int(word) - 1 for word in words if word not in ("-1", "EOF")])


@pytest.mark.skipif(SHARED is None, reason="HYBRID_INSTANCES is not set")
@pytest.mark.parametrize(
    ("name", "best"),
    [
        ("burma14", 3323),
        ("gr17", 2085),
        ("bayg29", 1610),
        ("swiss42", 1273),
        ("hk48", 11461),
        ("berlin52", 7542),
        ("gr96", 55209),
        ("pcb442", 50778),
        ("br17", 39),
        ("ftv35", 1473),
        ("ft70", 38673),
    ],
)
def test_known_tours_have_their_recorded_length(name: str, best: int) -> None:
    instance, tour = known(name)
    found = Tsp().evaluate(instance, tour)
    assert found.feasible
    assert found.objective == best


@pytest.mark.skipif(SHARED is None, reason="HYBRID_INSTANCES is not set")
@pytest.mark.parametrize(
    ("name", "solver"),
    [
        ("gr17", "pyvrp"),
        ("bayg29", "pyvrp"),
        ("br17", "pyvrp"),
        ("swiss42", "tour-descent"),
        ("berlin52", "tour-descent"),
        ("ftv35", "tour-descent"),
    ],
)
def test_heuristics_reach_known_optima(name: str, solver: str) -> None:
    instance, tour = known(name)
    best = Tsp().evaluate(instance, tour).objective
    # the target ends the search; the budget is what a busy machine may need
    result = registry.solver(solver).solve(SolveTask(Tsp(), instance, target=best), 60.0, 1)
    assert result.objective == best


@pytest.mark.skipif(SHARED is None, reason="HYBRID_INSTANCES is not set")
@pytest.mark.parametrize("name", ["burma14", "br17", "bayg29"])
def test_circuits_prove_known_optima(name: str) -> None:
    instance, tour = known(name)
    result = registry.solver("cpsat-circuit").solve(SolveTask(Tsp(), instance), 60.0, 0)
    assert result.status == "optimal"
    assert result.bound == result.objective == Tsp().evaluate(instance, tour).objective
