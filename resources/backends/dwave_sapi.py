"""SAPI, the interface of D-Wave's cloud, through its own client: a problem's life there, whatever solves it.

The label of a problem carries the job's key, and SAPI lists problems by label: that is the lookup.

The client's synchronous resources are used rather than its ``Future``: a submit returns as soon as SAPI has the
problem, nothing polls behind our back, and no request is repeated unless the dispatcher says so. Settings come from
the client's own environment variables alone (``DWAVE_API_TOKEN``, ``_ENDPOINT``, ``_REGION``), never from its files.
Not here: what is in a problem or an answer (``dwave``).
"""

from __future__ import annotations

import io
import math
import os
import time
from abc import abstractmethod
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

from resources.backends import notes
from resources.backends.base import JobHandle, ProviderStatus, QuantumBackend, installed
from resources.envelope import JobEnvelope, JobResult, Timings
from resources.failures import BackendError, FailureClass, InputError, never_connected, redacted
from resources.payloads import Payload, model_of

if TYPE_CHECKING:
    import dimod
    from dwave.cloud.api.models import ProblemStatusMaybeWithAnswer, SolverConfiguration

TOKEN = "DWAVE_API_TOKEN"
#: Seconds to connect and to wait for an answer.
_PATIENCE = (10.0, 60.0)
#: Seconds a solver's definition (working graph, ranges) is used again.
_DEFINITION_AGE = 900.0
_STATUS = {
    "PENDING": ProviderStatus.QUEUED,
    "IN_PROGRESS": ProviderStatus.RUNNING,
    "COMPLETED": ProviderStatus.SUCCEEDED,
    "FAILED": ProviderStatus.FAILED,
    "CANCELLED": ProviderStatus.CANCELLED,
}


def failure(error: BaseException, unreadable: FailureClass = FailureClass.TRANSIENT) -> BackendError:
    """What a failed request means. Nothing of the request (it carries the token) reaches the message.

    Args:
        error: what the client raised.
        unreadable: class of an answer that came and cannot be read.
    """
    from dwave.cloud.api import exceptions as sapi

    code = getattr(error, "error_code", None)
    said = redacted(str(getattr(error, "error_msg", None) or type(error).__name__), 200)
    if isinstance(error, sapi.ResourceAuthenticationError | sapi.ResourceAccessForbiddenError) or code in (401, 403):
        return BackendError(f"D-Wave refuses the token in {TOKEN} ({code or said})", FailureClass.CAPABILITY)
    if isinstance(error, sapi.ResourceLimitsExceededError) or code == 429:
        headers = getattr(getattr(error, "response", None), "headers", {})
        after = headers.get("Retry-After", "")
        wait = float(after) if after.isdecimal() else None
        return BackendError("D-Wave takes no more requests for now (429)", FailureClass.SATURATION, retry_after=wait)
    if isinstance(error, sapi.ResourceNotFoundError):
        return BackendError(f"D-Wave knows nothing of it (404): {said}", FailureClass.BACKEND)
    if isinstance(code, int) and 400 <= code < 500:
        return BackendError(f"D-Wave does not take the problem ({code}): {said}", FailureClass.CAPABILITY)
    if isinstance(error, sapi.ResourceBadResponseError | ValueError | KeyError):
        return BackendError(f"D-Wave's answer cannot be read ({type(error).__name__})", unreadable)
    return BackendError(
        f"D-Wave cannot be reached: {said}" if code is None else f"D-Wave failed ({code}): {said}",
        FailureClass.TRANSIENT,
        not_sent=never_connected(error),
    )


@contextmanager
def asking(resource: str, unreadable: FailureClass = FailureClass.TRANSIENT) -> Iterator[Any]:
    """A resource of the client (``Problems`` or ``Solvers``) with failures translated by ``failure``; a session of its
    own each time, since a session serves one thread.

    Raises:
        BackendError: a request made inside failed.
    """
    from dwave.cloud.api import resources
    from requests.exceptions import RequestException

    settings = configuration()
    try:
        with getattr(resources, resource).from_config(
            settings, retry={"total": 0}, timeout=_PATIENCE, cache={"enabled": False}
        ) as asked:
            yield asked
    except (RequestException, ValueError, KeyError) as error:
        raise failure(error, unreadable) from None


def configuration() -> Any:
    """The client's settings, from the environment alone.

    Raises:
        BackendError: class ``capability``, when they contradict each other.
    """
    from dwave.cloud.config import load_config, validate_config_v1
    from dwave.cloud.regions import resolve_endpoints

    try:
        return resolve_endpoints(validate_config_v1(load_config(config_file=False)))
    except ValueError as error:
        raise BackendError(
            f"the settings in DWAVE_API_* are wrong: {redacted(str(error), 200)}", FailureClass.CAPABILITY
        ) from None


def upload(payload: bytes, seconds: float) -> str:
    """Store a serialized model at SAPI and return its id there; nothing is solved yet.

    Raises:
        BackendError: it is not stored.
    """
    from dwave.cloud import Client
    from dwave.cloud.exceptions import ProblemUploadError

    client = Client.from_config(config_file=False, cache_enabled=False, http_retry_total=0)
    try:
        stored: str = client.upload_problem_encoded(payload).result(seconds)
        return stored
    except TimeoutError:
        raise BackendError(f"D-Wave did not take the upload within {seconds:g} s", FailureClass.TRANSIENT) from None
    except ProblemUploadError as error:
        raise failure(error.__cause__ or error) from None
    finally:
        client.close(wait=False)


def missing(name: str, *, token: bool) -> str | None:
    """One sentence naming the extra, or the variable with the token, that this backend lacks."""
    if not (installed("dwave.system") and installed("dwave.cloud")):
        return f"backend {name} needs dwave-system: install hybrid-assets[dwave]"
    if token and not os.environ.get(TOKEN):
        return f"backend {name} needs {TOKEN} in the environment: the API token of a Leap project"
    return None


def _price() -> float:
    text = os.environ.get("HYBRID_DWAVE_PRICE_PER_SECOND") or "0"
    try:
        price = float(text)
    except ValueError:
        price = math.nan
    if not 0 <= price < math.inf:
        raise InputError("HYBRID_DWAVE_PRICE_PER_SECOND", "value", f"{text!r} is no price", "use a number such as 0.8")
    return price


@dataclass
class Sapi(QuantumBackend):
    """What processors and hybrid solvers have in common: a problem at SAPI, named by its label.

    Attributes:
        max_variables: largest payload accepted before anything is sent.
        price_per_second: of solver time, in the policy's currency: ``HYBRID_DWAVE_PRICE_PER_SECOND``, else 0, and then
            the policy's list alone says what is estimated and charged.

    Raises:
        InputError: the price is no number, or negative.
    """

    max_variables: int
    price_per_second: float = field(default_factory=_price)
    _definition: tuple[float, SolverConfiguration] | None = field(default=None, init=False, repr=False)

    #: Environment variable that names the solver; unset: the least busy one that suits.
    solver_variable: ClassVar[str] = "HYBRID_DWAVE_SOLVER"
    #: ``qpu`` or ``hybrid``, as solvers call themselves.
    category: ClassVar[str]

    def version(self) -> str:
        """Version of the cloud client; a result names the solver and its working graph."""
        return version("dwave-cloud-client")

    def available(self) -> str | None:
        """Names the extra or the variable that is missing."""
        return missing(self.name, token=True)

    @abstractmethod
    def prepare(
        self, envelope: JobEnvelope, payload: dimod.BinaryQuadraticModel, solver: SolverConfiguration
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What SAPI gets (``data``, ``params``, ``type``) and what the reader of the answer must know (JSON-able)."""

    @abstractmethod
    def read(
        self,
        envelope: JobEnvelope,
        payload: dimod.BinaryQuadraticModel,
        note: Mapping[str, Any],
        problem: ProblemStatusMaybeWithAnswer,
    ) -> JobResult:
        """The result in a completed problem."""

    def submit(self, envelope: JobEnvelope, payload: Payload, key: str) -> JobHandle:
        """Send one problem; answers as soon as SAPI has it."""
        (answer,) = self.submit_many([(envelope, payload, key)])
        if isinstance(answer, BackendError):
            raise answer
        return answer

    def submit_many(self, jobs: Sequence[tuple[JobEnvelope, Payload, str]]) -> list[JobHandle | BackendError]:
        """Send problems in one request; the notes of all of them are on disk before it.

        A key that was noted before may have been sent: it is looked up first.
        """
        from dwave.cloud.api.models import ProblemJob, ProblemSubmitError

        answers: dict[int, JobHandle | BackendError] = {}
        sent: dict[int, ProblemJob] = {}
        for index, (envelope, payload, key) in enumerate(jobs):
            try:
                self.check(envelope)
                payload = model_of(envelope, payload)
                if notes.read(key) is not None and (known := self.find(key)):
                    answers[index] = known
                    continue
                solver = self.solver()
                problem, note = self.prepare(envelope, payload, solver)
            except BackendError as error:
                # nothing but questions has left this machine
                error.not_sent = True
                answers[index] = error
                continue
            with payload.to_file() as stored:
                model = b64encode(stored.read()).decode()
            notes.write(key, {"envelope": envelope.model_dump(mode="json"), "payload": model, **note})
            sent[index] = ProblemJob(solver=solver.identity, label=_label(key), **problem)
        if sent:
            with asking("Problems") as problems:
                taken = problems.submit_problems(list(sent.values()))
            if len(taken) != len(sent):
                raise BackendError(f"D-Wave answered {len(taken)} of {len(sent)} problems", FailureClass.TRANSIENT)
            for index, status in zip(sent, taken, strict=True):
                if isinstance(status, ProblemSubmitError):
                    said = f"D-Wave does not take the problem ({status.error_code}): {redacted(status.error_msg, 200)}"
                    answers[index] = BackendError(said, FailureClass.CAPABILITY)
                else:
                    answers[index] = JobHandle(self.name, status.id, jobs[index][2])
        return [answers[index] for index in range(len(jobs))]

    def solver(self) -> SolverConfiguration:
        """The definition of the solver in use, at most 15 minutes old.

        Raises:
            BackendError: class ``capability``, when the account has no such solver or it is offline.
        """
        if self._definition is None or time.monotonic() - self._definition[0] > _DEFINITION_AGE:
            name = os.environ.get(self.solver_variable)
            with asking("Solvers") as solvers:
                offered = solvers.list_solvers()
            suitable = [
                solver
                for solver in offered
                if solver.properties.get("category") == self.category
                and (self.category == "qpu" or "bqm" in solver.properties.get("supported_problem_types", ()))
                and name in (None, "", solver.identity.name)
                and solver.status.lower() == "online"
            ]
            if not suitable:
                wanted = f"no solver {name!r}" if name else f"no {self.category} solver"
                raise BackendError(
                    f"backend {self.name}: {wanted} is online for this account (set {self.solver_variable})",
                    FailureClass.CAPABILITY,
                )
            self._definition = (time.monotonic(), min(suitable, key=lambda solver: solver.avg_load))
        return self._definition[1]

    def find(self, key: str) -> JobHandle | None:
        """The newest problem with this key's label; one that ended without an answer only if there is no other."""
        with asking("Problems") as problems:
            listed = problems.list_problems(label=_label(key))
        # SAPI's filter is not relied on to be exact
        mine = [problem for problem in listed if problem.label == _label(key)]
        if not mine:
            return None
        best = max(mine, key=lambda p: (p.status.value not in ("FAILED", "CANCELLED"), p.submitted_on))
        return JobHandle(self.name, best.id, key)

    def status(self, handle: JobHandle) -> ProviderStatus:
        """SAPI's view of the problem.

        Raises:
            BackendError: it knows none of this id, or cannot be asked.
        """
        found = self._statuses([handle])
        if handle not in found:
            raise BackendError(f"D-Wave knows no problem {handle.provider_id}", FailureClass.BACKEND)
        return found[handle]

    def statuses(self, handles: Sequence[JobHandle]) -> dict[JobHandle, ProviderStatus]:
        """SAPI's view of up to 1,000 problems a request."""
        found: dict[JobHandle, ProviderStatus] = {}
        for start in range(0, len(handles), 1000):
            try:
                found |= self._statuses(handles[start : start + 1000])
            except BackendError:
                continue
        return found

    def _statuses(self, handles: Sequence[JobHandle]) -> dict[JobHandle, ProviderStatus]:
        with asking("Problems") as problems:
            listed = problems.get_problem_statuses([handle.provider_id for handle in handles])
        words = {problem.id: problem.status.value for problem in listed}
        return {
            handle: _STATUS.get(words[handle.provider_id], ProviderStatus.UNKNOWN)
            for handle in handles
            if handle.provider_id in words
        }

    def result(self, handle: JobHandle) -> JobResult:
        """The result of a completed problem, in any process that shares the state folder with the one that sent it.

        Raises:
            BackendError: class ``backend``, when the answer cannot be read, is another job's, or is not there.
        """
        import dimod

        with asking("Problems", unreadable=FailureClass.BACKEND) as problems:
            problem = problems.get_problem(handle.provider_id)
        note = notes.read(handle.key)
        if problem.status.value != "COMPLETED" or problem.answer is None:
            raise BackendError(f"problem {handle.provider_id} has no answer: it is {problem.status.value}")
        if problem.label != _label(handle.key):
            raise BackendError(f"problem {handle.provider_id} is another job's: it carries another label")
        if note is None:
            raise BackendError(f"the note of problem {handle.provider_id} is gone: its answer cannot be decoded")
        envelope = JobEnvelope.model_validate(note["envelope"])
        payload = dimod.BinaryQuadraticModel.from_file(io.BytesIO(b64decode(note["payload"])))
        try:
            return self.read(envelope, payload, note, problem)
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise BackendError(
                f"the answer of problem {handle.provider_id} cannot be read ({type(error).__name__})"
            ) from None

    def cancel(self, handle: JobHandle) -> None:
        """Ask SAPI to stop the problem; one that has ended stays as it is."""
        from dwave.cloud.api.exceptions import ResourceConflictError

        with asking("Problems") as problems, suppress(ResourceConflictError):
            problems.cancel_problem(handle.provider_id)

    def forget(self, handle: JobHandle) -> None:
        """Drop the note: the result is stored."""
        notes.remove(handle.key)

    def spent(self, problem: ProblemStatusMaybeWithAnswer, seconds: float, **more: float) -> dict[str, Any]:
        """Timings and cost; ``seconds`` on the solver, the rest of the problem's life is queue."""
        life = (problem.solved_on - problem.submitted_on).total_seconds() if problem.solved_on else seconds
        return {
            "timings": Timings(execute=seconds, queue=max(0.0, life - seconds), total=max(life, seconds), **more),
            "actual_cost": seconds * self.price_per_second,
        }


def _label(key: str) -> str:
    return f"hybrid:{key}"
