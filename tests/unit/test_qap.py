"""Quadratic assignment: the reader, the objective against the definition, the published optima, the compiled moves."""

from __future__ import annotations

import os
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_assets.problems.assignment.qap import MODELLED_FACILITIES, Qap, placed
from hybrid_assets.problems.assignment.qap_landscape import QapLandscape
from hybrid_assets.problems.base import FamilyOptions, Instance
from hybrid_assets.problems.conformance import source
from hybrid_assets.solvers import qap_branch
from hybrid_assets.solvers.base import SolveTask
from hybrid_assets.solvers.qap_branch import QapBranch
from hybrid_assets.solvers.robust_tabu import RobustTabu
from resources.envelope import PostProcessing
from resources.failures import InputError

FAMILY = Qap()
SHARED = Path(os.environ["HYBRID_INSTANCES"]) / "qap" if "HYBRID_INSTANCES" in os.environ else None
FILES = sorted(SHARED.glob("*.dat")) if SHARED else []
SMALL = "3\n0 1 2\n3 0 4\n5 6 0\n\n7 1 2\n3 8 4\n5 6 9\n"


def instance_of(content: bytes | str) -> Instance:
    content = content.encode() if isinstance(content, str) else content
    return FAMILY.normalize(FAMILY.read(source(content))[0], FamilyOptions(), "test")


def random_instance(n: int, seed: int) -> Instance:
    rng = np.random.default_rng(seed)
    flow, distance = rng.integers(-5, 20, (2, n, n)).astype(float)
    return Instance("qap", "random", n, "min", {"flow": flow, "distance": distance})


def test_the_cost_is_flow_times_distance() -> None:
    instance = instance_of(SMALL)
    # places (1, 2, 0): 1·b12 + 2·b10 + 3·b21 + 4·b20 + 5·b01 + 6·b02
    value = 1 * 4 + 2 * 3 + 3 * 6 + 4 * 5 + 5 * 1 + 6 * 2
    assert FAMILY.evaluate(instance, np.array([1, 2, 0])).objective == value
    assert instance.arrays["flow"][1, 0] == 3
    assert instance.arrays["distance"][2, 1] == 6


def test_numbers_may_be_wrapped_anyhow() -> None:
    words = SMALL.split()
    assert instance_of(words[0] + "\n" + " ".join(words[1:])).digest == instance_of(SMALL).digest
    assert instance_of(" " + "\n\n".join(words) + "\n").digest == instance_of(SMALL).digest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x\n1 2\n", "line 1: it begins with 'x'"),
        ("\n\n1\n0\n0\n", "line 3: it begins with '1'"),
        ("3\n0 1 2\n", "3 facilities need two matrices of 9 numbers, the file has 3 numbers"),
        (SMALL + "1", "the file has 19 numbers"),
        (SMALL.replace("6 0\n\n", "six 0\n\n"), "line 4: 'six' is not a number"),
        (SMALL.replace("8 4", "nan 4"), "line 7: 'nan' is not a number"),
        (SMALL.replace("6 9", "6 1e300"), "line 8: '1e300' is not a number between"),
    ],
)
def test_malformed_files_name_the_line(content: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        instance_of(content)
    assert message in str(refused.value)


def test_recognised_by_its_count_of_numbers() -> None:
    assert FAMILY.recognises(source(SMALL.encode()))
    assert not FAMILY.recognises(source((SMALL + "1").encode()))
    assert not FAMILY.recognises(source(("3 " + SMALL[2:]).encode()))


def test_violations_are_named() -> None:
    instance = instance_of(SMALL)
    assert dict(FAMILY.evaluate(instance, np.array([0, 0, 2])).violations) == {"locations taken twice": 1.0}
    assert "locations out of range" in FAMILY.evaluate(instance, np.array([0, 1, 7])).violations


def test_repair_keeps_every_bit_that_it_can() -> None:
    instance = random_instance(6, 0)
    bits = np.zeros((6, 6), dtype=np.int8)
    bits[0, 3] = bits[1, 3] = bits[1, 2] = bits[4, 5] = 1
    solution = FAMILY.complete(instance, bits.ravel())
    assert solution.post_processing is PostProcessing.REPAIRED
    assert solution.values[[0, 1, 4]].tolist() == [3, 2, 5]
    assert solution.evaluation.feasible


def test_program_energy_is_the_cost() -> None:
    instance = random_instance(5, 1)
    draws = FAMILY.random_assignments(instance, 20, 0)
    costs = [FAMILY.complete(instance, d).evaluation.objective for d in draws]
    assert np.allclose(FAMILY.model(instance).energies(draws), costs)


def test_a_program_too_large_to_hold_is_refused() -> None:
    with pytest.raises(InputError, match="too large to hold"):
        FAMILY.model(random_instance(MODELLED_FACILITIES + 1, 0))


def test_random_placements_are_uniform_and_keep_fixed_variables() -> None:
    instance = random_instance(4, 2)
    _, counts = np.unique(FAMILY.random_assignments(instance, 4_800, 0), axis=0, return_counts=True)
    assert len(counts) == 24
    assert counts.min() > 130  # 200 expected, deviation 14
    base = FAMILY.assignment(instance, np.array([2, 0, 1, 3]))
    # facilities 0 to 2 among their locations
    free = np.array([4 * i + k for i in range(3) for k in range(3)])
    found, counts = np.unique(FAMILY.random_assignments(instance, 1_200, 1, free, base), axis=0, return_counts=True)
    assert len(found) == 6
    assert counts.min() > 130
    assert (found.reshape(-1, 4, 4)[:, 3, 3] == 1).all()


def test_reference_ranks_a_block_of_facilities_and_locations() -> None:
    instance = random_instance(7, 3)
    found = FAMILY.reference(instance, FAMILY.model(instance), 0)
    rows, cols = np.divmod(np.argsort(-found.priority, kind="stable")[:9], 7)
    places = found.assignment.reshape(7, 7).argmax(axis=1)
    assert len(set(rows)) == len(set(cols)) == 3
    assert set(places[list(set(rows))]) == set(cols)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(3, 9), seed=st.integers(0, 1_000))
def test_the_table_of_swaps_stays_exact(n: int, seed: int) -> None:
    from hybrid_assets.problems.assignment.qap_moves import all_swaps, make_swap

    instance, rng = random_instance(n, seed), np.random.default_rng(seed)
    flow, distance, places = instance.arrays["flow"], instance.arrays["distance"], rng.permutation(n)
    table = np.zeros((n, n))
    all_swaps(flow, distance, places, table)
    for _ in range(4):
        r, s = sorted(rng.choice(n, 2, replace=False))
        make_swap(flow, distance, places, table, r, s)
    now = FAMILY.evaluate(instance, places).objective
    for r, s in zip(*np.triu_indices(n, 1), strict=True):
        swapped = places.copy()
        swapped[[r, s]] = places[[s, r]]
        assert np.isclose(table[r, s], FAMILY.evaluate(instance, swapped).objective - now)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 6), seed=st.integers(0, 1_000), whole=st.booleans())
def test_branch_and_bound_against_every_placement(n: int, seed: int, whole: bool) -> None:
    from hybrid_assets.solvers.qap_branch_kernel import gilmore_lawler, grow

    instance = random_instance(n, seed)
    flow, distance = instance.arrays["flow"] / (1.0 if whole else 7.0), instance.arrays["distance"]
    costs = {p: float((flow * distance[np.ix_(p, p)]).sum()) for p in permutations(range(n))}
    nowhere, everything = np.full(n, -1), np.arange(n)
    bound, rises = gilmore_lawler(flow, distance, nowhere, everything, everything)
    for i, k in product(range(n), repeat=2):
        assert bound + rises[i, k] <= min(c for p, c in costs.items() if p[i] == k) + 1e-9
    best = np.zeros(n, dtype=np.int64)
    tree = (nowhere, np.full(n, -1), np.zeros((n, n), dtype=np.int64), np.zeros(n, dtype=np.int64))
    depth, value, _ = grow(
        flow, distance, *tree, 0, best, max(costs.values()) + 1, 1.0 if whole else 0.0, 10**6, -np.inf
    )
    assert depth == -1
    assert value == pytest.approx(min(costs.values()))
    assert costs[tuple(best.tolist())] == pytest.approx(value)


def test_the_tree_can_be_left_and_entered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    instance = random_instance(7, 8)
    monkeypatch.setattr(qap_branch, "SECONDS", 0.0)
    whole = QapBranch().solve(SolveTask(FAMILY, instance), 120.0, 0)
    monkeypatch.setattr(qap_branch, "CHUNK", 1)
    parts = QapBranch().solve(SolveTask(FAMILY, instance), 120.0, 0)
    assert whole.status == parts.status == "optimal"
    assert whole.objective == parts.objective
    assert whole.evaluations == parts.evaluations > 1


def test_a_reassignment_never_pays_for_two_facilities_at_one_location() -> None:
    instance = random_instance(8, 4)
    walk = QapLandscape(instance)
    state = walk.start(0)
    for seed in range(10):
        block = walk.block(state, "reassign", 9, np.random.default_rng(seed))
        assert block is not None
        columns = (np.arange(27)[:, None] // np.array([9, 3, 1])) % 3
        bits = np.zeros((27, 9), dtype=np.int8)
        bits[np.arange(27)[:, None], np.array([0, 3, 6]) + columns] = 1
        energies = block.energies(bits)
        valid = np.array([len(set(c)) == 3 for c in columns.tolist()])
        assert energies[~valid].min() > energies[valid].min()
        assert np.isclose(energies[valid].min(), min(walk.apply(state, block, b).state.cost for b in bits[valid]))


def test_a_polished_placement_has_no_better_swap() -> None:
    walk = QapLandscape(random_instance(9, 5))
    state = walk.polish(walk.start(1), 100_000).state
    for r, s in zip(*np.triu_indices(9, 1), strict=True):
        assert walk.played(state, [(r, s)]).cost >= state.cost


def test_starts_place_every_facility() -> None:
    instance = random_instance(6, 6)
    bits = np.zeros((6, 6), dtype=bool)
    assert sorted(placed(instance, bits)) == list(range(6))


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_published_solutions_have_their_recorded_cost(file: Path) -> None:
    instance = instance_of(file.read_bytes())
    words = file.with_suffix(".sln").read_text().replace(",", " ").split()
    places = np.array(words[2:], dtype=int) - min(map(int, words[2:]))
    costs = [FAMILY.evaluate(instance, p).objective for p in (places, np.argsort(places))]
    # kra30a lists the facility of every location, the others the location of every facility
    assert costs[int(file.stem == "kra30a")] == float(words[1])


@pytest.mark.skipif(SHARED is None, reason="needs HYBRID_INSTANCES")
@pytest.mark.parametrize("name", ["nug12", "chr15a", "tai17a", "had20", "tai20b"])
def test_robust_tabu_reaches_the_optimum(name: str) -> None:
    assert SHARED is not None
    best = float((SHARED / f"{name}.sln").read_text().replace(",", " ").split()[1])
    task = SolveTask(FAMILY, instance_of((SHARED / f"{name}.dat").read_bytes()), target=best)
    result = RobustTabu().solve(task, 60.0, 1)
    assert result.objective == best


@pytest.mark.skipif(SHARED is None, reason="needs HYBRID_INSTANCES")
@pytest.mark.parametrize("name", ["nug12", "scr12", "chr15a"])
def test_branch_and_bound_proves_the_optimum(name: str) -> None:
    assert SHARED is not None
    best = float((SHARED / f"{name}.sln").read_text().replace(",", " ").split()[1])
    result = QapBranch().solve(SolveTask(FAMILY, instance_of((SHARED / f"{name}.dat").read_bytes())), 240.0, 1)
    assert (result.objective, result.bound) == (best, best)
    assert result.status == "optimal"
