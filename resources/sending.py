"""Sending: from ``intended`` to the provider, and back with the result of a local backend.

Here: the transaction that claims, reserves money and writes the intent; what each answer of a backend means; keeping a
result. Not here: verdicts (``gates``), retries (``delivery``), what happens after a no (``fallback``), looking at jobs
that are out (``reconciler``).

Who may change a job: the process that holds its lease. Every change names the state and the version of the row that
it starts from, so of two processes one goes on and the other sees ``Conflict`` and looks again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

import sqlalchemy as sa

from resources import audit, holding, money
from resources.backends.base import JobHandle, QuantumBackend
from resources.cache import Entry
from resources.control_plane import ControlPlane, chain_of, hops_of
from resources.database import patient
from resources.delivery import Outgoing, as_sent, deliver, is_doubtful, left_out, verify, without_secrets
from resources.envelope import LEFT_OUT, EvidenceClass, JobEnvelope
from resources.failures import BackendError, FailureClass, HybridError, InvariantError, TimedOut, presentable
from resources.fallback import answer_from_cache, answers_again, ask, fail, hop, known_results
from resources.gates import Ask, Go, Wait, examine, total_is_spent
from resources.ledger import Conflict, this_process
from resources.ledger_tables import Job, Move
from resources.locks import hold
from resources.payloads import Payload
from resources.policy import CACHED, REVIEW

#: Seconds before the first look at a job that has just been sent.
FIRST_LOOK = 0.5

Sent = tuple[Job, JobEnvelope]


def lease_seconds(envelope: JobEnvelope) -> float:
    """How long a process that works on a job may be silent before another host takes it over."""
    return envelope.timeout.total + 60.0


def send(plane: ControlPlane, batch: Sequence[Sent]) -> list[Job]:
    """Bring jobs that are ``intended`` for one backend, and leased by this process, one sending further.

    Raises:
        HybridError: class ``internal`` or ``circuit``, a defect, which the job's row records as well.
    """
    ready: list[tuple[Job, JobEnvelope, Go]] = []
    record = _Record(plane)
    name = batch[0][0].backend
    known = known_results(plane, name, batch)
    mode = plane.controls.mode(name)

    def prepare(job: Job, envelope: JobEnvelope) -> Job | None:
        if chain_of(envelope)[job.hop : job.hop + 1] != (job.backend,):
            raise InvariantError(
                f"position {job.hop + 1} of {', '.join(chain_of(envelope))} is not {job.backend}: the row was altered"
            )
        early = _without_sending(plane, job, envelope, known.get(job.job_id))
        if early is not None:
            return early
        verdict = examine(plane, job, envelope, mode)
        if isinstance(verdict, BackendError):
            return hop(plane, job, envelope, verdict)
        if isinstance(verdict, Ask):
            return ask(plane, job, verdict.why, verdict.cost)
        if isinstance(verdict, Wait):
            return holding.keep_back(plane, job, envelope, verdict)
        ready.append((job, envelope, verdict))
        return None

    for job, envelope in batch:
        record.of(job, partial(prepare, job, envelope))
    if ready:
        try:
            claims = _claim(plane, ready)
            _deliver(plane, claims.claimed, record)
        except BaseException:
            _give_back(plane, ready)
            raise
        for job, envelope in claims.full:
            wait = Wait(f"{name} has {_cap(plane, name)} jobs, as many as it may")
            record.of(job, partial(holding.keep_back, plane, job, envelope, wait))
        for job, envelope, no in claims.refused:
            error = BackendError(no, FailureClass.CAPABILITY, not_sent=True)
            record.of(job, partial(hop, plane, job, envelope, error))
        record.done += [plane.ledger.job(job_id) for job_id in claims.lost]
    if record.defects:
        raise record.defects[0] from None
    return record.done


@dataclass
class _Record:
    """What became of the jobs of a batch; the trouble of one never stops the others."""

    plane: ControlPlane
    done: list[Job] = field(default_factory=list)
    defects: list[Exception] = field(default_factory=list)

    def of(self, job: Job, step: Callable[[], Job | None]) -> None:
        """Take a step with one job; ``None``: it is not done yet. A defect ends the job and is kept."""
        try:
            after = step()
        except Conflict:
            after = self.plane.ledger.job(job.job_id)
        except sa.exc.OperationalError:
            # the ledger itself is in trouble: that says nothing about the job
            raise
        except Exception as error:
            self.defects.append(presentable(error))
            after = self.plane.ledger.job(job.job_id)
            if after.version == job.version:
                after = fail(self.plane, job, error)
        if after is not None:
            self.done.append(after)


def _give_back(plane: ControlPlane, ready: Sequence[tuple[Job, JobEnvelope, Go]]) -> None:
    """Interrupted: this process may live on, so the claims are given back and the next caller looks again."""
    for job, _, _ in ready:
        with suppress(Exception):
            plane.ledger.move(
                job.job_id,
                "ambiguous",
                "interrupted while submitting",
                expect="submitting",
                version=job.version + 1,
                claimed_until=None,
            )


def _without_sending(plane: ControlPlane, job: Job, envelope: JobEnvelope, known: Entry | None) -> Job | None:
    """What needs no backend: an earlier result, a person, or a budget that is spent."""
    if job.backend == REVIEW:
        return ask(plane, job, "every backend before was left: " + "; ".join(hop.reason for hop in hops_of(job)))
    if job.backend == CACHED:
        while (known := plane.cache.any_of(envelope)) is not None:
            if (answered := answer_from_cache(plane, job, known)) is not None:
                return answered
        nothing = BackendError("no earlier result of this problem is kept", FailureClass.CAPABILITY, not_sent=True)
        return hop(plane, job, envelope, nothing)
    if known is not None and (answered := answer_from_cache(plane, job, known)) is not None:
        return answered
    # what runs here costs nothing but time: cut off, it is begun again
    late = (job.hop > 0 or plane.is_remote(job.backend)) and total_is_spent(job, envelope)
    if late and not _is_classical(plane, job.backend) and total_is_spent(holding.unpaused(plane, job), envelope):
        spent = TimedOut(f"the total budget of {envelope.timeout.total:g} s is spent", not_sent=True)
        return hop(plane, job, envelope, spent)
    return None


def _is_classical(plane: ControlPlane, name: str) -> bool:
    """The heuristic at the end of a chain answers in no time, whatever was spent before."""
    with suppress(BackendError):
        return plane.backend(name).capabilities().evidence_class is EvidenceClass.CLASSICAL
    return False


@dataclass
class _Claims:
    """What one claiming transaction decided."""

    claimed: list[Sent] = field(default_factory=list)
    full: list[Sent] = field(default_factory=list)
    refused: list[tuple[Job, JobEnvelope, str]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


@patient
def _claim(plane: ControlPlane, ready: Sequence[tuple[Job, JobEnvelope, Go]]) -> _Claims:
    """The write-ahead intent of a sending: budgets, the cap on open jobs and the claims in one transaction."""
    name, now, claims = ready[0][0].backend, datetime.now(UTC), _Claims()
    cap = _cap(plane, name)
    lost = {job.job_id: left_out(plane.backend(name), envelope) for job, envelope, _ in ready}
    without = {job_id: f", without {', '.join(names)}" for job_id, names in lost.items() if names}
    began = {job.job_id: holding.unpaused(plane, job).began_at or now for job, _, _ in ready}
    with plane.ledger.transaction() as tx:
        if cap is not None:
            hold(tx, f"open:{name}")
        room = len(ready) if cap is None else max(0, cap - plane.ledger.open_jobs(name, tx=tx))
        claims.full = [(job, envelope) for job, envelope, _ in ready[room:]]
        going = list(ready[:room])
        metered = [(job, go.cost) for job, _, go in going if go.metered]
        no = {job.job_id: why for (job, _), why in zip(metered, plane.spending.refuses(tx, metered), strict=True)}
        claims.refused = [(job, envelope, no[job.job_id] or "") for job, envelope, _ in going if no.get(job.job_id)]
        going = [(job, envelope, go) for job, envelope, go in going if not no.get(job.job_id)]
        moves = [
            Move(
                job.job_id,
                "submitting",
                f"to {name}{without.get(job.job_id, '')}",
                expect="intended",
                version=job.version,
                columns={
                    "attempts": job.attempts + 1,
                    "claimed_by": this_process(),
                    "claimed_until": now + timedelta(seconds=lease_seconds(envelope)),
                    "look_at": now,
                    "looks": 0,
                    "began_at": began[job.job_id],
                    "sent_at": now,
                    "estimated_cost": go.cost,
                    "policy_version": plane.policy.version,
                    "error": None,
                },
            )
            for job, envelope, go in going
        ]
        costs: list[tuple[Job, float]] = []
        for (job, envelope, go), moved in zip(going, plane.ledger.move_many(moves, tx=tx), strict=True):
            if isinstance(moved, Conflict):
                claims.lost.append(job.job_id)
                continue
            claims.claimed.append((moved, envelope))
            if go.metered:
                costs.append((moved, go.cost))
        if costs:
            plane.spending.reserve(tx, costs)
        # last: everybody waits for the end of the log
        actor = audit.actor()
        audit.append_all(
            tx,
            [
                {
                    "actor": actor,
                    "action": "resubmit" if job.resubmissions else "submit",
                    "job_id": job.job_id,
                    "subject": name,
                    "reason": f"position {job.hop + 1} of {', '.join(chain_of(envelope))}"
                    + without.get(job.job_id, ""),
                    "policy_version": plane.policy.version,
                    "detail": {"provider_key": job.provider_key, "estimated_cost": job.estimated_cost},
                }
                for job, envelope in claims.claimed
            ],
        )
    return claims


def _cap(plane: ControlPlane, name: str) -> int | None:
    """Most jobs that may be out at a backend."""
    return plane.policy.limits[name].open_jobs if name in plane.policy.limits else None


def _deliver(plane: ControlPlane, claimed: Sequence[Sent], record: _Record) -> None:
    """Hand claimed jobs to their backend and record every answer."""
    outgoing: list[tuple[Job, JobEnvelope, Outgoing]] = []
    payloads: dict[tuple[str, str, int], Payload] = {}

    def pack(job: Job, envelope: JobEnvelope) -> None:
        sent = as_sent(plane.backend(job.backend), envelope)
        asked = (envelope.payload_ref, envelope.kind, envelope.payload_variables)
        if asked not in payloads:
            # jobs of one payload share it, and what their backend makes of it
            payloads[asked] = plane.payload(envelope)
        out = Outgoing(sent, payloads[asked], job.provider_key)
        if job.claimed_until is not None and datetime.now(UTC) >= job.claimed_until:
            # suspended since the claim: another process may have sent it meanwhile
            raise Conflict(f"the lease of {job.job_id} ran out before it was sent")
        outgoing.append((job, envelope, out))

    for job, envelope in claimed:
        record.of(job, partial(pack, job, envelope))
    if not outgoing:
        return
    backend = plane.backend(outgoing[0][0].backend)
    answers = deliver(backend, [out for _, _, out in outgoing])
    taken: list[tuple[Job, JobHandle]] = []
    for (job, envelope, _), answer in zip(outgoing, answers, strict=True):
        if isinstance(answer, JobHandle) and backend.capabilities().remote:
            taken.append((job, answer))
        else:
            record.of(job, partial(_answered, plane, backend, job, envelope, answer))
            if not isinstance(answer, JobHandle | BackendError) and backend.capabilities().remote:
                record.defects.append(presentable(answer))
    record.done += _submitted(plane, taken)


def _submitted(plane: ControlPlane, taken: Sequence[tuple[Job, JobHandle]]) -> list[Job]:
    """Record in one transaction what a remote backend has taken."""
    if not taken:
        return []
    answers_again(plane, taken[0][0].backend)
    look_at = datetime.now(UTC) + timedelta(seconds=FIRST_LOOK)
    moves = [
        Move(
            job.job_id,
            "submitted",
            f"{job.backend} has it as {handle.provider_id}",
            expect="submitting",
            version=job.version,
            columns={"provider_id": handle.provider_id, "look_at": look_at, "claimed_until": None},
        )
        for job, handle in taken
    ]
    moved = plane.ledger.move_many(moves)
    return [
        plane.ledger.job(job.job_id) if isinstance(after, Conflict) else after
        for (job, _), after in zip(taken, moved, strict=True)
    ]


def _answered(
    plane: ControlPlane, backend: QuantumBackend, job: Job, envelope: JobEnvelope, answer: JobHandle | Exception
) -> Job:
    if isinstance(answer, JobHandle):
        # a local backend has the result already: nobody ever sees its job as submitted and without one
        return collect(plane, job, envelope, answer)
    if is_doubtful(backend, answer):
        known = presentable(answer)
        return plane.ledger.move(
            job.job_id,
            "ambiguous",
            f"{backend.name} may have it: {known}",
            expect="submitting",
            version=job.version,
            error=f"{known.failure_class}: {known}",
            claimed_until=None,
            look_at=datetime.now(UTC) + timedelta(seconds=backend.capabilities().settling_seconds),
        )
    if not isinstance(answer, BackendError):
        raise answer
    return hop(plane, job, envelope, answer)


def collect(plane: ControlPlane, job: Job, envelope: JobEnvelope, handle: JobHandle) -> Job:
    """Fetch, verify and keep a finished job's result; the cost is settled and the cache told.

    Raises:
        BackendError: it cannot be had, or (class ``backend``) a remote provider answered something else.
        InvariantError: a local backend answered something else: a defect.
    """
    backend = plane.backend(job.backend)
    can = backend.capabilities()
    try:
        result = without_secrets(backend.result(handle))
        verify(result, backend, envelope)
    except InvariantError as error:
        if can.remote:
            raise BackendError(str(error), FailureClass.BACKEND) from error
        raise
    except BackendError as error:
        if can.remote:
            raise
        return hop(plane, job, envelope, error)
    except HybridError:
        raise
    except Exception as error:
        # a defect of ours, but the job is out and may be paid for: it is read again before it is given up
        raise presentable(error) from None
    timings = result.timings
    if can.remote and job.sent_at is not None:
        seen = (datetime.now(UTC) - job.sent_at).total_seconds()
        timings = timings.model_copy(update={"total": max(seen, timings.total)})
    charged = result.actual_cost
    if can.metered:
        charged = money.bill(plane.policy, job.backend, result, job.estimated_cost)
    without = left_out(backend, envelope)
    result = result.model_copy(
        update={
            "parameters": result.parameters | ({LEFT_OUT: list(without)} if without else {}),
            "actual_cost": charged,
            "envelope_digest": job.envelope_digest,
            "attempts": job.attempts,
            "fallback_path": tuple(hops_of(job)),
            "estimated_cost": max(job.estimated_cost, result.estimated_cost),
            "timings": timings,
        }
    )
    reference = plane.artifacts.put(result.model_dump_json().encode())
    # under what has run, which is less than what was asked where the backend offers less
    ran = as_sent(backend, envelope)
    key = plane.cache.key(ran, job.backend, plane.version(job.backend))
    keep = plane.policy.cache.window_seconds and result.evidence_class is not EvidenceClass.CLASSICAL

    def record(tx: sa.Connection) -> None:
        if can.metered:
            plane.spending.settle(tx, job, result.actual_cost)
        if keep:
            plane.cache.put(tx, key, ran, job, reference)

    stored = plane.ledger.move(
        job.job_id,
        "succeeded",
        f"result {reference}",
        expect=job.state,
        version=job.version,
        through="submitted" if job.state == "submitting" else None,
        also=record,
        provider_id=handle.provider_id,
        result_ref=reference,
        error=None,
        evidence_class=str(result.evidence_class),
        actual_cost=result.actual_cost,
    )
    plane.breakers.succeeded(job.backend)
    backend.forget(handle)
    return stored
