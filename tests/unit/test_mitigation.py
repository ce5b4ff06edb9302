"""Read-out mitigation brings expectations closer to the truth and leaves samples alone; post-selection counts."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.backends.aer_noisy import GENERIC_DEVICE, AerNoisy, device_named
from resources.backends.conformance import asymmetric_problem, envelope_for
from resources.circuits.ising import Ising
from resources.circuits.mitigation import (
    confusion_of,
    declared_symmetry,
    mitigated_expectation,
    nearest_probabilities,
    postselected,
)
from resources.circuits.schedules import cvar
from resources.envelope import Algorithm, Mitigation, PostProcessing
from resources.failures import BackendError, FailureClass

pytest.importorskip("mthree")


def read_wrongly(bits: np.ndarray, confusion: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bits as a device with these confusion matrices reads them."""
    ones = confusion[np.arange(bits.shape[1]), 1, :]
    return (rng.random(bits.shape) < np.where(bits == 1, ones[:, 1], ones[:, 0])).astype(np.int8)


def confusion_matrices(n: int, rng: np.random.Generator) -> np.ndarray:
    up, down = rng.uniform(0.01, 0.06, n), rng.uniform(0.04, 0.12, n)
    return np.moveaxis(np.array([[1 - up, down], [up, 1 - down]]), -1, 0)


def test_mitigated_is_closer_than_raw_in_the_mean() -> None:
    """Known states, read-out errors that differ from qubit to qubit and from 0 to 1: a wrong bit order, 0 and 1
    swapped, or no mitigation at all fails here."""
    raw_errors, mitigated_errors, swapped_errors, reversed_errors = [], [], [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        payload = asymmetric_problem(5, seed)
        truth = rng.integers(0, 2, (3, 5)).astype(np.int8)[rng.choice(3, 4000, p=[0.5, 0.3, 0.2])]
        confusion = confusion_matrices(5, rng)
        seen = read_wrongly(truth, confusion, rng)
        exact = payload.energies((truth, range(5))).mean()
        raw_errors.append(abs(payload.energies((seen, range(5))).mean() - exact))
        mitigated_errors.append(abs(mitigated_expectation(payload, seen, confusion) - exact))
        swapped_errors.append(abs(mitigated_expectation(payload, seen, confusion[:, ::-1, ::-1]) - exact))
        reversed_errors.append(abs(mitigated_expectation(payload, seen, confusion[::-1]) - exact))
    assert np.mean(mitigated_errors) < 0.4 * np.mean(raw_errors)
    assert np.mean(mitigated_errors) < 0.7 * np.mean(swapped_errors)
    assert np.mean(mitigated_errors) < 0.7 * np.mean(reversed_errors)


def test_on_a_noisy_device_the_mitigated_expectation_is_closer() -> None:
    """Against the exact ⟨C⟩ of the same circuit with its gate errors kept small by a single layer; samples stay raw."""
    from resources.backends.trip import plan
    from resources.circuits.templates import logical_circuit

    pytest.importorskip("qiskit_ibm_runtime")
    from qiskit.quantum_info import Statevector

    raw_errors, mitigated_errors = [], []
    backend = AerNoisy(device="fake_jakarta")
    for seed in range(8):
        payload = asymmetric_problem(4, seed)
        algorithm = Algorithm(depth=1, shots=4000, ramp_lengths=(2.0,), seed=seed)
        plain = envelope_for(backend, payload, algorithm)
        asked = envelope_for(backend, payload, algorithm.model_copy(update={"mitigation": Mitigation(readout=True)}))
        planned = plan(plain, payload, device_named("fake_jakarta"))
        logical = logical_circuit(Ising.from_bqm(payload).structure(1)).assign_parameters(planned.angles.tolist())
        states = ((np.arange(16)[:, None] >> np.arange(4)) & 1).astype(np.int8)
        chances = Statevector(logical.remove_final_measurements(inplace=False)).probabilities()
        exact = float(chances @ payload.energies((states, range(4))))
        without = backend.result(backend.submit(plain, payload, f"plain{seed}"))
        result = backend.result(backend.submit(asked, payload, f"asked{seed}"))
        assert result.samples == without.samples
        assert result.post_processing is PostProcessing.RAW
        assert without.expectation_mitigated is None
        assert result.expectation_raw == without.expectation_raw
        raw_errors.append(abs(result.expectation_raw - exact))
        mitigated_errors.append(abs(result.expectation_mitigated - exact))
    assert np.mean(mitigated_errors) < np.mean(raw_errors)


def test_confusion_matrices_measured_and_from_the_target_agree() -> None:
    from qiskit import QuantumCircuit, transpile
    from qiskit_aer import AerSimulator

    device, qubits = device_named(GENERIC_DEVICE), (3, 0, 7)
    machine = AerSimulator.from_backend(device)
    read = []
    for prepared in (0, 1):
        circuit = QuantumCircuit(3, 3)
        if prepared:
            circuit.x(range(3))
        circuit.measure(range(3), range(3))
        compiled = transpile(circuit, device, initial_layout=list(qubits), optimization_level=0)
        memory = machine.run(compiled, shots=20000, memory=True, seed_simulator=1).result().get_memory()
        read.append(np.array([[int(bit) for bit in reversed(text)] for text in memory], dtype=np.int8))
    up, down = read[0].mean(axis=0), 1.0 - read[1].mean(axis=0)
    measured = np.moveaxis(np.array([[1.0 - up, down], [up, 1.0 - down]]), -1, 0)
    known = confusion_of(device.target, qubits)
    assert measured.shape == known.shape == (3, 2, 2)
    assert np.allclose(measured.sum(axis=1), 1)
    assert np.allclose(measured, known, atol=0.01)
    assert np.allclose(known[0, 1, 0], device.target["measure"][(3,)].error)


def test_training_judges_after_mitigation() -> None:
    """The ramp is judged by mitigated energies: they are lower than the raw ones on the same seeds."""
    payload, results = asymmetric_problem(4, seed=3), {}
    for readout in (False, True):
        backend = AerNoisy(device="fake_jakarta")
        algorithm = Algorithm(
            name="qaoa-trained",
            depth=1,
            training_circuits=6,
            tuning_shots=1000,
            cvar_alpha=1.0,
            ramp_lengths=(2.0,),
            mitigation=Mitigation(readout=readout),
        )
        envelope = envelope_for(backend, payload, algorithm)
        results[readout] = backend.result(backend.submit(envelope, payload, "key"))
    raw, mitigated = (results[readout].parameters["training_cvars"] for readout in (False, True))
    assert results[True].parameters["angles_from"] == "the device itself"
    # the first circuit is the same circuit with the same seed
    assert mitigated[0] < raw[0]


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 1.0))
@settings(max_examples=30, deadline=None)
def test_weighted_cvar_is_the_cvar_of_repeated_samples(seed: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    energies, counts = rng.normal(size=6), rng.integers(1, 9, 6)
    repeated = np.repeat(energies, counts)
    kept = int(np.ceil(alpha * len(repeated)))
    exact = kept / len(repeated)
    assert cvar(energies, exact, counts / counts.sum()) == pytest.approx(cvar(repeated, exact - 1e-12), abs=1e-9)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_without_read_out_errors_nothing_changes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, (200, 4)).astype(np.int8)
    payload, perfect = asymmetric_problem(4, seed), np.tile(np.eye(2), (4, 1, 1))
    raw = payload.energies((bits, range(4))).mean()
    assert mitigated_expectation(payload, bits, perfect) == pytest.approx(raw, abs=1e-4)
    states, chances = nearest_probabilities(bits, perfect)
    assert chances.sum() == pytest.approx(1, abs=1e-5)
    assert (chances >= 0).all()
    assert chances @ payload.energies((states, range(4))) == pytest.approx(raw, abs=1e-4)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["hamming-weight=2", "parity=even", "parity=odd"]))
@settings(max_examples=30, deadline=None)
def test_postselection_keeps_exactly_the_symmetric_shots(seed: int, declared: str) -> None:
    bits = np.random.default_rng(seed).integers(0, 2, (300, 5)).astype(np.int8)
    kept = postselected(bits, declared_symmetry({"symmetry": declared}))
    wanted = {"hamming-weight=2": [2], "parity=even": [0, 2, 4], "parity=odd": [1, 3, 5]}[declared]
    assert [row for row in bits.tolist() if sum(row) in wanted] == kept.tolist()


@pytest.mark.parametrize("tags", [{}, {"symmetry": "parity=both"}, {"symmetry": "hamming-weight=-1"}])
def test_an_undeclared_symmetry_is_refused(tags: dict[str, str]) -> None:
    with pytest.raises(BackendError, match="tag 'symmetry'") as caught:
        declared_symmetry(tags)
    assert caught.value.failure_class is FailureClass.CAPABILITY


def test_dropped_shots_are_counted() -> None:
    backend, payload = AerNoisy(device=GENERIC_DEVICE), asymmetric_problem(4, seed=8)
    algorithm = Algorithm(depth=1, shots=500, ramp_lengths=(1.0,), mitigation=Mitigation(postselect=True, readout=True))
    envelope = envelope_for(backend, payload, algorithm)
    with pytest.raises(BackendError, match="needs a symmetry"):
        backend.submit(envelope, payload, "none")
    asked = envelope.model_copy(update={"tags": {"symmetry": "hamming-weight=2"}})
    result = backend.result(backend.submit(asked, payload, "key"))
    assert result.post_processing is PostProcessing.POSTSELECTED
    assert {sample.bits.count("1") for sample in result.samples} == {2}
    assert 0 < result.discarded_shots < 500
    assert result.shots + result.discarded_shots == 500
    with pytest.raises(BackendError, match="none of 40 shots") as caught:
        postselected(np.zeros((40, 4), dtype=np.int8), ("hamming-weight", 4))
    assert caught.value.failure_class is FailureClass.CAPABILITY


def test_without_mthree_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mthree", None)
    with pytest.raises(BackendError, match="extra 'mitigation'") as caught:
        mitigated_expectation(asymmetric_problem(2, 0), np.zeros((3, 2), dtype=np.int8), np.tile(np.eye(2), (2, 1, 1)))
    assert caught.value.failure_class is FailureClass.CAPABILITY
