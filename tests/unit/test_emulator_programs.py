"""Estimate and kernel jobs on the provider emulator: what is sent, who reads it, what it costs, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

from resources.backends import emulator_programs
from resources.backends.conformance_programs import asymmetric_program, exact_values, program_envelope
from resources.backends.emulator import Emulator
from resources.circuits.pauli import Kind, PauliProgram, Reading, Rotation, Term
from resources.emulator.running import Running, serve_in_background
from resources.envelope import PAULI, Algorithm, Compilation, JobEnvelope, Mitigation, PostProcessing
from resources.failures import BackendError, FailureClass
from tests.waiting import PATIENCE, until

#: Of ``asymmetric_program``: four read-out bases of three states, and three pairs of them.
CIRCUITS = {"estimate": 12, "kernel": 3}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serve_in_background(tmp_path_factory.mktemp("emulator"), queue_seconds=0.0, patience=PATIENCE) as running:
        yield running


@pytest.fixture
def service(shared: Running) -> Iterator[Running]:
    yield shared
    shared.admin("faults", {})


@pytest.fixture
def backend(service: Running) -> Emulator:
    return Emulator(service.url, "quick-4", service.token)


Job = tuple[JobEnvelope, PauliProgram, str]


def job(
    backend: Emulator, kind: Kind, program: PauliProgram | None = None, mitigation: Mitigation | None = None
) -> Job:
    """A job whose key differs from every other test's."""
    program = program or asymmetric_program(kind)
    algorithm = Algorithm(name=PAULI, shots=1000, seed=3, mitigation=mitigation or Mitigation())
    envelope = program_envelope(backend, program, kind, algorithm)
    return envelope, program, f"{envelope.idempotency_key}-{os.urandom(6).hex()}"


@pytest.mark.parametrize("kind", ["estimate", "kernel"])
def test_one_sweep_a_measurement_that_another_process_reads_and_that_costs_what_was_estimated(
    service: Running, backend: Emulator, kind: Kind
) -> None:
    envelope, program, key = job(backend, kind)
    handle = backend.submit(envelope, program, key)
    sent = backend._sent[key]["circuits"]
    assert len(sent) == len(Reading.of(program, kind).bases)
    assert {len(circuit["bindings"]) for circuit in sent} == {3}
    other = Emulator(service.url, "quick-4", service.token)
    until(lambda: other.status(handle) == "succeeded")
    result = other.result(handle)
    values, errors = np.array(result.values), np.array(result.standard_errors)
    exact = exact_values(program, kind)
    # noise on top of five standard errors
    assert (np.abs(values - exact) <= 5 * errors + 0.02 * np.abs(exact).max() + 1e-9).all()
    assert (result.envelope_digest, result.circuits) == (envelope.digest, CIRCUITS[kind])
    # 0.01 a job and 0.00001 a shot, as the table of devices says
    price = 0.01 + 0.00001 * 1000 * CIRCUITS[kind]
    assert result.actual_cost == pytest.approx(price)
    assert result.estimated_cost == pytest.approx(price)
    assert other.estimate(envelope).cost == pytest.approx(price)
    assert result.parameters["compiled_for_calibration"] == "quick-4-0"
    assert result.calibration is not None
    assert result.calibration["calibration_id"] == "quick-4-0"


def test_values_are_corrected_by_the_calibration_that_the_shots_were_taken_with(service: Running) -> None:
    backend = Emulator(service.url, "quick-8", service.token)
    envelope, program, key = job(backend, "estimate", mitigation=Mitigation(readout=True))
    service.admin("faults", {"faults": [{"fault": "drift", "times": 1}]})
    handle = backend.submit(envelope, program, key)
    until(lambda: backend.status(handle) == "succeeded")
    result = backend.result(handle)
    assert result.post_processing is PostProcessing.MITIGATED
    assert result.calibration is not None
    assert result.calibration["calibration_id"] != result.parameters["compiled_for_calibration"]
    # independently, for the one observable ⟨Z⟩ at a time that a single basis reads: divide by 1 − 2ε
    document = backend._client.call("GET", f"/jobs/{handle.provider_id}/results")
    reading, note = Reading.of(program, "estimate"), document["metadata"]
    expected = np.full((3, 2), 0.0)
    for column, terms in enumerate(program.observables):
        for term in terms:
            place = next(
                k
                for k, basis in enumerate(reading.bases)
                if all(letter in ("I", read) for letter, read in zip(term.pauli, basis, strict=True))
            )
            support = [i for i, letter in enumerate(term.pauli) if letter != "I"]
            measured = [note["measured"][place][i] for i in support]
            damping = np.prod([1 - 2 * result.calibration["qubits"][q]["readout_error"] for q in measured])
            for row, counts in enumerate(document["results"][place]):
                parity = sum(n * (-1) ** sum(text[::-1][i] == "1" for i in support) for text, n in counts.items())
                expected[row, column] += term.coefficient * parity / 1000 / damping
    np.testing.assert_allclose(result.values, expected, atol=1e-9)
    assert np.abs(np.array(result.values) - np.array(result.raw_values)).max() > 1e-3


@pytest.mark.parametrize("fault", ["partial_result", "garbled_result", "foreign_result"])
@pytest.mark.parametrize("kind", ["estimate", "kernel"])
def test_a_wrong_result_is_noticed(service: Running, backend: Emulator, kind: Kind, fault: str) -> None:
    handles = [backend.submit(*job(backend, kind)) for _ in range(2)]
    for handle in handles:
        until(lambda handle=handle: backend.status(handle) == "succeeded")  # type: ignore[misc]
    service.admin("faults", {"faults": [{"fault": fault, "times": 1}]})
    with pytest.raises(BackendError) as caught:
        backend.result(handles[0])
    assert caught.value.failure_class is FailureClass.BACKEND
    assert backend.result(handles[0]).circuits == CIRCUITS[kind]


def test_a_missing_state_is_noticed(backend: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = backend.submit(*job(backend, "kernel"))
    until(lambda: backend.status(handle) == "succeeded")
    document = backend._client.call("GET", f"/jobs/{handle.provider_id}/results")
    document["results"][0].pop()
    monkeypatch.setattr(backend._client, "call", lambda *_, **__: document)
    with pytest.raises(BackendError, match="2 read-outs") as caught:
        backend.result(handle)
    assert caught.value.failure_class is FailureClass.BACKEND


def test_a_long_sweep_goes_in_pieces_and_too_long_a_one_is_refused(
    backend: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulator_programs, "MOST_ROWS", 2)
    envelope, program, key = job(backend, "estimate")
    handle = backend.submit(envelope, program, key)
    assert [len(circuit["bindings"]) for circuit in backend._sent[key]["circuits"]] == [2, 1] * 4
    until(lambda: backend.status(handle) == "succeeded")
    result, exact = backend.result(handle), exact_values(program, "estimate")
    allowed = 5 * np.array(result.standard_errors) + 0.02 * np.abs(exact).max()
    assert (np.abs(np.array(result.values) - exact) <= allowed).all()
    monkeypatch.setattr(emulator_programs, "MOST_CIRCUITS", 7)
    # what is refused is not compiled
    monkeypatch.setattr(emulator_programs, "plan_program", None)
    envelope, program, key = job(backend, "estimate")
    with pytest.raises(BackendError, match="8 sweeps") as caught:
        backend.submit(envelope, program, key)
    assert (caught.value.failure_class, caught.value.not_sent) == (FailureClass.CAPABILITY, True)
    assert backend.find(key) is None


def test_states_without_an_angle_have_shots_of_their_own(service: Running) -> None:
    """Per-gate noise runs them as one job of the simulator, where they have the same name."""
    program = PauliProgram(initial=(0, 0), rows=((), (), ()), observables=((Term(pauli="XI", coefficient=1.0),),))
    backend = Emulator(service.url, "line-8", service.token)
    handle = backend.submit(*job(backend, "estimate", program))
    until(lambda: backend.status(handle) == "succeeded")
    assert len({row[0] for row in backend.result(handle).values}) > 1


@pytest.mark.parametrize("layout", [(0, 7, 3), None])
def test_an_estimate_covers_a_layout_that_tears_neighbours_apart(
    service: Running, layout: tuple[int, ...] | None
) -> None:
    backend = Emulator(service.url, "line-8", service.token)
    program = PauliProgram(
        initial=(0, 0, 0),
        rotations=(Rotation(pauli="XYI", parameter=0),),
        rows=((0.7,),),
        observables=((Term(pauli="ZZZ", coefficient=1.0),),),
    )
    envelope, *_ = job(backend, "estimate", program)
    algorithm = envelope.algorithm.model_copy(update={"compilation": Compilation(layout=layout, optimization_level=0)})
    envelope = envelope.model_copy(update={"algorithm": algorithm})
    estimate, handle = backend.estimate(envelope), backend.submit(envelope, program, f"torn-apart-{layout}")
    until(lambda: backend.status(handle) == "succeeded")
    result = backend.result(handle)
    # along a line of three the ends are neighbours after one swap: 8 gates at most
    assert (result.two_qubit_gates > 8) is (layout is not None)
    assert result.two_qubit_gates <= estimate.two_qubit_gates
    assert result.depth <= estimate.depth


def test_post_selection_is_for_samples(backend: Emulator) -> None:
    envelope, program, key = job(backend, "kernel", mitigation=Mitigation(postselect=True))
    with pytest.raises(BackendError, match="post-selection") as caught:
        backend.submit(envelope, program, key)
    assert caught.value.failure_class is FailureClass.CAPABILITY
    assert backend.find(key) is None


def test_jobs_of_all_kinds_are_one_submission(backend: Emulator) -> None:
    jobs = [job(backend, "estimate"), job(backend, "kernel"), job(backend, "estimate")]
    handles = backend.submit_many(jobs)
    for handle, (envelope, *_) in zip(handles, jobs, strict=True):
        assert not isinstance(handle, BackendError)
        until(lambda handle=handle: backend.status(handle) == "succeeded")  # type: ignore[misc]
        assert backend.result(handle).envelope_digest == envelope.digest
