"""The walk and the search: reproducible, replayable, never losing its best, ended by what was said."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from hybrid_assets.problems.landscape import Block, Landscape
from hybrid_assets.proposals import block_loops
from hybrid_assets.proposals.arms import ARMS, Answer, ArmSettings
from hybrid_assets.proposals.bandit import Bandit
from hybrid_assets.proposals.engine import Budget, search
from hybrid_assets.proposals.walk import Walk, WalkSettings
from resources.envelope import EvidenceClass, PostProcessing
from tests.conformance.test_landscapes import entries, read
from tests.unit.test_flips import Bits, assignment, cardinality, knapsack


def graph(nodes: int = 40, edges: int = 120, seed: int = 0) -> Landscape:
    family, instance = read("maxcut", entries(nodes, edges, seed, [1, -1]))
    found = family.landscape(instance)
    assert found is not None
    return found


def asked(walk: Walk, arm: str, trips: int, log: list[list[Answer]] | None = None) -> list[str]:
    """Digests of the incumbent along so many trips."""
    proposer, digests = ARMS[arm](), []
    for _ in range(trips):
        answers = proposer.answers(walk.next_trip(), walk.seeds())
        if log is not None:
            log.append(answers)
        walk.take(answers)
        digests.append(walk.state.digest)
    return digests


@pytest.mark.parametrize(
    "settings",
    [WalkSettings(), WalkSettings(batch=3, polish=True), WalkSettings(hot=0.0, polish=True, sizes=(4, 6))],
    ids=["annealed", "batched", "greedy"],
)
def test_a_walk_goes_the_same_way_again_from_stored_answers(settings: WalkSettings) -> None:
    """Equal seeds give equal walks; the stored answers alone lead through the same states."""
    landscape, log = graph(), list[list[Answer]]()
    first = Walk(landscape, 5, settings)
    way = asked(first, "qaoa", 40, log)
    assert len(set(way)) > 5
    assert asked(Walk(landscape, 5, settings), "qaoa", 40) == way
    assert asked(Walk(landscape, 6, settings), "qaoa", 40) != way
    again = Walk(landscape, 5, settings)
    for answers, digest in zip(log, way, strict=True):
        again.next_trip()
        again.take([replace(answer, seconds=0.0) for answer in answers])
        assert again.state.digest == digest
    assert again.counts == first.counts


@pytest.mark.parametrize("arm", sorted(ARMS))
@pytest.mark.parametrize("polish", [False, True], ids=["bare", "polished"])
def test_every_arm_searches(arm: str, polish: bool) -> None:
    """The trajectory falls, its last point is the best state, the counts add up."""
    landscape = graph()
    found = search(
        landscape, ARMS[arm](ArmSettings(shots=16)), Budget(trips=60), 1, WalkSettings(polish=polish, cycle=5.0)
    )
    costs = [point.cost for point in found.trajectory]
    assert costs == sorted(costs, reverse=True)
    assert len(set(costs)) == len(costs)
    assert found.trajectory[0].proposer == "start"
    assert found.trajectory[-1].cost == found.state.cost
    assert found.cause == "trips"
    assert found.counts.trips == found.counts.blocks == 60
    if arm != "rqaoa":
        assert found.counts.shots == (60 * 16 if arm in ("qaoa", "marginals", "qemcmc") else 0)
    assert (found.counts.polishes > 0) == polish
    assert found.counts.accepted >= found.counts.improved
    assert landscape.state_of(landscape.values(found.state)).cost == pytest.approx(found.state.cost)


@pytest.mark.parametrize("build", [cardinality, assignment, knapsack])
@pytest.mark.parametrize("arm", ["qaoa", "exact", "uniform"])
def test_constrained_programs_end_at_their_optimum(build: object, arm: str) -> None:
    """Small programs with groups, charges and repairs: the best state is feasible, and the best there is."""
    family = Bits(build)  # type: ignore[arg-type]
    best = float(family.program.energies(family.points).min())
    landscape = family.landscape(family.instance())
    found = search(landscape, ARMS[arm](), Budget(trips=400, bound=best), 2, WalkSettings(sizes=(5,)))
    assert found.state.feasible
    assert found.state.cost == pytest.approx(best)
    assert found.cause == "proof"


def test_budgets_end_a_search_and_name_themselves() -> None:
    landscape, qaoa = graph(), ARMS["qaoa"](ArmSettings(shots=10))
    assert search(landscape, qaoa, Budget(shots=50), 0).counts.trips == 5
    paid = search(landscape, qaoa, Budget(money=1.0, trip_price=0.1, shot_price=0.01), 0)
    assert (paid.cause, paid.counts.trips, paid.money) == ("money", 5, pytest.approx(1.0))
    assert search(landscape, qaoa, Budget(seconds=0.0), 0).counts.trips == 0
    assert search(landscape, qaoa, Budget(trips=9, target=1e9), 0).cause == "target"
    with pytest.raises(ValueError, match="needs a limit"):
        Budget()
    with pytest.raises(ValueError, match="needs a limit"):
        Budget(money=3.0)


def test_a_warm_start_is_where_the_walk_begins() -> None:
    """Any solver's answer can be gone on from, and is never lost."""
    landscape = graph()
    good = search(landscape, ARMS["exact"](), Budget(trips=300), 0).state
    found = search(landscape, ARMS["uniform"](), Budget(trips=5), 0, start=landscape.state_of(landscape.values(good)))
    assert found.trajectory[0].cost == pytest.approx(good.cost)
    assert found.state.cost <= good.cost


class OneAnswer:
    """Bits that a test says, as an answer of hardware."""

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self.rows = np.array(rows, dtype=np.int8)

    def to(self, block: Block) -> Answer:
        return Answer(self.rows, block.energies(self.rows), 1, 1, evidence_class=EvidenceClass.HARDWARE)


def test_an_improvement_says_whose_bits_it_has_and_what_was_done_to_them() -> None:
    """Repaired bits stay repaired in every state that descends from them; the start is classical."""
    family = Bits(cardinality)
    landscape = family.landscape(family.instance())
    worst = family.points[np.argmax(family.program.energies(family.points))]
    walk = Walk(landscape, 0, WalkSettings(hot=0.0, sizes=(4,)), landscape.state_of(worst))
    assert walk.improvements[0].evidence_class is EvidenceClass.CLASSICAL
    while PostProcessing.REPAIRED not in [i.post_processing for i in walk.improvements]:
        (block,) = walk.next_trip()
        walk.take([OneAnswer([(1 - block.current).tolist()]).to(block)])
        assert walk.counts.trips < 200
    for _ in range(60):
        (block,) = walk.next_trip()
        walk.take([OneAnswer(list(itertools.product([0, 1], repeat=block.size))).to(block)])
    marks = [improvement.post_processing for improvement in walk.improvements]
    assert PostProcessing.RAW not in marks[marks.index(PostProcessing.REPAIRED) :]
    assert {improvement.evidence_class for improvement in walk.improvements[1:]} == {EvidenceClass.HARDWARE}


def test_what_chance_and_polish_alone_have_made_is_classical() -> None:
    """A walk that nobody moves any more is shaken; what polish makes of that is nobody's proposal."""
    walk = Walk(graph(60, 200), 0, WalkSettings(hot=0.0, polish=True, sizes=(4,), patience=0.1))
    for _ in range(3):
        (block,) = walk.next_trip()
        walk.take([OneAnswer(list(itertools.product([0, 1], repeat=block.size))).to(block)])
    known, proposed = len(walk.improvements), walk.improvements[-1]
    for _ in range(200):
        walk.next_trip()
        walk.take([Answer(np.empty((0, 4), dtype=np.int8), np.empty(0))])
    shaken = walk.improvements[known:]
    assert walk.counts.shakes > 0
    assert shaken
    assert {improvement.evidence_class for improvement in shaken} == {EvidenceClass.CLASSICAL}
    assert {improvement.answered for improvement in shaken} == {proposed.answered}


def test_what_polish_makes_of_the_start_is_no_proposers() -> None:
    landscape = graph(60, 200)
    worst = landscape.state_of(np.zeros(60))
    found = search(landscape, ARMS["qaoa"](), Budget(trips=1), 0, WalkSettings(polish=True), worst)
    start, polished = found.trajectory[:2]
    assert polished.cost < start.cost
    assert polished.post_processing is PostProcessing.POLISHED
    assert (polished.evidence_class, polished.proposer) == (EvidenceClass.CLASSICAL, "start")


def test_blocks_of_a_trip_are_disjoint_and_applied_on_top_of_each_other() -> None:
    walk = Walk(graph(60, 200), 0, WalkSettings(batch=4))
    several = False
    for _ in range(20):
        trip = walk.next_trip()
        places = np.concatenate([getattr(block.move, "places", block.move) for block in trip])
        assert len(np.unique(places)) == len(places)
        several = several or len(trip) > 1
        walk.take([ARMS["exact"]().propose(block, 0) for block in trip])
        assert walk.landscape.state_of(walk.state.data).cost == pytest.approx(walk.state.cost)
    assert several
    walk.next_trip()
    with pytest.raises(ValueError, match="answers to"):
        walk.take([])


def test_greedy_walks_never_climb() -> None:
    walk = Walk(graph(), 3, WalkSettings(hot=0.0, patience=1e9))
    cost = walk.state.cost
    for _ in range(60):
        walk.take(ARMS["uniform"]().answers(walk.next_trip(), walk.seeds()))
        assert walk.state.cost <= cost
        cost = walk.state.cost


def test_the_bandit_prefers_what_pays_and_gives_up_what_is_empty() -> None:
    rng = np.random.default_rng(0)
    bandit = Bandit(("good", "bad", "none"), (4,), "seconds")
    asked_for = dict.fromkeys(("good", "bad", "none"), 0)
    for _ in range(500):
        choice = bandit.choose(rng)
        assert choice is not None
        kind = bandit.choices[choice][0]
        asked_for[kind] += 1
        if kind == "none":
            bandit.empty(choice)
        else:
            bandit.learn(choice, 1.0 if kind == "good" else 0.1)
    assert asked_for["none"] == 10
    assert 4 * asked_for["bad"] < asked_for["good"]
    assert asked_for["bad"] > 25


@pytest.mark.parametrize(("metered", "favoured"), [("seconds", 8), ("trips", 16)])
def test_what_is_scarce_decides_the_block_size(metered: str, favoured: int) -> None:
    """Blocks twice as large that bring half as much again: worth it per trip, not per simulated second."""
    rng = np.random.default_rng(0)
    bandit = Bandit(("kind",), (8, 16), metered)  # type: ignore[arg-type]
    sizes = []
    for _ in range(400):
        choice = bandit.choose(rng)
        assert choice is not None
        sizes.append(bandit.choices[choice][1])
        bandit.learn(choice, 1.5 if sizes[-1] == 16 else 1.0)
    assert sizes.count(favoured) > 200


def test_answers_are_drawn_by_their_gibbs_weights() -> None:
    """Repeated answers count once, the current bits compete, at temperature 0 one of the lowest wins."""
    values, names = np.array([1.0, 1.0, 0.0, 2.0]), np.array([7, 7, 3, 5])
    uniforms = (np.arange(20_000) + 0.5) / 20_000
    rows = [block_loops.drawn(values, names, 1.5, 1, 0.7, u) for u in uniforms]
    weights = np.exp(-np.array([1.5, 1.0, 0.0, 2.0]) / 0.7)
    found = [rows.count(-1), rows.count(0) + rows.count(1), rows.count(2), rows.count(3)]
    assert np.allclose(np.array(found) / 20_000, weights / weights.sum(), atol=1e-3)
    assert {block_loops.drawn(values, names, 1.5, 1, 0.0, u) for u in (0.1, 0.9)} == {2}
    assert {block_loops.drawn(values, names, -1.0, 1, 0.0, u) for u in (0.1, 0.9)} == {-1}
    assert {block_loops.drawn(values, names, 0.0, 3, 0.0, u) for u in (0.1, 0.9)} == {-1}
