"""Dispatch: intent first, then submit, then the result, each step a transaction in the ledger.

Here: submit, result, the fallback path with its reasons. Not here: SDK calls (``backends``) or policy about who may
ask for what. Retries are tenacity's; which failures are retried, rerouted or stopped is ``failures.CONSEQUENCE``.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from resources.artifacts import ArtifactStore
from resources.backends.base import JobHandle, ProviderStatus, QuantumBackend
from resources.envelope import Hop, JobEnvelope, JobResult
from resources.failures import CONSEQUENCE, BackendError, FailureClass, HybridError, InvariantError
from resources.ledger import Conflict, Job, Ledger, is_alive, job_id_of, result_of, this_process

if TYPE_CHECKING:
    import dimod


class JobFailed(HybridError):
    """A job ended without a result; the message is the ledger's."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"{job.job_id} ended as {job.state}: {job.error or 'no reason recorded'}")


def _retryable(error: BaseException) -> bool:
    return isinstance(error, BackendError) and CONSEQUENCE[error.failure_class] == "retry"


class Dispatcher:
    """Sends jobs and brings results back, exactly once per idempotency key.

    Args:
        ledger: durable states.
        artifacts: payloads and results.
        backends: constructors by registered name; a backend is made when first used.
    """

    def __init__(
        self, ledger: Ledger, artifacts: ArtifactStore, backends: Mapping[str, Callable[[], QuantumBackend]]
    ) -> None:
        self.ledger, self.artifacts, self._factories = ledger, artifacts, dict(backends)
        self._backends: dict[str, QuantumBackend] = {}

    def backend(self, name: str) -> QuantumBackend:
        """The backend of this name.

        Raises:
            BackendError: class ``capability`` when it is not registered.
        """
        if name not in self._backends:
            if name not in self._factories:
                raise BackendError(
                    f"no backend is registered as {name!r} (registered: {', '.join(sorted(self._factories))})",
                    FailureClass.CAPABILITY,
                )
            self._backends[name] = self._factories[name]()
        return self._backends[name]

    @property
    def backend_names(self) -> tuple[str, ...]:
        """Registered names, sorted."""
        return tuple(sorted(self._factories))

    def submit(self, envelope: JobEnvelope) -> Job:
        """Intent, submit, and for local backends the result; safe to call again at any time.

        Raises:
            InvariantError: the payload does not match its reference.
        """
        job = self.ledger.intend(envelope)
        if job.state in ("failed", "timed_out"):
            job = self._claim(job, "intended", "asked for again")
        elif job.state == "submitting" and not is_alive(job.claimed_by):
            job = self._adopt_or_reset(job, envelope)
        elif job.state == "submitted":
            return self._collect(job, self.ledger.envelope(job.envelope_digest))
        if job.state != "intended":
            return job
        try:
            job = self.ledger.move(job.job_id, "submitting", expect="intended", attempts=job.attempts + 1,
                                   claimed_by=this_process())
        except Conflict:
            return self.ledger.job(job.job_id)
        return self._send(job, self.ledger.envelope(job.envelope_digest))

    def result(self, envelope: JobEnvelope) -> JobResult | None:
        """The result of a submitted envelope, ``None`` while it is pending; marked ``cached`` when another envelope
        with the same idempotency key produced it.

        Raises:
            JobFailed: the job ended without a result.
        """
        job = self.ledger.intend(envelope)
        if job.state == "submitted":
            job = self._collect(job, self.ledger.envelope(job.envelope_digest))
        if job.state in ("failed", "cancelled", "timed_out", "rejected"):
            raise JobFailed(job)
        if job.state != "succeeded" or job.result_ref is None:
            return None
        result = result_of(job, self.artifacts.get(job.result_ref))
        if job.envelope_digest == envelope.digest:
            return result
        return result.model_copy(update={"envelope_digest": envelope.digest, "cached": True})

    def job_id(self, envelope: JobEnvelope) -> str:
        """The id of the job that answers this envelope."""
        return job_id_of(envelope)

    def stored_result(self, job_id: str) -> JobResult:
        """The stored result of a succeeded job.

        Raises:
            JobFailed: it has none.
        """
        job = self.ledger.job(job_id)
        if job.result_ref is None:
            raise JobFailed(job)
        return result_of(job, self.artifacts.get(job.result_ref))

    def run(self, envelope: JobEnvelope, patience: float | None = None) -> JobResult | None:
        """Submit, then wait up to ``patience`` seconds (default: the envelope's total) if another process holds the
        job."""
        deadline = time.monotonic() + (envelope.timeout.total if patience is None else patience)
        while True:
            job = self.submit(envelope)
            if job.state not in ("submitting", "running") or time.monotonic() > deadline:
                return self.result(envelope)
            time.sleep(0.1)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _claim(self, job: Job, state: str, detail: str) -> Job:
        try:
            return self.ledger.move(job.job_id, state, detail, expect=job.state, error=None)
        except Conflict:
            return self.ledger.job(job.job_id)

    def _adopt_or_reset(self, job: Job, envelope: JobEnvelope) -> Job:
        """A submitting process died: adopt the job if its backend knows the key, else it never got there."""
        handle = self.backend(job.backend).find(envelope.idempotency_key)
        if handle is None:
            return self._claim(job, "intended", f"{job.claimed_by} died while submitting; the backend has no such job")
        job = self.ledger.move(job.job_id, "submitted", "adopted by its key", expect="submitting",
                               provider_id=handle.provider_id)
        return self._collect(job, envelope)

    def _send(self, job: Job, envelope: JobEnvelope) -> Job:
        hops: list[Hop] = []
        chain = (envelope.backend, *envelope.fallback)
        try:
            payload = self._payload(envelope)
            for position, name in enumerate(chain):
                following = chain[position + 1] if position + 1 < len(chain) else None
                try:
                    handle = self._submit_to(name, envelope, payload)
                    break
                except BackendError as error:
                    consequence = CONSEQUENCE[error.failure_class]
                    hops.append(Hop(backend=name, failure_class=error.failure_class, reason=str(error),
                                    next_backend=following if consequence != "stop" else None))
                    if consequence == "stop" or following is None:
                        raise
            job = self.ledger.move(job.job_id, "submitted", f"to {name}", provider_id=handle.provider_id,
                                   backend=name)
            return self._collect(job, envelope, tuple(hops))
        except Exception as error:
            # an interrupt is no Exception: it leaves the claim, which the next process finds dead
            current = self.ledger.job(job.job_id)
            kind = error.failure_class if isinstance(error, HybridError) else FailureClass.INTERNAL
            path = " → ".join(f"{h.backend}: {h.reason}" for h in hops) or str(error)
            failed = self.ledger.move(current.job_id, "failed", path, error=f"{kind}: {path}")
            if kind in (FailureClass.INTERNAL, FailureClass.CIRCUIT):
                raise
            return failed

    def _payload(self, envelope: JobEnvelope) -> dimod.BinaryQuadraticModel:
        import dimod

        payload = dimod.BinaryQuadraticModel.from_file(io.BytesIO(self.artifacts.get(envelope.payload_ref)))
        if payload.num_variables != envelope.payload_variables:
            raise InvariantError(
                f"payload {envelope.payload_ref} has {payload.num_variables} variables, its envelope says "
                f"{envelope.payload_variables}"
            )
        return payload

    def _submit_to(self, name: str, envelope: JobEnvelope, payload: dimod.BinaryQuadraticModel) -> JobHandle:
        backend = self.backend(name)
        missing = backend.available()
        if missing:
            raise BackendError(f"{name} cannot be used: {missing}", FailureClass.CAPABILITY)
        offered = backend.capabilities().algorithms
        if name != envelope.backend and envelope.algorithm.name not in offered:
            # another kind of machine answers a rerouted job with its own algorithm
            algorithm = envelope.algorithm.model_copy(update={"name": offered[0]})
            envelope = envelope.model_copy(update={"algorithm": algorithm})
        attempt = retry(retry=retry_if_exception(_retryable), stop=stop_after_attempt(3), reraise=True,
                        wait=wait_random_exponential(multiplier=0.2, max=envelope.timeout.queue))
        return attempt(backend.submit)(envelope, payload, envelope.idempotency_key)

    def _collect(self, job: Job, envelope: JobEnvelope, hops: tuple[Hop, ...] = ()) -> Job:
        """Store the result if the provider has it."""
        backend = self.backend(job.backend)
        handle = backend.find(envelope.idempotency_key)
        if handle is None:
            # a local backend forgets its jobs with its process: this one can only be run again
            return self.ledger.move(job.job_id, "failed", "the backend lost the job",
                                    error="backend: the backend lost the job")
        status = backend.status(handle)
        if status in (ProviderStatus.QUEUED, ProviderStatus.RUNNING):
            return job
        if status in (ProviderStatus.FAILED, ProviderStatus.CANCELLED):
            return self.ledger.move(job.job_id, status.value, "as the provider says", error=f"backend: {status}")
        result = backend.result(handle).model_copy(
            update={"envelope_digest": job.envelope_digest, "attempts": job.attempts, "fallback_path": hops}
        )
        best = backend.capabilities().evidence_class
        order = ["classical", "surrogate", "simulator", "emulator", "hardware"]
        if order.index(result.evidence_class) > order.index(best):
            raise InvariantError(f"{job.backend} claims {result.evidence_class}, it can only be {best}")
        reference = self.artifacts.put(result.model_dump_json().encode())
        return self.ledger.move(job.job_id, "succeeded", f"result {reference}", result_ref=reference)
