"""Trips: blocks side by side, and a walk that every stage can repeat from what is stored."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hybrid_assets import registry
from hybrid_assets.problems.base import Instance, ProblemFamily
from hybrid_assets.problems.landscape import Block, random_bits
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.proposals.prepared import Prepared
from hybrid_assets.proposals.rounds import counted
from hybrid_assets.proposals.scoring import score
from hybrid_assets.proposals.trips import (
    CANDIDATES,
    Plan,
    Walking,
    nature_of,
    random_walk,
    run_trips,
    side_by_side,
    walked,
)
from resources.envelope import EvidenceClass, PostProcessing, SampleCount
from resources.failures import InputError

PLAN = Plan(size=6, batch=1, shots=50, trips=5, polish=True, seed=3)


def graph(nodes: int = 30, seed: int = 0) -> tuple[ProblemFamily, Instance]:
    rng = np.random.default_rng(seed)
    edges = [(i, j) for i in range(1, nodes + 1) for j in range(i + 1, nodes + 1) if rng.random() < 0.2]
    text = f"{nodes} {len(edges)}\n" + "".join(f"{i} {j} {rng.integers(1, 9)}\n" for i, j in edges)
    family = registry.family("maxcut")
    (raw,) = family.read(SourceFile("graph.mc", text.encode(), "digest"))
    return family, family.normalize(raw, family.options(), "graph")


def drawn(walking: Walking, shots: int, rng: np.random.Generator) -> list[SampleCount]:
    assert walking.prepared is not None
    assert walking.prepared.leg is not None
    bits = np.hstack([random_bits(block, shots, rng) for block in walking.prepared.leg.blocks])
    return counted(walking.prepared, bits)


def block(q: int, seed: int, groups: tuple[tuple[int, ...], ...] = ()) -> Block:
    rng = np.random.default_rng(seed)
    current = np.zeros(q, dtype=np.int8)
    for group in groups:
        current[group[0]] = 1
    return Block("random", rng.normal(size=q), np.triu(rng.normal(size=(q, q)), 1), 1.5, current, groups)


def test_the_spread_is_that_of_random_bits() -> None:
    one = block(6, 4)
    every = ((np.arange(64)[:, None] >> np.arange(6)) & 1).astype(np.int8)
    assert one.spread == pytest.approx(float(np.std(one.energies(every))))


def test_side_by_side_adds_energies_and_keeps_groups_and_higher_terms() -> None:
    one, two = block(3, 0), block(4, 1, groups=((0, 2),))
    cubic = Block("x", np.zeros(3), np.zeros((3, 3)), 0.0, np.zeros(3, np.int8), higher={(0, 1, 2): 2.5})
    program = side_by_side([one, two, cubic])
    bits = np.random.default_rng(2).integers(0, 2, (40, 10), dtype=np.int8)
    expected = (
        one.energies(bits[:, :3]) / one.spread + two.energies(bits[:, 3:7]) / two.spread + cubic.energies(bits[:, 7:])
    )
    np.testing.assert_allclose(program.energies(bits), expected)
    np.testing.assert_allclose(side_by_side([one]).energies(bits[:, :3]), one.energies(bits[:, :3]))
    holds = [program.cqm.check_feasible(dict(enumerate(row.tolist()))) for row in bits]
    assert holds == two.allowed(bits[:, 3:7]).tolist()
    assert any(holds)
    assert not all(holds)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_walk_is_repeated_from_its_samples(batch: int) -> None:
    family, instance = graph()
    plan = Plan(size=5, batch=batch, shots=20, trips=5, polish=True, seed=3)
    first, rng = Walking(family, instance, plan), np.random.default_rng(0)
    stored, digests, begun = [], [], first.walk.best.cost
    for _ in range(plan.trips):
        assert first.prepared is not None
        assert first.prepared.encoded.bqm.num_variables <= 5 * batch
        digests.append(first.prepared.encoded.digest)
        samples = drawn(first, 20, rng)
        stored.append((samples, EvidenceClass.SIMULATOR))
        first.take(samples, len(digests) - 1, EvidenceClass.SIMULATOR)
    assert len(set(digests)) > 1
    again = Walking(family, instance, plan)
    found = walked(again, stored)
    assert again.walk.best.digest == first.walk.best.digest
    assert {c.round for c in found} == set(range(plan.trips))
    best = max(c.solution.evaluation.objective for c in found)
    # the start is nobody's proposal
    assert best == pytest.approx(-first.walk.best.cost) or first.walk.best.cost == begun


def test_candidates_are_what_was_read_out_and_what_the_walk_made_of_it() -> None:
    family, instance = graph()
    walking = Walking(family, instance, PLAN)
    found = walking.take(drawn(walking, 50, np.random.default_rng(1)), 0, EvidenceClass.SIMULATOR)
    read = [c for c in found if c.bits]
    assert 0 < len(read) <= CANDIDATES
    assert all(c.count > 0 and c.solution.post_processing is PostProcessing.RAW for c in read)
    made = [c for c in found if not c.bits]
    assert all(c.count == 0 for c in made)
    for candidate in found:
        assert family.evaluate(instance, candidate.solution.values) == candidate.solution.evaluation


def test_read_outs_that_change_nothing_are_nobodys_proposal() -> None:
    family, instance = graph()
    walking = Walking(family, instance, PLAN)
    assert walking.prepared is not None
    assert walking.prepared.leg is not None
    current = np.hstack([block.current for block in walking.prepared.leg.blocks])
    assert walking.take(counted(walking.prepared, current[None, :]), 0, EvidenceClass.SIMULATOR) == []


def test_a_walk_in_which_nobody_proposes_anything_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    family, instance = graph()
    walking = Walking(family, instance, PLAN)
    assert walking.prepared is not None
    assert walking.prepared.leg is not None
    current = np.hstack([block.current for block in walking.prepared.leg.blocks])[None, :]
    (sample,) = counted(walking.prepared, current)
    monkeypatch.setattr("hybrid_assets.proposals.trips.random_bits", lambda block, *_: block.current[None, :])
    job = {"job_id": "job", "round": 0, "repetition": 0, "shots": 1, "seconds": 0.5, "backend": "statevector"}
    row = job | {"bits": sample.bits, "energy": sample.energy, "count": 1, "evidence_class": "simulator"}
    with pytest.raises(InputError, match="no read-out of any trip changes anything"):
        score(family, instance, walking.prepared, pd.DataFrame([row]), {}, "maxcut.graph", 0, walking)


def test_what_was_polished_before_stays_polished() -> None:
    family, instance = graph(60, 1)
    walking = Walking(family, instance, Plan(size=4, batch=3, shots=10, trips=30, polish=True, seed=3))
    rng = np.random.default_rng(1)
    for round_ in range(20):
        if walking.walk.origin.post_processing is PostProcessing.POLISHED:
            break
        walking.take(drawn(walking, 10, rng), round_, EvidenceClass.SIMULATOR)
    assert walking.walk.origin.post_processing is PostProcessing.POLISHED
    found = walking.take(drawn(walking, 10, rng), 20, EvidenceClass.SIMULATOR)
    assert {c.solution.post_processing for c in found} == {PostProcessing.POLISHED}


def test_evidence_is_that_of_the_weakest_answer_in_it() -> None:
    """A trip that a heuristic answered leaves its bits in the incumbent; what follows is no quantum result."""
    family, instance = graph(60, 1)
    plan = Plan(size=8, batch=3, shots=50, trips=12, polish=False, seed=3)
    classes = [EvidenceClass.SIMULATOR, *[EvidenceClass.CLASSICAL] * 9, *[EvidenceClass.SIMULATOR] * 2]
    walking, rng, rows, accepted = Walking(family, instance, plan), np.random.default_rng(0), [], []
    for round_, evidence in enumerate(classes):
        samples = drawn(walking, 50, rng)
        rows += [
            {
                "job_id": f"job-{round_}",
                "round": round_,
                "repetition": 0,
                "bits": sample.bits,
                "energy": sample.energy,
                "count": sample.count,
                "shots": 50,
                "seconds": 0.5,
                "backend": "statevector" if evidence.is_quantum else "heuristic",
                "evidence_class": str(evidence),
            }
            for sample in samples
        ]
        walking.take(samples, round_, evidence)
        accepted.append(walking.walk.counts.accepted)
    assert accepted[9] > accepted[0], "an answer of the heuristic was taken"
    again = Walking(family, instance, plan)
    assert again.prepared is not None
    scored = pd.DataFrame(score(family, instance, again.prepared, pd.DataFrame(rows), {}, "maxcut.graph", 0, again))
    proposed = scored[scored["arm"] != "random_control"]
    assert set(proposed.loc[proposed["round"] == 0, "evidence_class"]) == {"simulator"}
    later = proposed[proposed["round"] > 0]
    assert set(later["round"]) == set(range(1, 12))
    assert set(later["evidence_class"]) == {"classical"}
    assert set(later["arm"]) == {"fallback"}
    assert set(later["backend"]) == {"heuristic"}


def test_a_ramp_is_chosen_once_for_the_same_neighbourhoods() -> None:
    """How many blocks each of them has in a trip does not matter: it differs from trip to trip."""
    family, instance = graph(60, 1)
    walking, rng = Walking(family, instance, Plan(4, 8, 10, 12, False, 3)), np.random.default_rng(0)
    asked: list[tuple[frozenset[str], object]] = []

    def make(prepared: Prepared, ramp_lengths: object, **_: object) -> Any:
        assert prepared.leg is not None
        asked.append((frozenset(block.kind for block in prepared.leg.blocks), ramp_lengths))
        return SimpleNamespace(digest="")

    def run(_: object) -> Any:
        timings = SimpleNamespace(total=0.0)
        samples = drawn(walking, 10, rng)
        parameters = {"ramp_length": 4.0}
        return SimpleNamespace(
            samples=samples, parameters=parameters, timings=timings, evidence_class=EvidenceClass.SIMULATOR
        )

    assert run_trips(walking, make, run, lambda _: "", 60.0) is not None
    assert len(asked) == 12
    seen: set[frozenset[str]] = set()
    for kinds, lengths in asked:
        assert lengths == ((4.0,) if kinds in seen else None)
        seen.add(kinds)
    assert len(seen) < 12


def test_the_control_walks_by_itself_under_the_same_plan() -> None:
    family, instance = graph()
    walking = Walking(family, instance, PLAN)
    found, again = (random_walk(walking, [40] * PLAN.trips, 7) for _ in range(2))
    assert {c.round for c in found} == set(range(PLAN.trips))
    assert [c.solution.evaluation for c in found] == [c.solution.evaluation for c in again]
    assert walking.walk.counts.trips == 0, "the quantum side's walk is left where it stands"


def test_where_trips_are_the_budget_they_are_filled() -> None:
    assert Plan.of(16, 1, False, 1024, 24, True, 0) == Plan(8, 1, 64, 24, True, 0)
    assert Plan.of(100, 1, True, 1024, 2, True, 0) == Plan(16, 6, 128, 2, True, 0)
    assert Plan.of(16, 64, False, 1024, 2, True, 0) == Plan(8, 64, 128, 2, True, 0)
    assert Plan.of(16, 64, True, 1024, 2, True, 0, disjoint=False) == Plan(16, 1, 1024, 2, True, 0)
    # ten variables for four bits and their six pairs
    assert Plan.of(14, 1, True, 1024, 2, True, 0, higher=True) == Plan(4, 1, 4, 2, True, 0)
    assert Plan.of(4, 1, False, 64, 24, False, 0) == Plan(4, 1, 4, 24, False, 0)


def test_terms_of_degree_four_are_seen_before_they_do_not_fit() -> None:
    family = registry.family("labs")
    (raw,) = family.read(SourceFile("barker", b"labs 13\n", "digest"))
    instance = family.normalize(raw, family.options(), "barker")
    landscape = family.landscape(instance)
    assert landscape is not None
    assert nature_of(landscape, 0)["higher"]
    plan = Plan.of(16, 1, False, 64, 3, True, 0, higher=True)
    walking = Walking(family, instance, plan)
    for _ in range(3):
        assert walking.prepared is not None
        assert walking.prepared.encoded.bqm.num_variables <= 16
        walking.take(drawn(walking, 16, np.random.default_rng(0)), 0, EvidenceClass.SIMULATOR)
    family, instance = graph()
    landscape = family.landscape(instance)
    assert landscape is not None
    assert nature_of(landscape, 0) == {"higher": False, "disjoint": True}
