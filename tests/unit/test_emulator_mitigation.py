"""What the emulator's client makes of the counts: mitigated expectations, selected shots, the calibration's name."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from resources.backends.conformance import asymmetric_problem, envelope_for
from resources.backends.emulator import Emulator
from resources.emulator.running import Running, serve_in_background
from resources.envelope import Algorithm, JobResult, Mitigation, PostProcessing
from resources.failures import BackendError
from tests.waiting import PATIENCE, until


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serve_in_background(tmp_path_factory.mktemp("emulator"), queue_seconds=0.0, patience=PATIENCE) as running:
        yield running


@pytest.fixture
def backend(service: Running) -> Emulator:
    return Emulator(service.url, "quick-4", service.token)


def solved(backend: Emulator, algorithm: Algorithm, tags: dict[str, str] | None = None) -> JobResult:
    payload = asymmetric_problem(3, seed=1)
    envelope = envelope_for(backend, payload, algorithm).model_copy(update={"tags": tags or {}})
    handle = backend.submit(envelope, payload, envelope.digest)
    until(lambda: backend.status(handle) == "succeeded")
    return backend.result(handle)


def test_a_result_says_whether_the_device_drifted_after_the_compilation(service: Running, backend: Emulator) -> None:
    still = solved(backend, Algorithm(depth=1, shots=50, ramp_lengths=(3.0,)))
    assert still.parameters["compiled_for_calibration"] == still.calibration["calibration_id"]
    service.admin("faults", {"faults": [{"fault": "drift", "times": 1}]})
    moved = solved(backend, Algorithm(depth=1, shots=51, ramp_lengths=(3.0,)))
    assert moved.parameters["compiled_for_calibration"] == still.calibration["calibration_id"]
    assert moved.calibration["calibration_id"] != still.calibration["calibration_id"]


def test_read_out_mitigation_serves_the_expectation_and_leaves_the_samples(backend: Emulator) -> None:
    plain = Algorithm(depth=1, shots=4000, ramp_lengths=(1.0,))
    raw = solved(backend, plain)
    mitigated = solved(backend, plain.model_copy(update={"mitigation": Mitigation(readout=True)}))
    assert mitigated.samples == raw.samples
    assert raw.expectation_mitigated is None
    # independently: the inverse of the product of all confusion matrices, on all eight states
    payload, seen = asymmetric_problem(3, seed=1), np.zeros((2, 2, 2))
    for sample in raw.samples:
        seen[tuple(map(int, sample.bits))] = sample.count / raw.shots
    assert (seen > 0).all()
    states = np.stack(np.meshgrid(*[[0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    energies = payload.energies((states, range(3)))
    assert raw.expectation_raw == pytest.approx(float(seen.reshape(-1) @ energies))
    for axis, qubit in enumerate(raw.layout):
        error = raw.calibration["qubits"][qubit]["readout_error"]
        inverse = np.linalg.inv([[1 - error, error], [error, 1 - error]])
        seen = np.moveaxis(np.tensordot(inverse, seen, axes=(1, axis)), 0, axis)
    assert mitigated.expectation_mitigated == pytest.approx(float(seen.reshape(-1) @ energies), rel=1e-3)
    assert mitigated.expectation_mitigated != pytest.approx(mitigated.expectation_raw, rel=1e-3)


def test_post_selection_keeps_what_it_dropped_and_pays_for_it(backend: Emulator) -> None:
    asked = Algorithm(depth=1, shots=500, ramp_lengths=(1.0,), mitigation=Mitigation(postselect=True))
    result = solved(backend, asked, {"symmetry": "parity=even"})
    assert result.shots + result.discarded_shots == 500
    assert 0 < result.discarded_shots < 500
    assert result.post_processing is PostProcessing.POSTSELECTED
    assert all(sample.bits.count("1") % 2 == 0 for sample in result.samples)
    assert result.actual_cost == solved(backend, asked.model_copy(update={"mitigation": Mitigation()})).actual_cost
    with pytest.raises(BackendError, match="needs a symmetry"):
        solved(backend, asked)
