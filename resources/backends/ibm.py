"""Devices of IBM Quantum Platform through ``qiskit-ibm-runtime``.

Here: the account, the device, the life cycle of jobs. Not here: what is sent and what is made of the answer
(``ibm_programs``, ``ibm_sampler``), or errors and requests of the client (``ibm_client``).

Credentials come from the environment at the first call, are never saved, and never reach a message.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from resources.backends import notes
from resources.backends.base import Capabilities, Estimate, JobHandle, ProviderStatus, QuantumBackend
from resources.backends.ibm_client import one_request, speaking, status_code
from resources.backends.ibm_programs import answered, estimated, finished, planned, sent
from resources.backends.ibm_sampler import MITIGATION, check_decoupling, missing_package
from resources.circuits import device as on_device
from resources.envelope import KINDS, PAULI, QAOA, EvidenceClass, JobEnvelope, JobResult, Timings
from resources.failures import BackendError, FailureClass, TimedOut, presentable, redacted

if TYPE_CHECKING:
    from resources.payloads import Payload

#: Guess of the seconds that a job ahead in the queue takes: the API tells their number only.
QUEUED_JOB_SECONDS = 15.0
#: Calibrations change about daily; a device is asked for its own again after this many seconds.
_DEVICE_SECONDS = 600.0
#: Reason code of a job that ran into its execution time, and the service's word for it, which the client hands on.
_RAN_TOO_LONG, _RAN_TOO_LONG_WORD = 1305, "CANCELLED - RAN TOO LONG"

_WORDS = {
    "INITIALIZING": ProviderStatus.QUEUED,
    "QUEUED": ProviderStatus.QUEUED,
    "RUNNING": ProviderStatus.RUNNING,
    "DONE": ProviderStatus.SUCCEEDED,
    "ERROR": ProviderStatus.FAILED,
    "CANCELLED": ProviderStatus.CANCELLED,
    _RAN_TOO_LONG_WORD: ProviderStatus.FAILED,
}


def _setting(name: str) -> str | None:
    """``HYBRID_IBM_…``, else the client library's own variable."""
    return os.environ.get(f"HYBRID_IBM_{name}") or os.environ.get(f"QISKIT_IBM_{name}") or None


@dataclass
class Ibm(QuantumBackend):
    """Devices of IBM Quantum Platform. Nothing is imported or called before the first use.

    ``HYBRID_IBM_TOKEN`` and ``HYBRID_IBM_INSTANCE`` are the account (docs/hardware.md), ``HYBRID_IBM_BACKEND`` the
    device (else the least busy one that is large enough), ``HYBRID_IBM_MODE`` is ``job``, ``batch`` or ``session``,
    ``HYBRID_IBM_URL`` another entry to the same API. A job's tags carry its key and its envelope's digest.
    """

    name = "ibm"
    _service: Any = field(default=None, init=False, repr=False)
    _devices: dict[int, tuple[float, Any]] = field(default_factory=dict, init=False, repr=False)

    def capabilities(self) -> Capabilities:
        """All jobs on up to 156 qubits (Heron); a smaller device refuses when it is asked."""
        return Capabilities(
            EvidenceClass.HARDWARE,
            156,
            (*QAOA, PAULI),
            KINDS,
            metered=True,
            tier="hardware",
            remote=True,
            leaves_machine=True,
            settling_seconds=30.0,
            batch=1 if self.mode() == "job" else 100,
            mitigation=MITIGATION,
            device=_setting("BACKEND") or "",
        )

    def version(self) -> str:
        """Version of the client library."""
        return version("qiskit-ibm-runtime")

    def mode(self) -> str:
        """``job``, ``batch`` or ``session``."""
        return _setting("MODE") or "job"

    def available(self) -> str | None:
        """Names the missing extra or variable; calls nobody."""
        if missing := missing_package(self.name):
            return missing
        absent = [f"HYBRID_IBM_{name}" for name in ("TOKEN", "INSTANCE") if not _setting(name)]
        if absent:
            return f"backend ibm needs {' and '.join(absent)} in the environment (IBM Cloud API key, instance CRN)"
        if self.mode() not in ("job", "batch", "session"):
            return f"backend ibm has no mode {self.mode()!r}: HYBRID_IBM_MODE is job, batch or session"
        return None

    def check(self, envelope: JobEnvelope) -> None:
        """Also refuses unknown pulse sequences."""
        super().check(envelope)
        check_decoupling(self.name, envelope)

    def calibration(self) -> dict[str, Any] | None:
        """The device's own, now; ``None`` where the backend cannot be used or the device is chosen job by job."""
        if self.available() or not _setting("BACKEND"):
            return None
        with speaking("asking for the calibration"):
            return on_device.calibration_of(self.device(0))

    def estimate(self, envelope: JobEnvelope) -> Estimate:
        """Worst case on the device; the queue is guessed from the number of jobs ahead. Prices are the policy's."""
        device = self.device(envelope.payload_variables)
        with speaking("asking for the queue"):
            return estimated(envelope, device, device.status().pending_jobs * QUEUED_JOB_SECONDS)

    # --- the account ------------------------------------------------------------------------------------------------

    def service(self) -> Any:
        """The client, signed in.

        Raises:
            BackendError: class ``capability`` without credentials or when they are refused.
        """
        if self._service is None:
            if missing := self.available():
                raise BackendError(missing, FailureClass.CAPABILITY, not_sent=True)
            # the client tells IBM which packages and files call it, and walks the whole stack for that at each request
            os.environ.setdefault("USAGE_DATA_OPT_OUT", "True")
            from qiskit_ibm_runtime import QiskitRuntimeService

            url = _setting("URL")
            elsewhere = {"url": url, "url_resolver": lambda url, *_: url} if url else {}
            with speaking("signing in"):
                service = QiskitRuntimeService(
                    channel="ibm_quantum_platform", token=_setting("TOKEN"), instance=_setting("INSTANCE"), **elsewhere
                )
            for client in service._get_api_clients().values():
                one_request(client._session)
            self._service = service
        return self._service

    def device(self, variables: int) -> Any:
        """The device by name, or the least busy one with as many qubits.

        Raises:
            BackendError: class ``capability``: there is none.
        """
        from qiskit.providers.exceptions import QiskitBackendNotFoundError

        wanted, service = _setting("BACKEND"), self.service()
        since, device = self._devices.get(0 if wanted else variables, (-math.inf, None))
        if time.monotonic() - since > _DEVICE_SECONDS:
            with speaking("asking for the device"):
                try:
                    device = service.backend(wanted) if wanted else service.least_busy(min_num_qubits=variables)
                except QiskitBackendNotFoundError as error:
                    # the client takes a service that does not answer for one without devices: ask it something else
                    service.usage()
                    lacking = f"{wanted!r}" if wanted else f"with {variables} qubits"
                    raise BackendError(
                        f"this IBM instance has no device {lacking}", FailureClass.CAPABILITY, not_sent=True
                    ) from error
                if device.is_mock:
                    raise BackendError(f"{device.name} answers at random", FailureClass.CAPABILITY, not_sent=True)
                # properties are asked for when first needed: now, where a failure is told apart
                device.properties()
            self._devices[0 if wanted else variables] = (time.monotonic(), device)
        return device

    # --- jobs -------------------------------------------------------------------------------------------------------

    def submit(self, envelope: JobEnvelope, payload: Payload, key: str) -> JobHandle:
        """Tune and compile here, then send, unless the provider has a job of this key."""
        (answer,) = self.submit_many([(envelope, payload, key)])
        if isinstance(answer, BackendError):
            raise answer
        return answer

    def submit_many(self, jobs: Sequence[tuple[JobEnvelope, Payload, str]]) -> list[JobHandle | BackendError]:
        """One job each; in the modes ``batch`` and ``session`` in one batch or session, closed to others after it."""
        answers: dict[str, JobHandle | BackendError] = {}
        ready = []
        for envelope, payload, key in jobs:
            try:
                self.check(envelope)
                if known := self.find(key):
                    answers[key] = known
                    continue
                device = self.device(envelope.payload_variables)
                evidence = EvidenceClass.SIMULATOR if device.configuration().simulator else EvidenceClass.HARDWARE
                pubs, note = planned(envelope, payload, device, evidence)
                notes.write(key, note)
                ready.append((device, envelope, pubs, note, key))
            except BackendError as error:
                error.not_sent = True
                answers[key] = error
            except Exception as error:
                # a defect of this job, which has not left; the others go
                answers[key] = BackendError(str(presentable(error)), FailureClass.INTERNAL)
        for device in {id(device): device for device, *_ in ready}.values():
            here = [(envelope, pubs, note, key) for at, envelope, pubs, note, key in ready if at is device]
            try:
                with self._opened(device) as mode:
                    for envelope, pubs, note, key in here:
                        answers[key] = self._sent(mode, envelope, pubs, note, key)
            except BackendError as error:
                # it could not be opened
                error.not_sent = True
                answers |= {key: error for *_, key in here}
        return [answers[key] for _, _, key in jobs]

    @contextmanager
    def _opened(self, device: Any) -> Iterator[Any]:
        """The device itself, or a batch or session on it that takes no further jobs afterwards."""
        if self.mode() == "job":
            yield device
            return
        from qiskit_ibm_runtime import Batch, Session

        with speaking(f"opening a {self.mode()}"):
            mode = Batch(device) if self.mode() == "batch" else Session(device)
        try:
            yield mode
        finally:
            # what stays open ends by itself; the jobs in it are sent, and an error here would say they are not
            with suppress(Exception):
                mode.close()

    def _sent(
        self, mode: Any, envelope: JobEnvelope, pubs: list[Any], note: dict[str, Any], key: str
    ) -> JobHandle | BackendError:
        try:
            with speaking("sending the job"):
                job = sent(mode, envelope, pubs, note, _tags(key, envelope.digest))
                return JobHandle(self.name, job.job_id(), key)
        except BackendError as error:
            return error

    def find(self, key: str) -> JobHandle | None:
        """The newest job tagged with this key."""
        service = self.service()
        with speaking("looking for the job"):
            jobs = service.jobs(limit=1, job_tags=[_tags(key)[0]], descending=True, include_mocks=True)
        return JobHandle(self.name, jobs[0].job_id(), key) if jobs else None

    def _job(self, handle: JobHandle) -> Any:
        service = self.service()
        with speaking(f"asking for job {handle.provider_id}"):
            return service.job(handle.provider_id)

    def status(self, handle: JobHandle) -> ProviderStatus:
        """IBM's word for the job; an unknown one is ``unknown``."""
        job = self._job(handle)
        with speaking(f"asking for job {handle.provider_id}"):
            return _WORDS.get(job.status(), ProviderStatus.UNKNOWN)

    def result(self, handle: JobHandle) -> JobResult:
        """The result of a succeeded job, in any process that shares this one's home.

        Raises:
            BackendError: class ``backend``: it failed, was cancelled, is another envelope's, was sent from elsewhere,
                or its answer is garbled; ``transient``: it is not there yet.
            TimedOut: IBM stopped it at its execution time.
        """
        job, note = self._job(handle), notes.read(handle.key)
        if note is None:
            raise BackendError(
                f"job {handle.provider_id} was sent from another home: what it asked is not known here",
                FailureClass.BACKEND,
            )
        if not set(_tags(handle.key, note["envelope_digest"])) <= set(job.tags or ()):
            raise BackendError(f"job {handle.provider_id} is not the one that was sent", FailureClass.BACKEND)
        with speaking(f"asking for job {handle.provider_id}"):
            word = job.status()
            if word == _RAN_TOO_LONG_WORD or (word == "ERROR" and job._reason_code == _RAN_TOO_LONG):
                raise TimedOut(f"IBM stopped job {handle.provider_id} at its execution time")
            if word not in job.JOB_FINAL_STATES:
                raise BackendError(f"job {handle.provider_id} has not ended ({word})", FailureClass.TRANSIENT)
            if word != "DONE":
                reason = redacted(job.error_message() or "no reason given", 300)
                raise BackendError(f"job {handle.provider_id} ended as {word}: {reason}", FailureClass.BACKEND)
        with speaking(f"reading the result of job {handle.provider_id}"):
            answer = answered(job, note)
        return finished(self.name, note, answer, self._timings(job))

    def _timings(self, job: Any) -> Timings:
        """Seconds in the queue and on the device, as IBM counts them; what it does not say is 0."""
        try:
            with speaking("asking for the job's times"):
                metrics = job.metrics()
        except BackendError as error:
            if status_code(error) != 404:
                raise
            metrics = {}
        times = {name: datetime.fromisoformat(text) for name, text in metrics.get("timestamps", {}).items() if text}
        created, running, ended = (times.get(name) for name in ("created", "running", "finished"))
        charged = metrics.get("usage", {}).get("qpu_charge_time_seconds")
        ran = (ended - running).total_seconds() if ended and running else 0.0
        total = (ended - created).total_seconds() if ended and created else 0.0
        return Timings(
            queue=max((running - created).total_seconds(), 0.0) if running and created else 0.0,
            execute=float(charged) if charged is not None else max(ran, 0.0),
            total=max(total, 0.0),
        )

    def cancel(self, handle: JobHandle) -> None:
        """Ask IBM to stop the job; one that has ended stays as it is."""
        from qiskit_ibm_runtime.exceptions import RuntimeInvalidStateError

        job = self._job(handle)
        with speaking(f"cancelling job {handle.provider_id}"), suppress(RuntimeInvalidStateError):
            job.cancel()

    def forget(self, handle: JobHandle) -> None:
        """The submission's note goes."""
        notes.remove(handle.key)


def _tags(key: str, digest: str | None = None) -> list[str]:
    """The key's tag, by which a job is found, and its envelope's; at most 73 characters each."""
    return [f"hybrid:{key}"] + ([f"envelope:{digest}"] if digest else [])
