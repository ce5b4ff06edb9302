"""What a job would take and cost on a device, for jobs that run on simulators."""

from __future__ import annotations

from dataclasses import replace

import dimod
import pytest

from resources.artifacts import ArtifactStore
from resources.backends.aer import Aer
from resources.backends.annealer import Annealer
from resources.backends.base import Capabilities, Estimate, QuantumBackend
from resources.backends.conformance import asymmetric_problem, envelope_for
from resources.backends.device_time import annealer_seconds, on_device
from resources.backends.dwave import DWave, DWaveMock
from resources.backends.heuristic import Heuristic
from resources.control_plane import ControlPlane
from resources.device_price import expected, priced
from resources.envelope import Algorithm, EvidenceClass, JobEnvelope
from resources.environments import backend_factories
from resources.ledger import Ledger
from resources.policy import Policy, Price

#: An estimate of 1,000 shots of 30 two-qubit gates in 40 layers.
SUPERCONDUCTING = 2.0 + 1000 * (251.6e-6 + 40 * 84e-9)
IONS = 1.0 + 1000 * (320e-6 + 40 * 135e-6 + 30 * 600e-6)


@pytest.fixture
def plane(ledger_url: str, tmp_path: pytest.TempPathFactory) -> ControlPlane:
    return ControlPlane(Ledger(ledger_url), ArtifactStore(tmp_path), backend_factories())  # type: ignore[arg-type]


def job(backend: QuantumBackend, algorithm: Algorithm) -> JobEnvelope:
    payload: dimod.BinaryQuadraticModel = asymmetric_problem(6, seed=1)
    return envelope_for(backend, payload, algorithm)


@pytest.mark.parametrize(
    ("lattice", "seconds"), [("heavy-hex", SUPERCONDUCTING), ("line-8", SUPERCONDUCTING), ("full", IONS)]
)
def test_seconds_are_those_of_the_coupling_maps_technology(lattice: str, seconds: float) -> None:
    estimate = Estimate(0.0, 0.1, 0.0, two_qubit_gates=30, depth=40, coupling_map=lattice)
    found = on_device(estimate, 1000)
    assert found.device_seconds == pytest.approx(seconds)
    assert replace(found, device_seconds=None) == estimate


def test_a_simulators_job_is_priced_on_the_first_gate_model_device_of_the_production_policy(
    plane: ControlPlane,
) -> None:
    estimate = expected(plane, job(Aer(), Algorithm(depth=2, shots=1000)))
    assert estimate is not None
    # 3 CX a pair of 6 variables and layer; 3 + 2·(4·6 + 6) layers
    assert (estimate.coupling_map, estimate.two_qubit_gates, estimate.depth) == ("heavy-hex", 90, 63)
    assert estimate.cost == 0
    seconds = 2.0 + 1000 * (251.6e-6 + 63 * 84e-9)
    assert estimate.device_seconds == pytest.approx(seconds)
    assert estimate.device_cost == pytest.approx(1.6 * seconds)
    assert estimate.priced_as == "ibm, USD"


def test_an_annealers_job_is_priced_on_an_annealer(plane: ControlPlane) -> None:
    for backend, topology in ((Annealer(), "full"), (DWaveMock(), "pegasus-6")):
        estimate = expected(plane, job(backend, Algorithm(name="annealing", shots=1000)))
        assert estimate is not None
        assert estimate.coupling_map == topology
        assert estimate.device_seconds == pytest.approx(annealer_seconds(1000)) == pytest.approx(0.207)
        assert estimate.device_cost == pytest.approx(0.55 * 0.207)
        assert estimate.priced_as == "dwave, USD"


def test_every_gate_model_simulator_says_what_a_device_would_take(plane: ControlPlane) -> None:
    found = {}
    for name in ("aer", "aer-mps", "aer-noisy", "lightning", "statevector", "pennylane", "braket-local", "ibm-local"):
        backend = plane.backend(name)
        if backend.available() is None:
            found[name] = expected(plane, job(backend, Algorithm(depth=2, shots=1000)))
    assert {"aer", "aer-noisy", "lightning", "statevector"} <= found.keys()
    for name, estimate in found.items():
        assert estimate is not None, name
        assert estimate.device_seconds is not None, name
        assert estimate.device_seconds > 1.0, name
        assert estimate.device_cost, name
        assert (estimate.logical_two_qubit_gates, estimate.priced_as) == (
            30,
            "braket, USD" if name == "braket-local" else "ibm, USD",
        )


def test_the_policy_in_force_comes_before_the_production_policy(plane: ControlPlane) -> None:
    plane.policy = Policy(
        currency="EUR", prices={"emulator": Price(per_job=9.0), "ibm": Price(per_job=3.0, per_shot=0.01)}
    )
    estimate = expected(plane, job(Aer(), Algorithm(depth=2, shots=1000)))
    assert estimate is not None
    assert (estimate.device_cost, estimate.priced_as) == (pytest.approx(13.0), "ibm, EUR")


def test_seconds_of_trapped_ions_are_not_priced_as_those_of_a_superconducting_device(plane: ControlPlane) -> None:
    estimate = on_device(Estimate(0.0, 0.1, 0.0, two_qubit_gates=30, depth=40), 1000)
    found = priced(plane, "braket-local", Aer().capabilities(), estimate, 1000)
    assert (found.device_cost, found.priced_as) == (pytest.approx(0.3 + 1.45), "braket, USD")


def test_a_device_is_its_own_reference(plane: ControlPlane) -> None:
    plane.policy = Policy(prices={"ibm": Price(per_second=2.0)})
    device = Capabilities(EvidenceClass.HARDWARE, 100, ("qaoa-ramp",), metered=True, tier="hardware", remote=True)
    estimate = Estimate(60.0, 3.0, 1.0, depth=5)
    assert priced(plane, "ibm", device, estimate, 10) == replace(
        estimate, device_seconds=3.0, device_cost=6.0, priced_as="ibm, EUR"
    )
    assert priced(plane, "braket", device, estimate, 10).device_cost == 1.0
    assert priced(plane, "braket", device, replace(estimate, cost=0.0), 10).device_cost is None


def test_a_classical_heuristic_is_no_device(plane: ControlPlane) -> None:
    estimate = expected(plane, job(Heuristic(), Algorithm(name=Heuristic().capabilities().algorithms[0])))
    assert estimate is not None
    assert (estimate.device_seconds, estimate.device_cost) == (None, None)


def test_what_cannot_be_estimated_is_unknown(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYBRID_IBM_TOKEN", raising=False)
    monkeypatch.delenv("QISKIT_IBM_TOKEN", raising=False)
    assert expected(plane, job(Aer(), Algorithm()).model_copy(update={"backend": "ibm"})) is None
    assert expected(plane, job(Aer(), Algorithm()).model_copy(update={"backend": "nobody"})) is None


def test_without_a_token_the_topology_has_no_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DWAVE_API_TOKEN", raising=False)
    assert DWave().estimate(job(DWave(), Algorithm(name="annealing"))).coupling_map == "pegasus"
