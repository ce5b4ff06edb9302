"""The variants of the local simulators: what each records, claims and refuses."""

from __future__ import annotations

import dimod
import pytest

from resources.backends import aer
from resources.backends.aer import Aer, AerGpu, AerMps
from resources.backends.aer_noisy import FAKE_DEVICE, AerNoisy
from resources.backends.conformance import asymmetric_problem, envelope_for
from resources.backends.gate_simulator import GateSimulator
from resources.backends.pennylane_device import PennyLaneDevice
from resources.backends.statevector import Statevector
from resources.envelope import Algorithm, EvidenceClass, JobResult
from resources.failures import BackendError, FailureClass, InputError


def solved(backend: GateSimulator | AerNoisy, variables: int = 5, **settings) -> JobResult:
    payload = asymmetric_problem(variables, seed=1)
    envelope = envelope_for(backend, payload, Algorithm(**{"depth": 2, "ramp_lengths": (3.0,)} | settings))
    return backend.result(backend.submit(envelope, payload, "key"))


def test_a_matrix_product_state_with_room_is_the_statevector() -> None:
    exact, roomy = solved(Aer(), shots=4000), solved(AerMps(), shots=4000)
    assert roomy.expectation_raw == pytest.approx(exact.expectation_raw, abs=0.25)
    assert exact.samples != roomy.samples
    assert {name: roomy.parameters[name] for name in ("method", "bond_dimension", "truncation_threshold")} == {
        "method": "matrix_product_state",
        "bond_dimension": 16,
        "truncation_threshold": 1e-16,
    }


def test_a_cut_state_is_no_evidence_of_a_quantum_machine() -> None:
    """At bond dimension 1 all entanglement is cut, and the energy is lower than the circuit's: it must not count."""
    exact = solved(Aer(), variables=8, depth=4)
    cut = solved(AerMps(bond_dimension=1), variables=8, depth=4)
    assert cut.expectation_raw < exact.expectation_raw - 1
    assert cut.evidence_class is EvidenceClass.SURROGATE
    assert solved(AerMps(bond_dimension=16), variables=9).evidence_class is EvidenceClass.SIMULATOR
    assert solved(AerMps(bond_dimension=16), variables=10).evidence_class is EvidenceClass.SURROGATE


def test_a_sparse_problem_beyond_any_statevector() -> None:
    import dimod

    backend = AerMps(max_qubits=40)
    chain = dimod.BinaryQuadraticModel.from_ising({i: 0.1 * i for i in range(40)}, {(i, i + 1): 1.0 for i in range(39)})
    payload = chain.change_vartype("BINARY", inplace=False)
    envelope = envelope_for(backend, payload, Algorithm(depth=3, shots=100, ramp_lengths=(3.0,)))
    result = backend.result(backend.submit(envelope, payload, "key"))
    assert result.width == 40
    assert result.expectation_raw < payload.spin.offset - 10
    assert AerMps().capabilities().max_variables > Aer().capabilities().max_variables


def test_what_the_gpu_simulator_lacks_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(aer, "_GPU_DRIVERS", (str(tmp_path / "none"),))
    assert AerGpu().available() == "backend aer-gpu needs a GPU: this machine has no driver of one"
    monkeypatch.setattr(aer, "_GPU_DRIVERS", (str(tmp_path),))
    from qiskit_aer import AerSimulator

    built = "GPU" in AerSimulator().available_devices()
    assert (AerGpu().available() is None) == built
    assert built or "qiskit-aer-gpu" in str(AerGpu().available())
    assert AerGpu().capabilities().tier == "gpu"


@pytest.mark.parametrize("backend", [Aer(), AerNoisy()])
def test_aer_built_for_gpus_takes_the_place_of_aer(
    backend: Aer | AerNoisy, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    from importlib import metadata

    from resources.backends.base import package_version

    package_version.cache_clear()
    request.addfinalizer(package_version.cache_clear)
    found = metadata.version

    def without_aer(package: str) -> str:
        if package == "qiskit-aer":
            raise metadata.PackageNotFoundError(package)
        return "7.7" if package == "qiskit-aer-gpu" else found(package)

    monkeypatch.setattr(metadata, "version", without_aer)
    monkeypatch.setattr(metadata, "packages_distributions", lambda: {"qiskit_aer": ["qiskit-aer-gpu"]})
    result = solved(backend, 3)
    assert (result.backend_version, result.sdk_versions["qiskit-aer"]) == ("7.7", "7.7")


def test_a_fake_device_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from resources.backends import aer_noisy

    found = aer_noisy.find_spec
    monkeypatch.setattr(aer_noisy, "find_spec", lambda name: None if name == "qiskit_ibm_runtime" else found(name))
    assert "extra 'ibm'" in str(AerNoisy(device=FAKE_DEVICE).available())
    assert AerNoisy().device == aer_noisy.GENERIC_DEVICE
    assert AerNoisy().available() is None
    monkeypatch.setenv("HYBRID_AER_DEVICE", "fake_jakarta")
    assert AerNoisy().device == "fake_jakarta"


@pytest.mark.parametrize(
    ("device", "declared", "expected"),
    [
        ("default.mixed", "hardware", EvidenceClass.EMULATOR),
        ("default.qubit", "hardware", EvidenceClass.SIMULATOR),
        ("lightning.qubit", "emulator", EvidenceClass.SIMULATOR),
        ("reference.qubit", "hardware", EvidenceClass.SIMULATOR),
        ("vendor.device", "simulator", EvidenceClass.SIMULATOR),
        ("vendor.device", "hardware", EvidenceClass.HARDWARE),
    ],
)
def test_a_pennylane_device_claims_what_it_is(device: str, declared: str, expected: EvidenceClass) -> None:
    can = PennyLaneDevice(device=device, declared=declared).capabilities()
    assert can.evidence_class is expected
    assert can.lookup == (not can.metered) == (expected is not EvidenceClass.HARDWARE)
    assert can.leaves_machine == (device == "vendor.device")


def test_default_qubit_is_ideal_and_default_mixed_is_not() -> None:
    ideal = solved(PennyLaneDevice(device="default.qubit"), shots=4000)
    noisy = solved(PennyLaneDevice(), variables=4, depth=1)
    assert ideal.expectation_raw == pytest.approx(solved(Aer(), shots=4000).expectation_raw, abs=0.25)
    assert ideal.success_probability is None
    assert ideal.parameters["device"] == "default.qubit"
    # 4 H, 4 RZ, 4 RX, 6 couplings with two ends each, 4 read-outs
    assert noisy.success_probability == pytest.approx((1 - 3e-4) ** 12 * (1 - 3e-3) ** 12 * (1 - 1e-2) ** 4)
    assert noisy.parameters["noise"]["two_qubit"] == 3e-3


def test_the_noise_of_default_mixed_is_its_calibration() -> None:
    noisy = solved(PennyLaneDevice(), variables=3)
    assert noisy.calibration == {"device": "default.mixed", "time": None, **noisy.parameters["noise"]}
    assert solved(PennyLaneDevice(device="default.qubit"), variables=3).calibration is None


def test_pennylanes_reference_simulator_is_seeded() -> None:
    first, second = (solved(PennyLaneDevice(device="reference.qubit"), variables=4) for _ in range(2))
    assert first.samples == second.samples


@pytest.mark.parametrize(
    ("device", "options"), [("default.gaussian", '{"token": "secret"}'), ("default.qutrit.mixed", "{}")]
)
def test_a_device_that_cannot_run_the_circuit_is_passed_by(device: str, options: str) -> None:
    with pytest.raises(BackendError, match=device) as refused:
        solved(PennyLaneDevice(device=device, options=options), variables=3)
    assert refused.value.failure_class is FailureClass.CAPABILITY
    assert "secret" not in str(refused.value)


def test_a_device_that_computes_nothing_is_no_simulator() -> None:
    assert "answers zeros" in str(PennyLaneDevice(device="null.qubit").available())


def test_wrong_pennylane_settings_are_refused_without_their_text() -> None:
    with pytest.raises(InputError, match="HYBRID_PENNYLANE_OPTIONS: value: it is not a JSON object") as caught:
        PennyLaneDevice(options="[secret")
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(PennyLaneDevice(options='{"token": "secret"}'))
    with pytest.raises(InputError, match="'real' is unknown"):
        PennyLaneDevice(declared="real")
    assert "no.such" in str(PennyLaneDevice(device="no.such").available())


def test_a_fake_device_that_does_not_exist_is_said_and_a_small_one_is_small() -> None:
    pytest.importorskip("qiskit_ibm_runtime")
    assert "no fake device 'fake_nonsense'" in str(AerNoisy(device="fake_nonsense").available())
    small = AerNoisy(device="fake_manila")
    assert small.available() is None
    assert small.capabilities().max_variables == 5


@pytest.mark.parametrize("groups", [(), ((0, 1, 2, 3, 4), (6, 7, 8)), ((9, 10), (11,))])
def test_an_estimate_covers_all_parts_and_groups(groups: tuple[tuple[int, ...], ...]) -> None:
    backend = Statevector(max_qubits=6)
    payload = dimod.BinaryQuadraticModel("BINARY")
    for part in (range(6), range(6, 12), range(12, 16)):
        payload.add_linear_from(dict.fromkeys(part, 1.0))
        payload.add_quadratic_from({(i, j): 1.0 + i for i in part for j in part if i < j})
    algorithm = Algorithm(depth=2, shots=10, ramp_lengths=(3.0,), groups=groups)
    envelope = envelope_for(backend, payload, algorithm)
    estimate = backend.estimate(envelope)
    result = backend.result(backend.submit(envelope, payload, "key"))
    assert estimate.logical_two_qubit_gates == result.two_qubit_gates
    assert result.depth <= estimate.logical_depth
    assert estimate.two_qubit_gates == (2 + 3 * bool(groups)) * 3 * (15 + 15 + 6)
    one = backend.estimate(envelope.model_copy(update={"payload_variables": 6}))
    assert estimate.execution_seconds == pytest.approx(3 * one.execution_seconds)


def test_estimates_say_what_a_heavy_hex_lattice_would_take() -> None:
    backend, payload = Aer(), asymmetric_problem(6, seed=1)
    estimate = backend.estimate(envelope_for(backend, payload, Algorithm(depth=2)))
    assert estimate.coupling_map == "heavy-hex"
    assert (estimate.logical_two_qubit_gates, estimate.two_qubit_gates) == (30, 90)
    assert 0 < estimate.logical_depth < estimate.depth
