"""The cvrp family: VRPLIB and Solomon files line by line, fleets, violations, known routes, exact neighbourhoods."""

from __future__ import annotations

import os
import re
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_assets import registry
from hybrid_assets.problems.base import PROGRAM_VARIABLES, Instance
from hybrid_assets.problems.conformance import source
from hybrid_assets.problems.routing.cvrp import Cvrp, CvrpOptions
from hybrid_assets.problems.routing.fleet import FleetLandscape, codes_of, routes_of
from hybrid_assets.problems.routing.route_sets import route_sets
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.solvers.base import SolveTask
from resources.failures import InfeasibleError, InputError

SHARED = Path(os.environ["HYBRID_INSTANCES"]) if "HYBRID_INSTANCES" in os.environ else None

FIVE = """NAME : five-k3
COMMENT : (nobody)
TYPE : CVRP
DIMENSION : 5
EDGE_WEIGHT_TYPE : EUC_2D
CAPACITY : 10
NODE_COORD_SECTION
1 0 0
2 0 30
3 40 30
4 40 0
5 0 10
DEMAND_SECTION
1 0
2 4
3 5
4 3
5 6
DEPOT_SECTION
1
-1
EOF
"""
SOLOMON = """T1

VEHICLE
NUMBER     CAPACITY
  3         20

CUSTOMER
CUST NO.  XCOORD.   YCOORD.    DEMAND   READY TIME  DUE DATE   SERVICE   TIME

    0      0          0          0          0        230          0
    1      1          1         10         50         60          5
    2      0         10          9          0        100          5
    3      7          7          8          0         12.5        5
"""


def normalized(text: str, name: str = "a.vrp", **options: int) -> Instance:
    family = Cvrp()
    return family.normalize(family.read(source(text.encode(), name))[0], CvrpOptions(**options), "a")


def random_instance(customers: int, seed: int, *, windows: bool = False, vehicles: int = 4) -> Instance:
    rng = np.random.default_rng(seed)
    places = "".join(f"{k + 1} {x} {y}\n" for k, (x, y) in enumerate(rng.integers(0, 100, (customers + 1, 2))))
    demands = "".join(f"{k + 1} {d}\n" for k, d in enumerate([0, *rng.integers(1, 20, customers)]))
    head = f"TYPE : VRPTW\nDIMENSION : {customers + 1}\nEDGE_WEIGHT_TYPE : EUC_2D\nVEHICLES : {vehicles}\n"
    text = f"{head}CAPACITY : {12 * customers // vehicles + 10}\nNODE_COORD_SECTION\n{places}DEMAND_SECTION\n{demands}"
    if windows:
        opens = [0, *rng.integers(0, 250, customers)]
        table = "".join(f"{k + 1} {o} {o + 160 if k else 900}\n" for k, o in enumerate(opens))
        text += f"TIME_WINDOW_SECTION\n{table}SERVICE_TIME : 5\n"
    return normalized(text)


def codes(instance: Instance, *routes: list[int]) -> np.ndarray:
    return codes_of([np.array(route) for route in routes], instance.size)


# -- solutions -------------------------------------------------------------------------------------------------------


def test_routes_have_their_length_and_violations() -> None:
    instance, family = normalized(FIVE), Cvrp()
    # 30 + 40 + 50 and 40 + 40 and 10 + 10
    assert family.evaluate(instance, codes(instance, [1, 2], [3], [4])).objective == 220
    assert family.evaluate(instance, codes(instance, [1, 2], [3], [4])).feasible
    assert family.evaluate(instance, codes(instance, [1, 2, 3], [4])).violations == {"capacity": 2}
    assert family.evaluate(instance, codes(instance, [1], [2], [3], [4])).violations == {"vehicles": 1}
    wrong = codes(instance, [1, 2], [3], [4])
    wrong[0] = wrong[1]
    assert family.evaluate(instance, wrong).violations == {"customers": 1}


def test_distances_are_cut_off_and_windows_kept() -> None:
    instance, family = normalized(SOLOMON), Cvrp()
    # √2 is 1.4, 7√2 is 9.8, √58 is 7.6: 9.8 + 7.6 + 10 and 1.4 + 1.4
    assert family.evaluate(instance, codes(instance, [3, 2], [1])).objective == 30.2
    # place 3 is reached at 10 + 5 + 7.6 = 22.6 instead of 12.5
    late = family.evaluate(instance, codes(instance, [2, 3], [1]))
    assert late.violations == {"time_windows": 10.1}
    # waiting at place 1 until 50 makes no one late
    assert family.evaluate(instance, codes(instance, [3, 1], [2])).feasible


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(0, 1000))
def test_codes_and_routes_are_inverse(vehicles: list[int], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(vehicles)) + 1
    routes = [np.array([c for c in order if vehicles[c - 1] == v]) for v in range(4)]
    routes = [route for route in routes if len(route)]
    again = routes_of(codes_of(routes, len(vehicles)))
    assert [r.tolist() for r in again] == [r.tolist() for r in routes]


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "vehicles"),
    [
        (("", ""), 3),
        (("(nobody)", "(Min no of trucks: 2)"), 2),
        (("CAPACITY : 10", "CAPACITY : 10\nVEHICLES : 4"), 4),
        (("five-k3", "five"), 4),
        (("five-k3", "X-n5-k3"), 4),
    ],
)
def test_the_fleet_is_what_the_file_says(change: tuple[str, str], vehicles: int) -> None:
    assert normalized(FIVE.replace(*change)).settings == {"vehicles": vehicles}
    assert normalized(FIVE.replace(*change), vehicles=2).settings == {"vehicles": 2}


@pytest.mark.parametrize(
    ("change", "line", "says"),
    [
        (("3 5\n4 3", "3 5.5\n4 3"), "line 16", "5.5"),
        (("3 5\n4 3", "3 -5\n4 3"), "line 16", "-5"),
        (("3 5\n4 3", "3 x\n4 3"), "line 16", "'x'"),
        (("1 0\n2 4", "1 7\n2 4"), "line 14", "depot"),
        (("1\n-1", "2\n-1"), "line 19", "depots"),
        (("CAPACITY : 10", "CAPACITY : 0"), "line 6", "CAPACITY"),
        (("CAPACITY : 10", "CAPACITY : 10\nDISTANCE : 90"), "line 7", "not supported"),
        (("DEMAND_SECTION", "PICKUP_SECTION"), "line 13", "not supported"),
        (("40 0\n5 0 10\n", "40 0\n"), "line 7", "place 5 is missing"),
    ],
)
def test_wrong_lines_are_named(change: tuple[str, str], line: str, says: str) -> None:
    assert change[0] in FIVE
    with pytest.raises(InputError) as caught:
        normalized(FIVE.replace(*change))
    assert line in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("change", "line", "says"),
    [
        (("50         60          5", "50         60"), "line 11", "6 fields"),
        (("50         60          5", "50         sixty        5"), "line 11", "'sixty'"),
        (("    2      0 ", "    7      0 "), "line 12", "number it 2"),
        (("  3         20", "  0         20"), "line 5", "no vehicle"),
        (("12.5        5", "12.55       5"), "line 13", "1/10"),
    ],
)
def test_wrong_lines_of_solomon_are_named(change: tuple[str, str], line: str, says: str) -> None:
    assert change[0] in SOLOMON
    with pytest.raises(InputError) as caught:
        normalized(SOLOMON.replace(*change))
    assert line in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (FIVE.replace("5 6\n", "5 11\n"), "line 18: place 5 asks for 11"),
        (FIVE.replace("CAPACITY : 10", "CAPACITY : 10\nVEHICLES : 1"), "add up to 18"),
        # 19 is less than 3 · 7, but no two of 4, 5, 4 and 6 share a vehicle
        (FIVE.replace("CAPACITY : 10", "CAPACITY : 7\nVEHICLES : 3").replace("4 3\n5 6", "4 4\n5 6"), "fewer than 4"),
        (SOLOMON.replace("12.5", "9"), "line 13: place 3 cannot be served"),
        (SOLOMON.replace("230", "55"), "line 11: place 1 cannot be served"),
        (SOLOMON.replace("50         60", "70         60"), "line 11: place 1 cannot be served"),
    ],
)
def test_infeasible_problems_are_recognised(text: str, says: str) -> None:
    with pytest.raises(InfeasibleError, match=says):
        normalized(text)


def test_a_thousand_customers() -> None:
    instance = random_instance(1_000, 0, vehicles=60)
    assert instance.size == 1_000
    assert Cvrp().program_size(instance) > PROGRAM_VARIABLES
    with pytest.raises(InputError, match="landscape"):
        Cvrp().model(instance)
    landscape = FleetLandscape(instance)
    assert landscape.start(0).feasible


# -- program ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("windows", [False, True])
def test_route_sets_are_all_feasible_sets_in_their_best_order(windows: bool) -> None:
    instance, family = random_instance(6, 2, windows=windows, vehicles=3), Cvrp()
    sets = route_sets(instance, PROGRAM_VARIABLES)
    assert sets is not None
    best: dict[int, float] = {}
    for size in range(1, 7):
        for order in permutations(range(1, 7), size):
            others = [[c] for c in range(1, 7) if c not in order]
            found = family.evaluate(instance, codes(instance, list(order), *others))
            if not set(found.violations) - {"vehicles"}:
                alone = sum(2 * int(instance.arrays["distance"][0, c]) for (c,) in others)
                mask = sum(1 << (c - 1) for c in order)
                best[mask] = min(best.get(mask, np.inf), found.objective - alone)
    assert dict(zip(sets.masks, sets.lengths.tolist(), strict=True)) == best


def test_random_choices_are_uniform() -> None:
    instance, family = normalized(FIVE), Cvrp()
    draws = family.random_assignments(instance, 4_000, 0)
    _, counts = np.unique(draws, axis=0, return_counts=True)
    # pairs that fit: 1 2, 1 3, 1 4, 2 3, 3 4; at least one pair for three vehicles, and two disjoint ones twice
    assert len(counts) == 7
    assert counts.min() > 0.85 * 4_000 / 7


def test_a_tight_fleet_is_drawn_where_random_routes_miss_it() -> None:
    rng, loads = np.random.default_rng(0), []
    for _ in range(6):
        a, b = rng.integers(20, 45, 2).tolist()
        loads += [a, b, 100 - a - b]
    places = "".join(f"{k} {7 * k % 31} {11 * k % 29}\n" for k in range(1, 20))
    demands = "".join(f"{k} {load}\n" for k, load in enumerate([0, *loads], 1))
    head = "TYPE : CVRP\nDIMENSION : 19\nCAPACITY : 100\nVEHICLES : 6\nEDGE_WEIGHT_TYPE : EUC_2D\n"
    instance = normalized(f"{head}NODE_COORD_SECTION\n{places}DEMAND_SECTION\n{demands}EOF\n")
    program = Cvrp().model(instance)
    for draw in Cvrp().random_assignments(instance, 3, 0):
        assert program.cqm.check_feasible(dict(enumerate(draw.tolist())))


# -- landscape -------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_exchanges_are_exact_with_their_charges(seed: int, windows: bool) -> None:
    landscape = FleetLandscape(random_instance(24, seed % 5, windows=windows, vehicles=8))
    state = landscape.start(seed)
    block = landscape.block(state, "exchange", 6, np.random.default_rng(seed))
    if block is None:
        return
    bits = (np.arange(2**block.size)[:, None] >> np.arange(block.size) & 1).astype(np.int8)
    costs = [landscape.played(state, [m for m, b in zip(block.move, row, strict=True) if b]).cost for row in bits]
    assert np.allclose(block.energies(bits), costs)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from(FleetLandscape.kinds))
def test_steps_keep_every_customer_and_stay_feasible(seed: int, windows: bool, kind: str) -> None:
    instance = random_instance(20, seed % 5, windows=windows, vehicles=6)
    landscape, rng = FleetLandscape(instance), np.random.default_rng(seed)
    state = landscape.start(seed)
    assert state.feasible
    for _ in range(5):
        block = landscape.block(state, kind, 9, rng)
        if block is None:
            continue
        state = landscape.apply(state, block, rng.integers(0, 2, block.size, dtype=np.int8)).state
        found = Cvrp().evaluate(instance, landscape.values(state))
        assert found.feasible
        assert found.objective == state.cost


@pytest.mark.parametrize("seed", range(6))
def test_a_walk_measures_its_temperature_where_routes_open_and_close(seed: int) -> None:
    from hybrid_assets.proposals.walk import Walk, WalkSettings

    head = "TYPE : CVRP\nDIMENSION : 7\nCAPACITY : 8\nEDGE_WEIGHT_TYPE : EXPLICIT\nEDGE_WEIGHT_FORMAT : UPPER_ROW\n"
    weights = "27 7 12 17 3 18\n0 23 6 13 8\n27 24 12 5\n4 19 19\n27 0\n27\n"
    demands = "1 0\n2 8\n3 0\n4 7\n5 3\n6 0\n7 2\n"
    instance = normalized(f"{head}EDGE_WEIGHT_SECTION\n{weights}DEMAND_SECTION\n{demands}EOF\n")
    assert Walk(Cvrp().landscape(instance), seed, WalkSettings()).state.feasible


def test_polish_shortens_and_keeps_windows() -> None:
    instance = random_instance(30, 1, windows=True, vehicles=10)
    landscape = FleetLandscape(instance)
    state = landscape.start(0)
    polished = landscape.polish(state, 10**6).state
    assert polished.cost < state.cost
    assert Cvrp().evaluate(instance, landscape.values(polished)).feasible


def test_a_fleet_without_room_is_still_packed() -> None:
    # three vehicles of 10 for demands of exactly 30
    text = FIVE.replace("DIMENSION : 5", "DIMENSION : 7").replace("5 0 10\n", "5 0 10\n6 9 9\n7 3 50\n")
    text = text.replace("2 4\n3 5\n4 3\n5 6\n", "2 6\n3 5\n4 4\n5 5\n6 7\n7 3\n")
    landscape = FleetLandscape(normalized(text))
    assert all(landscape.start(seed).feasible for seed in range(3))


# -- known optima ----------------------------------------------------------------------------------------------------


def known(path: str, solution: str) -> tuple[Instance, np.ndarray, float]:
    """A benchmark with the routes that are shipped with it, and their recorded cost."""
    assert SHARED is not None
    family = Cvrp()
    instance = family.normalize(family.read(SourceFile.open(SHARED / path))[0], CvrpOptions(), Path(path).stem)
    text = (SHARED / solution).read_text()
    routes = [[int(word) for word in found.split()] for found in re.findall(r"Route #\d+:(.*)", text)]
    cost = re.search(r"Cost\s+([\d.]+)", text)
    assert cost is not None
    return instance, codes(instance, *routes), float(cost[1])


def _shipped(path: str) -> tuple[Instance, np.ndarray, float]:
    stem = path.rsplit(".", 1)[0]
    return known(path, f"{stem}.opt.sol" if path.startswith("qoblib") else f"{stem}.sol")


@pytest.mark.skipif(SHARED is None, reason="HYBRID_INSTANCES is not set")
@pytest.mark.parametrize(
    "path",
    [
        "routing/cvrp/A/A-n32-k5.vrp",
        "routing/cvrp/E/E-n13-k4.vrp",
        "routing/cvrp/F/F-n45-k4.vrp",
        "routing/cvrp/P/P-n22-k8.vrp",
        "routing/cvrp/X/X-n101-k25.vrp",
        "routing/vrptw/C101.txt",
        "routing/vrptw/R201.txt",
        "routing/vrptw/RC101.txt",
        "qoblib/routing/XSH-n20-k4-01.vrp",
    ],
)
def test_known_routes_have_their_recorded_cost(path: str) -> None:
    instance, values, cost = _shipped(path)
    found = Cvrp().evaluate(instance, values)
    assert found.feasible, found.violations
    assert found.objective == cost


@pytest.mark.skipif(SHARED is None, reason="HYBRID_INSTANCES is not set")
@pytest.mark.parametrize("solver", ["pyvrp", "ruin-recreate"])
@pytest.mark.parametrize(
    "path", ["routing/cvrp/P/P-n22-k8.vrp", "routing/cvrp/A/A-n32-k5.vrp", "routing/vrptw/C101.txt"]
)
def test_heuristics_reach_known_optima(path: str, solver: str) -> None:
    instance, _, cost = _shipped(path)
    # the target ends the search; the budget is what a busy machine may need
    result = registry.solver(solver).solve(SolveTask(Cvrp(), instance, target=cost), 60.0, 1)
    assert result.objective == cost
