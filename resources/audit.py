"""The audit log: one row per decision of the control plane, chained by digests so that a change is seen.

Here: writing, reading and verifying the chain. Not here: deciding (``gates``, ``dispatcher``); keeping people with the
database's password from rewriting the whole log: for that, keep ``head()`` somewhere else.

Each row's digest is the SHA-256 of the canonical JSON of its fields and of the digest before it (a hash chain:
S. Haber, W. S. Stornetta, How to time-stamp a digital document, J. Cryptology 3, 1991). One more row holds the length
and the end of the chain. Triggers refuse to change or delete a row.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from resources.database import patient
from resources.envelope import canonical_json, digest_of
from resources.failures import InvariantError
from resources.ledger_tables import AUDIT, AUDIT_HEAD
from resources.prepared import Prepared

if TYPE_CHECKING:
    from resources.ledger import Ledger

#: What the first row's ``previous`` is.
GENESIS = "0" * 64

_HEAD = (AUDIT_HEAD.c.sequence, AUDIT_HEAD.c.digest)
_LOCK = Prepared(sa.select(*_HEAD).with_for_update(), _HEAD)
_ADD = Prepared(AUDIT.insert().values({column.name: sa.bindparam(column.name) for column in AUDIT.columns}))
_ADVANCE = Prepared(
    AUDIT_HEAD.update().values({column: sa.bindparam(f"new_{column.name}", type_=column.type) for column in _HEAD})
)

_HEADLESS = "the audit log has lost its head; `hybrid audit verify` says what else is missing"
#: PostgreSQL: one row, its digest made where the head is, which is locked for this statement and the commit alone.
#: Without a head the row has no number, which the table refuses.
_APPEND = Prepared(
    sa.text(
        """
        WITH head AS (
            UPDATE audit_head AS ahead SET sequence = ahead.sequence + 1, digest = encode(sha256(convert_to(
                :before || ahead.digest || :between || CAST(ahead.sequence + 1 AS text) || :behind, 'UTF8')), 'hex')
            FROM (SELECT digest FROM audit_head FOR UPDATE) AS last
            RETURNING ahead.sequence, last.digest AS previous, ahead.digest AS digest
        )
        INSERT INTO audit_log
            (sequence, at, actor, action, job_id, subject, reason, policy_version, detail, previous, digest)
        SELECT sequence, :at, :actor, :action, :job_id, :subject, :reason, :policy_version, :detail, previous, digest
        FROM (SELECT 1) AS one LEFT JOIN head ON true
        """
    ).bindparams(
        *(
            sa.bindparam(name, type_=sa.String)
            for name in (
                *("before", "between", "behind", "at", "actor", "action"),
                *("job_id", "subject", "reason", "policy_version", "detail"),
            )
        )
    )
)


def actor() -> str:
    """Who acts: ``HYBRID_USER``, else the user of the operating system."""
    named = os.environ.get("HYBRID_USER", "").strip()
    if named:
        return named
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # a container's user without a name
        return f"uid {os.getuid()}"


def append(
    tx: sa.Connection,
    *,
    actor: str,
    action: str,
    job_id: str | None = None,
    subject: str = "",
    reason: str = "",
    policy_version: str = "",
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Record a decision in the transaction that carries it out.

    The end of the chain stays locked until the transaction ends: append last. PostgreSQL appends when it ends.

    Args:
        tx: of ``Ledger.transaction()``.
        actor: a person, or a process of the platform, e.g. ``reconciler``.
        action: what was decided, e.g. ``submit``, ``approve``, ``open breaker``.
        job_id, subject: what it was decided about; ``subject`` is a backend, an owner, an envelope …
        reason: why, in a sentence.
        policy_version: which policy said so.
        detail: further facts, as JSON.
    """
    decision = {
        "actor": actor,
        "action": action,
        "job_id": job_id,
        "subject": subject,
        "reason": reason,
        "policy_version": policy_version,
        "detail": detail,
    }
    append_all(tx, [decision])


def append_all(tx: sa.Connection, decisions: Sequence[Mapping[str, Any]]) -> None:
    """``append`` for decisions that are carried out together; each mapping holds its arguments."""
    if len(decisions) == 1 and tx.dialect.name == "postgresql":
        row = _row(decisions[0])
        _APPEND.later(tx, row | _pieces(row), InvariantError(_HEADLESS))
        return
    if not decisions:
        return
    head = _LOCK.rows(tx, {})
    if not head:
        raise InvariantError(_HEADLESS)
    ((sequence, previous),) = head
    rows: list[dict[str, Any]] = []
    for decision in decisions:
        sequence += 1
        row = _row(decision) | {"sequence": sequence, "previous": previous}
        row["digest"] = previous = digest_of(row)
        rows.append(row)
    _ADD.many(tx, rows)
    _ADVANCE.once(tx, {"new_sequence": sequence, "new_digest": previous})


def _pieces(row: Mapping[str, Any]) -> dict[str, str]:
    """The row's canonical JSON around the two values that only the server knows; its keys are in their order."""
    parts: dict[str, dict[str, Any]] = {"before": {}, "between": {}, "behind": {}}
    for name, value in row.items():
        parts["before" if name < "previous" else "between" if name < "sequence" else "behind"][name] = value
    before, between, behind = (canonical_json(part)[1:-1] for part in parts.values())
    return {
        "before": f'{{{before},"previous":"',
        "between": f'",{between},"sequence":',
        "behind": f",{behind}}}",
    }


def _row(decision: Mapping[str, Any]) -> dict[str, Any]:
    """A decision's row without its place in the chain."""
    return {
        "at": datetime.now(UTC).isoformat(),
        "actor": decision["actor"],
        "action": decision["action"],
        "job_id": decision.get("job_id"),
        "subject": decision.get("subject", ""),
        "reason": decision.get("reason", ""),
        "policy_version": decision.get("policy_version", ""),
        "detail": canonical_json(dict(decision.get("detail") or {})),
    }


class AuditLog:
    """The audit log of a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    @patient
    def append(
        self,
        *,
        actor: str,
        action: str,
        job_id: str | None = None,
        subject: str = "",
        reason: str = "",
        policy_version: str = "",
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """``append`` in a transaction of its own."""
        with self.ledger.transaction() as tx:
            append(
                tx,
                actor=actor,
                action=action,
                job_id=job_id,
                subject=subject,
                reason=reason,
                policy_version=policy_version,
                detail=detail,
            )

    @patient
    def rows(self, *, tx: sa.Connection | None = None) -> list[dict[str, Any]]:
        """All rows as stored, oldest first; with ``reading()`` as ``tx``, of the same moment as other reads."""
        with self.ledger.engine.connect() if tx is None else nullcontext(tx) as connection:
            return [dict(row._mapping) for row in connection.execute(sa.select(AUDIT).order_by(AUDIT.c.sequence))]

    @patient
    def head(self) -> tuple[int, str]:
        """How long the chain is, and its last digest; kept elsewhere, it proves later that nothing was rewritten.

        Raises:
            InvariantError: the head is missing.
        """
        with self.ledger.engine.connect() as connection:
            head = connection.execute(sa.select(AUDIT_HEAD.c.sequence, AUDIT_HEAD.c.digest)).first()
        if head is None:
            raise InvariantError("the audit log has lost its head")
        return head.sequence, head.digest

    @patient
    def verify(self) -> list[str]:
        """What is wrong with the chain, in words; empty when it is intact."""
        return [problem for _, problem in self.findings()]

    @patient
    def findings(self, *, tx: sa.Connection | None = None) -> list[tuple[int, str]]:
        """What is wrong with the chain, each with the row where it shows; 0 where the log has no rows."""
        found: list[tuple[int, str]] = []
        last, digest = 0, GENESIS
        with self.ledger.reading() if tx is None else nullcontext(tx) as tx:
            query = sa.select(AUDIT).order_by(AUDIT.c.sequence)
            for row in tx.execute(query, execution_options={"yield_per": 1000}).mappings():
                number = row["sequence"]
                if number <= last:
                    found.append((number, f"row {number} is foreign"))
                elif number > last + 1:
                    found.append((number, f"{_rows(last + 1, number - 1)} missing"))
                elif row["previous"] != digest:
                    found.append((number, f"row {number} does not follow row {last}: one of them was replaced"))
                if digest_of({key: value for key, value in row.items() if key != "digest"}) != row["digest"]:
                    found.append((number, f"row {number} was altered"))
                last, digest = number, row["digest"]
            head = tx.execute(sa.select(AUDIT_HEAD.c.sequence, AUDIT_HEAD.c.digest)).first()
        if head is None:
            found.append((last, "the head is missing"))
        elif head.sequence > last:
            found.append((last, f"the tail was cut: {_rows(last + 1, head.sequence)} missing"))
        elif head.sequence < last:
            found.append((last, f"the head is foreign: it ends at row {head.sequence}, the log at row {last}"))
        elif head.digest != digest:
            found.append((last, f"the head is foreign: it does not end with row {last}"))
        return found


def _rows(first: int, last: int) -> str:
    return f"row {first} is" if first == last else f"rows {first} to {last} are"
