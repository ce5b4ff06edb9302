"""Recursive QAOA and its control: reduced problems are the block's own, groups hold, correlations pay."""

from __future__ import annotations

import numpy as np
import pytest

from hybrid_assets.problems.landscape import Block
from hybrid_assets.proposals.arms import ARMS, ArmSettings
from hybrid_assets.proposals.arms.elimination import Reduced
from tests.unit.test_arms import block, states


@pytest.mark.parametrize("kind", ["plain", "groups", "higher"])
@pytest.mark.parametrize("seed", range(5))
def test_a_reduced_problem_is_the_block_on_what_follows_from_its_free_bits(kind: str, seed: int) -> None:
    """Energies differ by a constant, after any number of random eliminations; groups stay whole."""
    asked, rng = block(kind, seed), np.random.default_rng(seed)
    reduced = Reduced(asked)
    while len(reduced.free) > 1:
        reduced.eliminate({which: rng.uniform(-1, 1) for which in reduced.candidates()})
        left = reduced.block()
        free = states(left)
        whole = reduced.whole(free, asked.size)
        assert asked.allowed(whole).all()
        assert np.array_equal(whole[:, reduced.free], free)
        differences = asked.energies(whole) - left.energies(free)
        np.testing.assert_allclose(differences, differences[0], atol=1e-9)


def test_a_pair_becomes_one_bit() -> None:
    """Opposites by hand: x0 = 1 − x1 in 2·x0 + 3·x1 + 5·x0·x1 leaves 2 + x1."""
    reduced = Reduced(
        Block("plain", np.array([2.0, 3.0]), np.array([[0.0, 5.0], [0.0, 0.0]]), 0.0, np.zeros(2, np.int8))
    )
    reduced.eliminate({(0, 1): -0.9, (0,): 0.2})
    assert reduced.free == [1]
    assert reduced.terms == {frozenset((1,)): 1.0}
    assert reduced.whole(np.array([[0], [1]], dtype=np.int8), 2).tolist() == [[1, 0], [0, 1]]


def test_the_control_follows_the_strongest_term() -> None:
    """A strong field, then a strong coupling: found by the control without any sample."""
    linear, couplings = np.array([0.1, 9.0, 0.2, 0.1, -0.1, 0.3]), np.zeros((6, 6))
    couplings[0, 2] = -8.0
    answer = ARMS["reduction"]().propose(Block("plain", linear, couplings, 0.0, np.zeros(6, np.int8)), 0)
    assert answer.bits.tolist() == [[1, 0, 1, 0, 1, 0]]
    assert (answer.shots, answer.circuits) == (0, 0)


def test_sampled_correlations_lead_lower_than_terms_alone() -> None:
    """Mean distance to the optimum over random blocks of 9 bits, in units of their spread."""
    distances: dict[str, list[float]] = {"rqaoa": [], "reduction": []}
    arms = {name: ARMS[name](ArmSettings(shots=400, depth=4)) for name in distances}
    for seed in range(30):
        asked = block("plain", seed, 9)
        best = asked.energies(states(asked)).min()
        for name, arm in arms.items():
            distances[name].append((arm.propose(asked, seed).energies[0] - best) / asked.spread)
    assert np.mean(distances["rqaoa"]) < np.mean(distances["reduction"])
    assert np.mean(distances["rqaoa"]) < 0.2
