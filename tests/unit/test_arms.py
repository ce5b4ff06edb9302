"""Every arm: allowed bits, true energies, honest counts, the same answer to the same seed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hybrid_assets.problems.landscape import Block
from hybrid_assets.proposals.arms import ARMS, ArmSettings
from hybrid_assets.proposals.arms.base import Terms
from hybrid_assets.proposals.arms.qaoa import Ramps
from hybrid_assets.proposals.replay import Frozen, drive, replay
from resources.envelope import EvidenceClass
from tests.conformance.test_landscapes import entries, read

QUANTUM = ("qaoa", "qemcmc", "rqaoa")
#: Shots and circuits of an answer with 32 read-outs.
CIRCUITS = {"qaoa": (32, 1), "marginals": (32, 1), "qemcmc": (32, 32)}


def block(kind: str, seed: int, q: int = 6) -> Block:
    """A random block: ``plain``, with two exactly-one ``groups``, or with ``higher`` terms."""
    rng = np.random.default_rng(seed)
    groups = ((0, 1, 2), (4, 5)) if kind == "groups" else ()
    current = np.zeros(q, dtype=np.int8)
    current[[group[0] for group in groups]] = 1
    higher = {(0, 1, 3): 1.5, (1, 2, 4, 5): -2.0} if kind == "higher" else {}
    return Block(kind, rng.normal(size=q), np.triu(rng.normal(size=(q, q)), 1), 3.0, current, groups, higher)


def states(of: Block) -> np.ndarray:
    everything = np.array(list(itertools.product([0, 1], repeat=of.size)), dtype=np.int8)
    return everything[of.allowed(everything)]


@pytest.mark.parametrize("kind", ["plain", "groups", "higher"])
@pytest.mark.parametrize("name", sorted(ARMS))
def test_an_answer_is_what_it_says(name: str, kind: str) -> None:
    """Energies are the block's, groups hold, equal seeds give equal bits, spending is declared."""
    settings = ArmSettings(shots=32)
    one, two = ARMS[name](settings), ARMS[name](settings)
    for seed in range(8):
        asked = block(kind, seed)
        answer, again = one.answers([asked], [seed])[0], two.answers([asked], [seed])[0]
        assert np.array_equal(answer.bits, again.bits)
        assert answer.bits.shape[1] == asked.size
        assert answer.bits.dtype == np.int8
        assert np.allclose(answer.energies, asked.energies(answer.bits))
        assert asked.allowed(answer.bits).all()
        assert answer.seconds > 0
        if name == "rqaoa":
            # one circuit for each of the bits 6 to 5; fixing a group's one settles several bits at once
            assert answer.shots == 16 * answer.circuits <= 32
        else:
            assert (answer.shots, answer.circuits) == CIRCUITS.get(name, (0, 0))
        assert answer.tuning_shots == answer.training_shots == 0
        assert (answer.evidence_class == EvidenceClass.SIMULATOR) == (name in QUANTUM)
        assert (answer.evaluations > 0) == (name != "none")


@pytest.mark.parametrize("kind", ["plain", "groups", "higher"])
def test_enumeration_finds_the_lowest_states(kind: str) -> None:
    for seed in range(5):
        asked = block(kind, seed)
        answer = ARMS["exact"](ArmSettings(kept=5)).propose(asked, 0)
        expected = np.sort(asked.energies(states(asked)))[:5]
        assert np.allclose(answer.energies, expected)
        assert answer.evaluations == 2**asked.size


def test_enumeration_has_a_limit() -> None:
    with pytest.raises(ValueError, match="too many to enumerate"):
        ARMS["exact"](ArmSettings(enumerated=5)).propose(block("plain", 0), 0)


@pytest.mark.parametrize("kind", ["plain", "groups", "higher"])
def test_descents_end_where_no_move_pays_and_cost_as_much_as_a_sample(kind: str) -> None:
    """All ends but the last are minima of single moves; the budget is that of the energies of as many shots."""
    asked = block(kind, 3)
    answer = ARMS["descent"](ArmSettings(shots=64)).propose(asked, 1)
    assert answer.evaluations <= 64 * asked.size
    assert answer.evaluations > 63 * asked.size
    allowed = states(asked)
    values = asked.energies(allowed)
    reach = 2 if kind == "groups" else 1
    for bits, energy in list(zip(answer.bits, answer.energies, strict=True))[:-1]:
        distance = (allowed != bits).sum(axis=1)
        near = (distance == 1) | ((distance == reach) & (allowed.sum(axis=1) == bits.sum()))
        if kind == "groups":
            # a move inside a group changes two of its bits, one outside changes bit 3 alone
            near &= (distance == 1) | (allowed[:, 3] == bits[3])
        assert values[near].min() >= energy - 1e-9


def test_samplers_beat_chance() -> None:
    """On random blocks the mean energies fall from uniform over marginals and QAOA to annealing."""
    asked = [block("plain", seed, 8) for seed in range(40)]
    settings = ArmSettings(shots=64, sweeps=10)
    means = {}
    for name in ("uniform", "marginals", "qaoa", "annealing"):
        arm = ARMS[name](settings)
        means[name] = np.mean([arm.propose(b, k).energies.mean() for k, b in enumerate(asked)])
    assert means["uniform"] > means["marginals"] > means["qaoa"] > means["annealing"]


def test_a_ramp_is_learned_per_neighbourhood() -> None:
    """Every length is tried, then the one whose tail is lowest is asked most; kinds do not mix."""
    ramps, rng = Ramps((2.0, 4.0, 6.0)), np.random.default_rng(0)
    asked = {"plain": block("plain", 0), "higher": block("higher", 0)}
    better = {"plain": 4.0, "higher": 6.0}
    chosen: dict[str, list[float]] = {"plain": [], "higher": []}
    for _ in range(60):
        for kind, of in asked.items():
            length = ramps.choose(kind, rng)
            chosen[kind].append(length)
            ramps.learn(of, length, np.full(10, of.offset - (length == better[kind])))
    for kind, lengths in chosen.items():
        assert sorted(lengths[:3]) == [2.0, 4.0, 6.0]
        assert lengths.count(better[kind]) > 45


def test_terms_are_the_blocks_own() -> None:
    terms = Terms.of(block("groups", 0))
    assert np.array_equal(terms.couplings, terms.couplings.T)
    assert terms.group.tolist() == [0, 0, 0, -1, 1, 1]


def test_a_replay_asks_all_arms_the_same_and_counts_what_improves() -> None:
    """Rows add up by hand, the best possible arm bounds the others, arms that spend none of a unit have no rate."""
    family, instance = read("maxcut", entries(60, 240, 5, [1, -1]))
    landscape = family.landscape(instance)
    assert landscape is not None
    log = drive(landscape, ARMS["exact"](), 40, 0)
    assert len(log) == 40
    settings = ArmSettings(kept=1)
    rows = {row.arm: row for row in replay(log, {name: arm(settings) for name, arm in ARMS.items()})}
    assert set(rows) == set(ARMS)
    expected = 0
    for frozen in log:
        here = frozen.block.energies(frozen.block.current[None, :])[0]
        expected += frozen.block.energies(states(frozen.block)).min() < here - 1e-9
    assert rows["exact"].improving == expected > 0
    assert rows["exact"].evaluations == sum(2**frozen.block.size for frozen in log)
    assert rows["exact"].per_evaluation.value == pytest.approx(expected / rows["exact"].evaluations)
    assert rows["none"].improving == 0
    for row in rows.values():
        assert row.blocks == 40
        assert row.improving <= expected
        assert rows["exact"].best.value <= row.best.value <= 0
    qaoa = rows["qaoa"]
    assert qaoa.shots == 40 * settings.shots
    assert qaoa.per_shot.low <= qaoa.per_shot.value <= qaoa.per_shot.high
    assert np.isnan(rows["exact"].per_shot.value)
    with pytest.raises(ValueError, match="nothing to replay"):
        replay(list[Frozen](), {})
