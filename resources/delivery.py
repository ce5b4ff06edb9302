"""One backend and some jobs: send them so that each arrives once, and judge what comes back.

Here: retries (tenacity's), what a refusal means, the checks on an answer. Not here: states and the next backend
(``sending``), or looking for jobs whose fate is unknown (``doubts``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_result,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)

from resources.backends.base import JobHandle, QuantumBackend
from resources.envelope import EvidenceClass, JobEnvelope, JobResult, Mitigation
from resources.failures import BackendError, FailureClass, InvariantError, secrets

if TYPE_CHECKING:
    from resources.payloads import Payload

#: Refusals that leave no doubt: the provider has not taken the job.
_REFUSED = frozenset(FailureClass) - {FailureClass.TRANSIENT, FailureClass.BACKEND}
#: Evidence classes, the weakest first.
_STRENGTH = tuple(reversed(EvidenceClass))
#: Submissions of one call, retries included.
ATTEMPTS = 4

Answer = JobHandle | Exception


@dataclass(frozen=True)
class Outgoing:
    """A job as it goes out: the envelope as this backend gets it, the model, the provider's key."""

    envelope: JobEnvelope
    payload: Payload
    key: str


def deliver(backend: QuantumBackend, jobs: Sequence[Outgoing]) -> list[Answer]:
    """Send jobs as one submission, with retries inside the shortest queue budget; one answer per job, an exception
    that is no ``BackendError`` where the backend has a defect.

    What may have arrived is sent again only where that is safe: the provider recognises the key, or has been asked
    and does not have it. ``is_doubtful`` says which errors leave open whether the job arrived.
    """
    answers: list[Answer] = [BackendError("not sent", not_sent=True)] * len(jobs)
    pending = list(range(len(jobs)))
    # what may have arrived stays so, also when the next attempt is refused
    doubts: dict[int, Exception] = {}
    budget = min(job.envelope.timeout.queue for job in jobs)

    def attempt() -> list[int]:
        nonlocal pending
        try:
            if len(pending) == 1:
                job = jobs[pending[0]]
                found: Sequence[Answer] = [backend.submit(job.envelope, job.payload, job.key)]
            else:
                found = backend.submit_many([(jobs[i].envelope, jobs[i].payload, jobs[i].key) for i in pending])
            answered = dict(zip(pending, found, strict=True))
        except Exception as error:
            # what no backend may raise is a defect, of each that was sent with this attempt
            answered = dict.fromkeys(pending, error)
        for index, answer in answered.items():
            answers[index] = answer
            if isinstance(answer, Exception) and is_doubtful(backend, answer):
                doubts[index] = answer
        pending = [index for index in pending if _again(backend, jobs[index].key, answers, index, budget)]
        if not backend.capabilities().idempotent:
            # asked for and not there
            for index in pending:
                doubts.pop(index, None)
        return pending

    backoff = wait_random_exponential(multiplier=0.2, max=10.0)

    def pause(state: RetryCallState) -> float:
        asked = [getattr(answers[index], "retry_after", None) or 0.0 for index in pending]
        return max([backoff(state), *asked])

    Retrying(
        retry=retry_if_result(bool),
        stop=stop_after_attempt(ATTEMPTS) | stop_before_delay(budget),
        wait=pause,
        retry_error_callback=lambda _: None,
    )(attempt)
    return [
        doubts.get(index, answer) if isinstance(answer, Exception) else answer for index, answer in enumerate(answers)
    ]


def _again(backend: QuantumBackend, key: str, answers: list[Answer], index: int, budget: float) -> bool:
    """Whether to send a job once more; may find out that it has arrived."""
    answer, can = answers[index], backend.capabilities()
    if not isinstance(answer, BackendError):
        return False
    if answer.retry_after is not None and answer.retry_after > min(budget, 10.0):
        return False
    if answer.failure_class is FailureClass.SATURATION:
        return answer.retry_after is not None
    if answer.failure_class is not FailureClass.TRANSIENT:
        return False
    if answer.not_sent or can.idempotent or not can.remote:
        return True
    if not can.lookup or can.settling_seconds > 0:
        return False
    try:
        known = backend.find(key)
    except Exception:
        # nobody knows: it is looked for later
        return False
    if known is not None:
        answers[index] = known
    return known is None


def is_doubtful(backend: QuantumBackend, error: Exception) -> bool:
    """Whether the job may have arrived in spite of the error; of an exception that is no backend's, nobody knows."""
    if not isinstance(error, BackendError):
        return backend.capabilities().remote
    return backend.capabilities().remote and not error.not_sent and error.failure_class not in _REFUSED


def as_sent(backend: QuantumBackend, envelope: JobEnvelope) -> JobEnvelope:
    """The envelope as this backend gets it: another kind of machine answers with its own algorithm, and a fallback
    without what ``left_out`` names."""
    if backend.name == envelope.backend:
        return envelope
    can, algorithm = backend.capabilities(), envelope.algorithm
    changes: dict[str, object] = {}
    if envelope.kind == "sample" and algorithm.name not in can.algorithms:
        changes["name"] = can.algorithms[0]
    if without := left_out(backend, envelope):
        asked = dict(algorithm.mitigation)
        changes["mitigation"] = Mitigation(**{name: value for name, value in asked.items() if name not in without})
        changes["compilation"] = algorithm.compilation.model_copy(update={"layout": None})
    if not changes:
        return envelope
    return envelope.model_copy(update={"algorithm": algorithm.model_copy(update=changes)})


def left_out(backend: QuantumBackend, envelope: JobEnvelope) -> tuple[str, ...]:
    """What was asked of the envelope's own backend and this fallback does not get: the mitigation that it does not
    offer, by the names of ``Mitigation``'s fields, and a ``layout``, which is one device's."""
    if backend.name == envelope.backend:
        return ()
    algorithm, offered = envelope.algorithm, backend.capabilities().mitigation
    missing = [name for name, value in algorithm.mitigation if value and name not in offered]
    return (*missing, *(["layout"] if algorithm.compilation.layout is not None else []))


def without_secrets(result: JobResult) -> JobResult:
    """The result with a secret's name in place of its value, wherever a backend wrote freely."""
    known = secrets()

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            for secret, name in known.items():
                value = value.replace(secret, f"<{name}>")
            return value
        if isinstance(value, dict):
            return {clean(key): clean(item) for key, item in value.items()}
        return [clean(item) for item in value] if isinstance(value, list | tuple) else value

    return result.model_copy(
        update={name: clean(getattr(result, name)) for name in ("parameters", "calibration", "sdk_versions")}
    )


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
    asked = () if envelope.kind == "sample" else envelope.expected_shape
    found = (len(result.values), len(result.values[0])) if result.values else ()
    if found != asked:
        raise InvariantError(
            f"{backend.name} answered {_table(found)}, the {envelope.kind} job asks for {_table(asked)}"
        )
    if _STRENGTH.index(result.evidence_class) > _STRENGTH.index(best):
        raise InvariantError(f"{backend.name} claims {result.evidence_class}, it can only be {best}")


def _table(shape: tuple[int, ...]) -> str:
    return f"a table of {shape[0]} by {shape[1]}" if shape else "samples"
