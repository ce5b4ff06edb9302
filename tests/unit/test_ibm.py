"""IBM's real client library against the loopback service: the life cycle of jobs, every failure, no secret anywhere."""

from __future__ import annotations

import os
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dimod
import numpy as np
import pytest

from resources.backends import notes
from resources.backends.base import JobHandle, ProviderStatus, QuantumBackend
from resources.backends.conformance import BackendConformance, asymmetric_problem, envelope_for
from resources.backends.conformance_programs import asymmetric_program, exact_values, program_envelope
from resources.backends.ibm import QUEUED_JOB_SECONDS, Ibm
from resources.circuits.pauli import Kind, PauliProgram, Term
from resources.envelope import PAULI, Algorithm, EvidenceClass, JobEnvelope, Mitigation, PostProcessing
from resources.failures import BackendError, FailureClass, TimedOut
from tests.loopback.ibm_server import API_KEY, DEVICE, IbmServer

JOBS = "/api/v1/jobs"
ONE_JOB = f"{JOBS}/[^/]+"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HYBRID_HOME", str(tmp_path))
    for name in list(os.environ):
        if name.startswith(("HYBRID_IBM_", "QISKIT_IBM_")):
            monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def server(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[IbmServer]:
    with IbmServer() as served:
        for name, value in served.environment().items():
            monkeypatch.setenv(name, value)
        yield served


def small(backend: QuantumBackend, seed: int = 0, **settings: Any) -> tuple[JobEnvelope, dimod.BinaryQuadraticModel]:
    payload = asymmetric_problem(3, seed)
    algorithm = Algorithm.model_validate({"depth": 1, "ramp_lengths": (3.0,), "shots": 200, "seed": seed, **settings})
    return envelope_for(backend, payload, algorithm), payload


def until_ended(backend: QuantumBackend, handle: JobHandle) -> ProviderStatus:
    deadline = time.monotonic() + 60
    while (status := backend.status(handle)) in (ProviderStatus.QUEUED, ProviderStatus.RUNNING):
        assert time.monotonic() < deadline, "the job did not end"
        time.sleep(0.02)
    return status


def refusal(call: Callable[[], object]) -> BackendError:
    """The error of a call; the API key is nowhere in it, its causes, or in what was warned of."""
    with warnings.catch_warnings(record=True, action="always") as warned, pytest.raises(BackendError) as caught:
        call()
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + str([w.message for w in warned])
    assert API_KEY not in told
    return caught.value


# --- life cycle -----------------------------------------------------------------------------------------------------


def test_submit_find_status_result(server: IbmServer) -> None:
    backend = Ibm()
    envelope, payload = small(backend)
    handle = backend.submit(envelope, payload, "key-1")
    (job,) = server.jobs.values()
    assert handle == JobHandle("ibm", job.id, "key-1")
    assert job.body["tags"] == ["hybrid:key-1", f"envelope:{envelope.digest}"]
    # the device's time limit is the envelope's
    assert job.body["cost"] == envelope.timeout.execution

    # what reads the result has never seen the submission
    other = Ibm()
    assert other.find("key-1") == handle
    assert other.find("key-2") is None
    assert until_ended(other, handle) is ProviderStatus.SUCCEEDED
    result = other.result(handle)
    assert result.envelope_digest == envelope.digest
    assert result.shots == 200
    assert result.backend == "ibm"
    assert result.backend_version.startswith(DEVICE)
    assert result.evidence_class is EvidenceClass.HARDWARE
    assert result.timings.execute == 2.0
    assert result.two_qubit_gates >= result.logical_two_qubit_gates == 3
    for sample in result.samples:
        assert sample.energy == pytest.approx(payload.energy([int(bit) for bit in sample.bits]))
    # a noisy device of seven qubits still prefers low energies
    states = [[(index >> bit) & 1 for bit in range(3)] for index in range(8)]
    assert result.expectation_raw is not None
    assert result.expectation_raw < payload.energies((states, range(3))).mean()

    other.forget(handle)
    assert notes.read("key-1") is None


def test_the_suite_on_the_loopback_service(server: IbmServer) -> None:
    class Suite(BackendConformance):
        def backend(self) -> QuantumBackend:
            return Ibm()

        def algorithms(self, backend: QuantumBackend, **settings: Any) -> list[Algorithm]:
            return super().algorithms(backend, **settings)[:1]

    suite = Suite()
    suite.test_it_is_available_and_named()
    suite.test_life_cycle()
    suite.test_an_unknown_job_is_an_error()
    suite.test_estimate_covers_the_circuit()
    suite.test_samples_are_well_formed()
    suite.test_evidence_is_honest()
    suite.test_over_size_is_refused()
    suite.test_what_it_does_not_offer_is_refused()


@pytest.mark.parametrize("kind", ["estimate", "kernel"])
def test_values_over_the_service(server: IbmServer, home: Path, kind: Kind) -> None:
    backend, program = Ibm(), asymmetric_program(kind)
    envelope = program_envelope(backend, program, kind, Algorithm(name=PAULI, shots=1000))
    handle = backend.submit(envelope, program, "key")
    (job,) = server.jobs.values()
    assert job.body["tags"] == ["hybrid:key", f"envelope:{envelope.digest}"]
    assert job.body["cost"] == envelope.timeout.execution
    estimate = backend.estimate(envelope)
    assert estimate.execution_seconds == pytest.approx(2 + 350e-6 * 1000 * envelope.program.circuits)

    other = Ibm()
    assert other.find("key") == handle
    assert until_ended(other, handle) is ProviderStatus.SUCCEEDED
    result = other.result(handle)
    assert other.result(handle) == result
    assert result.envelope_digest == envelope.digest
    assert result.evidence_class is EvidenceClass.HARDWARE
    assert result.circuits == envelope.program.circuits
    assert result.shots == 1000 * result.circuits
    assert result.timings.execute == 2.0
    assert result.depth <= estimate.depth
    assert result.two_qubit_gates <= estimate.two_qubit_gates
    errors = np.array(result.standard_errors)
    assert (np.abs(np.array(result.values) - exact_values(program, kind)) <= 5 * errors + 0.15).all()

    server.garbled = True
    assert refusal(lambda: backend.result(handle)).failure_class is FailureClass.BACKEND
    server.garbled = False
    server.held = True
    short = backend.submit(envelope, program, "short")
    server.jobs[short.provider_id].body["params"]["quantum_program"]["shots"] = 900
    server.held = False
    until_ended(backend, short)
    missing = refusal(lambda: backend.result(short))
    assert missing.failure_class is FailureClass.BACKEND
    assert "1000 shots" in str(missing)
    # the answer to fewer rows
    note = notes.read("key")
    assert note is not None
    note["reading"]["program"]["rows"] += [[0.0, 0.0]]
    notes.write("key", note)
    unfit = refusal(lambda: backend.result(handle))
    assert unfit.failure_class is FailureClass.BACKEND


def test_read_out_errors_of_values_are_undone_by_the_service(server: IbmServer) -> None:
    backend = Ibm()
    program = PauliProgram(initial=(1, 1, 1), observables=((Term(pauli="ZZZ", coefficient=1.0),),))
    asked = Algorithm(name=PAULI, shots=1024, mitigation=Mitigation(readout=True))
    envelope = program_envelope(backend, program, "estimate", asked)
    handle = backend.submit(envelope, program, "key")
    assert until_ended(backend, handle) is ProviderStatus.SUCCEEDED
    result = backend.result(handle)
    # one circuit and the one that learns the errors
    assert backend.estimate(envelope).execution_seconds == pytest.approx(2 + 350e-6 * 2 * 1024)
    assert result.parameters["calibration_shots"] == result.shots == 1024
    assert result.post_processing is PostProcessing.MITIGATED
    (value,), (raw,), (error,) = result.values[0], result.raw_values[0], result.standard_errors[0]
    assert -1 < raw < -0.8
    assert abs(value + 1) < abs(raw + 1)
    assert abs(value + 1) < 5 * error < 0.2


def test_the_first_bit_is_variable_0(server: IbmServer) -> None:
    backend = Ibm()
    payload = dimod.BinaryQuadraticModel({0: -1.0, 1: 1.5, 2: 1.75}, {(0, 1): 0.5, (1, 2): 0.25}, 0.0, "BINARY")
    algorithm = Algorithm(depth=3, shots=500)
    handle = backend.submit(envelope_for(backend, payload, algorithm), payload, "key")
    until_ended(backend, handle)
    assert max(backend.result(handle).samples, key=lambda sample: sample.count).bits == "100"


def test_a_key_is_sent_once(server: IbmServer) -> None:
    server.held = True
    envelope, payload = small(Ibm())
    handles = {Ibm().submit(envelope, payload, "key") for _ in range(2)}
    assert len(handles) == len(server.jobs) == server.sent("POST", JOBS) == 1


def test_the_newest_job_of_a_key_is_found(server: IbmServer) -> None:
    backend = Ibm()
    envelope, payload = small(backend)
    first = backend.submit(envelope, payload, "key")
    body = server.jobs[first.provider_id].body
    # a second one of the same key, sent by somebody else
    server._accept({}, dict(body))
    found = backend.find("key")
    assert found is not None
    assert found.provider_id == list(server.jobs)[-1] != first.provider_id


def test_vendor_mitigation_travels(server: IbmServer) -> None:
    backend = Ibm()
    asked = Mitigation(twirling=True, dynamical_decoupling="XpXm", readout=True)
    envelope, payload = small(backend, shots=256, mitigation=asked)
    handle = backend.submit(envelope, payload, "key")
    program = server.jobs[handle.provider_id].body["params"]["quantum_program"]
    assert program["items"][0]["item_type"] == "samplex"
    options = program["passthrough_data"]["post_processor"]["options"]
    assert options["dynamical_decoupling"]["sequence_type"] == "XpXm"
    assert until_ended(backend, handle) is ProviderStatus.SUCCEEDED
    result = backend.result(handle)
    assert result.shots == 256
    assert result.expectation_mitigated is not None


def test_cancel_reaches_the_service(server: IbmServer) -> None:
    server.held = True
    backend = Ibm()
    envelope, payload = small(backend)
    handle = backend.submit(envelope, payload, "key")
    assert backend.status(handle) is ProviderStatus.QUEUED
    assert refusal(lambda: backend.result(handle)).failure_class is FailureClass.TRANSIENT
    backend.cancel(handle)
    assert server.jobs[handle.provider_id].status == "Cancelled"
    assert backend.status(handle) is ProviderStatus.CANCELLED
    assert refusal(lambda: backend.result(handle)).failure_class is FailureClass.BACKEND
    # what has ended stays as it is
    backend.cancel(handle)


@pytest.mark.parametrize("mode", ["batch", "session"])
def test_batches_and_sessions(server: IbmServer, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setenv("HYBRID_IBM_MODE", mode)
    backend = Ibm()
    assert backend.capabilities().batch > 1
    too_large = small(backend)[0].model_copy(update={"payload_variables": 157})
    jobs = [(*small(backend, seed), f"key-{seed}") for seed in range(2)]
    answers = backend.submit_many([*jobs, (too_large, jobs[0][1], "key-9")])
    (opened,) = server.sessions.values()
    assert opened["mode"] == {"batch": "batch", "session": "dedicated"}[mode]
    assert not opened["accepting_jobs"], "it stays open and is paid for"
    assert [job.body["session_id"] for job in server.jobs.values()] == [opened["id"]] * 2
    assert [getattr(answer, "key", None) for answer in answers] == ["key-0", "key-1", None]
    assert isinstance(answers[2], BackendError)
    assert answers[2].failure_class is FailureClass.CAPABILITY
    server.fault("POST", "/api/v1/sessions", status=500)
    (answer,) = backend.submit_many([(*small(backend, 3), "key-3")])
    assert isinstance(answer, BackendError)
    assert answer.not_sent


def test_the_queue_is_estimated_and_the_least_busy_device_taken(
    server: IbmServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HYBRID_IBM_BACKEND")
    server.held = True
    backend = Ibm()
    envelope, payload = small(backend)
    assert backend.estimate(envelope).queue_seconds == 0
    backend.submit(envelope, payload, "key")
    assert backend.estimate(envelope).queue_seconds == QUEUED_JOB_SECONDS
    too_large = envelope.model_copy(update={"payload_variables": 8})
    assert refusal(lambda: backend.estimate(too_large)).failure_class is FailureClass.CAPABILITY


def test_a_simulator_is_no_hardware(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with IbmServer(simulator=True) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        backend = Ibm()
        envelope, payload = small(backend)
        handle = backend.submit(envelope, payload, "key")
        until_ended(backend, handle)
        assert backend.result(handle).evidence_class is EvidenceClass.SIMULATOR


# --- failures -------------------------------------------------------------------------------------------------------


def test_a_lost_answer_is_ambiguous_and_the_job_is_adopted(server: IbmServer) -> None:
    backend = Ibm()
    envelope, payload = small(backend)
    server.fault("POST", JOBS, lost=True)
    error = refusal(lambda: backend.submit(envelope, payload, "key"))
    assert error.failure_class is FailureClass.TRANSIENT
    assert not error.not_sent, "the job is there"
    adopted = backend.find("key")
    assert adopted is not None
    assert until_ended(backend, adopted) is ProviderStatus.SUCCEEDED
    assert backend.result(adopted).envelope_digest == envelope.digest
    assert backend.submit(envelope, payload, "key") == adopted
    assert server.sent("POST", JOBS) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, FailureClass.CIRCUIT),
        (401, FailureClass.CAPABILITY),
        (403, FailureClass.CAPABILITY),
        (409, FailureClass.SATURATION),
        (429, FailureClass.SATURATION),
        (500, FailureClass.TRANSIENT),
        (503, FailureClass.TRANSIENT),
    ],
)
def test_answers_have_their_classes(server: IbmServer, status: int, kind: FailureClass) -> None:
    backend = Ibm()
    envelope, payload = small(backend)
    server.fault("POST", JOBS, status=status, headers={"Retry-After": "7"})
    error = refusal(lambda: backend.submit(envelope, payload, "key"))
    assert error.failure_class is kind
    assert error.retry_after == 7
    # the client would repeat a POST five times after a 5xx, without looking
    assert server.sent("POST", JOBS) == 1
    assert not server.jobs

    handle = backend.submit(envelope, payload, "key")
    if status not in (400, 409):
        for call in (lambda: backend.status(handle), lambda: backend.result(handle), lambda: backend.cancel(handle)):
            server.fault("GET", ONE_JOB, status=status)
            assert refusal(call).failure_class is kind
        server.fault("GET", JOBS, status=status)
        assert refusal(lambda: backend.find("key")).failure_class is kind


def test_a_refused_api_key_is_not_repeated(server: IbmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_IBM_TOKEN", API_KEY[:-1] + "x")
    monkeypatch.setattr("tests.unit.test_ibm.API_KEY", API_KEY[:-1] + "x")
    error = refusal(lambda: Ibm().find("key"))
    assert error.failure_class is FailureClass.CAPABILITY
    assert "HYBRID_IBM_TOKEN" in str(error)


def test_nobody_answers(server: IbmServer) -> None:
    backend = Ibm()
    envelope, payload = small(backend)
    assert backend.find("key") is None
    server.disappear()
    # a connection that was open ends in the middle, a new one never comes about
    for _ in range(2):
        error = refusal(lambda: backend.submit(envelope, payload, "key"))
        assert error.failure_class is FailureClass.TRANSIENT
    assert error.not_sent


def test_no_device(server: IbmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_IBM_BACKEND", "ibm_atlantis")
    error = refusal(lambda: Ibm().device(3))
    assert error.failure_class is FailureClass.CAPABILITY
    assert "ibm_atlantis" in str(error)


def test_a_silent_list_of_devices_is_no_missing_device(server: IbmServer) -> None:
    backend = Ibm()
    backend.service()
    server.fault("GET", "/api/v1/(backends|instances/usage)", status=502, times=9)
    assert refusal(lambda: backend.device(3)).failure_class is FailureClass.TRANSIENT


@pytest.mark.parametrize(
    ("reason", "code", "kind", "failure"),
    [
        ("Qubit 3 is broken", 9999, BackendError, FailureClass.BACKEND),
        ("ran too long", 1305, TimedOut, FailureClass.CAPABILITY),
    ],
)
def test_failed_jobs(server: IbmServer, reason: str, code: int, kind: type, failure: FailureClass) -> None:
    backend = Ibm()
    server.fail_with = (reason, code)
    handle = backend.submit(*small(backend), "key")
    assert until_ended(backend, handle) is ProviderStatus.FAILED
    error = refusal(lambda: backend.result(handle))
    assert type(error) is kind
    assert error.failure_class is failure
    assert reason in str(error) or kind is TimedOut


def test_the_services_own_word_for_a_job_that_ran_too_long(server: IbmServer) -> None:
    backend = Ibm()
    handle = backend.submit(*small(backend), "key")
    until_ended(backend, handle)
    server.word = "Cancelled - Ran too long"
    assert backend.status(handle) is ProviderStatus.FAILED
    assert type(refusal(lambda: backend.result(handle))) is TimedOut


def test_strange_answers(server: IbmServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Ibm()
    envelope, payload = small(backend)
    handle = backend.submit(envelope, payload, "key")
    until_ended(backend, handle)
    server.word = "Paused for lunch"
    assert backend.status(handle) is ProviderStatus.UNKNOWN
    server.word, server.garbled = None, True
    assert refusal(lambda: backend.result(handle)).failure_class is FailureClass.BACKEND
    server.garbled = False

    server.held = True
    short = backend.submit(*small(backend, seed=2), "short")
    server.jobs[short.provider_id].body["params"]["quantum_program"]["shots"] = 150
    server.held = False
    until_ended(backend, short)
    missing = refusal(lambda: backend.result(short))
    assert missing.failure_class is FailureClass.BACKEND
    assert "150 of 200 shots" in str(missing)

    other, other_payload = small(backend, seed=1)
    stranger = backend.submit(other, other_payload, "stranger")
    foreign = refusal(lambda: backend.result(JobHandle("ibm", stranger.provider_id, "key")))
    assert foreign.failure_class is FailureClass.BACKEND
    assert "not the one" in str(foreign)

    monkeypatch.setenv("HYBRID_HOME", str(tmp_path / "elsewhere"))
    assert "another home" in str(refusal(lambda: backend.result(handle)))


def test_missing_credentials_are_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Ibm()
    missing = backend.available()
    assert missing is not None
    assert "HYBRID_IBM_TOKEN and HYBRID_IBM_INSTANCE" in missing
    assert backend.capabilities().metered
    error = refusal(lambda: backend.find("key"))
    assert error.failure_class is FailureClass.CAPABILITY
    assert str(error) == missing
    monkeypatch.setenv("QISKIT_IBM_TOKEN", "of the library itself")
    missing = backend.available()
    assert missing is not None
    assert "TOKEN" not in missing
    monkeypatch.setenv("HYBRID_IBM_INSTANCE", "crn")
    monkeypatch.setenv("HYBRID_IBM_MODE", "warp")
    missing = backend.available()
    assert missing is not None
    assert "warp" in missing


# --- notes ----------------------------------------------------------------------------------------------------------


def test_notes(home: Path) -> None:
    assert notes.read("a/../key") is None
    notes.write("a/../key", {"first": 1})
    notes.write("a/../key", {"second": [0.1, None, "ä"]})
    assert notes.read("a/../key") == {"second": [0.1, None, "ä"]}
    assert notes.read("another") is None
    with pytest.raises(ValueError, match="JSON compliant"):
        notes.write("a/../key", {"bad": float("nan")})
    assert notes.read("a/../key") == {"second": [0.1, None, "ä"]}
    assert [path.parent for path in home.rglob("*.json")] == [home / "submissions"]
    assert not list(home.rglob("*.part"))
    notes.remove("a/../key")
    notes.remove("a/../key")
    assert notes.read("a/../key") is None


def test_notes_hold_no_secret(server: IbmServer, home: Path) -> None:
    backend = Ibm()
    backend.submit(*small(backend), "key")
    (note,) = (home / "submissions").iterdir()
    text = note.read_text(encoding="utf-8")
    assert API_KEY not in text + repr(backend)
    assert not any(token in text for token in server.tokens)
