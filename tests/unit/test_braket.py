"""Braket: circuits and noise against independent computations; boto3 against a Braket and S3 on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("braket.circuits", reason="the extra braket is not installed")

from resources.backends import notes
from resources.backends.base import JobHandle, ProviderStatus
from resources.backends.braket import ION_TRAP, BraketEmulator, BraketLocal, plan
from resources.backends.braket_aws import Braket, price_of
from resources.backends.braket_calibration import snapshot
from resources.backends.braket_programs import inputs_of, pauli_circuit
from resources.backends.conformance import BackendConformance, asymmetric_problem, envelope_for
from resources.backends.conformance_programs import asymmetric_program, exact_values, program_envelope
from resources.circuits.ising import Ising
from resources.circuits.pauli import Kind, PauliProgram, PauliStructure, Rotation, Term
from resources.envelope import PAULI, Algorithm, Compilation, EvidenceClass, JobEnvelope
from resources.failures import BackendError, FailureClass
from tests.loopback.braket_server import LOST, BraketServer

ACCESS_KEY, SECRET = "AKIALOOPBACKKEY", "secret-not-to-be-seen-0123456789"
DEVICE = "arn:aws:braket:us-east-1::device/qpu/iqm/Garnet"
KEY = "k" * 64
QAOA = Algorithm(depth=2, shots=200, ramp_lengths=(3.0,), seed=5)


# --- local ------------------------------------------------------------------------------------------------------------


def test_the_circuit_is_qaoa_of_the_payload() -> None:
    """Against a statevector built from the payload's own energies, without gates."""
    payload = asymmetric_problem(5, 3)
    planned = plan(envelope_for(BraketLocal(), payload, QAOA), payload)
    ising = Ising.from_bqm(payload)
    states = (np.arange(32)[:, None] >> np.arange(5)[::-1]) & 1
    energies = payload.energies((states, range(5))) / ising.scale
    amplitudes = np.full(32, 32**-0.5, dtype=complex)
    parameters = planned.record["result"]["parameters"]
    for gamma, beta in zip(parameters["gammas"], parameters["betas"], strict=True):
        amplitudes = amplitudes * np.exp(-1j * gamma * energies)
        for _ in range(5):
            # one qubit after the other moves to the front
            pairs = amplitudes.reshape(2, 16)
            mixed = np.array([[np.cos(beta), 1j * np.sin(beta)], [1j * np.sin(beta), np.cos(beta)]]) @ pairs
            amplitudes = mixed.T.reshape(32)
    program = BraketLocal().program(planned.structure)
    bits = program.sample(planned.inputs, 200_000, seed=1)
    counts = np.bincount(bits @ (1 << np.arange(5)[::-1]), minlength=32) / 200_000
    assert np.abs(counts - np.abs(amplitudes) ** 2).max() < 0.006


def test_the_emulator_is_noisier_than_the_simulator_and_says_so() -> None:
    payload = asymmetric_problem(4, 1)
    deep = Algorithm(depth=6, shots=4000, ramp_lengths=(3.0,))
    ideal = BraketLocal().run(envelope_for(BraketLocal(), payload, deep), payload)
    noisy = BraketEmulator().run(envelope_for(BraketEmulator(), payload, deep), payload)
    states = (np.arange(16)[:, None] >> np.arange(4)) & 1
    uniform = payload.energies((states, range(4))).mean()
    assert ideal.expectation_raw < noisy.expectation_raw < uniform
    assert noisy.evidence_class is EvidenceClass.EMULATOR
    # H and, in each of 6 layers, 4 fields, 4 mixers and 6 couplings
    gates = ION_TRAP.one_qubit ** (4 + 6 * 8) * ION_TRAP.two_qubit ** (6 * 6)
    assert noisy.success_probability == pytest.approx(gates * ION_TRAP.readout**4)
    assert noisy.calibration["two_qubit"] == ION_TRAP.two_qubit


def test_read_out_errors_are_in_the_emulated_distribution() -> None:
    """One qubit in a field: what is left of certainty is what the gates and the read-out take."""
    import dimod

    payload = dimod.BinaryQuadraticModel({0: 1.0}, {}, 0.0, "BINARY")
    one = Algorithm(depth=1, shots=100, ramp_lengths=(1.0,))
    planned = plan(envelope_for(BraketEmulator(), payload, one), payload)
    # phase π/2 and mixer −π/2 turn |+⟩ into a basis state
    inputs = {"a0": np.pi / 2, "a1": -np.pi / 2}
    ideal = BraketLocal().program(planned.structure).sample(inputs, 100_000, 0).mean()
    noisy = BraketEmulator().program(planned.structure).sample(inputs, 100_000, 0).mean()
    assert ideal in (0.0, 1.0)
    # three gates, of whose error 2/3 flips the state, and the read-out
    expected = 1 - ION_TRAP.readout + 3 * (1 - ION_TRAP.one_qubit)
    assert abs(noisy - ideal) == pytest.approx(expected, abs=1e-3)


# --- the cloud --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[BraketServer]:
    with BraketServer(ACCESS_KEY) as service:
        yield service


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: BraketServer) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_ENDPOINT_URL_BRAKET": server.endpoint,
        "AWS_ENDPOINT_URL_S3": server.endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        "HYBRID_BRAKET_DEVICE": DEVICE,
        "HYBRID_BRAKET_S3": "s3://hybrid-results/tests",
        "HYBRID_HOME": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    for store in (server.tasks, server.by_token, server.objects, server.requests, server._faults):
        store.clear()
    server.hold, server.page, server.device_status, server.scattered = False, 100, "ONLINE", False


def job(seed: int = 0):  # type: ignore[no-untyped-def]
    payload = asymmetric_problem(4, seed)
    return envelope_for(Braket(), payload, QAOA), payload


class TestLoopbackConformance(BackendConformance):
    """The device's adapter passes the suite for any backend, through boto3."""

    problems = range(2)
    depths = (1, 4)
    # the service's shots have no seed
    noise = 0.02

    def backend(self) -> Braket:
        return Braket()


def test_another_process_reads_the_result(server: BraketServer) -> None:
    envelope, payload = job()
    server.hold = True
    handle = Braket().submit(envelope, payload, KEY)
    assert Braket().status(handle) is ProviderStatus.QUEUED
    with pytest.raises(BackendError, match="has no result"):
        Braket().result(handle)
    server.hold = False
    assert Braket().find(KEY) == handle
    assert Braket().status(handle) is ProviderStatus.SUCCEEDED
    result = Braket().result(handle)
    assert result.envelope_digest == envelope.digest
    assert result.evidence_class is EvidenceClass.HARDWARE
    assert result.shots == 200
    assert result.backend_version == "qpu/iqm/Garnet"
    assert result.actual_cost == pytest.approx(0.30 + 200 * 0.00145)
    assert result.actual_cost == pytest.approx(Braket().estimate(envelope).cost)
    energies = payload.energies((((np.arange(16)[:, None] >> np.arange(4)) & 1), range(4)))
    assert result.expectation_raw < energies.mean()


def test_a_lost_answer_is_adopted_and_a_blind_repetition_is_the_same_task(
    server: BraketServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    envelope, payload = job()
    server.fail("/quantum-task", LOST)
    with pytest.raises(BackendError) as lost:
        Braket().submit(envelope, payload, KEY)
    assert lost.value.failure_class is FailureClass.TRANSIENT
    assert not lost.value.not_sent
    (arn,) = server.tasks
    found = Braket().find(KEY)
    assert found == JobHandle("braket", arn, KEY)
    # a list that is behind: the client token alone must do
    monkeypatch.setattr(server, "listed", lambda body: {"quantumTasks": []})
    assert Braket().find(KEY) is None
    assert Braket().submit(envelope, payload, KEY).provider_id == arn
    # even where the note of the first sending is not at hand
    monkeypatch.setenv("HYBRID_HOME", str(tmp_path / "elsewhere"))
    assert Braket().submit(envelope, payload, KEY).provider_id == arn
    assert len(server.tasks) == 1


def test_the_list_is_read_to_its_end_and_other_tags_are_others(server: BraketServer) -> None:
    server.page, server.hold = 2, True
    backend = Braket()
    for seed in range(5):
        backend.submit(*job(seed), f"key-{seed}")
    assert {backend.find(f"key-{seed}").provider_id for seed in range(5)} == set(server.tasks)
    assert backend.find("key") is None


@pytest.mark.parametrize(
    ("status", "code", "failure_class", "wait"),
    [
        (403, "AccessDeniedException", FailureClass.CAPABILITY, None),
        (400, "ValidationException", FailureClass.CAPABILITY, None),
        (424, "DeviceOfflineException", FailureClass.CAPABILITY, None),
        (429, "ThrottlingException", FailureClass.SATURATION, 7.0),
        (402, "ServiceQuotaExceededException", FailureClass.SATURATION, 7.0),
        (500, "InternalServiceException", FailureClass.TRANSIENT, None),
        (503, "", FailureClass.TRANSIENT, None),
        (401, "Anything", FailureClass.CAPABILITY, None),
    ],
)
@pytest.mark.parametrize("place", ["/quantum-task", "/quantum-tasks"])
def test_failures_have_their_class(
    server: BraketServer, place: str, status: int, code: str, failure_class: FailureClass, wait: float | None
) -> None:
    envelope, payload = job()
    server.fail(place, status, code, {"Retry-After": "7"})
    with pytest.raises(BackendError) as failed:
        Braket().submit(envelope, payload, KEY) if place == "/quantum-task" else Braket().find(KEY)
    assert failed.value.failure_class is failure_class
    assert failed.value.retry_after == wait
    assert failed.value.__cause__ is None
    assert server.tasks == {}
    # nothing was repeated behind the dispatcher's back
    assert [path for _, path in server.requests].count(place) == 1


def test_wrong_credentials_are_never_repeated_in_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIASOMEBODYELSE")
    with pytest.raises(BackendError) as refused:
        Braket().submit(*job(), KEY)
    assert refused.value.failure_class is FailureClass.CAPABILITY
    for hidden in ("AKIASOMEBODYELSE", SECRET):
        assert hidden not in str(refused.value) + repr(refused.value.__cause__)


def test_no_connection_says_that_nothing_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_BRAKET", "http://127.0.0.1:9")
    with pytest.raises(BackendError) as unreachable:
        Braket().submit(*job(), KEY)
    assert unreachable.value.failure_class is FailureClass.TRANSIENT
    assert unreachable.value.not_sent


@pytest.mark.parametrize("damage", ["garbled", "partial", "shots", "missing"])
def test_a_damaged_result_is_refused(server: BraketServer, damage: str) -> None:
    handle = Braket().submit(*job(), KEY)
    assert Braket().status(handle) is ProviderStatus.SUCCEEDED
    (place,) = server.objects
    whole = server.objects[place]
    fewer = json.loads(whole)
    fewer["measurements"] = fewer["measurements"][:150]
    server.objects[place] = {
        "garbled": b'{"braketSchemaHeader": ',
        "partial": whole[: len(whole) // 2],
        "shots": json.dumps(fewer).encode(),
    }.get(damage, b"")
    if damage == "missing":
        del server.objects[place]
    with pytest.raises(BackendError) as refused:
        Braket().result(handle)
    assert refused.value.failure_class is FailureClass.BACKEND
    server.objects[place] = whole
    assert Braket().result(handle).shots == 200


def test_another_jobs_result_is_refused() -> None:
    Braket().submit(*job(1), "one")
    other = Braket().submit(*job(2), "two")
    with pytest.raises(BackendError, match="another job's"):
        Braket().result(JobHandle("braket", other.provider_id, "one"))


# --- programs ---------------------------------------------------------------------------------------------------------


def program_job(kind: Kind = "estimate", shots: int = 100) -> tuple[JobEnvelope, PauliProgram]:
    program = asymmetric_program(kind)
    return program_envelope(Braket(), program, kind, Algorithm(name=PAULI, shots=shots)), program


@pytest.mark.parametrize("structure", [
    PauliStructure((0, 1, 0, 0), ("XIZI", "YXZY", "ZZZZ", "IIYI"), "XYZZ"), PauliStructure((0, 0), (), "ZX"),
])  # fmt: skip
def test_a_programs_circuit_is_its_rotations(structure: PauliStructure) -> None:
    angles = np.array([[0.3, -1.1, 0.7, 2.0][: structure.parameters]])
    rotations = [
        Rotation(pauli=pauli, factor=angle) for pauli, angle in zip(structure.paulis, angles[0].tolist(), strict=True)
    ]
    circuit = pauli_circuit(structure)
    assert circuit.qubit_count == structure.variables
    matrix = circuit.make_bound_circuit(inputs_of(angles[0])).to_unitary()
    for place, letter in enumerate(structure.basis):
        string = "".join(letter if qubit == place else "I" for qubit in range(structure.variables))
        program = PauliProgram(
            initial=structure.initial, rotations=rotations, observables=((Term(pauli=string, coefficient=1.0),),)
        )
        bit = (np.arange(2**structure.variables) >> (structure.variables - 1 - place)) & 1
        found = float((np.abs(matrix[:, 0]) ** 2 * (1 - 2 * bit)).sum())
        assert found == pytest.approx(exact_values(program, "estimate")[0, 0], abs=1e-9)


def test_all_circuits_of_a_job_are_one_task(server: BraketServer) -> None:
    backend, (envelope, program) = Braket(), program_job()
    handle = backend.submit(envelope, program, KEY)
    (task,) = server.tasks.values()
    # 12 circuits: three rows in four bases
    assert task["shots"] == 1200
    sent = json.loads(task["action"])
    assert [len(part["inputs"]["a0"]) for part in sent["programs"]] == [3, 3, 3, 3]
    assert "0.3" not in sent["programs"][0]["source"]
    assert Braket().submit(envelope, program, KEY) == handle
    assert len(server.tasks) == 1
    result = Braket().result(handle)
    assert result == backend.result(handle)
    assert result.actual_cost == pytest.approx(0.30 + 1200 * price_of(DEVICE).shot)
    estimate = backend.estimate(envelope)
    assert estimate.cost == pytest.approx(result.actual_cost)
    assert estimate.execution_seconds > 1.2
    assert result.success_probability is not None
    assert 0 < result.success_probability < 1


@pytest.mark.parametrize("kind", ["estimate", "kernel"])
def test_parts_in_files_of_their_own_are_read(server: BraketServer, kind: Kind) -> None:
    server.scattered = True
    envelope, program = program_job(kind, shots=1000)
    result = Braket().result(Braket().submit(envelope, program, KEY))
    errors = np.array(result.standard_errors)
    assert (np.abs(np.array(result.values) - exact_values(program, kind)) <= 5 * errors + 0.02).all()
    place = next(place for place in server.objects if "executables" in place)
    del server.objects[place]
    with pytest.raises(BackendError) as refused:
        Braket().result(Braket().submit(envelope, program, KEY))
    assert refused.value.failure_class is FailureClass.BACKEND


def test_a_lost_answer_of_a_program_is_adopted(server: BraketServer) -> None:
    envelope, program = program_job()
    server.fail("/quantum-task", LOST)
    with pytest.raises(BackendError) as lost:
        Braket().submit(envelope, program, KEY)
    assert not lost.value.not_sent
    assert Braket().submit(envelope, program, KEY) == Braket().find(KEY)
    assert len(server.tasks) == 1


@pytest.mark.parametrize("damage", ["garbled", "a circuit", "a program", "shots", "failed", "another kind"])
def test_a_damaged_program_set_is_refused(server: BraketServer, damage: str) -> None:
    envelope, program = program_job()
    handle = Braket().submit(envelope, program, KEY)
    assert Braket().status(handle) is ProviderStatus.SUCCEEDED
    ((place, whole),) = server.objects.items()
    told = json.loads(whole)
    executables = told["programResults"][1]["executableResults"]
    if damage == "a circuit":
        del executables[1]
    elif damage == "a program":
        del told["programResults"][3]
    elif damage == "shots":
        executables[2]["measurements"] = executables[2]["measurements"][:50]
    elif damage == "failed":
        header = {"name": "braket.task_result.program_set_executable_failure", "version": "1"}
        reason = {"failureReason": "a qubit was lost", "retryable": True, "category": "DEVICE"}
        executables[2] = {"braketSchemaHeader": header, "inputsIndex": 2, "failureMetadata": reason}
    elif damage == "another kind":
        told = {"measurements": [[0, 1]]}
    server.objects[place] = b"{" if damage == "garbled" else json.dumps(told).encode()
    with pytest.raises(BackendError, match="a qubit was lost" if damage == "failed" else "cannot be read") as refused:
        Braket().result(handle)
    assert refused.value.failure_class is FailureClass.BACKEND


def test_read_outs_told_as_probabilities_are_read(server: BraketServer) -> None:
    envelope, program = program_job("kernel")
    handle = Braket().submit(envelope, program, KEY)
    Braket().status(handle)
    ((place, whole),) = server.objects.items()
    told = json.loads(whole)
    for one in told["programResults"][0]["executableResults"]:
        one |= {"measurements": None, "measurementProbabilities": {"100": 0.75, "001": 0.25}}
    server.objects[place] = json.dumps(told).encode()
    # qubit 0 first: 100 is where the program starts
    assert np.array(Braket().result(handle).values) == pytest.approx(0.75 + 0.25 * np.eye(3))


@pytest.mark.parametrize("limits", [
    None, {"maximumExecutables": 11, "maximumTotalShots": 10**6}, {"maximumExecutables": 12, "maximumTotalShots": 1199}
])  # fmt: skip
def test_a_device_without_such_program_sets_is_passed_by(
    server: BraketServer, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int] | None
) -> None:
    monkeypatch.setattr(server, "program_sets", limits)
    envelope, program = program_job()
    with pytest.raises(BackendError, match="program set") as refused:
        Braket().submit(envelope, program, KEY)
    assert refused.value.failure_class is FailureClass.CAPABILITY
    assert refused.value.not_sent
    assert not server.tasks
    assert notes.read(KEY) is None


def test_cancel(server: BraketServer) -> None:
    server.hold = True
    handle = Braket().submit(*job(), KEY)
    Braket().cancel(handle)
    assert Braket().status(handle) is ProviderStatus.CANCELLED
    # the second time there is nothing to stop
    Braket().cancel(handle)


@pytest.mark.parametrize(("status", "shots"), [("OFFLINE", 200), ("RETIRED", 200), ("ONLINE", 20_001)])
def test_what_the_device_cannot_take_is_refused_before_anything_is_sent(
    server: BraketServer, status: str, shots: int
) -> None:
    server.device_status = status
    envelope, payload = job()
    envelope = envelope.model_copy(update={"algorithm": QAOA.model_copy(update={"shots": shots})})
    with pytest.raises(BackendError, match=status if status != "ONLINE" else "at most 20000 shots") as refused:
        Braket().submit(envelope, payload, KEY)
    assert refused.value.failure_class is FailureClass.CAPABILITY
    assert refused.value.not_sent
    assert server.tasks == {}


def test_the_devices_calibration_travels_with_the_result() -> None:
    backend = Braket()
    result = backend.result(backend.submit(*job(), KEY))
    assert result.calibration == backend.calibration()
    assert result.calibration["two_qubit_fidelity"] == pytest.approx(0.99)
    assert result.calibration["time"].startswith("2026-11-21")
    # H and, in each of 2 layers, 4 fields, 4 mixers and 6 couplings
    assert result.success_probability == pytest.approx(0.999 ** (4 + 2 * 8) * 0.99 ** (2 * 6) * 0.97**4)


def standardized(**told) -> dict:  # type: ignore[no-untyped-def,type-arg]
    return {"service": {"updatedAt": "2026-11-20"}, "standardized": told}


def test_coherence_times_are_read_in_seconds() -> None:
    gate = {"fidelityType": {"name": "RANDOMIZED_BENCHMARKING"}, "fidelity": 0.99}
    qubits = {
        str(i): {"T1": {"value": t1, "unit": unit}, "T2": {"value": 10.0, "unit": "us"}, "oneQubitFidelity": [gate]}
        for i, (t1, unit) in enumerate([(20.0, "us"), (0.00004, "s")])
    }
    read = snapshot(standardized(oneQubitProperties=qubits))
    expected = {"time": "2026-11-20", "t1_seconds": 3e-5, "t2_seconds": 1e-5, "one_qubit_fidelity": 0.99}
    assert read == pytest.approx(expected)


def test_an_ion_trap_tells_of_the_whole_device() -> None:
    # as version 3 of the standardized properties has it: kinds of fidelity are optional
    read = snapshot(
        standardized(
            oneQubitProperties={"0": {"oneQubitFidelity": [{"fidelityType": None, "fidelity": 0.9998}]}},
            T1={"value": 100.0, "unit": "s"},
            T2={"value": 1000.0, "unit": "ms"},
            readoutFidelity=[{"fidelity": 0.995, "fidelityType": None}],
            twoQubitGateFidelity=[{"fidelity": 0.98}],
            updatedAt="2026-11-21T12:00:00Z",
        )
    )
    assert read == {
        "time": "2026-11-21T12:00:00Z",
        "t1_seconds": 100.0,
        "t2_seconds": 1.0,
        "one_qubit_fidelity": 0.9998,
        "two_qubit_fidelity": 0.98,
        "readout_fidelity": 0.995,
    }
    own = snapshot({"provider": {"fidelity": {"1Q": {"mean": 0.99}, "2Q": {"mean": 0.9}, "spam": {"mean": 0.95}}}})
    assert own == {"time": None, "one_qubit_fidelity": 0.99, "two_qubit_fidelity": 0.9, "readout_fidelity": 0.95}


def test_an_estimate_is_routed_where_the_device_has_a_topology(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Braket().estimate(job()[0])
    assert grid.coupling_map == "grid"
    assert grid.two_qubit_gates == 3 * grid.logical_two_qubit_gates == 3 * 2 * 6
    monkeypatch.setenv("HYBRID_BRAKET_DEVICE", "arn:aws:braket:us-east-1::device/qpu/ionq/Forte-1")
    full = Braket().estimate(job()[0])
    assert (full.coupling_map, full.two_qubit_gates) == ("full", 2 * 6)


def test_a_layout_is_refused_rather_than_ignored(server: BraketServer) -> None:
    envelope, payload = job()
    placed = QAOA.model_copy(update={"compilation": Compilation(layout=(3, 2, 1, 0))})
    with pytest.raises(BackendError, match="takes no layout") as refused:
        Braket().submit(envelope.model_copy(update={"algorithm": placed}), payload, KEY)
    assert refused.value.failure_class is FailureClass.CAPABILITY
    assert server.tasks == {}


def test_an_unknown_status_word_means_look_again(server: BraketServer) -> None:
    handle = Braket().submit(*job(), KEY)
    server.tasks[handle.provider_id]["status"] = "PONDERING"
    assert Braket().status(handle) is ProviderStatus.UNKNOWN


def test_a_simulator_of_the_cloud_is_no_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_BRAKET_DEVICE", "arn:aws:braket:::device/quantum-simulator/amazon/sv1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    assert Braket().capabilities().evidence_class is EvidenceClass.SIMULATOR
    handle = Braket().submit(*job(), KEY)
    result = Braket().result(handle)
    assert result.evidence_class is EvidenceClass.SIMULATOR
    assert (result.calibration, result.success_probability) == (None, None)
    assert result.actual_cost == pytest.approx(3 / 60 * 0.075)


def test_missing_settings_are_named_and_nothing_is_asked(monkeypatch: pytest.MonkeyPatch, server: BraketServer) -> None:
    assert Braket().available() is None
    for name in ("HYBRID_BRAKET_DEVICE", "HYBRID_BRAKET_S3", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name)
    said = Braket().available() or ""
    assert all(name in said for name in ("HYBRID_BRAKET_DEVICE", "HYBRID_BRAKET_S3", "AWS_ACCESS_KEY_ID"))
    Braket().capabilities()
    assert server.requests == []


def test_the_note_holds_no_secret(tmp_path: Path) -> None:
    handle = Braket().submit(*job(), KEY)
    (note,) = (tmp_path / "submissions").iterdir()
    assert ACCESS_KEY not in note.read_text()
    assert SECRET not in note.read_text()
    Braket().forget(handle)
    with pytest.raises(BackendError, match="note of task"):
        Braket().result(handle)
