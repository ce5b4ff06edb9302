"""What people decide: the mode of a backend (open, paused, drained, killed) and approvals of single jobs.

Here: the decisions, with who, when and why, each in the audit log. Not here: which jobs need an approval (``policy``)
and holding a job back or letting it go (``gates``, ``dispatcher``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal, get_args

import sqlalchemy as sa

from resources import audit
from resources.database import patient
from resources.failures import InputError, InvariantError
from resources.ledger import Ledger
from resources.ledger_tables import APPROVALS, AUDIT, AUDIT_HEAD, CONTROLS, JOBS
from resources.locks import hold
from resources.prepared import Prepared

Decision = Literal["approved", "rejected"]
_MODE = Prepared(sa.select(CONTROLS.c.mode).where(CONTROLS.c.backend == sa.bindparam("asked")), (CONTROLS.c.mode,))


class Mode(StrEnum):
    """What a backend may get: everything; nothing for now (jobs wait); nothing new (jobs go elsewhere, those sent come
    back); nothing at all (the kill switch)."""

    OPEN = "open"
    PAUSED = "paused"
    DRAINED = "drained"
    KILLED = "killed"


@dataclass(frozen=True)
class Control:
    """The mode that somebody has set for a backend."""

    backend: str
    mode: Mode
    set_by: str
    reason: str
    updated_at: datetime


@dataclass(frozen=True)
class Approval:
    """One request for an approval; ``decision`` is ``None`` while it waits."""

    job_id: str
    sequence: int
    why: str
    requested_at: datetime
    decision: Decision | None
    decided_by: str | None
    reason: str | None
    decided_at: datetime | None


def signed(what: str, by: str, reason: str) -> tuple[str, str]:
    """Name and reason of a decision, stripped.

    Args:
        what: what is decided, for the message.

    Raises:
        InputError: one of them is empty, or no text that a database stores.
    """
    by, reason = by.strip(), reason.strip()
    for field, text, fix in (("by", by, "say who decides"), ("reason", reason, "say why in a few words")):
        if not text:
            raise InputError(what, field, "it is empty", fix)
        if "\0" in text or text != text.encode(errors="replace").decode():
            raise InputError(what, field, f"{text!r} is no text", "leave the odd characters out")
    return by, reason


class Controls:
    """The modes of all backends; ``policy_version`` is the one in force, for the audit log."""

    def __init__(self, ledger: Ledger, policy_version: str = "") -> None:
        self.ledger, self.policy_version = ledger, policy_version
        #: How far the audit log was read, and the changes of modes until there: backend, time, detail.
        self._seen: tuple[int, tuple[tuple[str, datetime, dict[str, str]], ...]] = 0, ()

    @patient
    def mode(self, backend: str) -> Mode:
        """The mode of this backend; ``open`` when nobody has set another."""
        with self.ledger.engine.connect() as tx:
            found = _MODE.rows(tx, {"asked": backend})
        return Mode(found[0][0]) if found else Mode.OPEN

    @patient
    def paused(self, backend: str, since: datetime) -> float:
        """Seconds for which a backend was paused between ``since`` and now, by the audit log."""
        now = datetime.now(UTC)
        changes = [(at, detail) for subject, at, detail in self._changes() if subject == backend and at > since]
        mode, at, seconds = changes[0][1]["before"] if changes else self.mode(backend), since, 0.0
        for then, change in [*changes, (now, {"mode": ""})]:
            seconds += (then - at).total_seconds() if mode == Mode.PAUSED else 0.0
            mode, at = change["mode"], then
        return seconds

    def _changes(self) -> tuple[tuple[str, datetime, dict[str, str]], ...]:
        """All changes of modes, oldest first; what was read of the log before is not read again."""
        known, changes = self._seen
        query = sa.select(AUDIT.c.subject, AUDIT.c.at, AUDIT.c.detail).order_by(AUDIT.c.sequence)
        with self.ledger.engine.connect() as tx:
            end = tx.execute(sa.select(AUDIT_HEAD.c.sequence)).scalar() or 0
            if end > known:
                new = query.where(AUDIT.c.sequence > known, AUDIT.c.sequence <= end, AUDIT.c.action == "set_mode")
                rows = tx.execute(new).all()
                changes += tuple((row.subject, datetime.fromisoformat(row.at), json.loads(row.detail)) for row in rows)
                self._seen = end, changes
        return changes

    @patient
    def set(self, backend: str, mode: Mode | str, by: str, reason: str) -> None:
        """Set the mode of a backend.

        Raises:
            InputError: no such mode; name or reason is empty.
        """
        by, reason = signed(f"mode of {backend}", by, reason)
        if mode not in set(Mode):
            raise InputError(f"mode of {backend}", "mode", f"there is no {mode!r}", f"use one of {', '.join(Mode)}")
        with self.ledger.transaction() as tx:
            hold(tx, f"control:{backend}")
            before = tx.execute(CONTROLS.delete().filter_by(backend=backend).returning(CONTROLS.c.mode)).scalar()
            if mode != Mode.OPEN:
                now = datetime.now(UTC)
                tx.execute(
                    CONTROLS.insert().values(backend=backend, mode=str(mode), set_by=by, reason=reason, updated_at=now)
                )
            detail = {"mode": str(mode), "before": before or "open"}
            audit.append(
                tx,
                actor=by,
                action="set_mode",
                subject=backend,
                reason=reason,
                policy_version=self.policy_version,
                detail=detail,
            )

    @patient
    def all(self) -> list[Control]:
        """The backends that are not open, by name."""
        with self.ledger.engine.connect() as tx:
            rows = tx.execute(sa.select(CONTROLS).order_by(CONTROLS.c.backend)).mappings()
            return [Control(**{**row, "mode": Mode(row["mode"])}) for row in rows]


class Approvals:
    """Requests for an approval and their decisions. A job may be asked for more than once (another backend, another
    price): each reason has its own answer. ``policy_version`` is the one in force, for the audit log."""

    def __init__(self, ledger: Ledger, policy_version: str = "") -> None:
        self.ledger, self.policy_version = ledger, policy_version

    def ask(self, tx: sa.Connection, job_id: str, why: str) -> None:
        """Ask for an approval; a request that still waits stays as it is.

        Raises:
            InvariantError: the ledger has no such job.
        """
        if tx.execute(sa.select(JOBS.c.job_id).filter_by(job_id=job_id).with_for_update()).first() is None:
            raise InvariantError(f"the ledger has no job {job_id}")
        last = _latest(tx, job_id)
        if last is not None and last.decision is None:
            return
        sequence = last.sequence + 1 if last is not None else 1
        now = datetime.now(UTC)
        tx.execute(APPROVALS.insert().values(job_id=job_id, sequence=sequence, why=why, requested_at=now))

    def decide(self, tx: sa.Connection, job_id: str, decision: Decision, by: str, reason: str) -> None:
        """Decide the request that waits; the audit log gets the decision in the same transaction.

        Raises:
            InputError: nothing waits, no such decision, or name or reason is empty.
        """
        if decision not in get_args(Decision):
            raise InputError(job_id, "decision", f"there is no {decision!r}", f"use {' or '.join(get_args(Decision))}")
        by, reason = signed(f"decision on {job_id}", by, reason)
        tx.execute(sa.select(JOBS.c.job_id).filter_by(job_id=job_id).with_for_update())
        last = _latest(tx, job_id)
        if last is None or last.decision is not None:
            was = f"it was {last.decision} by {last.decided_by}" if last else "no approval was asked for"
            raise InputError(job_id, "approval", f"nothing waits for a decision ({was})", "list the jobs that wait")
        tx.execute(
            APPROVALS.update()
            .where(APPROVALS.c.job_id == job_id, APPROVALS.c.sequence == last.sequence)
            .values(decision=decision, decided_by=by, reason=reason, decided_at=datetime.now(UTC))
        )
        action = "approve" if decision == "approved" else "reject"
        audit.append(
            tx,
            actor=by,
            action=action,
            job_id=job_id,
            reason=reason,
            policy_version=self.policy_version,
            detail={"asked": last.why},
        )

    @patient
    def granted(self, job_id: str, why: str) -> bool:
        """Whether the latest request for this reason was approved: who agreed to one price on one backend has not
        agreed to another."""
        with self.ledger.engine.connect() as tx:
            last = _latest(tx, job_id, why)
        return last is not None and last.decision == "approved"

    @patient
    def granted_of(self, job_ids: Sequence[str], same: str, policy_version: str) -> str | None:
        """The first of these jobs whose latest request for a reason that ends in ``same`` was approved, and that was
        sent under this policy; ``None``: none."""
        if not job_ids:
            return None
        query = sa.select(APPROVALS).join(JOBS, JOBS.c.job_id == APPROVALS.c.job_id)
        query = query.where(JOBS.c.job_id.in_(list(job_ids)), JOBS.c.policy_version == policy_version)
        with self.ledger.engine.connect() as tx:
            rows = [Approval(**row._mapping) for row in tx.execute(query.order_by(APPROVALS.c.sequence))]
        latest = {row.job_id: row.decision for row in rows if row.why.endswith(same)}
        return next((job_id for job_id in job_ids if latest.get(job_id) == "approved"), None)

    @patient
    def waiting(self) -> list[Approval]:
        """Undecided requests of jobs that still wait, oldest first."""
        query = (
            sa.select(APPROVALS)
            .join(JOBS, JOBS.c.job_id == APPROVALS.c.job_id)
            .where(APPROVALS.c.decision.is_(None), JOBS.c.state == "awaiting_approval")
            .order_by(APPROVALS.c.requested_at, APPROVALS.c.job_id)
        )
        with self.ledger.engine.connect() as tx:
            return [Approval(**row._mapping) for row in tx.execute(query)]

    @patient
    def history(self, job_id: str) -> list[Approval]:
        """All requests of a job, oldest first."""
        with self.ledger.engine.connect() as tx:
            query = sa.select(APPROVALS).filter_by(job_id=job_id).order_by(APPROVALS.c.sequence)
            return [Approval(**row._mapping) for row in tx.execute(query)]


def _latest(tx: sa.Connection, job_id: str, why: str | None = None) -> Approval | None:
    same = APPROVALS.c.why == why if why is not None else sa.true()
    query = sa.select(APPROVALS).filter_by(job_id=job_id).where(same).order_by(APPROVALS.c.sequence.desc()).limit(1)
    row = tx.execute(query).first()
    return Approval(**row._mapping) if row else None
