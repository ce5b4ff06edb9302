"""Dispatch: the public face of the control plane. Jobs go in as envelopes; results come out, each exactly once.

Here: submit, result, reconcile, cancel, replay, approvals and controls. Not here: how a job is sent (``sending``),
looked at (``reconciler``), held back (``gates``) or passed on (``fallback``). Which failures are retried, rerouted or
stopped is ``failures.CONSEQUENCE``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from resources import doubts, reconciler, replays
from resources.backends.base import JobHandle, ProviderStatus
from resources.control_plane import ControlPlane
from resources.controls import Mode, signed
from resources.database import patient
from resources.envelope import JobEnvelope, JobResult
from resources.failures import BackendError, FailureClass, HybridError, InputError
from resources.fallback import fresh_submission
from resources.ledger import Conflict, job_id_of, result_of, this_process
from resources.ledger_tables import TERMINAL, Job
from resources.policy import REVIEW
from resources.reconciler import Reconciled
from resources.sending import Sent, lease_seconds, send

#: States of a job that has ended without a result.
WITHOUT_RESULT = ("failed", "cancelled", "timed_out", "rejected")


class JobFailed(HybridError):
    """A job ended without a result; the message and the failure class are the ledger's."""

    def __init__(self, job: Job) -> None:
        self.job = job
        kind = (job.error or "").partition(":")[0]
        self.failure_class = FailureClass(kind) if kind in set(FailureClass) else FailureClass.BACKEND
        super().__init__(f"{job.job_id} ended as {job.state}: {job.error or 'no reason recorded'}")

    def __reduce__(self) -> tuple[type[JobFailed], tuple[Job]]:
        return (type(self), (self.job,))


class Dispatcher(ControlPlane):
    """Sends jobs and brings results back, exactly once per idempotency key. All methods are safe to call again."""

    # --- jobs in ----------------------------------------------------------------------------------------------------

    def submit(self, envelope: JobEnvelope) -> Job:
        """Intent, submit, and for local backends the result.

        A failed or timed-out job is sent again as a new attempt; what a dead process left is taken over.

        Raises:
            HybridError: class ``internal`` or ``circuit``, a defect, which the job's row records as well.
        """
        return self._bring(envelope, again=True)

    def submit_many(self, envelopes: Sequence[JobEnvelope]) -> list[Job]:
        """Submit several jobs; those for the same remote backend go to the provider as few submissions as it takes.

        Raises:
            HybridError: a defect of one of them, after all were sent.
        """
        if not envelopes:
            return []
        lease = max(lease_seconds(envelope) for envelope in envelopes)
        intended = self.ledger.intend_many(envelopes, lease)
        together: dict[str, list[Sent]] = {}
        for job, envelope in zip(intended, envelopes, strict=True):
            fresh = job.state == "intended" and job.claimed_by == this_process()
            if fresh and self.is_remote(job.backend):
                together.setdefault(job.backend, []).append((job, envelope))
        done: dict[str, Job] = {}
        defects: list[Exception] = []
        try:
            for name, batch in together.items():
                distinct = list({job.job_id: (job, envelope) for job, envelope in batch}.values())
                size = max(1, self.backend(name).capabilities().batch)
                for start in range(0, len(distinct), size):
                    part = distinct[start : start + size]
                    try:
                        done |= {job.job_id: job for job in send(self, part)}
                    except HybridError as defect:
                        defects.append(defect)
                        done |= {job.job_id: self.ledger.job(job.job_id) for job, _ in part}
            # what was refused there goes on alone; so does all that is not remote
            for job, envelope in zip(intended, envelopes, strict=True):
                if job.job_id not in done or done[job.job_id].state == "intended":
                    try:
                        done[job.job_id] = self._bring(envelope, again=True)
                    except HybridError as defect:
                        defects.append(defect)
                        done[job.job_id] = self.ledger.job(job.job_id)
        except BaseException:
            with suppress(Exception):
                self.ledger.release([job.job_id for job in intended])
            raise
        if defects:
            raise defects[0]
        return [done[job.job_id] for job in intended]

    def intend(self, envelope: JobEnvelope, hold: float) -> Job:
        """Write the intent of a job that goes out together with others: when ``send_held`` says so, or whenever
        somebody reconciles after ``hold`` seconds. One that was sent before is submitted as ``submit`` does."""
        with self.ledger.transaction() as tx:
            job = self.ledger.intend(envelope, tx=tx)
            if job.state == "intended" and not job.attempts:
                return self.ledger.touch(job.job_id, tx=tx, look_at=datetime.now(UTC) + timedelta(seconds=hold))
        return self.submit(envelope)

    def send_held(self, job_ids: Sequence[str]) -> Reconciled:
        """Send what ``intend`` held back, in as few submissions as each provider takes."""
        for job_id in job_ids:
            self.ledger.touch(job_id, look_at=datetime.now(UTC))
        return self.reconcile(limit=max(200, len(job_ids)))

    def run(self, envelope: JobEnvelope, patience: float | None = None) -> JobResult | None:
        """Bring an envelope to its result, ``None`` while it is pending.

        A job that failed before is sent again as a new attempt. Where another process runs it on a local backend just
        now, this one waits for its answer.

        Args:
            patience: seconds to wait, by default the envelope's total budget.

        Raises:
            JobFailed: the job ended without a result.
        """
        if patience is None:
            patience = envelope.timeout.total
        return self._result(self._bring(envelope, True, patience), envelope)

    def result(self, envelope: JobEnvelope) -> JobResult | None:
        """The result of a submitted envelope, ``None`` while it is pending; marked ``cached`` when another envelope
        with the same idempotency key produced it.

        Raises:
            JobFailed: the job ended without a result.
        """
        return self._result(self._bring(envelope, again=False), envelope)

    def reconcile(self, *, limit: int = 200, local: bool = True) -> Reconciled:
        """One round over all jobs that are due (``reconciler.reconcile``)."""
        return reconciler.reconcile(self, limit=limit, local=local)

    # --- results ----------------------------------------------------------------------------------------------------

    def job_id(self, envelope: JobEnvelope) -> str:
        """The id of the job that answers this envelope."""
        return job_id_of(envelope)

    def stored_result(self, job_id: str) -> JobResult:
        """The stored result of a succeeded job.

        Raises:
            JobFailed: it has none.
        """
        return self._stored(self.ledger.job(job_id))

    def _result(self, job: Job, envelope: JobEnvelope) -> JobResult | None:
        if job.state in WITHOUT_RESULT:
            raise JobFailed(job)
        if job.state != "succeeded":
            return None
        result = self._stored(job)
        if job.envelope_digest == envelope.digest:
            return result
        return result.model_copy(update={"envelope_digest": envelope.digest, "cached": True})

    def _stored(self, job: Job) -> JobResult:
        if job.result_ref is None:
            raise JobFailed(job)
        return result_of(job, self.artifacts.get(job.result_ref))

    # --- one job, step by step --------------------------------------------------------------------------------------

    def _bring(self, envelope: JobEnvelope, again: bool, patience: float = 0.0) -> Job:
        """Bring a job as far as this process can.

        Args:
            again: also one that has ended without a result.
            patience: seconds to wait for another process that works on it.
        """
        try:
            return self._brought(envelope, again, patience)
        except BaseException:
            # interrupted: another process need not wait for the lease to run out
            with suppress(Exception):
                self.ledger.release([job_id_of(envelope)])
            raise

    def _brought(self, envelope: JobEnvelope, again: bool, patience: float) -> Job:
        job = self.ledger.intend(envelope, claim_seconds=lease_seconds(envelope))
        until, digest = time.monotonic() + patience, envelope.digest
        if again and job.state in ("failed", "timed_out"):
            try:
                job = replays.once_more(self, job, envelope)
            except Conflict:
                job = self.ledger.job(job.job_id)
        while job.state not in TERMINAL and job.state != "awaiting_approval" and not self._is_later(job):
            stored = envelope if job.envelope_digest == digest else self.envelope(job)
            if not self._is_ours(job, stored):
                if time.monotonic() >= until:
                    return job
                # its answer, or its failure, is ours too
                time.sleep(0.02)
                job = self.ledger.job(job.job_id)
                continue
            try:
                after = self._step(job, stored)
            except Conflict:
                # another process was faster: go on from where it has brought the job
                job = self.ledger.job(job.job_id)
                continue
            if (after.state, after.hop, after.attempts) == (job.state, job.hop, job.attempts):
                return after
            job = after
        return job

    def _is_later(self, job: Job) -> bool:
        """Whether the job is out, or held back, until its next look."""
        # one that only waits for a run on this machine is free, whenever the sensor wants to look again
        free = job.state == "intended" and not job.looks and not self.is_remote(job.backend)
        due = free or job.look_at is None or job.look_at <= datetime.now(UTC)
        return not due and job.state != "submitting"

    def _is_ours(self, job: Job, envelope: JobEnvelope) -> bool:
        """Whether this process may work on the job now."""
        if job.state == "submitting":
            # perhaps another thread of this process
            return doubts.is_abandoned(job, envelope)
        until = job.claimed_until
        if job.claimed_by == this_process() and until is not None and until > datetime.now(UTC):
            return True
        return self.ledger.claim(job.job_id, lease_seconds(envelope))

    def _step(self, job: Job, envelope: JobEnvelope) -> Job:
        if job.state == "intended":
            return send(self, [(job, envelope)])[0]
        if job.state == "submitting":
            return doubts.take_over(self, job, envelope)
        if job.state == "ambiguous":
            return doubts.look_for(self, job, envelope)
        done = reconciler.look(self, job.backend, [(job, envelope)])
        return done[0] if done else self.ledger.job(job.job_id)

    # --- people -----------------------------------------------------------------------------------------------------

    @patient
    def decide(self, job_id: str, decision: Literal["approved", "rejected"], *, by: str, reason: str) -> Job:
        """Answer a job that waits for a person.

        Raises:
            InputError: it waits for nobody, or there is no name or reason.
        """
        job = self.known_job(job_id)
        job_id = job.job_id
        if job.state != "awaiting_approval":
            raise InputError(job_id, "state", f"it is {job.state}, nobody is asked", "see `hybrid jobs --waiting`")
        columns: dict[str, Any] = {"error": f"capability: rejected by {by}: {reason}"}
        if decision == "approved":
            # what cannot be read, or is of an earlier version, can only be rejected
            envelope = self.envelope(job)
            # the person's time is nobody's budget
            columns = {"look_at": datetime.now(UTC), "began_at": None}
            if job.backend == REVIEW:
                # every backend was left: the way begins anew
                columns |= {**fresh_submission(job), "backend": envelope.backend, "hop": 0}
        with self.ledger.transaction() as tx:
            if decision == "rejected" and job.sent_at is not None:
                # nobody knows whether its provider has it
                self.spending.settle(tx, job, math.nan)
            self.approvals.decide(tx, job_id, decision, by, reason)
            return self.ledger.move(
                job_id,
                "intended" if decision == "approved" else "rejected",
                f"{decision} by {by}: {reason}",
                expect="awaiting_approval",
                tx=tx,
                **columns,
            )

    def cancel(self, job_id: str, *, by: str, reason: str) -> Job:
        """Stop a job, at its provider too; one that has finished meanwhile keeps its result.

        Where the provider does not confirm it, or cannot be reached, the job stays as it is with the wish in its
        ``error``, and the next looks stop it.

        Raises:
            InputError: it has ended, or is being submitted just now.
            BackendError: its backend does not exist here; nothing has changed.
        """
        job = self.known_job(job_id)
        job_id = job.job_id
        by, reason = signed(f"cancelling {job_id}", by, reason)
        if job.state in TERMINAL:
            raise InputError(job_id, "state", f"it has ended as {job.state}", "cancel jobs that are open")
        if job.state == "submitting":
            raise InputError(job_id, "state", "it is being submitted just now", "try again in a moment")
        if job.state == "ambiguous":
            with suppress(HybridError):
                doubts.look_for(self, job, self.envelope(job))
            job = self.ledger.job(job.job_id)
            if job.state in TERMINAL:
                return job
        self.audit.append(
            actor=by,
            action="cancel",
            job_id=job_id,
            subject=job.backend,
            reason=reason,
            policy_version=self.policy.version,
        )
        withdrawn = f"{reconciler.WITHDRAWN}{by}: {reason}"
        if job.state in ("submitted", "running"):
            backend, handle = self.backend(job.backend), JobHandle(job.backend, job.provider_id or "", job.provider_key)
            # before the provider hears of it: whoever sees the job stopped must know that a person wanted that
            job = self.ledger.touch(job_id, read=job, look_at=datetime.now(UTC), looks=0, error=withdrawn)
            stopped = False
            with suppress(BackendError):
                backend.cancel(handle)
                stopped = backend.status(handle) is ProviderStatus.CANCELLED
            if not stopped:
                # it finishes, is still stopping or did not hear: the next looks tell, and count
                return self.ledger.job(job_id)
        unknown = job.state == "ambiguous" or (job.state == "awaiting_approval" and job.sent_at is not None)
        try:
            return self.ledger.move(
                job_id,
                "cancelled",
                f"cancelled by {by}: {reason}",
                expect=job.state,
                version=job.version,
                # where nobody can say whether the provider has it, it counts as spent
                also=lambda tx: self.spending.settle(tx, job, math.nan) if unknown else self.spending.release(tx, job),
                error=withdrawn,
            )
        except Conflict:
            # a look may have carried the wish out
            after = self.ledger.job(job_id)
            if job.state not in ("submitted", "running") or after.state != "cancelled":
                raise
            return after

    def replay(self, job_id: str, *, by: str, reason: str, backend: str | None = None) -> Job:
        """Run a job again from its envelope, on the same or another backend, linked to the original.

        Raises:
            InputError: no such job or backend, or too many replays in this hour.
        """
        original = self.known_job(job_id)
        job_id = original.job_id
        by, reason = signed(f"replay of {job_id}", by, reason)
        if backend is not None and backend not in self.backend_names:
            raise InputError(
                "--backend", backend, "no backend has this name", f"use one of {', '.join(self.backend_names)}"
            )
        again = replays.intend(self, original, by=by, reason=reason, backend=backend)
        return self._bring(again, again=False)

    def control(self, backend: str, mode: Mode, *, by: str, reason: str) -> None:
        """Pause, drain, kill or open a backend for all processes.

        Raises:
            InputError: no such backend, or no name or reason.
        """
        if backend not in self.backend_names:
            raise InputError(
                "backend", backend, "no backend has this name", f"use one of {', '.join(self.backend_names)}"
            )
        self.controls.set(backend, mode, by, reason)

    def known_job(self, job_id: str) -> Job:
        """The job with this id, or the only one whose id begins so.

        Raises:
            InputError: there is none, or several.
        """
        with suppress(HybridError):
            return self.ledger.job(job_id)
        found = [job for job in self.ledger.jobs() if job.job_id.startswith(job_id)]
        if len(found) != 1:
            raise InputError(
                job_id,
                "job",
                "several jobs begin so" if found else "there is no such job",
                "see `hybrid jobs` for the ids",
            )
        return found[0]
