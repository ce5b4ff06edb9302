"""The provider emulator's adapter: the asynchronous hardware path, on a machine of one's own.

Here: the backend. Not here: the service and its HTTP client (``resources.emulator``), choosing angles and compiling
(``resources.circuits.device``), circuits and answers of estimate and kernel jobs (``emulator_programs``). A job is one
trip: angles are found locally, circuits are sampled there. Everything that ``result`` needs travels with the job as its
metadata, because another process may ask.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from resources.backends.base import Capabilities, Estimate, JobHandle, ProviderStatus, QuantumBackend, package_version
from resources.backends.device_time import on_device
from resources.backends.emulator_programs import (
    confusion_at,
    program_parts,
    program_result,
    read_outs,
    worst_program,
)
from resources.backends.emulator_submissions import Problem, fitted, folded, worst
from resources.backends.readout import counted
from resources.circuits.mitigation import declared_symmetry, mitigated_expectation, postselected
from resources.emulator.client import Client, refused, strange
from resources.emulator.devices import DEVICES
from resources.emulator.running import LOOPBACK, LOOPBACK_TOKEN, PORT
from resources.envelope import KINDS, PAULI, QAOA, EvidenceClass, JobEnvelope, JobResult, PostProcessing, Timings
from resources.failures import BackendError, FailureClass, InputError, presentable
from resources.payloads import Payload, model_of

if TYPE_CHECKING:
    from resources.circuits.device import Prepared, Routed

DEFAULT_DEVICE = "line-8"
#: What the service says, seconds, before it is asked again: its devices, and a device's calibration.
DEVICES_FRESH, CALIBRATION_FRESH = 2.0, 30.0
#: Submissions whose circuits are kept, so that sending again tunes nothing twice.
_KEPT = 256
#: Seconds a job takes there, measured: a constant, and per two-qubit gate.
_SECONDS = (0.01, 7e-4)

_STATUS = {
    "queued": ProviderStatus.QUEUED,
    "running": ProviderStatus.RUNNING,
    "completed": ProviderStatus.SUCCEEDED,
    "failed": ProviderStatus.FAILED,
    "cancelled": ProviderStatus.CANCELLED,
}


@dataclass
class Emulator(QuantumBackend):
    """Sends jobs to a running emulator service.

    Attributes:
        url: of the service; default ``HYBRID_EMULATOR_URL``, else the loopback port that ``make emulator`` uses.
        device: its device; default ``HYBRID_EMULATOR_DEVICE``, else ``line-8``.
        token: bearer token; default ``HYBRID_EMULATOR_TOKEN``, else (on loopback only) the service's own default.

    Raises:
        InputError: the URL is no URL, or there is no such device.
    """

    url: str = field(default_factory=lambda: os.environ.get("HYBRID_EMULATOR_URL") or f"http://127.0.0.1:{PORT}")
    device: str = field(default_factory=lambda: os.environ.get("HYBRID_EMULATOR_DEVICE") or DEFAULT_DEVICE)
    token: str = field(default_factory=lambda: os.environ.get("HYBRID_EMULATOR_TOKEN") or "", repr=False)
    name = "emulator"
    _sent: OrderedDict[str, dict[str, Any]] = field(default_factory=OrderedDict, init=False, repr=False)
    _client: Client = field(init=False, repr=False)
    _can: Capabilities | None = field(default=None, init=False, repr=False)
    _said: tuple[dict[str, Any], str] | None = field(default=None, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(
                "HYBRID_EMULATOR_URL", "value", f"{self.url!r} is no URL", f"use one like http://127.0.0.1:{PORT}"
            )
        if self.device not in DEVICES:
            raise InputError(
                "HYBRID_EMULATOR_DEVICE",
                "value",
                f"there is no device {self.device!r}",
                f"use one of {', '.join(DEVICES)}",
            )
        if not self.token and self._local:
            self.token = LOOPBACK_TOKEN
        self._client = Client(self.url, self.token)

    @property
    def _local(self) -> bool:
        return urlsplit(self.url).hostname in LOOPBACK

    def capabilities(self) -> Capabilities:
        """QAOA and programs on the device's qubits, 100 jobs a submission; mitigation happens on this side."""
        if self._can is None:
            self._can = Capabilities(
                EvidenceClass.EMULATOR,
                DEVICES[self.device].qubits,
                (*QAOA, PAULI),
                KINDS,
                metered=True,
                tier="emulator",
                remote=True,
                leaves_machine=not self._local,
                settling_seconds=2.0,
                idempotent=True,
                batch=100,
                mitigation=("readout", "postselect"),
                device=self.device,
            )
        return self._can

    def version(self) -> str:
        """The service ships with the product and has its version."""
        return package_version("hybrid-assets")

    def available(self) -> str | None:
        """Says that a token is missing or refused, or that nothing listens at the URL; a call every two seconds at
        most."""
        if not self.token:
            return f"backend {self.name} needs HYBRID_EMULATOR_TOKEN for {self.url}"
        try:
            self._devices()
        except BackendError as error:
            if error.not_sent and error.failure_class is FailureClass.TRANSIENT:
                return f"no provider emulator listens at {self.url}: start one with `make emulator`"
            if error.failure_class is FailureClass.CAPABILITY:
                return f"the provider emulator at {self.url} refuses HYBRID_EMULATOR_TOKEN"
        return None

    def estimate(self, envelope: JobEnvelope) -> Estimate:
        """The complete graph as compiled for the device, or the worst case of a program; queue as the service says, 0
        when it does not say just now."""
        self.check(envelope)
        try:
            queue = float(self._devices()[self.device]["estimated_wait"])
            calibration = self._calibration_text()
        except BackendError:
            queue, calibration = 0.0, None
        algorithm, qubits = envelope.algorithm, envelope.payload_variables
        circuit: Prepared | Routed
        if envelope.kind == "sample":
            circuit, circuits = worst(qubits, algorithm.depth, algorithm.compilation, self.device, calibration), 1
        else:
            circuit, circuits = worst_program(self.device, envelope), envelope.program.circuits
        expected = Estimate(
            queue_seconds=queue,
            execution_seconds=circuits * (_SECONDS[0] + _SECONDS[1] * circuit.two_qubit_gates),
            cost=self._cost(circuits * algorithm.shots),
            two_qubit_gates=circuit.two_qubit_gates,
            depth=circuit.depth,
            logical_two_qubit_gates=circuit.logical_two_qubit_gates,
            logical_depth=circuit.logical_depth,
            coupling_map=self.device,
        )
        return on_device(expected, circuits * algorithm.shots)

    def _cost(self, shots: int) -> float:
        price = DEVICES[self.device].price
        return price.per_job + price.per_shot * shots

    # --- sending ----------------------------------------------------------------------------------------------------

    def submit(self, envelope: JobEnvelope, payload: Payload, key: str) -> JobHandle:
        """Find the angles, compile, send under ``Idempotency-Key``; the same key is the same job.

        Raises:
            BackendError: transient when nobody knows whether it arrived.
        """
        job = self._job(envelope, Problem(envelope, payload), key)
        answer = self._client.call("POST", "/jobs", job, {"Idempotency-Key": key})
        return JobHandle(self.name, _id(answer), key)

    def submit_many(self, jobs: Sequence[tuple[JobEnvelope, Payload, str]]) -> list[JobHandle | BackendError]:
        """One POST for all that can be prepared."""
        answers: list[JobHandle | BackendError | None] = []
        ready: list[dict[str, Any]] = []
        problems: dict[int, Problem] = {}
        for envelope, payload, key in jobs:
            try:
                if id(payload) not in problems:
                    problems[id(payload)] = Problem(envelope, payload)
                ready.append(self._job(envelope, problems[id(payload)], key))
                answers.append(None)
            except BackendError as error:
                answers.append(error)
            except Exception as error:
                # a defect of this job, which has not left; the others go
                answers.append(BackendError(str(presentable(error)), FailureClass.INTERNAL))
        entries = self._client.call("POST", "/jobs", folded(ready)).get("jobs") if ready else []
        if not isinstance(entries, list) or len(entries) != len(ready):
            raise strange("a submission")
        given = iter(zip(ready, entries, strict=True))
        return [self._entry(*next(given)) if answer is None else answer for answer in answers]

    def _entry(self, job: dict[str, Any], entry: dict[str, Any]) -> JobHandle | BackendError:
        if refusal := entry.get("error"):
            return refused(int(refusal["status"]), str(refusal["message"]))
        return JobHandle(self.name, _id(entry), job["idempotency_key"])

    def _job(self, envelope: JobEnvelope, problem: Problem, key: str) -> dict[str, Any]:
        """The document to send; made once per key, so that a retry neither tunes nor compiles again."""
        self.check(envelope)
        with self._lock:
            if key in self._sent:
                return self._sent[key]
        if envelope.kind == "sample":
            circuits, metadata = self._sample_parts(envelope, problem)
        else:
            circuits, metadata = program_parts(envelope, problem.payload, self._calibration_to_send())
        job = {
            "idempotency_key": key,
            "device": self.device,
            "circuits": circuits,
            "shots": envelope.algorithm.shots,
            "seed": envelope.algorithm.seed,
            "priority": envelope.priority,
            "tags": [key],
            "metadata": metadata,
        }
        with self._lock:
            self._sent[key] = job
            if len(self._sent) > _KEPT:
                self._sent.popitem(last=False)
        return job

    def _sample_parts(self, envelope: JobEnvelope, problem: Problem) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Circuits and metadata of a sample job."""
        from resources.circuits.device import tune

        payload, ising = model_of(envelope, problem.payload), problem.ising
        algorithm, started = envelope.algorithm, time.perf_counter()
        mitigation = algorithm.mitigation
        symmetry = declared_symmetry(envelope.tags) if mitigation.postselect else None
        angles = tune(payload, ising, algorithm, started + envelope.timeout.execution)
        tuned = time.perf_counter()
        calibration = self._calibration_to_send()
        circuit, program, compiled_for = fitted(ising.structure(algorithm.depth), algorithm.compilation, calibration)
        row = ising.angles(angles.gammas[None], angles.betas[None])[0]
        return [{"format": "qpy", "program": program, "bindings": [row.tolist()]}], {
            "envelope_digest": envelope.digest,
            "variables": payload.num_variables,
            "shots": algorithm.shots,
            **problem.terms,
            "parameters": {"cvar_alpha": algorithm.cvar_alpha} | angles.record,
            "tuning_shots": angles.shots,
            "circuits": angles.circuits + 1,
            "tuning_seconds": tuned - started,
            "compile_seconds": time.perf_counter() - tuned,
            "depth": circuit.depth,
            "two_qubit_gates": circuit.two_qubit_gates,
            "logical_depth": circuit.logical_depth,
            "logical_two_qubit_gates": circuit.logical_two_qubit_gates,
            "layout": list(circuit.layout),
            "readout_mitigated_on": list(circuit.measured) if mitigation.readout else None,
            "symmetry": symmetry,
            "success_probability": circuit.success_probability,
            "compiled_for": compiled_for,
            "qiskit": package_version("qiskit"),
        }

    def forget(self, handle: JobHandle) -> None:
        """The prepared submission goes."""
        with self._lock:
            self._sent.pop(handle.key, None)

    # --- asking -----------------------------------------------------------------------------------------------------

    def find(self, key: str) -> JobHandle | None:
        """The job tagged with this key; the service knows a job from the moment it has accepted it."""
        jobs = self._client.call("GET", f"/jobs?tag={quote(key, safe='')}").get("jobs")
        if not isinstance(jobs, list):
            raise strange("a look-up")
        return JobHandle(self.name, _id(jobs[0]), key) if jobs else None

    def status(self, handle: JobHandle) -> ProviderStatus:
        """The service's word; ``UNKNOWN`` for one that nobody knows."""
        answer = self._client.call("GET", f"/jobs/{handle.provider_id}")
        return _STATUS.get(str(answer.get("status")), ProviderStatus.UNKNOWN)

    def statuses(self, handles: Sequence[JobHandle]) -> dict[JobHandle, ProviderStatus]:
        """One call per hundred jobs.

        Raises:
            BackendError: the service could not be asked.
        """
        found = {}
        for start in range(0, len(handles), self.capabilities().batch):
            part = handles[start : start + self.capabilities().batch]
            words = self._client.call("POST", "/jobs/statuses", {"ids": [handle.provider_id for handle in part]})
            known = words.get("statuses")
            if not isinstance(known, dict):
                raise strange("a look-up")
            for handle in part:
                if handle.provider_id in known:
                    found[handle] = _STATUS.get(str(known[handle.provider_id]), ProviderStatus.UNKNOWN)
        return found

    def result(self, handle: JobHandle) -> JobResult:
        """The result, checked to be this job's and whole.

        Raises:
            BackendError: class ``backend`` when it is another job's, incomplete, unreadable or gone.
        """
        answer = self._client.call("GET", f"/jobs/{handle.provider_id}/results", unreadable=FailureClass.BACKEND)
        if answer.get("id") != handle.provider_id or handle.key not in (answer.get("tags") or ()):
            raise BackendError(f"backend {self.name} answered another job than {handle.provider_id}")
        try:
            if "record" in answer["metadata"]:
                return program_result(answer, self.name, self.version(), self._cost)
            return self._read(answer)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise BackendError(
                f"backend {self.name} gave an incomplete result of {handle.provider_id} ({type(error).__name__})"
            ) from None

    def _read(self, answer: dict[str, Any]) -> JobResult:
        import dimod

        note = answer["metadata"]
        ((counts,),) = answer["results"]
        bits = read_outs(counts, note["shots"], note["variables"])
        payload = dimod.BinaryQuadraticModel(
            dict(enumerate(note["linear"])),
            {(i, j): value for i, j, value in note["quadratic"]},
            note["offset"],
            dimod.BINARY,
        )
        kept = bits if note["symmetry"] is None else postselected(bits, tuple(note["symmetry"]))
        mitigated = None
        if note["readout_mitigated_on"] is not None:
            # of all shots, by the calibration that they were taken with
            confusion = confusion_at(answer["calibration"], note["readout_mitigated_on"])
            mitigated = mitigated_expectation(payload, bits, confusion)
        timings = Timings(
            queue=answer["timings"]["queue"],
            compile=note["compile_seconds"],
            execute=answer["timings"]["execute"],
            total=sum(answer["timings"].values()) + note["compile_seconds"] + note["tuning_seconds"],
        )
        return JobResult(
            envelope_digest=note["envelope_digest"],
            samples=counted(payload, kept),
            evidence_class=EvidenceClass.EMULATOR,
            post_processing=PostProcessing.RAW if kept is bits else PostProcessing.POSTSELECTED,
            backend=self.name,
            backend_version=self.version(),
            sdk_versions={"qiskit": note["qiskit"]},
            width=note["variables"],
            depth=note["depth"],
            two_qubit_gates=note["two_qubit_gates"],
            shots=len(kept),
            discarded_shots=len(bits) - len(kept),
            expectation_raw=float(payload.energies((bits, range(note["variables"]))).mean()),
            expectation_mitigated=mitigated,
            tuning_shots=note["tuning_shots"],
            circuits=note["circuits"],
            logical_depth=note["logical_depth"],
            logical_two_qubit_gates=note["logical_two_qubit_gates"],
            layout=tuple(note["layout"]),
            success_probability=note["success_probability"],
            parameters=note["parameters"] | {"compiled_for_calibration": note["compiled_for"]},
            timings=timings,
            calibration=answer["calibration"],
            estimated_cost=self._cost(note["shots"]),
            actual_cost=answer["cost"],
        )

    def cancel(self, handle: JobHandle) -> None:
        """Ask the service to stop the job; one that has ended stays as it ended."""
        self._client.call("POST", f"/jobs/{handle.provider_id}/cancel")

    def calibration(self) -> dict[str, Any]:
        """The device's calibration as the service has it now, at most half a minute old."""
        return self._client.fresh(f"/devices/{self.device}/calibration", CALIBRATION_FRESH)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _devices(self) -> dict[str, dict[str, Any]]:
        try:
            return {device["name"]: device for device in self._client.fresh("/devices", DEVICES_FRESH)["devices"]}
        except (KeyError, TypeError):
            raise strange("its devices") from None

    def _calibration_to_send(self) -> str:
        """As ``_calibration_text``; without it the job itself does not leave."""
        try:
            return self._calibration_text()
        except BackendError as error:
            error.not_sent = True
            raise

    def _calibration_text(self) -> str:
        """The calibration to compile for, without its time: equal values need no new compilation."""
        calibration = self.calibration()
        if self._said is None or self._said[0] is not calibration:
            lasting = {name: value for name, value in calibration.items() if name != "time"}
            self._said = (calibration, json.dumps(lasting, sort_keys=True))
        return self._said[1]


def _id(document: Any) -> str:
    identifier = document.get("id") if isinstance(document, dict) else None
    if not isinstance(identifier, str):
        raise strange("a submission")
    return identifier
