"""Dispatch: intent first, then submit, then the result, each step a transaction in the ledger.

Here: submit, result, recovery after a crash, the fallback path with its reasons. Not here: one sending to one backend
(``delivery``), SDK calls (``backends``), or policy about who may ask for what. Which failures are retried, rerouted or
stopped is ``failures.CONSEQUENCE``.

Who may change a job: the process that claimed its current attempt. Every change names the state (and, while sending,
the attempt) it starts from, so of two processes one goes on and the other sees ``Conflict`` and looks again.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from resources.artifacts import ArtifactStore
from resources.backends.base import JobHandle, ProviderStatus, QuantumBackend
from resources.delivery import Ambiguous, deliver, living, verify
from resources.envelope import Hop, JobEnvelope, JobResult
from resources.failures import CONSEQUENCE, BackendError, FailureClass, HybridError, InvariantError
from resources.ledger import Conflict, Job, Ledger, is_alive, job_id_of, result_of, this_process

if TYPE_CHECKING:
    import dimod

#: The backend cannot answer just now: what it has stays there, and the next look may succeed.
_LATER = frozenset({FailureClass.TRANSIENT, FailureClass.SATURATION})


class JobFailed(HybridError):
    """A job ended without a result; the message and the failure class are the ledger's."""

    def __init__(self, job: Job) -> None:
        self.job = job
        kind = (job.error or "").partition(":")[0]
        self.failure_class = FailureClass(kind) if kind in set(FailureClass) else FailureClass.BACKEND
        super().__init__(f"{job.job_id} ended as {job.state}: {job.error or 'no reason recorded'}")

    def __reduce__(self) -> tuple[type[JobFailed], tuple[Job]]:
        return (type(self), (self.job,))


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
            BackendError: class ``capability`` when it is not registered or its package is missing.
        """
        if name not in self._backends:
            if name not in self._factories:
                raise BackendError(
                    f"no backend is registered as {name!r} (registered: {', '.join(sorted(self._factories))})",
                    FailureClass.CAPABILITY,
                )
            try:
                self._backends[name] = self._factories[name]()
            except ImportError as error:
                raise BackendError(f"backend {name} cannot be loaded: {error}", FailureClass.CAPABILITY) from error
        return self._backends[name]

    @property
    def backend_names(self) -> tuple[str, ...]:
        """Registered names, sorted."""
        return tuple(sorted(self._factories))

    def submit(self, envelope: JobEnvelope) -> Job:
        """Intent, submit, and for local backends the result; safe to call again at any time.

        A failed or timed-out job is sent again as a new attempt; what a dead process left is taken over.

        Raises:
            HybridError: class ``internal`` or ``circuit``, a defect, which the job's row records as well.
            BackendError: the backend that holds the job, or may hold it, cannot be used from here.
        """
        return self._bring(envelope, again=True)

    def result(self, envelope: JobEnvelope) -> JobResult | None:
        """The result of a submitted envelope, ``None`` while it is pending; marked ``cached`` when another envelope
        with the same idempotency key produced it.

        Raises:
            JobFailed: the job ended without a result.
        """
        job = self.ledger.intend(envelope)
        if job.state in ("submitted", "running"):
            try:
                job = self._collect(job, self.ledger.envelope(job.envelope_digest))
            except Conflict:
                job = self.ledger.job(job.job_id)
        if job.state in ("failed", "cancelled", "timed_out", "rejected"):
            raise JobFailed(job)
        if job.state != "succeeded":
            return None
        result = self._stored(job)
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
        return self._stored(self.ledger.job(job_id))

    def run(self, envelope: JobEnvelope, patience: float | None = None) -> JobResult | None:
        """Submit, then wait up to ``patience`` seconds (default: the envelope's total) if another process holds the
        job."""
        deadline = time.monotonic() + (envelope.timeout.total if patience is None else patience)
        job = self.submit(envelope)
        while job.state == "submitting" and time.monotonic() < deadline:
            time.sleep(0.1)
            job = self._bring(envelope, again=False)
        return self.result(envelope)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _stored(self, job: Job) -> JobResult:
        if job.result_ref is None:
            raise JobFailed(job)
        return result_of(job, self.artifacts.get(job.result_ref))

    def _bring(self, envelope: JobEnvelope, again: bool) -> Job:
        """Bring a job as far as this process can; ``again``: also one that has ended without a result."""
        job = self.ledger.intend(envelope)
        while True:
            try:
                return self._advance(job, again)
            except Conflict:
                # another process was faster: go on from where it has brought the job; its failure is our answer too
                job, again = self.ledger.job(job.job_id), False

    def _advance(self, job: Job, again: bool) -> Job:
        envelope = self.ledger.envelope(job.envelope_digest)
        if job.state == "submitting" and _abandoned(job, envelope):
            job = self.ledger.move(
                job.job_id,
                "ambiguous",
                f"{job.claimed_by} died while submitting",
                expect="submitting",
                attempt=job.attempts,
            )
        if job.state == "ambiguous":
            job = self._reconcile(job, envelope)
        if job.state in ("submitted", "running"):
            return self._collect(job, envelope)
        if again and job.state in ("failed", "timed_out"):
            job = self.ledger.move(
                job.job_id, "intended", "asked for again", expect=job.state, attempt=job.attempts, error=None
            )
        if job.state != "intended":
            return job
        job = self.ledger.move(
            job.job_id,
            "submitting",
            f"to {envelope.backend}",
            expect="intended",
            attempt=job.attempts,
            attempts=job.attempts + 1,
            claimed_by=this_process(),
            backend=envelope.backend,
            provider_id=None,
            fallback_path="[]",
        )
        return self._send(job, envelope)

    def _reconcile(self, job: Job, envelope: JobEnvelope) -> Job:
        """Adopt an ambiguous job if its backend knows the key; else it never got there."""
        try:
            handle = living(self.backend(job.backend), envelope.idempotency_key)
        except BackendError as error:
            if error.failure_class in _LATER:
                return job
            raise
        if handle is None:
            return self.ledger.move(
                job.job_id, "intended", f"{job.backend} has no such job", expect="ambiguous", attempt=job.attempts
            )
        return self.ledger.move(
            job.job_id,
            "submitted",
            f"found at {job.backend} by its key",
            expect="ambiguous",
            attempt=job.attempts,
            provider_id=handle.provider_id,
        )

    def _send(self, job: Job, envelope: JobEnvelope) -> Job:
        """Send a claimed job along the chain of backends until one takes it."""
        hops: list[Hop] = []
        chain = (envelope.backend, *envelope.fallback)
        try:
            payload = self._payload(envelope)
            for position, name in enumerate(chain):
                following = chain[position + 1] if position + 1 < len(chain) else None
                try:
                    handle = deliver(self.backend(name), envelope, payload, look_first=job.attempts > 1)
                    break
                except BackendError as error:
                    stop = CONSEQUENCE[error.failure_class] == "stop"
                    hops.append(
                        Hop(
                            backend=name,
                            failure_class=error.failure_class,
                            reason=str(error),
                            next_backend=None if stop else following,
                        )
                    )
                    if stop or following is None:
                        raise
                    # written before the next one is called, so that a successor asks the right one
                    job = self.ledger.move(
                        job.job_id,
                        "submitting",
                        f"to {following} after {name}: {error}",
                        expect="submitting",
                        attempt=job.attempts,
                        backend=following,
                        fallback_path=_as_json(hops),
                    )
            try:
                # a local backend has the result already: nobody ever sees its job as submitted and without one
                if self.backend(job.backend).status(handle) is ProviderStatus.SUCCEEDED:
                    return self._store(job, envelope, handle)
            except BackendError as error:
                if error.failure_class not in _LATER:
                    raise
            job = self.ledger.move(
                job.job_id,
                "submitted",
                f"to {job.backend}",
                expect="submitting",
                attempt=job.attempts,
                provider_id=handle.provider_id,
            )
        except Conflict:
            raise
        except Ambiguous as error:
            return self.ledger.move(job.job_id, "ambiguous", str(error), expect="submitting", attempt=job.attempts)
        except Exception as error:
            return self._fail(job, error, hops)
        except BaseException:
            # interrupted: this process may live on, so the claim is given back and the next caller looks again
            with suppress(Exception):
                self.ledger.move(
                    job.job_id, "ambiguous", "interrupted while submitting", expect="submitting", attempt=job.attempts
                )
            raise
        return self._collect(job, envelope)

    def _fail(self, job: Job, error: Exception, hops: list[Hop]) -> Job:
        """Record why a job ended; a defect is raised as well."""
        kind = error.failure_class if isinstance(error, HybridError) else FailureClass.INTERNAL
        # the text of a foreign exception may quote what it was given: its first line is enough
        reason = str(error) if isinstance(error, HybridError) else f"{type(error).__name__}: {error}".split("\n")[0]
        if hops:
            left = [f"{hop.backend}: {hop.reason}" for hop in hops]
            reason = " → ".join(left if hops[-1].reason == str(error) else [*left, f"{job.backend}: {reason}"])
        failed = self.ledger.move(
            job.job_id,
            "failed",
            reason[:2000],
            expect=job.state,
            attempt=job.attempts,
            error=f"{kind}: {reason}"[:2000],
            fallback_path=_as_json(hops),
        )
        if kind in (FailureClass.INTERNAL, FailureClass.CIRCUIT):
            raise error
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

    def _collect(self, job: Job, envelope: JobEnvelope) -> Job:
        """Store the result of a submitted job if the provider has it."""
        try:
            backend = self.backend(job.backend)
            handle = backend.find(envelope.idempotency_key)
            if handle is None:
                raise BackendError(f"{job.backend} has lost the job", FailureClass.BACKEND)
            status = backend.status(handle)
            if status is ProviderStatus.RUNNING and job.state == "submitted":
                return self.ledger.move(job.job_id, "running", "as the provider says", expect="submitted")
            if status in (ProviderStatus.QUEUED, ProviderStatus.RUNNING):
                return job
            if status is ProviderStatus.CANCELLED:
                return self.ledger.move(
                    job.job_id,
                    "cancelled",
                    "as the provider says",
                    expect=job.state,
                    error=f"backend: {job.backend} cancelled it",
                )
            if status is ProviderStatus.FAILED:
                raise BackendError(f"{job.backend} says that the job failed", FailureClass.BACKEND)
            return self._store(job, envelope, handle)
        except Conflict:
            raise
        except Exception as error:
            if isinstance(error, BackendError) and error.failure_class in _LATER:
                return job
            if isinstance(error, BackendError) and error.failure_class is FailureClass.CAPABILITY:
                # it cannot be asked from here at all; the job is where it was
                raise
            return self._fail(job, error, _hops(job))

    def _store(self, job: Job, envelope: JobEnvelope, handle: JobHandle) -> Job:
        """Fetch, verify and keep a finished job's result.

        Raises:
            InvariantError: it answers another job, or claims more than its backend can be.
        """
        backend = self.backend(job.backend)
        result = backend.result(handle)
        verify(result, backend, envelope)
        result = result.model_copy(
            update={
                "envelope_digest": job.envelope_digest,
                "attempts": job.attempts,
                "fallback_path": tuple(_hops(job)),
            }
        )
        reference = self.artifacts.put(result.model_dump_json().encode())
        return self.ledger.move(
            job.job_id,
            "succeeded",
            f"result {reference}",
            expect=job.state,
            attempt=job.attempts,
            through="submitted" if job.state == "submitting" else None,
            provider_id=handle.provider_id,
            result_ref=reference,
        )


def _abandoned(job: Job, envelope: JobEnvelope) -> bool:
    """Whether the claiming process is dead, or (another host, a reused process number) silent for far too long."""
    patience = 2 * envelope.timeout.total * (1 + len(envelope.fallback))
    return not is_alive(job.claimed_by) or (datetime.now(UTC) - job.updated_at).total_seconds() > patience


def _as_json(hops: list[Hop]) -> str:
    return json.dumps([hop.model_dump() for hop in hops])


def _hops(job: Job) -> list[Hop]:
    return [Hop.model_validate(hop) for hop in json.loads(job.fallback_path)]
