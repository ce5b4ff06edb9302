"""Amazon Braket in the cloud: one device by its ARN, asked through boto3's ``braket`` and ``s3`` clients.

The job's key travels twice. As the request's client token it makes a repeated request the same task at the service. As
the tag ``hybrid-key`` it is what ``find`` looks for in the list of the device's tasks: Braket's search has no filter
for tags, but lists them. ``AwsDevice.run`` of the SDK takes no client token, so the SDK serves for circuits and
results only. Credentials come from boto3's own environment variables.

Not here: circuits and angles (``braket``, ``braket_programs``), errors (``braket_client``), accounts and prices
for people (``docs/hardware.md``).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from resources.backends import braket_programs as programs
from resources.backends import notes
from resources.backends.base import Capabilities, Estimate, JobHandle, ProviderStatus, QuantumBackend
from resources.backends.braket import PACKAGES, fidelity, missing_sdk, openqasm, plan, qaoa_circuit
from resources.backends.braket_calibration import snapshot
from resources.backends.braket_client import calling
from resources.backends.device_time import on_device
from resources.backends.program_trip import answer_program
from resources.backends.trip import answer
from resources.circuits.device import CouplingMapName, estimate_on
from resources.circuits.templates import Shape
from resources.envelope import KINDS, PAULI, QAOA, EvidenceClass, JobEnvelope, JobResult
from resources.failures import BackendError, FailureClass

if TYPE_CHECKING:
    from resources.payloads import Payload

_DEVICE, _FOLDER = "HYBRID_BRAKET_DEVICE", "HYBRID_BRAKET_S3"
#: Any of them says where boto3 finds its credentials.
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_TAG = "hybrid-key"
_STATUS = {
    "CREATED": ProviderStatus.QUEUED,
    "QUEUED": ProviderStatus.QUEUED,
    "RUNNING": ProviderStatus.RUNNING,
    "CANCELLING": ProviderStatus.RUNNING,
    "COMPLETED": ProviderStatus.SUCCEEDED,
    "FAILED": ProviderStatus.FAILED,
    "CANCELLED": ProviderStatus.CANCELLED,
}


class Price(NamedTuple):
    """US dollars per task, per shot and per minute."""

    task: float = 0.0
    shot: float = 0.0
    minute: float = 0.0


#: On-demand prices that Braket published in 2025, by the end of the ARN before a version; of it and the
#: policy's list the dearer counts.
PRICES = {
    "qpu/aqt/Ibex": Price(0.30, 0.0235),
    "qpu/ionq/Aria": Price(0.30, 0.03),
    "qpu/ionq/Forte": Price(0.30, 0.08),
    "qpu/iqm/Garnet": Price(0.30, 0.00145),
    "qpu/iqm/Emerald": Price(0.30, 0.0016),
    "qpu/rigetti/Ankaa": Price(0.30, 0.0009),
    "quantum-simulator/amazon/sv1": Price(minute=0.075),
    "quantum-simulator/amazon/dm1": Price(minute=0.075),
    "quantum-simulator/amazon/tn1": Price(minute=0.275),
}
#: An unknown processor is taken for the dearest of the list.
_UNKNOWN = Price(0.30, 0.08)


def _evidence(arn: str) -> EvidenceClass:
    simulated = ":device/quantum-simulator/" in arn
    return EvidenceClass.SIMULATOR if simulated else EvidenceClass.HARDWARE


def price_of(arn: str) -> Price:
    """The published price of a device."""
    return next((price for part, price in PRICES.items() if f":device/{part}" in arn), _UNKNOWN)


def coupling_map_of(arn: str) -> CouplingMapName:
    """``grid`` for the superconducting devices of IQM and Rigetti; ion traps and simulators couple every pair."""
    return "grid" if any(f":device/qpu/{vendor}/" in arn for vendor in ("iqm", "rigetti")) else "full"


def success_probability(structures: Sequence[Shape], calibrated: dict[str, Any]) -> float | None:
    """Mean fidelities to the power of the gates as sent, of the worst of the circuits: an upper bound, since Braket
    routes and decomposes them; ``None`` where the device publishes no fidelities."""
    names = ("one_qubit_fidelity", "two_qubit_fidelity", "readout_fidelity")
    if any(name not in calibrated for name in names):
        return None
    return min(1.0, *(fidelity(structure, *(calibrated[name] for name in names)) for structure in structures))


def _token(key: str) -> str:
    # client tokens have at most 64 characters, whatever a key looks like
    return hashlib.sha256(key.encode()).hexdigest()


@dataclass
class Braket(QuantumBackend):
    """The device named by ``HYBRID_BRAKET_DEVICE`` (an ARN); results go to ``HYBRID_BRAKET_S3`` (``s3://bucket/…``).

    Attributes:
        max_variables: largest payload accepted before anything is sent; the service refuses what the device lacks.
    """

    name = "braket"
    max_variables: int = 64
    _clients: dict[tuple[str, str], Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def device(self) -> str:
        """The device's ARN."""
        return os.environ.get(_DEVICE, "")

    def capabilities(self) -> Capabilities:
        """All jobs; a processor is ``hardware``, one of Braket's own simulators ``simulator``, as the ARN says."""
        evidence = _evidence(self.device)
        return Capabilities(
            evidence,
            self.max_variables,
            (*QAOA, PAULI),
            KINDS,
            metered=True,
            tier=str(evidence.value),
            remote=True,
            leaves_machine=True,
            settling_seconds=60.0,
            idempotent=True,
            device=os.environ.get(_DEVICE, ""),
        )

    def version(self) -> str:
        """Version of the SDK; the device's name is in the result."""
        return version(PACKAGES[0])

    def available(self) -> str | None:
        """Names the extra or the variables that are missing."""
        missing = [name for name in (_DEVICE, _FOLDER) if not os.environ.get(name)]
        if not any(os.environ.get(name) for name in _CREDENTIALS):
            missing.append("AWS credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE)")
        sentence = f"backend {self.name} needs {', '.join(missing)} in the environment" if missing else None
        return missing_sdk(self.name) or sentence

    def check(self, envelope: JobEnvelope) -> None:
        """Also refuses a layout: Braket's service places circuits itself, and does not tell where."""
        super().check(envelope)
        if envelope.algorithm.compilation.layout is not None:
            raise BackendError(
                f"backend {self.name} takes no layout: Braket's service places the circuit", FailureClass.CAPABILITY
            )

    def estimate(self, envelope: JobEnvelope) -> Estimate:
        """Worst case: a complete graph, or all circuits of a program. Seconds = 1 + shots × (1 ms + 20 µs a gate) on a
        processor, an ion trap's pace; 3 s (the least that is charged) a circuit on a simulator. Queues of minutes to
        days are not known beforehand."""
        price, lattice = price_of(self.device), coupling_map_of(self.device)
        if envelope.kind == "sample":
            routed, circuits = estimate_on(lattice, envelope.payload_variables, envelope.algorithm.depth), 1
        else:
            routed, circuits = programs.estimated(lattice, envelope), envelope.program.circuits
        shots = envelope.algorithm.shots * circuits
        if _evidence(self.device) is EvidenceClass.SIMULATOR:
            seconds = 3.0 * circuits
        else:
            seconds = 1.0 + shots * (1e-3 + 2e-5 * routed.logical_two_qubit_gates)
        cost = price.task + shots * price.shot + seconds / 60 * price.minute
        expected = Estimate(
            60.0,
            seconds,
            cost,
            two_qubit_gates=routed.two_qubit_gates,
            depth=routed.depth,
            logical_two_qubit_gates=routed.logical_two_qubit_gates,
            logical_depth=routed.logical_depth,
            coupling_map=routed.coupling_map,
        )
        return on_device(expected, shots) if _evidence(self.device) is EvidenceClass.SIMULATOR else expected

    def _client(self, service: str, arn: str) -> Any:
        """A client that asks once: repeating is the dispatcher's. In the region of ``arn`` (a device's or a task's);
        Braket's simulators have none of their own and run in the environment's."""
        region = arn.split(":")[3] if arn.count(":") >= 3 else ""
        if (service, region) not in self._clients:
            import boto3
            from botocore.config import Config

            config = Config(retries={"total_max_attempts": 1}, connect_timeout=10, read_timeout=60)
            with calling():
                session = boto3.Session(region_name=region or None)
                self._clients[service, region] = session.client(service, config=config)
        return self._clients[service, region]

    def _described(self) -> tuple[str, dict[str, Any]]:
        """Status (``ONLINE`` …) and capabilities document of the device."""
        with calling():
            told = self._client("braket", self.device).get_device(deviceArn=self.device)
        return told["deviceStatus"], json.loads(told["deviceCapabilities"])

    def calibration(self) -> dict[str, Any] | None:
        """The device's means as Braket publishes them now; ``None`` for a simulator.

        Raises:
            BackendError: Braket cannot be asked.
        """
        if not self.device or _evidence(self.device) is EvidenceClass.SIMULATOR:
            return None
        return {"device": self.device, **snapshot(self._described()[1])}

    def submit(self, envelope: JobEnvelope, payload: Payload, key: str) -> JobHandle:
        """Create the task; all circuits of a program are one task, a program set.

        A key that was noted before is looked up first, and what is sent again is the noted request to the letter:
        Braket takes it for the same task.
        """
        self.check(envelope)
        note = notes.read(key)
        try:
            if note is not None and (known := self.find(key)):
                return known
            if note is None:
                status, told = self._described()
                name, shots = self.device.partition("device/")[2], envelope.algorithm.shots
                if status != "ONLINE":
                    raise BackendError(f"Braket's {name} is {status}", FailureClass.CAPABILITY)
                structures: list[Shape]
                if envelope.kind == "sample":
                    most = told.get("service", {}).get("shotsRange", [0, shots])[1]
                    if shots > most:
                        raise BackendError(f"Braket's {name} takes at most {most} shots", FailureClass.CAPABILITY)
                    structures, record, action = _sampling(envelope, payload)
                else:
                    shots *= envelope.program.circuits
                    programs.check_size(name, told, envelope.program.circuits, shots)
                    reading, record = programs.plan_program(envelope, payload)
                    structures = [one.structure for one in reading.measurements]
                    action = programs.program_set(reading).json()
                if _evidence(self.device) is EvidenceClass.HARDWARE:
                    calibrated = snapshot(told)
                    record["result"] |= {
                        "calibration": {"device": self.device, **calibrated},
                        "success_probability": success_probability(structures, calibrated),
                    }
                bucket, _, prefix = os.environ.get(_FOLDER, "").removeprefix("s3://").partition("/")
                request = {
                    "clientToken": _token(key),
                    "deviceArn": self.device,
                    "shots": shots,
                    "outputS3Bucket": bucket,
                    "outputS3KeyPrefix": f"{prefix.strip('/') or 'hybrid'}/{_token(key)}",
                    "action": action,
                    "tags": {_TAG: key, "hybrid-envelope": envelope.digest},
                }
                note = {"request": request, "record": record}
                notes.write(key, note)
            client = self._client("braket", note["request"]["deviceArn"])
        except BackendError as error:
            # nothing but questions has left this machine
            error.not_sent = True
            raise
        with calling():
            created = client.create_quantum_task(**note["request"])
        return JobHandle(self.name, created["quantumTaskArn"], key)

    def find(self, key: str) -> JobHandle | None:
        """The newest of the device's tasks with this key's tag; one that ended without a result only if there is no
        other. Reads the whole list of the device's tasks, 100 a page."""
        note = notes.read(key)
        device = note["request"]["deviceArn"] if note else self.device
        filters = [{"name": "deviceArn", "operator": "EQUAL", "values": [device]}]
        with calling():
            search = self._client("braket", device).get_paginator("search_quantum_tasks")
            pages = search.paginate(filters=filters, PaginationConfig={"PageSize": 100})
            tasks = [task for page in pages for task in page["quantumTasks"] if task.get("tags", {}).get(_TAG) == key]
        if not tasks:
            return None
        best = max(tasks, key=lambda task: (task["status"] not in ("FAILED", "CANCELLED"), task["createdAt"]))
        return JobHandle(self.name, best["quantumTaskArn"], key)

    def status(self, handle: JobHandle) -> ProviderStatus:
        """Braket's view of the task."""
        return _STATUS.get(self._task(handle)["status"], ProviderStatus.UNKNOWN)

    def _task(self, handle: JobHandle) -> dict[str, Any]:
        with calling():
            task: dict[str, Any] = self._client("braket", handle.provider_id).get_quantum_task(
                quantumTaskArn=handle.provider_id
            )
        return task

    def result(self, handle: JobHandle) -> JobResult:
        """The result of a completed task, in any process that shares the state folder with the one that sent it.

        Braket tells when a task was created and when it ended, not how long it waited: all of it is ``queue``, unless
        a simulator says how long it ran.

        Raises:
            BackendError: class ``backend``, when the result cannot be read, is another job's, or is not there.
        """
        task, note = self._task(handle), notes.read(handle.key)
        if task["status"] != "COMPLETED":
            raise BackendError(f"task {handle.provider_id} has no result: it is {task['status']}")
        if task.get("tags", {}).get(_TAG) != handle.key:
            raise BackendError(f"task {handle.provider_id} is another job's: it carries another tag")
        if note is None:
            raise BackendError(f"the note of task {handle.provider_id} is gone: its result cannot be decoded")

        def fetch(path: str) -> bytes:
            with calling():
                stored = self._client("s3", handle.provider_id).get_object(Bucket=task["outputS3Bucket"], Key=path)
                content: bytes = stored["Body"].read()
            return content

        text, record = fetch(f"{task['outputS3Directory']}/results.json"), note["record"]
        try:
            if "reading" in record:
                shots = task["shots"] // programs.circuits_of(record)
                circuits, executed = programs.read(text, record["reading"], shots, fetch)
                made = partial(answer_program, record, circuits)
            else:
                bits, executed = _read(text, record["result"]["width"], task["shots"])
                made = partial(answer, record, bits)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise BackendError(
                f"the result of task {handle.provider_id} cannot be read ({type(error).__name__})"
            ) from None
        life = (task["endedAt"] - task["createdAt"]).total_seconds() if "endedAt" in task else 0.0
        price = price_of(task["deviceArn"])
        result = made(
            backend=self.name,
            version=task["deviceArn"].partition("device/")[2],
            sdk_versions={package: version(package) for package in (*PACKAGES, "boto3")},
            evidence=_evidence(task["deviceArn"]),
            queue_seconds=max(0.0, life - executed),
            execute_seconds=executed,
            cost=price.task + task["shots"] * price.shot + max(executed, 3.0) / 60 * price.minute,
        )
        # no clock of the reading process: whoever reads the result gets the same document
        timings = result.timings.model_copy(update={"post_process": 0.0, "total": life})
        return result.model_copy(update={"timings": timings})

    def cancel(self, handle: JobHandle) -> None:
        """Ask Braket to stop the task; one that has ended stays as it is."""
        client = self._client("braket", handle.provider_id)
        with calling(), suppress(client.exceptions.ConflictException):
            client.cancel_quantum_task(quantumTaskArn=handle.provider_id)

    def forget(self, handle: JobHandle) -> None:
        """Drop the note: the result is stored."""
        notes.remove(handle.key)


def _sampling(envelope: JobEnvelope, payload: Payload) -> tuple[list[Shape], dict[str, Any], str]:
    """Circuit, record and action of a sample job."""
    from braket.ir.openqasm import Program

    planned = plan(envelope, payload)
    bound = qaoa_circuit(planned.structure).make_bound_circuit(planned.inputs)
    return [planned.structure], planned.record, Program(source=openqasm(bound)).json()


def _read(text: bytes, width: int, shots: int) -> tuple[np.ndarray, float]:
    """Bits of a stored result (int8, shape ``(shots, width)``, variable 0 first) and seconds executed, 0 if untold."""
    from braket.tasks import GateModelQuantumTaskResult

    read = GateModelQuantumTaskResult.from_string(text.decode())
    order = [list(read.measured_qubits).index(qubit) for qubit in range(width)]
    bits = np.asarray(read.measurements, dtype=np.int8)[:, order]
    if len(bits) < shots or not np.isin(bits, (0, 1)).all():
        raise ValueError("shots are missing, or are no bits")
    told = json.loads(text)["additionalMetadata"].get("simulatorMetadata") or {}
    return bits, float(told.get("executionDuration") or 0.0) * 1e-3
