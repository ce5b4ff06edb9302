"""What an instance sends to a backend, and what that costs: facts for routing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hybrid_assets import registry
from hybrid_assets.problems.base import Instance
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.request import Request
from hybrid_assets.routes import Load, asked_of, facts_of, most_sent
from resources.artifacts import ArtifactStore
from resources.backends.base import Capabilities
from resources.backends.device_time import annealer_seconds, unasked
from resources.dispatcher import Dispatcher
from resources.envelope import EvidenceClass
from resources.environments import SETTINGS, backend_factories
from resources.ledger import Ledger
from resources.policy import POLICIES, load

FAMILY = registry.family("maxcut")
SETTING = replace(SETTINGS["production"], trips=100)
DEVICE = Capabilities(
    EvidenceClass.HARDWARE, 100, ("qaoa-ramp",), metered=True, tier="hardware", remote=True, leaves_machine=True
)


def ring(nodes: int) -> Instance:
    edges = [f"{i + 1} {(i + 1) % nodes + 1} 1" for i in range(nodes)]
    text = "\n".join([f"{nodes} {nodes}", *edges])
    (raw,) = FAMILY.read(SourceFile("ring.mc", text.encode(), "0" * 64))
    return FAMILY.normalize(raw, FAMILY.options(), "ring")


@pytest.mark.parametrize(
    ("nodes", "qubits", "shots", "load"),
    [
        # it fits: one job with all shots
        (20, 100, 1024, Load(1, 1024)),
        # six sub-programs of 16 variables side by side in a trip, and few shots
        (120, 100, 1024, Load(100, 128)),
        (120, 100, 20, Load(100, 20)),
        # one sub-program of 8 a trip, of whose states a quarter is read
        (20, 8, 1024, Load(100, 64)),
    ],
)
def test_a_walk_sends_trips_with_their_own_shots(nodes: int, qubits: int, shots: int, load: Load) -> None:
    instance = ring(nodes)
    assert most_sent(FAMILY, lambda: instance, DEVICE, qubits, shots, Request(), SETTING) == load


def test_a_request_limits_the_trips() -> None:
    instance = ring(120)
    assert most_sent(FAMILY, lambda: instance, DEVICE, 100, 1024, Request(trips=7), SETTING) == Load(7, 128)


def test_a_walk_is_priced_by_what_it_would_send(tmp_path: Path) -> None:
    dispatcher = Dispatcher(Ledger(f"sqlite:///{tmp_path / 'l.db'}"), ArtifactStore(tmp_path), backend_factories())
    policy, request, instance = load("production", POLICIES / "production.yaml"), Request(shots=1024), ring(120)

    def load_of(can: Capabilities, qubits: int, shots: int) -> Load:
        return most_sent(FAMILY, lambda: instance, can, qubits, shots, request, SETTING)

    asked = asked_of("maxcut.ring", "maxcut", 120, request, SETTING)
    facts = facts_of(policy, asked, SETTING, request, dispatcher, None, load_of)
    costs = {name: (facts[name].jobs, facts[name].estimate.cost) for name in ("ibm", "braket", "dwave")}  # type: ignore[union-attr]
    assert costs["braket"] == (100, pytest.approx(0.3 + 128 * 0.00145))
    # at least what any job of so many shots takes
    assert costs["ibm"] == (100, pytest.approx(1.6 * (2 + 128 * 251.6e-6), rel=1e-3))
    # an annealer takes it whole
    assert costs["dwave"] == (1, pytest.approx(0.55 * annealer_seconds(1024)))
    assert facts["aer"].jobs == 1


def test_a_device_that_nobody_asks_is_a_typical_one() -> None:
    estimate = unasked(DEVICE, 6, 2, 1000)
    assert (estimate.coupling_map, estimate.two_qubit_gates, estimate.depth) == ("heavy-hex", 90, 63)
    assert estimate.execution_seconds == estimate.device_seconds == pytest.approx(2 + 1000 * (251.6e-6 + 63 * 84e-9))
    annealer = unasked(replace(DEVICE, algorithms=("annealing",)), 6, 2, 1000)
    assert (annealer.execution_seconds, annealer.coupling_map) == (annealer_seconds(1000), "pegasus")
