"""Independent sets: the reader, the penalised program against enumeration, random sets, the compiled moves."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_assets.problems.base import FamilyOptions, Instance
from hybrid_assets.problems.conformance import source
from hybrid_assets.problems.graphs.mis import Mis, Neighbours, independent
from hybrid_assets.problems.graphs.mis_landscape import MisLandscape
from hybrid_assets.solvers.base import SolveTask
from hybrid_assets.solvers.mis_cliques import MisCliques, clique_cover
from hybrid_assets.solvers.mis_search import MisSearch
from hybrid_assets.solvers.search import Record
from resources.envelope import PostProcessing
from resources.failures import InputError

FAMILY = Mis()
SHARED = Path(os.environ["HYBRID_INSTANCES"]) / "qoblib" / "mis" if "HYBRID_INSTANCES" in os.environ else None
FILES = sorted(SHARED.glob("*.gph")) if SHARED else []
PATH = "p edge 4 3\nn 2 5\ne 1 2\ne 3 2\ne 3 4\n"


def instance_of(content: bytes | str) -> Instance:
    content = content.encode() if isinstance(content, str) else content
    return FAMILY.normalize(FAMILY.read(source(content))[0], FamilyOptions(), "test")


def random_instance(n: int, density: float, seed: int, weighted: bool = True) -> Instance:
    rng = np.random.default_rng(seed)
    rows, cols = np.triu_indices(n, 1)
    kept = rng.random(len(rows)) < density
    weights = rng.integers(1, 9, n) / 2.0 if weighted else np.ones(n)
    return Instance("mis", "random", n, "max", {"rows": rows[kept], "cols": cols[kept], "weights": weights})


def every_set(n: int) -> np.ndarray:
    return (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(np.int8)


def test_weights_belong_to_nodes_and_edges_to_pairs() -> None:
    instance = instance_of(PATH)
    assert instance.arrays["weights"].tolist() == [1, 5, 1, 1]
    assert list(zip(instance.arrays["rows"], instance.arrays["cols"], strict=True)) == [(0, 1), (1, 2), (2, 3)]
    found = FAMILY.evaluate(instance, np.array([0, 1, 0, 1]))
    assert (found.objective, found.feasible) == (6, True)
    assert dict(FAMILY.evaluate(instance, np.array([1, 1, 1, 0])).violations) == {"edges inside the set": 2.0}


def test_a_plain_list_reads_the_same() -> None:
    assert instance_of("c mis\n3 2\n1 2\n2 3\n").digest == instance_of("p col 3 2\ne 1 2\ne 3 2\n").digest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("p cnf 3 2\n1 2\n", "line 1: the header is 'p cnf 3 2'"),
        ("p edge 3 x\n", "line 1: the header is 'p edge 3 x'"),
        ("p edge 3 2\ne 1 2\n", "header: it promises 2 edges, the file has 1"),
        ("p edge 3 1\ne 1 4\n", "line 2: an index of '1 4' is not between 1 and 3"),
        ("p edge 3 1\ne 2 2\n", "line 2: '2 2' joins a node to itself"),
        ("c x\np edge 3 2\ne 1 2\ne 2 1\n", "line 4: the pair '2 1' was given before, in line 3"),
        ("p edge 3 1\ne 1 2 7\n", "line 2: the edge 'e 1 2 7' has a weight"),
        ("p edge 3 1\nn 4 1\ne 1 2\n", "line 2: it reads 'n 4 1'"),
        ("p edge 3 1\nn 1\ne 1 2\n", "line 2: it reads 'n 1'"),
        ("p edge 3 1\nn 1 -2\ne 1 2\n", "line 2: the weight of node 1 is -2"),
        ("p edge 3 1\nn 1 2\nn 1 2\ne 1 2\n", "line 3: node 1 has a weight already"),
    ],
)
def test_malformed_files_name_the_line(content: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        instance_of(content)
    assert message in str(refused.value)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 9), density=st.floats(0.0, 1.0), seed=st.integers(0, 1_000))
def test_every_minimum_of_the_program_is_a_heaviest_set(n: int, density: float, seed: int) -> None:
    instance = random_instance(n, density, seed)
    sets = every_set(n)
    energies = FAMILY.model(instance).energies(sets)
    found = [FAMILY.evaluate(instance, s) for s in sets]
    best = max(e.objective for e in found if e.feasible)
    assert np.isclose(energies.min(), -best)
    assert all(e.feasible for e, energy in zip(found, energies, strict=True) if np.isclose(energy, energies.min()))
    # repair never ends above the energy it began with
    for bits, energy in zip(sets[:: max(1, len(sets) // 40)], energies[:: max(1, len(sets) // 40)], strict=True):
        solution = FAMILY.complete(instance, bits)
        assert solution.evaluation.feasible
        assert -solution.evaluation.objective <= energy + 1e-9
        assert (solution.post_processing is PostProcessing.RAW) == np.array_equal(solution.values, bits)
        assert (solution.values <= bits).all()


def test_random_sets_are_uniform() -> None:
    instance = instance_of("p edge 4 3\ne 1 2\ne 2 3\ne 3 4\n")
    found, counts = np.unique(FAMILY.random_assignments(instance, 4_000, 0), axis=0, return_counts=True)
    assert len(found) == 8  # a path of four nodes has eight independent sets
    assert counts.min() > 400  # 500 expected, deviation 21
    assert all(FAMILY.evaluate(instance, s).feasible for s in found)


def test_neighbours_are_those_of_the_edges() -> None:
    instance = random_instance(12, 0.4, 0)
    matrix = np.zeros((12, 12), dtype=np.int64)
    matrix[instance.arrays["rows"], instance.arrays["cols"]] = 1
    matrix += matrix.T
    neighbours = Neighbours.of(instance)
    bits = np.random.default_rng(0).integers(0, 2, 12)
    assert neighbours.inside(bits).tolist() == (matrix @ bits).tolist()
    assert all(neighbours[v].tolist() == np.flatnonzero(matrix[v]).tolist() for v in range(12))


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 25), density=st.floats(0.02, 0.9), seed=st.integers(0, 1_000))
def test_local_search_ends_where_no_small_move_helps(n: int, density: float, seed: int) -> None:
    instance = random_instance(n, density, seed)
    walk = MisLandscape(instance)
    state = walk.polish(walk.start(seed), 1_000_000).state
    weights, neighbours = instance.arrays["weights"], walk.neighbours
    tight, inside = neighbours.inside(state.data), state.data != 0
    assert not (inside & (tight > 0)).any()
    assert not (~inside & (tight == 0)).any()
    for x in np.flatnonzero(inside):
        single = [int(v) for v in neighbours[x] if tight[v] == 1]
        assert all(weights[v] <= weights[x] for v in single)
        for v in single:
            assert all(weights[v] + weights[u] <= weights[x] for u in single if u != v and u not in neighbours[v])


def test_the_lists_follow_every_move() -> None:
    from hybrid_assets.problems.graphs.mis_moves import empty, join, leave

    n, rng = 15, np.random.default_rng(1)
    instance = random_instance(n, 0.3, 1)
    neighbours = Neighbours.of(instance)
    inside = np.zeros(n, dtype=np.int8)
    tight, owner, spot = (np.zeros(n, dtype=np.int64) for _ in range(3))
    lists, counts = np.zeros((2, n), dtype=np.int64), np.zeros(2, dtype=np.int64)
    empty(inside, tight, owner, lists, counts, spot)
    for _ in range(200):
        if inside.any() and (counts[0] == 0 or rng.random() < 0.4):
            move, v = leave, int(rng.choice(np.flatnonzero(inside)))
        else:
            move, v = join, int(lists[0, rng.integers(counts[0])])
        move(neighbours.starts, neighbours.ends, inside, tight, owner, lists, counts, spot, v)
        expected = neighbours.inside(inside)
        assert tight.tolist() == expected.tolist()
        for which in range(2):
            listed = sorted(lists[which, : counts[which]].tolist())
            assert listed == np.flatnonzero((inside == 0) & (expected == which)).tolist()
        for v in lists[1, : counts[1]]:
            assert [owner[v]] == [u for u in neighbours[v] if inside[u]]


def test_a_cover_holds_every_edge_and_only_cliques() -> None:
    instance = random_instance(14, 0.6, 2)
    neighbours = Neighbours.of(instance)
    cover = clique_cover(neighbours, Record(SolveTask(FAMILY, instance), 1e9))
    assert cover is not None
    held = {(min(a, b), max(a, b)) for clique in cover for a in clique for b in clique if a != b}
    edges = set(zip(instance.arrays["rows"].tolist(), instance.arrays["cols"].tolist(), strict=True))
    assert held == edges


def test_a_block_frees_every_node_that_it_holds() -> None:
    instance = random_instance(30, 0.15, 3)
    walk = MisLandscape(instance)
    state = walk.start(0)
    for kind in walk.kinds:
        for seed in range(8):
            block = walk.block(state, kind, 9, np.random.default_rng(seed))
            assert block is not None
            for position in range(block.size):
                bits = np.zeros(block.size, dtype=np.int8)
                bits[position] = 1
                step = walk.apply(state, block, bits)
                assert not step.repaired
                assert FAMILY.evaluate(instance, step.state.data).feasible


@settings(max_examples=15, deadline=None)
@given(n=st.integers(2, 11), density=st.floats(0.05, 0.9), seed=st.integers(0, 1_000))
def test_both_solvers_find_the_enumerated_optimum(n: int, density: float, seed: int) -> None:
    instance = random_instance(n, density, seed)
    found = [FAMILY.evaluate(instance, s) for s in every_set(n)]
    best = max(e.objective for e in found if e.feasible)
    exact = MisCliques().solve(SolveTask(FAMILY, instance), 60.0, 0)
    assert (exact.status, exact.objective) == ("optimal", best)
    assert exact.bound == pytest.approx(best)
    assert MisSearch().solve(SolveTask(FAMILY, instance, target=best), 60.0, 0).objective == best


def test_removal_prefers_what_gains_most() -> None:
    star = instance_of("p edge 5 4\ne 1 2\ne 1 3\ne 1 4\ne 1 5\n")
    assert independent(star, np.ones(5, dtype=np.int8)).tolist() == [0, 1, 1, 1, 1]


def recorded(file: Path) -> list[int]:
    """The shipped set: node numbers from 1, below comments."""
    (solution,) = file.parent.glob(f"{file.stem}.*.sol")
    return [int(word) for line in solution.read_text().splitlines() if line[:1] != "#" for word in line.split()]


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_shipped_sets_are_independent(file: Path) -> None:
    instance, listed = instance_of(file.read_bytes()), recorded(file)
    bits = np.zeros(instance.size)
    bits[np.array(listed) - 1] = 1
    found = FAMILY.evaluate(instance, bits)
    assert found.feasible
    assert found.objective == len(listed) > 0


@pytest.mark.skipif(SHARED is None, reason="needs HYBRID_INSTANCES")
@pytest.mark.parametrize("name", ["R_500_005_1", "brock200-2", "gen200_p0-9_44", "es60fst04", "sloane_1dc_128"])
def test_tabu_search_reaches_the_shipped_set(name: str) -> None:
    assert SHARED is not None
    file = SHARED / f"{name}.gph"
    best = float(len(recorded(file)))
    result = MisSearch().solve(SolveTask(FAMILY, instance_of(file.read_bytes()), target=best), 60.0, 1)
    assert result.objective == best


@pytest.mark.skipif(SHARED is None, reason="needs HYBRID_INSTANCES")
@pytest.mark.parametrize("name", ["karate", "es60fst02", "johnson16-2-4"])
def test_cliques_prove_the_shipped_set(name: str) -> None:
    assert SHARED is not None
    file = SHARED / f"{name}.gph"
    result = MisCliques().solve(SolveTask(FAMILY, instance_of(file.read_bytes())), 120.0, 1)
    assert (result.status, result.objective) == ("optimal", len(recorded(file)))


def test_a_search_that_ends_before_it_begins_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from ortools.sat.python import cp_model

    # CP-SAT out of time in its presolve: no status, and a bound of 0 that is none
    monkeypatch.setattr(cp_model.CpSolver, "solve", lambda *_: cp_model.UNKNOWN)
    monkeypatch.setattr(cp_model.CpSolver, "best_objective_bound", property(lambda _: 0.0))
    monkeypatch.setattr(cp_model.CpSolver, "num_branches", property(lambda _: 0))
    cycle = instance_of("p edge 5 5\ne 1 2\ne 2 3\ne 3 4\ne 4 5\ne 1 5\n")
    result = MisCliques().solve(SolveTask(FAMILY, cycle), 60.0, 0)
    assert (result.status, result.objective, result.bound) == ("feasible", 2.0, 3.0)
