"""The maxcut family: cuts agree with networkx, malformations are one sentence, the reference point is a good start."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_assets.problems.base import FamilyOptions, Instance
from hybrid_assets.problems.graphs.maxcut import MaxCut
from hybrid_assets.problems.qubo import Qubo
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.problems.unconstrained import TABU_VARIABLES, UnconstrainedFamily
from resources.failures import InputError

FAMILY = MaxCut()
SHIPPED = Path(__file__).parents[2] / "data" / "inbox" / "maxcut"


def source(content: str | bytes) -> SourceFile:
    data = content if isinstance(content, bytes) else content.encode()
    return SourceFile("graph.txt", data, "0" * 64)


def instance_of(content: str) -> Instance:
    (raw,) = FAMILY.read(source(content))
    return FAMILY.normalize(raw, FamilyOptions(), "graph")


def rudy(graph: nx.Graph) -> str:
    rows = [f"{b + 1} {a + 1} {w}" for a, b, w in graph.edges(data="weight", default=1)]
    return f"{len(graph)} {len(rows)}\n" + "\n".join(rows) + "\n"


@st.composite
def graphs(draw: st.DrawFn) -> nx.Graph:
    graph = nx.gnp_random_graph(draw(st.integers(2, 12)), 0.6, seed=draw(st.integers(0, 10_000)))
    graph.add_edge(0, 1)
    for _, _, data in graph.edges(data=True):
        data["weight"] = draw(st.integers(-20, 20).filter(bool))
    return graph


@settings(max_examples=40, deadline=None)
@given(graphs(), st.integers(0, 1000))
def test_the_objective_is_the_cut_and_the_program_its_negative(graph: nx.Graph, seed: int) -> None:
    instance = instance_of(rudy(graph))
    program = FAMILY.model(instance)
    assert not program.cqm.constraints
    for bits in FAMILY.random_assignments(instance, 5, seed):
        cut = nx.cut_size(graph, {v for v in graph if bits[v]}, weight="weight")
        assert FAMILY.evaluate(instance, bits).objective == cut
        assert program.cqm.objective.energy((bits, range(instance.size))) == pytest.approx(-cut)
        assert FAMILY.evaluate(instance, 1 - bits).objective == cut


def test_rudy_and_dimacs_with_and_without_weights_agree() -> None:
    forms = [
        "4 3\n1 2 1\n3 2 1\n3 4 1\n",
        "4 3\n1 2\n2 3\n3 4\n",
        "c a path\np edge 4 3\ne 1 2\ne 3 2\ne 3 4\n",
        "p col 4 3\ne 1 2 1\ne 3 2 1\ne 3 4 1\n",
        "# rudy\n4 4\n3 4 1\n2 3 1\n1 2 1.0\n1 4 0\n",
    ]
    assert len({instance_of(form).digest for form in forms}) == 1
    assert instance_of(forms[-1]).notes == ("1 edges of weight zero dropped",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("3 2\n1 2 1\n2 2 1\n", "line 3: '2 2 1' joins a node to itself"),
        ("3 2\n1 2 1\n2 1 1\n", "line 3: the pair '2 1' was given before, in line 2"),
        ("3 1\n1 -2\n", "line 2: an index of '1 -2' is not between 1 and 3"),
        ("3 1\n1 2 1e308\n", "line 2: the coefficient of '1 2 1e308' is larger than 1e+15"),
        ("3 1\n1 2 NaN\n", "line 2: '1 2 NaN' holds a value that is not a finite number"),
        ("3 2\n1 2\n2 3 4\n", "line 3: it has 3 fields where 2 are expected"),
        ("3 2\n1 2 3 4\n2 3 4 5\n", "line 2: it has 4 fields where 3 are expected"),
        ("3 0\n", "edges: no edge has a weight"),
        ("0 0\n", "line 1: the header gives n = 0"),
        ("3 two\n", "line 1: the header is '3 two'"),
        ("c x\np edge 3 2\ne 1 2\n", "header: it promises 2 edges, the file has 1"),
        ("3 1\n1 2" + "9" * 200 + "\n", "line 2: an index of '1 2" + "9" * 57 + "' is not between 1 and 3"),
        ("p edge 3 2\ne\ne 1 2\n", "line 2: it has 0 fields where 3 are expected"),
        ("p edge 3 1\nx 1 2\n", "line 2: 'x' is not a number"),
        ("p cnf 3 1\n1 2 0\n", "line 1: the header is 'p cnf 3 1'"),
    ],
)
def test_malformed_files_are_one_sentence(content: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        instance_of(content)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def flip_gains(family: UnconstrainedFamily, instance: Instance, bits: np.ndarray) -> np.ndarray:
    """Change of the minimized polynomial when each bit is flipped alone, by evaluation."""
    polynomial = family.minimized(instance)
    flips = (np.where(np.arange(instance.size) == k, 1 - bits, bits) for k in range(instance.size))
    return np.array([polynomial.at(flipped) for flipped in flips]) - polynomial.at(bits)


@pytest.mark.parametrize("family", [MaxCut(), Qubo()], ids=["maxcut", "qubo"])
def test_the_reference_is_a_local_optimum_and_its_first_variables_hang_together(family: UnconstrainedFamily) -> None:
    graph = nx.connected_watts_strogatz_graph(60, 4, 0.3, seed=2)
    (raw,) = family.read(source(rudy(graph) if family.name == "maxcut" else qubo_of(graph)))
    instance = family.normalize(raw, FamilyOptions(), "graph")
    program = family.model(instance)
    reference = family.reference(instance, program, seed=3)
    again = family.reference(instance, program, seed=3)
    assert (reference.assignment == again.assignment).all()
    assert (reference.priority == again.priority).all()
    assert reference.assignment.dtype == np.int8
    assert (flip_gains(family, instance, reference.assignment) >= 0).all()
    random = [family.minimized(instance).at(x) for x in family.random_assignments(instance, 50, 0)]
    assert family.minimized(instance).at(reference.assignment) < min(random)
    assert len(set(reference.priority)) == instance.size
    for kept in (5, 16, 40):
        assert nx.is_connected(graph.subgraph(np.argsort(-reference.priority)[:kept].tolist()))


def qubo_of(graph: nx.Graph) -> str:
    rows = [f"{min(a, b) + 1} {max(a, b) + 1} {(-1) ** (a + b) * (a + 1)}" for a, b in graph.edges()]
    return f"{len(graph)} {len(rows)}\n" + "\n".join(rows) + "\n"


def test_a_node_without_edges_comes_last_in_the_reference() -> None:
    instance = instance_of("5 3\n1 2\n2 4\n4 5\n")
    reference = FAMILY.reference(instance, FAMILY.model(instance), 0)
    assert np.argmin(reference.priority) == 2


def test_baselines_leave_tabu_out_where_its_dense_matrix_would_not_fit() -> None:
    small = instance_of("3 1\n1 2\n")
    large = instance_of(f"{TABU_VARIABLES + 1} 1\n1 2\n")
    assert FAMILY.baselines(small) == ("greedy", "cpsat", "annealing", "tabu")
    assert "tabu" not in FAMILY.baselines(large)


@pytest.mark.parametrize("name", ["florentine-families.txt", "karate-club.dimacs", "les-miserables.mc"])
def test_shipped_graphs_are_those_of_networkx(name: str) -> None:
    shipped = SourceFile.open(SHIPPED / name)
    assert FAMILY.recognises(shipped)
    assert not Qubo().recognises(shipped)
    instance = FAMILY.normalize(FAMILY.read(shipped)[0], FamilyOptions(), name)
    maker = {"florentine": nx.florentine_families_graph, "karate": nx.karate_club_graph, "les": nx.les_miserables_graph}
    graph = maker[name.split("-")[0]]()
    weight = "weight" if name.startswith("les") else None
    side = np.random.default_rng(0).integers(0, 2, instance.size)
    chosen = {node for node, bit in zip(graph, side, strict=True) if bit}
    assert FAMILY.evaluate(instance, side).objective == nx.cut_size(graph, chosen, weight=weight)
