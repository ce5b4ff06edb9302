"""One job and one backend: send it so that it arrives once, look for it, and judge what comes back.

Here: retries (tenacity's), looking before anything is sent a second time, the checks on an answer. Not here: states
and the next backend (``dispatcher``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from resources.backends.base import JobHandle, ProviderStatus, QuantumBackend
from resources.envelope import EvidenceClass, JobEnvelope, JobResult
from resources.failures import CONSEQUENCE, BackendError, FailureClass, HybridError, InvariantError

if TYPE_CHECKING:
    import dimod

#: Refusals that leave no doubt: the backend has not taken the job.
_REFUSED = frozenset(FailureClass) - {FailureClass.TRANSIENT, FailureClass.BACKEND}
#: Evidence classes, the weakest first.
_STRENGTH = tuple(reversed(EvidenceClass))


class Ambiguous(HybridError):
    """A backend may or may not have taken a job, and cannot be asked just now."""

    failure_class = FailureClass.TRANSIENT


def _retryable(error: BaseException) -> bool:
    return isinstance(error, BackendError) and CONSEQUENCE[error.failure_class] == "retry"


def deliver(
    backend: QuantumBackend, envelope: JobEnvelope, payload: dimod.BinaryQuadraticModel, *, look_first: bool
) -> JobHandle:
    """Send with retries; before anything is sent a second time, the backend is asked whether it has it.

    Args:
        look_first: the job was sent before (another attempt), so ask before the first sending too.

    Raises:
        BackendError: it has not taken the job.
        Ambiguous: nobody knows whether it has.
    """
    missing = backend.available()
    if missing:
        raise BackendError(f"{backend.name} cannot be used: {missing}", FailureClass.CAPABILITY)
    sent, key, look = as_sent(backend, envelope), envelope.idempotency_key, look_first

    @retry(
        retry=retry_if_exception(_retryable),
        stop=stop_after_attempt(3),
        reraise=True,
        wait=wait_random_exponential(multiplier=0.2, max=envelope.timeout.queue),
    )
    def send() -> JobHandle:
        nonlocal look
        known = living(backend, key) if look else None
        look = True
        return known or backend.submit(sent, payload, key)

    try:
        return send()
    except BackendError as error:
        if error.failure_class in _REFUSED:
            raise
        # the answer may have been lost on its way back
        try:
            known = living(backend, key)
        except BackendError as silence:
            raise Ambiguous(f"{backend.name} may have the job ({error}) and cannot be asked ({silence})") from None
        if known is None:
            raise
        return known


def living(backend: QuantumBackend, key: str) -> JobHandle | None:
    """The backend's job with this key, unless it ended without a result."""
    handle = backend.find(key)
    if handle is None or backend.status(handle) in (ProviderStatus.FAILED, ProviderStatus.CANCELLED):
        return None
    return handle


def as_sent(backend: QuantumBackend, envelope: JobEnvelope) -> JobEnvelope:
    """The envelope as this backend gets it: another kind of machine answers with its own algorithm."""
    offered = backend.capabilities().algorithms
    if backend.name == envelope.backend or envelope.algorithm.name in offered:
        return envelope
    return envelope.model_copy(update={"algorithm": envelope.algorithm.model_copy(update={"name": offered[0]})})


def verify(result: JobResult, backend: QuantumBackend, envelope: JobEnvelope) -> None:
    """Refuse an answer that is not this backend's to this envelope.

    Raises:
        InvariantError: it answers another job, or claims more than its backend can be.
    """
    expected, best = as_sent(backend, envelope).digest, backend.capabilities().evidence_class
    if result.envelope_digest != expected:
        raise InvariantError(f"{backend.name} answered envelope {result.envelope_digest}, asked was {expected}")
    if result.backend != backend.name:
        raise InvariantError(f"{backend.name} answered in the name of {result.backend}")
    if result.width != envelope.payload_variables:
        raise InvariantError(
            f"{backend.name} answered {result.width} variables, the job has {envelope.payload_variables}"
        )
    if _STRENGTH.index(result.evidence_class) > _STRENGTH.index(best):
        raise InvariantError(f"{backend.name} claims {result.evidence_class}, it can only be {best}")
