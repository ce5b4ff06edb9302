"""What has been computed already: results that may answer again.

Here: the rows and what counts as the same question. Not here: the results themselves (``artifacts``) and when an
earlier one is good enough (``dispatcher``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from resources import audit
from resources.controls import signed
from resources.database import patient
from resources.envelope import JobEnvelope, digest_of
from resources.failures import InputError
from resources.ledger import Ledger
from resources.ledger_tables import CACHE, Job
from resources.locks import hold
from resources.policy import CachePolicy
from resources.prepared import Prepared


@dataclass(frozen=True)
class Entry:
    """A stored answer.

    Attributes:
        problem: ``kind/payload``, as ``problem_of`` gives it.
        algorithm: digest of the algorithm with its version and all settings.
        calibration_window: number of the window it was computed in.
        job_id, result_ref: the job that computed it, and its result in the artifact store.
        invalidated_at, reason: when and why it was taken back.
    """

    key: str
    problem: str
    backend: str
    algorithm: str
    calibration_window: str
    job_id: str
    result_ref: str
    created_at: datetime
    invalidated_at: datetime | None
    reason: str | None


_VALID = Prepared(
    sa.select(CACHE).where(CACHE.c.key == sa.bindparam("asked"), CACHE.c.invalidated_at.is_(None)), CACHE.columns
)
_REMOVE = Prepared(CACHE.delete().where(CACHE.c.key == sa.bindparam("asked")))
_KEEP = Prepared(CACHE.insert().values({column.name: sa.bindparam(column.name) for column in CACHE.columns}))


def problem_of(envelope: JobEnvelope) -> str:
    """What is asked, whoever answers and however: job kind and payload."""
    return f"{envelope.kind}/{envelope.payload_ref}"


class ResultCache:
    """Results by what was asked, of whom, how and when.

    Args:
        policy: length of a calibration window; 0 turns the cache off: nothing is found and nothing stored.
        policy_version: the one in force, for the audit log.
    """

    def __init__(self, ledger: Ledger, policy: CachePolicy, policy_version: str = "") -> None:
        self.ledger, self.policy, self.policy_version = ledger, policy, policy_version

    def key(self, envelope: JobEnvelope, backend: str, backend_version: str, now: datetime | None = None) -> str:
        """Digest of problem, algorithm and its settings, repetition, backend and its version, and calibration window.

        Two jobs with equal keys ask the same machine in the same condition the same thing; limits of time and money,
        owner, purpose and fallback are not part of it.

        Args:
            now: UTC; windows are counted from 1970, so they are the same for all processes.
        """
        return digest_of(
            {
                "problem": problem_of(envelope),
                "algorithm": envelope.algorithm.model_dump(mode="json"),
                "repetition": envelope.repetition,
                "backend": backend,
                "backend_version": backend_version,
                "window": self._window(now),
            }
        )

    def find(self, key: str) -> Entry | None:
        """The valid entry of this key."""
        return self.find_all([key]).get(key)

    @patient
    def find_all(self, keys: Sequence[str]) -> dict[str, Entry]:
        """The valid entries of these keys, by key."""
        if not self.policy.window_seconds or not keys:
            return {}
        with self.ledger.engine.connect() as tx:
            if len(keys) == 1:
                return {row[0]: Entry(*row) for row in _VALID.rows(tx, {"asked": keys[0]})}
            query = sa.select(CACHE).where(CACHE.c.key.in_(list(keys)), CACHE.c.invalidated_at.is_(None))
            return {row.key: Entry(**row._mapping) for row in tx.execute(query)}

    @patient
    def any_of(self, envelope: JobEnvelope) -> Entry | None:
        """The newest valid entry of the same problem, whatever the backend, algorithm, repetition or window: the last
        resort of a fallback policy."""
        return self._newest(CACHE.c.problem == problem_of(envelope))

    def put(
        self, tx: sa.Connection, key: str, envelope: JobEnvelope, job: Job, result_ref: str, now: datetime | None = None
    ) -> None:
        """Keep a result that ``job.backend`` computed; a later result of the same key takes its place."""
        if not self.policy.window_seconds:
            return
        hold(tx, f"cache:{key}")
        _REMOVE.once(tx, {"asked": key})
        row = Entry(
            key=key,
            problem=problem_of(envelope),
            backend=job.backend,
            algorithm=digest_of(envelope.algorithm.model_dump(mode="json")),
            calibration_window=self._window(now),
            job_id=job.job_id,
            result_ref=result_ref,
            created_at=now or datetime.now(UTC),
            invalidated_at=None,
            reason=None,
        )
        _KEEP.once(tx, vars(row))

    @patient
    def invalidate(
        self,
        *,
        backend: str | None = None,
        problem: str | None = None,
        job_id: str | None = None,
        everything: bool = False,
        by: str,
        reason: str,
    ) -> int:
        """Take entries back: those that match all selectors. Audited.

        Args:
            problem: as ``problem_of`` gives it.
            everything: instead of selectors.

        Returns:
            How many entries were valid until now.

        Raises:
            InputError: no selector, or ``everything`` beside others; name or reason is empty.
        """
        by, reason = signed("invalidation of the cache", by, reason)
        asked = {"backend": backend, "problem": problem, "job_id": job_id}
        chosen = {name: value for name, value in asked.items() if value is not None}
        if bool(chosen) == everything:
            raise InputError(
                "invalidation of the cache",
                "selector",
                "everything and a selection were both given" if everything else "nothing was selected",
                "name a backend, a problem or a job, or everything",
            )
        with self.ledger.transaction() as tx:
            count = tx.execute(
                CACHE.update()
                .filter_by(**chosen)
                .where(CACHE.c.invalidated_at.is_(None))
                .values(invalidated_at=datetime.now(UTC), reason=reason)
            ).rowcount
            audit.append(
                tx,
                actor=by,
                action="invalidate_cache",
                job_id=job_id,
                subject=backend or problem or job_id or "everything",
                reason=reason,
                policy_version=self.policy_version,
                detail={**chosen, "entries": count},
            )
        return count

    def _window(self, now: datetime | None) -> str:
        seconds = self.policy.window_seconds
        return str(int((now or datetime.now(UTC)).timestamp() // seconds)) if seconds else "off"

    def _newest(self, condition: sa.ColumnElement[bool]) -> Entry | None:
        if not self.policy.window_seconds:
            return None
        query = sa.select(CACHE).where(condition, CACHE.c.invalidated_at.is_(None))
        with self.ledger.engine.connect() as tx:
            row = tx.execute(query.order_by(CACHE.c.created_at.desc(), CACHE.c.key).limit(1)).first()
        return Entry(**row._mapping) if row else None
