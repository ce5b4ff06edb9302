"""What the modules of the control plane share: the stores, the policy, and the backends by name.

Here: construction of a backend when it is first used, payloads and results by reference. Not here: what may be sent
(``gates``), sending (``sending``), looking (``reconciler``) or the public face (``dispatcher``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

import sqlalchemy as sa

from resources import audit, payloads
from resources.artifacts import ArtifactStore
from resources.audit import AuditLog
from resources.backends.base import LocalBackend, QuantumBackend, Runner
from resources.breaker import Breakers
from resources.cache import ResultCache
from resources.controls import Approvals, Controls
from resources.envelope import Hop, JobEnvelope
from resources.failures import BackendError, FailureClass, HybridError, InvariantError
from resources.ledger import Ledger, job_id_of
from resources.ledger_tables import Job
from resources.money import Spending
from resources.policy import Policy

if TYPE_CHECKING:
    from resources.payloads import Payload


class ControlPlane:
    """Stores, policy and backends.

    Args:
        ledger: durable states.
        artifacts: payloads and results.
        backends: constructors by registered name; a backend is made when first used.
        policy: prices, budgets, approvals, limits.
        runner: runs the jobs of local backends; ``None``: in this process.
    """

    def __init__(
        self,
        ledger: Ledger,
        artifacts: ArtifactStore,
        backends: Mapping[str, Callable[[], QuantumBackend]],
        policy: Policy | None = None,
        runner: Runner | None = None,
    ) -> None:
        self.ledger, self.artifacts, self._factories = ledger, artifacts, dict(backends)
        self.policy, self.runner = policy or Policy(), runner
        version = self.policy.version
        self.audit, self.controls = AuditLog(ledger), Controls(ledger, version)
        self.approvals = Approvals(ledger, version)
        self.breakers = Breakers(ledger, self.policy.breaker, version)
        self.spending = Spending(ledger, self.policy)
        self.cache = ResultCache(ledger, self.policy.cache, version)
        self._backends: dict[str, QuantumBackend] = {}
        self._versions: dict[str, str] = {}
        self._before: dict[str, tuple[str, str | None]] = {}

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
                made = self._factories[name]()
            except ImportError as error:
                raise BackendError(f"backend {name} cannot be loaded: {error}", FailureClass.CAPABILITY) from error
            if isinstance(made, LocalBackend) and made.runner is None:
                made.runner = self.runner
            self._backends[name] = made
        return self._backends[name]

    @property
    def backend_names(self) -> tuple[str, ...]:
        """Registered names, sorted."""
        return tuple(sorted(self._factories))

    def is_remote(self, name: str) -> bool:
        """Whether a backend answers later; unknown ones, pseudo-backends and those that cannot be made do not."""
        with suppress(HybridError):
            return name in self._factories and self.backend(name).capabilities().remote
        return False

    def version(self, name: str) -> str:
        """Version of a backend, and which of its machines its settings name; asked once."""
        if name not in self._versions:
            backend = self.backend(name)
            self._versions[name] = f"{backend.version()} {backend.capabilities().device}".strip()
        return self._versions[name]

    def envelope(self, job: Job) -> JobEnvelope:
        """The envelope of a job, verified.

        Raises:
            InvariantError: missing, altered, or another job's.
        """
        envelope = self.ledger.envelope(job.envelope_digest)
        if job_id_of(envelope) != job.job_id:
            raise InvariantError(f"envelope {envelope.digest} belongs to {job_id_of(envelope)}, not to {job.job_id}")
        return envelope

    def before(self, envelope: JobEnvelope) -> list[str]:
        """Ids of the jobs of the rounds or trips before this one, newest first.

        Raises:
            InvariantError: one of their envelopes is missing or altered.
        """
        found: list[str] = []
        digest = envelope.parent_digest
        while digest is not None:
            # a walk may have thousands of trips, and each asks for all before it
            if digest not in self._before:
                one = self.ledger.envelope(digest)
                self._before[digest] = (job_id_of(one), one.parent_digest)
            job_id, digest = self._before[digest]
            found.append(job_id)
        return found

    def decided(self, tx: sa.Connection, job: Job, action: str, reason: str, subject: str | None = None) -> None:
        """Log a decision about a job in the transaction that carries it out; the last thing in it.

        Args:
            subject: what it was decided about, by default the job's backend.
        """
        audit.append(
            tx,
            actor=audit.actor(),
            action=action,
            job_id=job.job_id,
            subject=job.backend if subject is None else subject,
            reason=reason,
            policy_version=self.policy.version,
        )

    def payload(self, envelope: JobEnvelope) -> Payload:
        """The model or program behind an envelope.

        Raises:
            InvariantError: missing, altered, or of another size.
            BackendError: class ``circuit``: not of the envelope's kind.
        """
        payload = payloads.from_bytes(envelope.kind, self.artifacts.get(envelope.payload_ref))
        if (size := payloads.size_of(payload)) != envelope.payload_variables:
            raise InvariantError(
                f"payload {envelope.payload_ref} has {size} variables, its envelope says {envelope.payload_variables}"
            )
        return payload


def chain_of(envelope: JobEnvelope) -> tuple[str, ...]:
    """All positions of an envelope's way: its backend, then the fallback policy."""
    return (envelope.backend, *envelope.fallback)


def hops_of(job: Job) -> list[Hop]:
    """The positions a job has left, with reasons."""
    return [Hop.model_validate(hop) for hop in json.loads(job.fallback_path)]


def as_json(hops: list[Hop]) -> str:
    """How a fallback path is stored."""
    return json.dumps([hop.model_dump() for hop in hops])


def next_key(provider_key: str) -> str:
    """The key of the next submission; the one before has definitely ended."""
    stem, _, number = provider_key.rpartition("-")
    return f"{stem}-{int(number) + 1}"
