"""Any Qiskit provider with a ``BackendV2`` (IonQ, AQT, Alice & Bob …), through Qiskit's ``BackendSamplerV2``.

Here: the provider named by the environment, the life cycle of its jobs. Not here: the plan of a job and the result
document (``trip``, ``program_trip``), circuits and bits on the wire (``qiskit_sampler``), or providers with a sampler
of their own (``ibm``).

Settings: ``HYBRID_QISKIT_PROVIDER`` (``module:Class``), ``HYBRID_QISKIT_BACKEND`` (the device's name),
``HYBRID_QISKIT_TOKEN`` (given to the class as ``token``), ``HYBRID_QISKIT_OPTIONS`` (JSON object of further arguments)
and ``HYBRID_QISKIT_EVIDENCE`` (``hardware``, the default, ``emulator`` or ``simulator``).
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from resources.backends import notes, qiskit_sampler, trip
from resources.backends.base import Capabilities, Estimate, JobHandle, ProviderStatus, QuantumBackend
from resources.backends.program_trip import answer_program, plan_program
from resources.circuits.device import Prepared, Routed, estimate_program, worst_case
from resources.circuits.durations import layers_seconds, shot_seconds
from resources.envelope import KINDS, PAULI, QAOA, EvidenceClass, JobEnvelope, JobResult, Timings
from resources.failures import BackendError, FailureClass, InputError, causes, never_connected, redacted

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.providers import BackendV2

    from resources.payloads import Payload

_PREFIX = "HYBRID_QISKIT_"
#: Largest job, whatever the device; a device that is smaller refuses by itself.
MOST_QUBITS = 100
#: Seconds of a shot where a device's durations are not known: an assumption of the order of trapped ions.
SHOT_SECONDS = 1e-2
#: … and between two shots where they are: the repetition delay that IBM's devices have by default.
REPETITION_SECONDS = 250e-6

_WORDS = {
    "INITIALIZING": ProviderStatus.QUEUED,
    "QUEUED": ProviderStatus.QUEUED,
    "VALIDATING": ProviderStatus.QUEUED,
    "RUNNING": ProviderStatus.RUNNING,
    "DONE": ProviderStatus.SUCCEEDED,
    "ERROR": ProviderStatus.FAILED,
    "CANCELLED": ProviderStatus.CANCELLED,
}
_CLASS_OF_STATUS = {
    401: FailureClass.CAPABILITY,
    403: FailureClass.CAPABILITY,
    429: FailureClass.SATURATION,
}
#: Classes of a refusal: the provider has not taken the job.
_REFUSED = (FailureClass.CAPABILITY, FailureClass.SATURATION)


@dataclass
class QiskitProvider(QuantumBackend):
    """A device of the provider that the environment names.

    Providers have no common way to look a job up by a key of ours, so ``lookup`` is false: a submission whose answer
    was lost waits for a person. A known job id is kept in the note of its submission; another process fetches it
    with the provider's or the device's ``retrieve_job``, where there is one.
    """

    name = "qiskit-provider"
    _jobs: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    _results: dict[str, JobResult] = field(default_factory=dict, init=False, repr=False)
    _opened: tuple[Any, Any] | None = field(default=None, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def capabilities(self) -> Capabilities:
        """What the environment declares; the device is not asked.

        Raises:
            InputError: ``HYBRID_QISKIT_EVIDENCE`` is no evidence class of a quantum device or simulator.
        """
        evidence = _evidence()
        return Capabilities(
            evidence,
            MOST_QUBITS,
            (*QAOA, PAULI),
            KINDS,
            metered=evidence is EvidenceClass.HARDWARE,
            tier=evidence.value,
            remote=True,
            leaves_machine=True,
            lookup=False,
            mitigation=("readout", "postselect"),
            device=os.environ.get("HYBRID_QISKIT_BACKEND", ""),
        )

    def version(self) -> str:
        """Version of Qiskit; the device's own is in the result."""
        return version("qiskit")

    def available(self) -> str | None:
        """Names the variables that are missing, or the module that is not installed; loads nothing."""
        missing = [_PREFIX + name for name in ("PROVIDER", "BACKEND") if not os.environ.get(_PREFIX + name)]
        if missing:
            return f"backend {self.name} needs {' and '.join(missing)}: set them to module:Class and a device's name"
        module = os.environ[_PREFIX + "PROVIDER"].partition(":")[0]
        if find_spec(module.partition(".")[0]) is None:
            return f"backend {self.name} needs the module {module}: install the provider's package"
        return None

    def estimate(self, envelope: JobEnvelope) -> Estimate:
        """The complete graph as compiled for the device, or the worst case of a program; time is by the device's
        durations where it publishes them, else ``SHOT_SECONDS`` a shot; the queue is not known."""
        algorithm, device = envelope.algorithm, self._device()
        worst: Prepared | Routed
        if envelope.kind == "sample":
            worst, circuits = worst_case(envelope.payload_variables, algorithm, device), 1
            each = shot_seconds(worst.circuit, device.target)
        else:
            apart = envelope.payload_variables
            if device.coupling_map is None:
                # where every pair is coupled, none is further apart than the two qubits of a line of two
                apart = min(apart, 2)
            elif algorithm.compilation.layout is not None:
                apart = device.num_qubits
            worst = estimate_program("line", apart, envelope.program)
            circuits = envelope.program.circuits
            each = layers_seconds(worst.depth, device.target)
        each = SHOT_SECONDS if each is None else REPETITION_SECONDS + each
        return Estimate(
            queue_seconds=0.0,
            execution_seconds=circuits * algorithm.shots * each,
            cost=0.0,
            two_qubit_gates=worst.two_qubit_gates,
            depth=worst.depth,
            logical_two_qubit_gates=worst.logical_two_qubit_gates,
            logical_depth=worst.logical_depth,
            coupling_map=device.name or type(device).__name__,
        )

    def submit(self, envelope: JobEnvelope, payload: Payload, key: str) -> JobHandle:
        """Send the job, unless this key's job is known; returns when the provider has it.

        Raises:
            BackendError: class ``capability``, when a program has more circuits than the device takes in one job.
        """
        self.check(envelope)
        known = (notes.read(key) or {}).get("job_id")
        if known is not None:
            return JobHandle(self.name, known, key)
        device = self._device()
        if device.max_circuits is not None and envelope.program.circuits > device.max_circuits:
            raise BackendError(
                f"device {device.name} takes {device.max_circuits} circuits a job, this one has "
                f"{envelope.program.circuits}",
                FailureClass.CAPABILITY,
                not_sent=True,
            )
        record, circuits = _planned(envelope, payload, device)
        note = {
            "record": record,
            "shots": envelope.algorithm.shots,
            "circuits": len(circuits),
            "qubits": envelope.payload_variables,
        }
        notes.write(key, note)
        shots, seed = envelope.algorithm.shots, None
        if _is_simulator(device) or _evidence() is not EvidenceClass.HARDWARE:
            seed = int(np.random.default_rng([envelope.algorithm.seed, 1]).integers(2**31 - 1))
        try:
            job = _calling("sending a job", lambda: qiskit_sampler.send(device, circuits, shots, seed))
        except BackendError as error:
            if error.failure_class in _REFUSED or error.not_sent:
                notes.remove(key)
            raise
        job_id = str(job.job_id())
        notes.write(key, note | {"job_id": job_id, "sent_at": time.time()})
        self._jobs[job_id] = job
        return JobHandle(self.name, job_id, key)

    def find(self, key: str) -> JobHandle | None:
        """The job of this key by its note.

        Raises:
            BackendError: class ``transient``, when a submission began here and its answer was lost.
        """
        note = notes.read(key)
        if note is None:
            return None
        if "job_id" not in note:
            raise BackendError(
                f"backend {self.name} cannot look up whether a job arrived: see the provider's own list of jobs",
                FailureClass.TRANSIENT,
            )
        return JobHandle(self.name, note["job_id"], key)

    def status(self, handle: JobHandle) -> ProviderStatus:
        """The provider's word, translated; ``UNKNOWN`` for one nobody knows."""
        job = self._job(handle)
        word = _calling("asking for a job's status", job.status)
        found = _WORDS.get(str(getattr(word, "name", word)).upper(), ProviderStatus.UNKNOWN)
        if found in (ProviderStatus.RUNNING, ProviderStatus.SUCCEEDED):
            _seen(handle, str(found))
        return found

    def result(self, handle: JobHandle) -> JobResult:
        """The result document, from the provider's answer and the note of the submission.

        Raises:
            BackendError: no such job, or a failure of the provider.
        """
        if handle.provider_id in self._results:
            return self._results[handle.provider_id]
        job, note = self._job(handle), notes.read(handle.key)
        if note is None:
            raise BackendError(f"backend {self.name} has no note of job {handle.provider_id}", FailureClass.BACKEND)
        note = _seen(handle, str(ProviderStatus.SUCCEEDED))
        device, record = self._device(), note["record"]
        found = _calling("fetching a result", job.result)
        size = note["circuits"], note["qubits"], note["shots"]
        bits = _calling("reading a result", lambda: qiskit_sampler.read(device, found, *size))
        answer = partial(answer_program, record, bits) if "reading" in record else partial(trip.answer, record, bits[0])
        evidence = EvidenceClass.SIMULATOR if _is_simulator(device) else _evidence()
        provider = os.environ[_PREFIX + "PROVIDER"].partition(":")[0].partition(".")[0]
        result = answer(
            backend=self.name,
            version=f"{device.name} {device.backend_version or ''}".strip(),
            sdk_versions={"qiskit": version("qiskit"), provider: _version_of(provider)},
            evidence=evidence,
        )
        timings = _timings(note, found, result.timings)
        parameters = result.parameters | (
            {"tuning_seconds": record["tune_seconds"]} if "tune_seconds" in record else {}
        )
        self._results[handle.provider_id] = result.model_copy(update={"timings": timings, "parameters": parameters})
        return self._results[handle.provider_id]

    def cancel(self, handle: JobHandle) -> None:
        """Ask the provider to stop the job."""
        _calling("cancelling a job", self._job(handle).cancel)

    def calibration(self) -> dict[str, Any] | None:
        """Not asked before a job; a result has the calibration of its circuit."""
        return None

    def _job(self, handle: JobHandle) -> Any:
        """The provider's job object.

        Raises:
            BackendError: class ``backend``, when it cannot be had.
        """
        if handle.provider_id not in self._jobs:
            if (notes.read(handle.key) or {}).get("job_id") != handle.provider_id:
                raise BackendError(f"backend {self.name} knows no job {handle.provider_id}", FailureClass.BACKEND)
            self._device()
            owners = [owner for owner in self._opened or () if callable(getattr(owner, "retrieve_job", None))]
            if not owners:
                raise BackendError(
                    f"backend {self.name}: this provider hands no job to another process than the one that sent it",
                    FailureClass.BACKEND,
                )
            found = _calling("fetching a job", lambda: owners[0].retrieve_job(handle.provider_id))
            self._jobs[handle.provider_id] = found
        return self._jobs[handle.provider_id]

    def _device(self) -> BackendV2:
        """The device, opened once.

        Raises:
            BackendError: class ``capability``, when settings are missing or the provider refuses them.
        """
        with self._lock:
            if self._opened is None:
                if (problem := self.available()) is not None:
                    raise BackendError(problem, FailureClass.CAPABILITY, not_sent=True)
                self._opened = _open()
            return self._opened[1]


def _planned(envelope: JobEnvelope, payload: Payload, device: BackendV2) -> tuple[dict[str, Any], list[QuantumCircuit]]:
    """What the answer needs, and the compiled circuits with their angles."""
    if envelope.kind == "sample":
        one = trip.plan(envelope, payload, device)
        return one.record, [one.circuit]
    planned = plan_program(envelope, payload, device)
    return planned.record, planned.circuits


def _seen(handle: JobHandle, word: str) -> dict[str, Any]:
    """The job's note, with the time at which the word was first heard."""
    note = notes.read(handle.key) or {}
    if f"{word}_at" not in note and note.get("job_id") == handle.provider_id:
        note |= {f"{word}_at": time.time()}
        notes.write(handle.key, note)
    return note


def _timings(note: dict[str, Any], found: Any, own: Timings) -> Timings:
    """Seconds from sending to when the job was first seen done. On the machine: as the result tells (``time_taken``),
    else since it was first seen running; 0 where it was neither told nor seen, and then the queue is 0 too."""
    done = note["succeeded_at"]
    sent = note.get("sent_at", done)
    running = min(note.get("running_at", done), done)
    told = getattr(found, "time_taken", None)
    execute = float(told) if isinstance(told, int | float) and told > 0 else done - running
    waited = running - sent if running < done else max(0.0, done - sent - execute) if execute else 0.0
    tuned = note["record"].get("tune_seconds", 0.0)
    total = max(0.0, done - sent) + own.compile + tuned
    return own.model_copy(update={"queue": max(0.0, waited), "execute": execute, "total": total})


def _evidence() -> EvidenceClass:
    declared = os.environ.get(_PREFIX + "EVIDENCE") or EvidenceClass.HARDWARE.value
    if declared not in ("hardware", "emulator", "simulator"):
        raise InputError(
            _PREFIX + "EVIDENCE", "value", f"{declared!r} is unknown", "use hardware, emulator or simulator"
        )
    return EvidenceClass(declared)


def _open() -> tuple[Any, Any]:
    """The provider and its device."""
    module, _, kind = os.environ[_PREFIX + "PROVIDER"].partition(":")
    arguments: Any = {}
    if text := os.environ.get(_PREFIX + "OPTIONS"):
        try:
            arguments = json.loads(text)
        except ValueError:
            arguments = None
        if not isinstance(arguments, dict):
            # the text may hold a secret: it is not repeated
            raise BackendError(f"{_PREFIX}OPTIONS is not a JSON object", FailureClass.CAPABILITY, not_sent=True)
    if token := os.environ.get(_PREFIX + "TOKEN"):
        arguments = {"token": token} | arguments
    secrets = [value for value in arguments.values() if isinstance(value, str)]

    def opened() -> tuple[Any, Any]:
        provider = getattr(import_module(module), kind)(**arguments)
        get = getattr(provider, "get_backend", None) or provider.backend
        return provider, get(os.environ[_PREFIX + "BACKEND"])

    found: tuple[Any, Any] = _calling("opening the provider", opened, FailureClass.CAPABILITY, secrets, True)
    return found


def _calling(
    doing: str,
    call: Callable[[], Any],
    other: FailureClass = FailureClass.BACKEND,
    secrets: list[str] | None = None,
    not_sent: bool = False,
) -> Any:
    """Call the provider; any of its errors becomes ours, without a secret.

    HTTP statuses decide the class where the exception has one, then connections and time-outs are transient, and
    everything else is ``other``.
    """
    try:
        return call()
    except BackendError:
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {redacted(str(error), 300)}"
        for secret in secrets or ():
            text = text.replace(secret, "<secret>") if len(secret) >= 6 else text
        response = getattr(error, "response", None)
        status = getattr(response, "status_code", None) or getattr(error, "status_code", None)
        if isinstance(status, int):
            kind = _CLASS_OF_STATUS.get(status, FailureClass.TRANSIENT if status >= 500 else other)
        else:
            unreachable = never_connected(error)
            kind = FailureClass.TRANSIENT if unreachable or _is_of_the_network(error) else other
            not_sent = not_sent or unreachable
        # the cause may carry a token: it is not chained
        raise BackendError(f"the Qiskit provider failed, {doing}: {text}", kind, not_sent=not_sent) from None


def _is_of_the_network(error: BaseException) -> bool:
    """Whether it comes from a connection: Python's, or that of an HTTP client's package."""
    return any(
        isinstance(one, (ConnectionError, TimeoutError))
        or type(one).__module__.partition(".")[0] in ("requests", "urllib3", "httpx", "httpcore")
        for one in causes(error)
    )


def _is_simulator(device: BackendV2) -> bool:
    """Whether the device says of itself that it is a simulator."""
    configuration = getattr(device, "configuration", None)
    configured = configuration() if callable(configuration) else configuration
    said = (getattr(device, "simulator", None), getattr(configured, "simulator", None))
    return any(value is True for value in said) or "simulator" in (device.name or "").lower()


def _version_of(module: str) -> str:
    from importlib.metadata import PackageNotFoundError, packages_distributions

    try:
        return version(packages_distributions().get(module, [module])[0])
    except PackageNotFoundError:
        return "unknown"
