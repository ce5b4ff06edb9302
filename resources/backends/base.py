"""The ``QuantumBackend`` seam: what every simulator, annealer or device looks like from the dispatcher.

Here: the protocol, the small documents it speaks and ``LocalBackend`` for anything that answers in process. Not here:
retries, fallback and states (``dispatcher``, ``ledger``). SDKs are imported inside the methods that need them.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache, partial
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from resources.envelope import EvidenceClass, JobEnvelope, JobResult
from resources.failures import BackendError, FailureClass

if TYPE_CHECKING:
    from resources.payloads import Payload


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do.

    Attributes:
        evidence_class: the best class its rows may claim.
        max_variables: largest payload (qubits, or spins for an annealer).
        algorithms: names of ``Algorithm`` it accepts.
        kinds: job kinds it accepts (``sample``, ``estimate``, ``kernel``).
        metered: whether a job costs money.
        tier: what kind of machine routing may take it for: ``cpu``, ``gpu``, ``simulator``, ``emulator``, ``hardware``.
        remote: whether it answers later (submit and reconcile) rather than inside ``submit``.
        leaves_machine: whether payloads leave this machine; sensitivity classes may forbid that.
        lookup: whether ``find`` can tell for sure that a job is not there. Without it an ambiguous job waits for a
            person.
        settling_seconds: how long after a submit a ``find`` that answers "not there" may still be wrong.
        idempotent: the provider itself answers a key it knows with the job it has, so that sending again is safe.
        batch: most jobs one submission may hold.
        parts: independent parts that a payload may hold where each is run apart, of up to ``max_variables`` each; 1:
            all variables count together.
        mitigation: names of ``Mitigation``'s fields that it offers.
        mixers: ``x``, and ``xy`` where it keeps an algorithm's ``groups``.
        device: which of its machines the settings name, where there are several: a job for another one is another job.
    """

    evidence_class: EvidenceClass
    max_variables: int
    algorithms: tuple[str, ...]
    kinds: tuple[str, ...] = ("sample",)
    metered: bool = False
    tier: str = "simulator"
    remote: bool = False
    leaves_machine: bool = False
    lookup: bool = True
    settling_seconds: float = 0.0
    idempotent: bool = False
    batch: int = 1
    parts: int = 1
    mitigation: tuple[str, ...] = ()
    mixers: tuple[str, ...] = ("x",)
    device: str = ""


@dataclass(frozen=True)
class Estimate:
    """What a job will take, before anything is sent.

    Attributes:
        queue_seconds, execution_seconds: seconds waiting and on the machine.
        cost: in the account's currency.
        two_qubit_gates, depth: of the circuit as routed on ``coupling_map``.
        logical_two_qubit_gates, logical_depth: of the circuit before routing.
        coupling_map: name of the topology; ``full`` where every pair is coupled.
        device_seconds: seconds that a device would take; ``None``: ``execution_seconds`` are a device's own, or no
            device is meant (a classical heuristic).
        device_cost, priced_as: what it would cost on the device of this name, by the policy's price list; filled in
            where a policy is at hand (``device_price``).
    """

    queue_seconds: float
    execution_seconds: float
    cost: float
    two_qubit_gates: int = 0
    depth: int = 0
    logical_two_qubit_gates: int = 0
    logical_depth: int = 0
    coupling_map: str = "full"
    device_seconds: float | None = None
    device_cost: float | None = None
    priced_as: str | None = None


def installed(module: str) -> bool:
    """Whether a module is there; its parent packages are imported, it is not."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@cache
def package_version(package: str) -> str:
    """Version of an installed package, or of the one that brings its module (``qiskit-aer-gpu`` for ``qiskit-aer``);
    looked up once, because every result names several and a look takes a millisecond."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        in_its_place = metadata.packages_distributions().get(package.replace("-", "_"))
        if not in_its_place:
            raise
        return metadata.version(in_its_place[0])


class ProviderStatus(StrEnum):
    """A provider's view of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    #: the provider said a word that nobody knows: look again later
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class JobHandle:
    """A provider's name for a job."""

    backend: str
    provider_id: str
    key: str


class QuantumBackend(ABC):
    """One execution target. Implementations are cheap to construct and import their SDK when first used."""

    #: Registered name, e.g. ``aer``.
    name: str

    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this backend can do; must not need the network."""

    @abstractmethod
    def version(self) -> str:
        """Version of the SDK or device firmware."""

    def available(self) -> str | None:
        """``None`` when the backend can be used now, else one sentence saying what is missing."""
        return None

    @abstractmethod
    def estimate(self, envelope: JobEnvelope) -> Estimate:
        """Queue, run time and cost of the job, before anything is sent."""

    @abstractmethod
    def submit(self, envelope: JobEnvelope, payload: Payload, key: str) -> JobHandle:
        """Send the job. ``key`` is passed to the provider, so that ``find`` can adopt a job whose answer was lost.

        Raises:
            BackendError: with the failure class that decides what happens next.
        """

    def submit_many(self, jobs: Sequence[tuple[JobEnvelope, Payload, str]]) -> Sequence[JobHandle | Exception]:
        """Send several jobs, as one submission where ``capabilities().batch`` allows it; one answer per job, whatever
        becomes of the others.

        Raises:
            BackendError: the submission as a whole failed; nobody knows which jobs arrived unless the class is a
                refusal (``capability``, ``saturation``, ``circuit``, ``input``).
        """
        answers: list[JobHandle | Exception] = []
        for envelope, payload, key in jobs:
            try:
                answers.append(self.submit(envelope, payload, key))
            except Exception as error:
                answers.append(error)
        return answers

    @abstractmethod
    def find(self, key: str) -> JobHandle | None:
        """The job with this key, or ``None`` when it definitely is not there."""

    @abstractmethod
    def status(self, handle: JobHandle) -> ProviderStatus:
        """The provider's view of the job."""

    def statuses(self, handles: Sequence[JobHandle]) -> dict[JobHandle, ProviderStatus]:
        """The provider's view of several jobs, in one call where it offers that; a job it cannot answer for is left
        out."""
        found = {}
        for handle in handles:
            try:
                found[handle] = self.status(handle)
            except BackendError:
                continue
        return found

    @abstractmethod
    def result(self, handle: JobHandle) -> JobResult:
        """The result of a succeeded job."""

    @abstractmethod
    def cancel(self, handle: JobHandle) -> None:
        """Ask the provider to stop the job."""

    def forget(self, handle: JobHandle) -> None:  # noqa: B027 - most backends keep nothing
        """The result is stored durably: what this process keeps of the job may go."""

    def warm(self) -> None:
        """Get ready in the background for a job that is about to come; costs the caller nothing."""
        return

    def calibration(self) -> dict[str, Any] | None:
        """Calibration snapshot (time, T1/T2, errors), or ``None`` for an ideal machine."""
        return None

    def check(self, envelope: JobEnvelope) -> None:
        """Refuse a job this backend cannot do.

        Raises:
            BackendError: class ``capability``.
        """
        can = self.capabilities()
        for asked, allowed, what in (
            (envelope.kind, can.kinds, "job kind"),
            (envelope.algorithm.name, can.algorithms, "algorithm"),
        ):
            if asked not in allowed:
                raise BackendError(
                    f"backend {self.name} does not offer {what} {asked!r} (it offers {', '.join(allowed)})",
                    FailureClass.CAPABILITY,
                )
        if envelope.payload_variables > can.max_variables * can.parts:
            raise BackendError(
                f"backend {self.name} takes at most {can.max_variables * can.parts} variables, the job has "
                f"{envelope.payload_variables}",
                FailureClass.CAPABILITY,
            )
        if envelope.algorithm.groups and "xy" not in can.mixers:
            raise BackendError(
                f"backend {self.name} does not keep the encoding's groups of exactly one 1 (it offers no XY mixer)",
                FailureClass.CAPABILITY,
            )
        asked_for = sorted(name for name, value in envelope.algorithm.mitigation if value)
        if refused := [name for name in asked_for if name not in can.mitigation]:
            raise BackendError(
                f"backend {self.name} does not offer mitigation {', '.join(refused)} "
                f"(it offers {', '.join(can.mitigation) or 'none'})",
                FailureClass.CAPABILITY,
            )


class Runner(Protocol):
    """Runs local backends elsewhere (``resources.workers``)."""

    def __call__(self, backend: LocalBackend, envelope: JobEnvelope, payload: Payload) -> JobResult:
        """What ``backend.answer(envelope, payload)`` gives."""

    def warm(self, backend: LocalBackend) -> None:
        """Get ready for a job of this backend in the background."""


@dataclass
class LocalBackend(QuantumBackend):
    """A backend that answers in this process: ``submit`` runs the job, ``result`` returns it.

    Subclasses implement ``run`` and the description; the life cycle is shared. Jobs are forgotten with the process,
    so ``find`` of another process's job answers ``None``: such a job never ran to its end and may be sent again.
    """

    #: Modules of the SDK.
    modules: ClassVar[tuple[str, ...]] = ()
    #: Answers in milliseconds and must answer when nothing else can: its runner is not used.
    in_process: ClassVar[bool] = False
    #: Where it answers: in this process, or (``resources.workers``) in a warm one that is killed at the limit. A runner
    #: makes the backend again over there from its class and its fields.
    runner: Runner | None = field(default=None, kw_only=True, repr=False)
    _jobs: dict[str, JobResult] = field(default_factory=dict, init=False, repr=False)

    @abstractmethod
    def run(self, envelope: JobEnvelope, payload: Payload) -> JobResult:
        """Run the job to its end within ``envelope.timeout.execution`` seconds (a best effort between circuits)."""

    def load(self) -> None:
        """Import the SDK: a cost of the process, once, and not of the job that happens to be the first."""
        for module in self.modules:
            import_module(module)

    def answer(self, envelope: JobEnvelope, payload: Payload) -> JobResult:
        """``run`` in this process, with the SDK loaded before and the total time measured."""
        self.load()
        started = time.perf_counter()
        result = self.run(envelope, payload)
        total = time.perf_counter() - started
        return result.model_copy(update={"timings": result.timings.model_copy(update={"total": total})})

    def warm(self) -> None:
        """Start the runner's worker, which loads the SDK while the caller goes on."""
        if self.runner and not self.in_process:
            self.runner.warm(self)

    def submit(self, envelope: JobEnvelope, payload: Payload, key: str) -> JobHandle:
        """Run the job, unless this process has run it before."""
        self.check(envelope)
        if key not in self._jobs:
            answer = partial(self.runner, self) if self.runner and not self.in_process else self.answer
            self._jobs[key] = answer(envelope, payload)
        return JobHandle(self.name, f"{self.name}-{key[:16]}", key)

    def find(self, key: str) -> JobHandle | None:
        """The job of this key, if this process ran it."""
        return JobHandle(self.name, f"{self.name}-{key[:16]}", key) if key in self._jobs else None

    def status(self, handle: JobHandle) -> ProviderStatus:
        """Succeeded, once there is a handle."""
        if handle.key not in self._jobs:
            raise BackendError(f"backend {self.name} knows no job {handle.provider_id}", FailureClass.BACKEND)
        return ProviderStatus.SUCCEEDED

    def result(self, handle: JobHandle) -> JobResult:
        """The result that ``submit`` computed."""
        self.status(handle)
        return self._jobs[handle.key]

    def cancel(self, handle: JobHandle) -> None:
        """A local job has ended when its handle exists; there is nothing to cancel."""

    def forget(self, handle: JobHandle) -> None:
        """Results do not pile up in a long-lived process."""
        self._jobs.pop(handle.key, None)
