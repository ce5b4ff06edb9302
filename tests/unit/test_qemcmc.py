"""Quantum-enhanced Metropolis: symmetric proposals, detailed balance, and the right distribution in the end."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import expm

from hybrid_assets.proposals import chain_loops
from hybrid_assets.proposals.arms import ARMS, ArmSettings
from hybrid_assets.proposals.arms.qemcmc import Surface
from tests.unit.test_arms import block


def proposals(costs: np.ndarray, mixing: float, phase: float, steps: int) -> np.ndarray:
    """Row s: probabilities of what is proposed in state s."""
    return np.array([chain_loops.spread(costs, s, mixing, phase, steps) for s in range(len(costs))])


@pytest.mark.parametrize("kind", ["plain", "groups", "higher"])
@pytest.mark.parametrize(("mixing", "phase", "steps"), [(0.3, 0.4, 1), (0.48, 0.9, 7), (1.3, 2.0, 4)])
def test_proposals_are_symmetric_and_the_chain_is_in_detailed_balance(
    kind: str, mixing: float, phase: float, steps: int
) -> None:
    """Coarse Trotter steps too; forbidden states are never entered."""
    surface = Surface.of(block(kind, 2, 5 if kind == "plain" else 6))
    matrix = proposals(surface.costs, mixing, phase, steps)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, atol=1e-12)
    # it goes somewhere, and not everywhere alike
    assert matrix.diagonal().max() < 0.99
    assert matrix.std() > 1e-3
    allowed = np.isfinite(surface.energies)
    rise = surface.energies[None, :] - np.where(allowed, surface.energies, 0.0)[:, None]
    moves = matrix * np.exp(-np.maximum(rise, 0.0) / surface.temperature)
    weights = np.exp(-(surface.energies - surface.energies.min()) / surface.temperature)
    flow = weights[:, None] * moves
    np.testing.assert_allclose(flow, flow.T, atol=1e-12)
    assert (moves[:, ~allowed] == 0).all()


def test_fine_steps_are_the_quench_itself() -> None:
    """Against the exponential of the whole Hamiltonian, written down here."""
    surface, share, time = Surface.of(block("plain", 4, 4)), 0.4, 2.0
    flips = np.array([[float((s ^ t).bit_count() == 1) for t in range(16)] for s in range(16)])
    exact = expm(-1j * time * ((1 - share) * np.diag(surface.costs) + share * flips))
    steps = 2000
    found = proposals(surface.costs, share * time / steps, (1 - share) * time / steps, steps)
    np.testing.assert_allclose(found, np.abs(exact.T) ** 2, atol=1e-4)


@pytest.mark.parametrize("name", ["qemcmc", "metropolis"])
@pytest.mark.parametrize("kind", ["plain", "groups"])
def test_a_long_chain_visits_states_by_their_boltzmann_weights(name: str, kind: str) -> None:
    asked = block(kind, 6, 6)
    surface = Surface.of(asked)
    answer = ARMS[name](ArmSettings(shots=40_000)).propose(asked, 3)
    visits = np.bincount(answer.bits @ (1 << np.arange(6)), minlength=64) / len(answer.bits)
    weights = np.exp(-(surface.energies - surface.energies.min()) / surface.temperature)
    assert np.abs(visits - weights / weights.sum()).sum() < 0.1
