"""The circuit breaker of each backend, shared by all processes through the ledger (Nygard, Release It!, 2nd ed., §5.2).

Closed: jobs go. After ``failures`` in a row it opens: nobody asks the backend for a pause. Then it is half-open: one
job at a time tries it. Success closes the breaker; failure opens it again for twice as long.

Here: the states and who gets the probe. Not here: which failures count (``failures``, ``dispatcher``).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from resources import audit
from resources.database import patient
from resources.ledger import Ledger, this_process
from resources.ledger_tables import BREAKERS
from resources.locks import hold
from resources.policy import BreakerPolicy

_ROW = sa.select(BREAKERS).where(BREAKERS.c.backend == sa.bindparam("asked"))
#: A closed breaker is believed for so long without another look.
_BELIEVED = timedelta(seconds=1)


@dataclass(frozen=True)
class BreakerState:
    """A breaker's row.

    Attributes:
        state: ``closed``, ``open`` or ``half-open``. It stays ``open`` after its pause until somebody asks for a probe.
        failures: failures in a row since the last success.
        opened: times in a row that it opened without a success.
        open_until: end of the pause.
        probe_by, probe_until: the process that tries, and until when it may.
        reason: of the last failure.
        updated_at: ``None``: nothing ever happened.
    """

    backend: str
    state: str = "closed"
    failures: int = 0
    opened: int = 0
    open_until: datetime | None = None
    probe_by: str | None = None
    probe_until: datetime | None = None
    reason: str = ""
    updated_at: datetime | None = None

    def refuses(self, now: datetime) -> str | None:
        """Why a job may not go now; ``None``: it may, as the probe unless the breaker is closed."""
        if self.state == "open" and self.open_until is not None and now < self.open_until:
            return (
                f"backend {self.backend} is left alone for another {_seconds(self.open_until - now)} after "
                f"{self.failures} failures in a row, the last one: {self.reason}"
            )
        if self.state == "half-open" and self.probe_until is not None and now < self.probe_until:
            return (
                f"backend {self.backend} is being tried with one job after {self.failures} failures in a row; its "
                f"answer is awaited for at most {_seconds(self.probe_until - now)}"
            )
        return None


def _seconds(left: timedelta) -> str:
    # never "0 s" while it still refuses
    return f"{max(1, round(left.total_seconds()))} s"


class Breakers:
    """The breakers of all backends.

    Args:
        ledger: where they are kept.
        policy: thresholds and pauses.
        version: of the policy, for the audit log.
    """

    def __init__(self, ledger: Ledger, policy: BreakerPolicy, version: str = "") -> None:
        self.ledger, self.policy, self.version = ledger, policy, version
        self._closed_at: dict[str, datetime] = {}
        self._clean_at: dict[str, datetime] = {}

    def refuses(self, backend: str, now: datetime | None = None) -> str | None:
        """Why no job may go to this backend now, in a sentence; ``None``: send it.

        When the pause is over, exactly one caller gets ``None``: its job is the probe, and everybody else is refused
        until ``succeeded`` or ``failed`` is called or ``probe_seconds`` pass. So ask this last, after every other
        check, and report any answer of the backend that is not its failure as a success.

        Args:
            now: UTC.
        """
        now = now or datetime.now(UTC)
        seen = self._closed_at.get(backend)
        if seen is not None and timedelta(0) <= now - seen < _BELIEVED:
            return None
        found = self.state(backend)
        if found.state == "closed":
            self._closed_at[backend] = now
            return None
        return found.refuses(now) or self._probe(backend, now)

    @patient
    def _probe(self, backend: str, now: datetime) -> str | None:
        """Take the probe, unless somebody else was faster."""
        with self.ledger.transaction() as tx:
            found = _locked(tx, backend)
            refusal = found.refuses(now)
            if refusal is None and found.state != "closed":
                until = now + timedelta(seconds=self.policy.probe_seconds)
                _write(tx, replace(found, state="half-open", probe_by=this_process(), probe_until=until), now)
                self._audit(tx, "probe_breaker", backend, found.reason, {"until": until.isoformat()})
            return refusal

    @patient
    def succeeded(self, backend: str, now: datetime | None = None) -> None:
        """The backend did its part: its failures are forgotten, a half-open breaker closes. An open one stays open,
        because what succeeds then was sent before."""
        asked = now or datetime.now(UTC)
        seen = self._clean_at.get(backend)
        if seen is not None and timedelta(0) <= asked - seen < _BELIEVED:
            return
        found = self.state(backend)
        if not _forgivable(found):
            if found.state == "closed":
                self._clean_at[backend] = asked
            return
        with self.ledger.transaction() as tx:
            found = _locked(tx, backend)
            if not _forgivable(found):
                return
            _write(tx, BreakerState(backend), now or datetime.now(UTC))
            if found.state == "half-open":
                self._audit(tx, "close_breaker", backend, "the probe succeeded", {"failures": found.failures})

    @patient
    def failed(self, backend: str, reason: str, now: datetime | None = None) -> None:
        """The backend failed to do its part. An open breaker stays as it is: jobs that were sent together fail
        together, and the pause does not grow with their number."""
        now = now or datetime.now(UTC)
        self._clean_at.pop(backend, None)
        with self.ledger.transaction() as tx:
            found = _locked(tx, backend)
            if found.state == "open":
                return
            failing = replace(found, failures=found.failures + 1, reason=reason[:500])
            if failing.state == "closed" and failing.failures < self.policy.failures:
                _write(tx, failing, now)
                return
            # 2.0 ** 1024 would overflow; long before, the longest pause rules
            pause = min(self.policy.open_seconds * 2.0 ** min(found.opened, 60), self.policy.longest_seconds)
            _write(
                tx,
                replace(
                    failing,
                    state="open",
                    opened=found.opened + 1,
                    open_until=now + timedelta(seconds=pause),
                    probe_by=None,
                    probe_until=None,
                ),
                now,
            )
            detail = {"failures": failing.failures, "pause_seconds": pause}
            self._audit(tx, "open_breaker", backend, failing.reason, detail)
        self._closed_at.pop(backend, None)

    @patient
    def state(self, backend: str) -> BreakerState:
        """The breaker of this backend; closed when nothing ever happened."""
        with self.ledger.engine.connect() as tx:
            return _read(tx, backend)

    @patient
    def states(self) -> list[BreakerState]:
        """The breakers of all backends that ever failed, by name."""
        with self.ledger.engine.connect() as tx:
            return [
                BreakerState(**row._mapping) for row in tx.execute(sa.select(BREAKERS).order_by(BREAKERS.c.backend))
            ]

    def _audit(self, tx: sa.Connection, action: str, backend: str, reason: str, detail: dict[str, Any]) -> None:
        audit.append(
            tx,
            actor=this_process(),
            action=action,
            subject=backend,
            reason=reason,
            policy_version=self.version,
            detail=detail,
        )


def _forgivable(found: BreakerState) -> bool:
    return found.failures > 0 and found.state != "open"


def _read(tx: sa.Connection, backend: str) -> BreakerState:
    row = tx.execute(_ROW, {"asked": backend}).first()
    return BreakerState(**row._mapping) if row else BreakerState(backend)


def _locked(tx: sa.Connection, backend: str) -> BreakerState:
    # by name: before the first failure there is no row to lock
    hold(tx, f"breaker:{backend}")
    return _read(tx, backend)


def _write(tx: sa.Connection, state: BreakerState, now: datetime) -> None:
    values = asdict(replace(state, updated_at=now))
    if tx.execute(BREAKERS.update().where(BREAKERS.c.backend == state.backend).values(**values)).rowcount == 0:
        tx.execute(BREAKERS.insert().values(**values))
