"""Any Qiskit provider: a tiny one of the tests' own, on Qiskit's generic device."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from resources.backends import notes
from resources.backends.base import JobHandle, ProviderStatus
from resources.backends.conformance import BackendConformance, asymmetric_problem, envelope_for
from resources.backends.conformance_programs import asymmetric_program, exact_values, program_envelope
from resources.backends.qiskit_provider import QiskitProvider
from resources.circuits.device import worst_case
from resources.circuits.durations import shot_seconds
from resources.circuits.pauli import Kind, PauliProgram
from resources.envelope import PAULI, Algorithm, EvidenceClass, JobEnvelope, JobResult, Mitigation
from resources.failures import BackendError, FailureClass, InputError

SECRET = "0123456789-secret"


class Vendor:
    """What a vendor's package looks like: a provider, its device, jobs that can be fetched again by id."""

    jobs: ClassVar[dict[str, Any]] = {}
    runs: ClassVar[int] = 0

    def __init__(self, token: str = "", region: str = "") -> None:
        if token == "wrong":
            raise PermissionError(f"token {token} of region {region} refused")
        self.token = token

    def get_backend(self, name: str) -> Any:
        from qiskit.providers.fake_provider import GenericBackendV2
        from qiskit.transpiler import CouplingMap
        from qiskit_aer import AerSimulator

        if name != "vendor-8":
            raise LookupError(f"no device {name} for {self.token}")

        class Device(GenericBackendV2):
            def run(self, run_input: Any, **options: Any) -> Any:
                Vendor.runs += 1
                job = AerSimulator(method="statevector").run(run_input, **options)
                Vendor.jobs[job.job_id()] = job
                return job

        device = Device(8, coupling_map=CouplingMap.from_ring(8), seed=3)
        device.name = name
        return device

    def retrieve_job(self, job_id: str) -> Any:
        return self.jobs[job_id]


class Lossy(Vendor):
    """Takes the job and loses its answer."""

    def get_backend(self, name: str) -> Any:
        device = super().get_backend(name)
        run = device.run

        def losing(*arguments: Any, **options: Any) -> Any:
            run(*arguments, **options)
            raise ConnectionResetError(f"connection of {self.token} reset")

        device.run = losing
        return device


class Busy(Vendor):
    """Refuses with an HTTP status, as vendors' clients do."""

    def get_backend(self, name: str) -> Any:
        class TooMany(Exception):
            status_code = 429

        def refusing(*arguments: Any, **options: Any) -> Any:
            raise TooMany(f"too many requests of {self.token}")

        device = super().get_backend(name)
        device.run = refusing
        return device


class Away(Vendor):
    """Nothing listens where its service should be; the region names the client."""

    def __init__(self, token: str = "", region: str = "") -> None:
        super().__init__(token)
        self.region = region

    def get_backend(self, name: str) -> Any:
        import urllib.request

        import httpx
        import requests

        post = {"requests": requests.post, "httpx": httpx.post, "urllib": urllib.request.urlopen}[self.region]
        device = super().get_backend(name)
        device.run = lambda *arguments, **options: post("http://127.0.0.1:9/jobs")
        return device


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HYBRID_HOME", str(tmp_path))
    monkeypatch.setenv("HYBRID_QISKIT_PROVIDER", "tests.unit.test_qiskit_provider:Vendor")
    monkeypatch.setenv("HYBRID_QISKIT_BACKEND", "vendor-8")
    monkeypatch.setenv("HYBRID_QISKIT_TOKEN", SECRET)
    monkeypatch.delenv("HYBRID_QISKIT_OPTIONS", raising=False)
    monkeypatch.delenv("HYBRID_QISKIT_EVIDENCE", raising=False)


class TestQiskitProvider(BackendConformance):
    depths = (1, 2)
    problems = range(6)

    @pytest.fixture(autouse=True)
    def _emulated(self, _settings: None, monkeypatch: pytest.MonkeyPatch) -> None:
        # the seed test holds for devices that take a seed
        monkeypatch.setenv("HYBRID_QISKIT_EVIDENCE", "emulator")

    def backend(self) -> QiskitProvider:
        return QiskitProvider()


def finished(backend: QiskitProvider, handle: JobHandle) -> JobResult:
    return BackendConformance().wait(backend, handle)


def job(**settings: Any) -> tuple[Any, Any]:
    payload = asymmetric_problem(4, seed=5)
    return payload, envelope_for(QiskitProvider(), payload, Algorithm(depth=2, shots=200, **settings))


def test_another_process_fetches_the_result_once_sent() -> None:
    payload, envelope = job(mitigation=Mitigation(readout=True))
    before = Vendor.runs
    handle = QiskitProvider().submit(envelope, payload, "key")
    assert Vendor.runs == before + 1
    other = QiskitProvider()
    assert other.find("key") == handle
    result = finished(other, handle)
    assert other.submit(envelope, payload, "key") == handle
    assert Vendor.runs == before + 1
    assert result.evidence_class is EvidenceClass.HARDWARE
    assert result.logical_two_qubit_gates == 12
    assert result.two_qubit_gates > 12
    assert result.success_probability is not None
    assert 0 < result.success_probability < 1
    assert result.calibration is not None
    assert {str(qubit) for qubit in result.layout or ()} <= set(result.calibration["qubits"])
    assert result.expectation_mitigated is not None
    assert result.tuning_shots == 5 * 256


def test_time_is_that_of_the_devices_durations(monkeypatch: pytest.MonkeyPatch) -> None:
    _, envelope = job()
    device = Vendor().get_backend("vendor-8")
    each = shot_seconds(worst_case(4, envelope.algorithm, device).circuit, device.target)
    assert each is not None
    assert 1e-6 < each < 1e-4
    assert QiskitProvider().estimate(envelope).execution_seconds == pytest.approx(200 * (250e-6 + each))
    monkeypatch.setattr("resources.backends.qiskit_provider.shot_seconds", lambda circuit, target: None)
    assert QiskitProvider().estimate(envelope).execution_seconds == pytest.approx(200 * 10e-3)


@pytest.mark.parametrize(
    ("seen", "told", "queue", "execute"),
    [
        # sent at 100 s, seen running at 130 s, seen done at 145 s
        ({"running_at": 130.0, "succeeded_at": 145.0}, None, 30.0, 15.0),
        ({"running_at": 130.0, "succeeded_at": 145.0}, 4.0, 30.0, 4.0),
        ({"succeeded_at": 145.0}, 4.0, 41.0, 4.0),
        ({"succeeded_at": 145.0}, None, 0.0, 0.0),
    ],
)
def test_times_are_the_providers_or_what_was_seen(
    seen: dict[str, float], told: float | None, queue: float, execute: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    payload, envelope = job()
    backend = QiskitProvider()
    handle = backend.submit(envelope, payload, "timed")
    note = notes.read("timed")
    assert note is not None
    assert note["sent_at"] > 0
    found = Vendor.jobs[handle.provider_id].result()
    found.time_taken = told
    monkeypatch.setattr(Vendor.jobs[handle.provider_id], "result", lambda: found)
    notes.write("timed", note | {"sent_at": 100.0} | seen)
    result = backend.result(handle)
    assert (result.timings.queue, result.timings.execute) == (queue, execute)
    tuning = result.parameters["tuning_seconds"]
    assert tuning > 0
    assert result.timings.total == pytest.approx(45.0 + result.timings.compile + tuning)
    # another process gives the same document
    assert QiskitProvider().result(handle).timings.queue == queue


def test_what_was_seen_first_is_kept() -> None:
    payload, envelope = job()
    handle = QiskitProvider().submit(envelope, payload, "seen")
    finished(QiskitProvider(), handle)
    first = notes.read("seen")
    assert first is not None
    assert first["sent_at"] <= first["succeeded_at"]
    assert QiskitProvider().status(handle) is ProviderStatus.SUCCEEDED
    assert notes.read("seen") == first


def test_a_lost_answer_is_not_taken_for_a_job_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_QISKIT_PROVIDER", "tests.unit.test_qiskit_provider:Lossy")
    payload, envelope = job()
    with pytest.raises(BackendError, match="ConnectionResetError") as caught:
        QiskitProvider().submit(envelope, payload, "lost")
    assert caught.value.failure_class is FailureClass.TRANSIENT
    assert not caught.value.not_sent
    assert SECRET not in str(caught.value)
    with pytest.raises(BackendError, match="cannot look up") as caught:
        QiskitProvider().find("lost")
    assert caught.value.failure_class is FailureClass.TRANSIENT
    assert not QiskitProvider().capabilities().lookup
    assert SECRET not in str(notes.read("lost"))


def test_a_refused_job_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_QISKIT_PROVIDER", "tests.unit.test_qiskit_provider:Busy")
    payload, envelope = job()
    with pytest.raises(BackendError, match="TooMany") as caught:
        QiskitProvider().submit(envelope, payload, "busy")
    assert caught.value.failure_class is FailureClass.SATURATION
    assert SECRET not in str(caught.value)
    assert QiskitProvider().find("busy") is None


@pytest.mark.parametrize("client", ["requests", "httpx", "urllib"])
def test_no_connection_says_that_nothing_was_sent(monkeypatch: pytest.MonkeyPatch, client: str) -> None:
    monkeypatch.setenv("HYBRID_QISKIT_PROVIDER", "tests.unit.test_qiskit_provider:Away")
    monkeypatch.setenv("HYBRID_QISKIT_OPTIONS", f'{{"region": "{client}"}}')
    payload, envelope = job()
    with pytest.raises(BackendError) as caught:
        QiskitProvider().submit(envelope, payload, "away")
    assert (caught.value.failure_class, caught.value.not_sent) == (FailureClass.TRANSIENT, True)
    assert QiskitProvider().find("away") is None


def test_a_device_that_says_it_is_a_simulator_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Vendor.get_backend

    def honest(self: Vendor, name: str) -> Any:
        device = original(self, name)
        device.simulator = True
        return device

    monkeypatch.setattr(Vendor, "get_backend", honest)
    payload, envelope = job()
    backend = QiskitProvider()
    assert finished(backend, backend.submit(envelope, payload, "key")).evidence_class is EvidenceClass.SIMULATOR


def test_missing_and_wrong_settings_are_said_without_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    payload, envelope = job()
    monkeypatch.setenv("HYBRID_QISKIT_BACKEND", "vendor-9")
    with pytest.raises(BackendError, match="no device vendor-9") as caught:
        QiskitProvider().submit(envelope, payload, "key")
    assert caught.value.failure_class is FailureClass.CAPABILITY
    assert caught.value.not_sent
    assert SECRET not in str(caught.value)

    monkeypatch.setenv("HYBRID_QISKIT_OPTIONS", '{"token": "wrong", "region": "password-of-eu"}')
    with pytest.raises(BackendError, match="PermissionError") as caught:
        QiskitProvider().submit(envelope, payload, "key")
    assert "password-of-eu" not in str(caught.value)
    assert caught.value.__cause__ is None
    monkeypatch.setenv("HYBRID_QISKIT_OPTIONS", f"[{SECRET}")
    with pytest.raises(BackendError, match="HYBRID_QISKIT_OPTIONS is not a JSON object") as caught:
        QiskitProvider().submit(envelope, payload, "key")
    assert SECRET not in str(caught.value)

    monkeypatch.setenv("HYBRID_QISKIT_PROVIDER", "no_such_vendor:Provider")
    assert "no_such_vendor" in str(QiskitProvider().available())
    monkeypatch.delenv("HYBRID_QISKIT_PROVIDER")
    monkeypatch.delenv("HYBRID_QISKIT_BACKEND")
    assert "HYBRID_QISKIT_PROVIDER and HYBRID_QISKIT_BACKEND" in str(QiskitProvider().available())
    monkeypatch.setenv("HYBRID_QISKIT_EVIDENCE", "real")
    with pytest.raises(InputError, match="HYBRID_QISKIT_EVIDENCE"):
        QiskitProvider().capabilities()


def test_a_status_word_nobody_knows_is_unknown() -> None:
    payload, envelope = job()
    backend = QiskitProvider()
    handle = backend.submit(envelope, payload, "key")
    finished(backend, handle)
    Vendor.jobs[handle.provider_id].status = lambda: "SLEEPING"
    assert backend.status(handle) is ProviderStatus.UNKNOWN


# --- estimate and kernel jobs -----------------------------------------------------------------------------------------


def program_job(kind: Kind, **settings: Any) -> tuple[PauliProgram, JobEnvelope]:
    program = asymmetric_program(kind)
    algorithm = Algorithm(name=PAULI, shots=1000, seed=3, **settings)
    return program, program_envelope(QiskitProvider(), program, kind, algorithm)


@pytest.mark.parametrize(("kind", "circuits"), [("estimate", 12), ("kernel", 3)])
def test_all_circuits_of_a_program_are_one_job_that_another_process_reads(kind: Kind, circuits: int) -> None:
    program, envelope = program_job(kind)
    assert envelope.program.circuits == circuits
    before = Vendor.runs
    handle = QiskitProvider().submit(envelope, program, "key")
    assert Vendor.runs == before + 1
    result = finished(QiskitProvider(), handle)
    assert (result.circuits, result.shots) == (circuits, 1000 * circuits)
    values, errors = np.array(result.values), np.array(result.standard_errors)
    assert (np.abs(values - exact_values(program, kind)) <= 5 * errors + 1e-9).all()


def test_values_are_corrected_for_the_read_out_errors_of_the_target() -> None:
    program, envelope = program_job("estimate", mitigation=Mitigation(readout=True))
    backend = QiskitProvider()
    result = finished(backend, backend.submit(envelope, program, "key"))
    # the machine reads out perfectly, its target says that it does not: the correction overshoots
    raw, corrected = np.array(result.raw_values), np.array(result.values)
    assert raw.shape == corrected.shape == (3, 2)
    assert (np.abs(raw - corrected) > 1e-4).any()
    assert (np.array(result.standard_errors) > 0).all()


@pytest.mark.parametrize(("most", "refused"), [(11, True), (12, False)])
def test_more_circuits_than_the_device_takes_are_refused_before_they_are_sent(
    monkeypatch: pytest.MonkeyPatch, most: int, refused: bool
) -> None:
    original = Vendor.get_backend

    def small(self: Vendor, name: str) -> Any:
        device = original(self, name)
        type(device).max_circuits = most
        return device

    monkeypatch.setattr(Vendor, "get_backend", small)
    (program, envelope), before = program_job("estimate"), Vendor.runs
    if not refused:
        QiskitProvider().submit(envelope, program, "key")
        return
    # what is refused is not compiled
    monkeypatch.setattr("resources.backends.qiskit_provider._planned", None)
    with pytest.raises(BackendError, match="takes 11 circuits a job, this one has 12") as caught:
        QiskitProvider().submit(envelope, program, "key")
    assert (caught.value.failure_class, caught.value.not_sent) == (FailureClass.CAPABILITY, True)
    assert Vendor.runs == before
    assert QiskitProvider().find("key") is None


def without_a_circuit(result: Any) -> None:
    result.results.pop()


def without_a_shot(result: Any) -> None:
    result.results[1].data.memory.pop()


def without_single_shots(result: Any) -> None:
    # the sampler alone would read zeros
    del result.results[1].data.memory


def with_words(result: Any) -> None:
    result.results[1].data.memory[0] = "nonsense"


@pytest.mark.parametrize("spoil", [without_a_circuit, without_a_shot, without_single_shots, with_words])
def test_a_spoilt_answer_is_noticed(spoil: Callable[[Any], None]) -> None:
    program, envelope = program_job("kernel")
    backend = QiskitProvider()
    handle = backend.submit(envelope, program, "key")
    finished(QiskitProvider(), handle)
    vendors = Vendor.jobs[handle.provider_id]
    answer = copy.deepcopy(vendors.result())
    spoil(answer)
    vendors.result = lambda: answer
    with pytest.raises(BackendError) as caught:
        backend.result(handle)
    assert caught.value.failure_class is FailureClass.BACKEND
