"""Money and quotas: what an owner has spent and reserved in a month, and whether one more job fits.

Here: prices, reservations, bills. Not here: the budgets themselves (``policy``) and when a job is asked for its money
(``gates``). A job's money is reserved before its submission and settled or released after it; the row belongs to the
job's ``provider_key``, so what is sent once is paid once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from resources.database import patient
from resources.envelope import JobResult
from resources.ledger import Ledger
from resources.ledger_tables import SPENDING, Job
from resources.locks import hold
from resources.policy import Budget, Policy, matches

#: Sums of decimal amounts miss their limit by the last digit of a float.
ROUNDING = 1e-9
#: Of a row of ``SPENDING``: the bill, or what is set aside for it.
_COUNTED = sa.case((SPENDING.c.state == "reserved", SPENDING.c.reserved), else_=SPENDING.c.actual)


@dataclass(frozen=True)
class Spent:
    """What an owner's month holds.

    Attributes:
        money: bills and open reservations, in the policy's currency.
        jobs: metered jobs, reserved or settled.
        reserved: the part of ``money`` that is only reserved.
    """

    money: float
    jobs: int
    reserved: float = 0.0


def price(policy: Policy, backend: str, *, jobs: int = 1, shots: int = 0, seconds: float = 0.0) -> float:
    """What this much work costs by the price list, in the policy's currency; 0 for a backend without a price.

    Args:
        jobs: submissions. ``shots``, ``seconds``: of all of them together, seconds on the machine.
    """
    listed = policy.prices.get(backend)
    if listed is None:
        return 0.0
    return jobs * listed.per_job + shots * listed.per_shot + seconds * listed.per_second


def bill(policy: Policy, backend: str, result: JobResult, estimated: float) -> float:
    """What a metered job cost, in the policy's currency: the price in its answer, else the price list for what the
    answer says it used (one submission, all shots that were taken, seconds on the machine), else what was estimated:
    where nothing is listed, or seconds are charged and the answer does not tell them."""
    listed, seconds = policy.prices.get(backend), result.timings.execute
    if result.actual_cost or listed is None or (listed.per_second and not seconds):
        return result.actual_cost or estimated
    return price(policy, backend, shots=result.shots + result.discarded_shots, seconds=seconds)


def month_of(now: datetime | None = None) -> str:
    """The month of a time (now), ``YYYY-MM`` in UTC."""
    return (now or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m")


def bills(tx: sa.Connection) -> dict[str, float]:
    """What each job was charged over all its submissions, by id."""
    query = sa.select(SPENDING.c.job_id, sa.func.sum(SPENDING.c.actual).label("total")).where(
        SPENDING.c.state == "settled"
    )
    return {row.job_id: float(row.total) for row in tx.execute(query.group_by(SPENDING.c.job_id))}


class Spending:
    """Reservations and bills of all owners.

    Two processes never both get the last of a budget where ``refuses`` and ``reserve`` are called in one transaction:
    ``refuses`` holds the owner's month until its end.
    """

    def __init__(self, ledger: Ledger, policy: Policy) -> None:
        self.ledger, self.policy = ledger, policy

    def refuses(
        self, tx: sa.Connection, asked: Sequence[tuple[Job, float]], now: datetime | None = None
    ) -> list[str | None]:
        """Why each of these metered jobs may not be sent, in a sentence; ``None``: it fits. Each counts those before.

        Args:
            tx: the transaction that will reserve.
            asked: jobs with their estimates. Their own open reservations are not counted against them (a job is asked
                again after a crash).
        """
        month, spent = month_of(now), dict[str, Spent]()
        answers: list[str | None] = []
        for owner in sorted({job.owner for job, _ in asked if self.budget(job.owner)}):
            hold(tx, f"spending:{owner}:{month}")
            spent[owner] = _spent(tx, owner, month, [job for job, _ in asked])
        for job, amount in asked:
            before = spent.get(job.owner)
            no = None if before is None else self._verdict(job, amount, month, before)
            answers.append(no)
            if no is None and before is not None:
                spent[job.owner] = Spent(before.money + amount, before.jobs + 1, before.reserved + amount)
        return answers

    def _verdict(self, job: Job, amount: float, month: str, spent: Spent) -> str | None:
        budget = self.budget(job.owner)
        assert budget is not None, "who has no budget is not asked"
        if not math.isfinite(amount) or amount < 0:
            return f"the price of a job on {job.backend} cannot be estimated, so it fits no budget of {job.owner}"
        where = f"{job.owner} in {month} (budget {budget.owner!r})"
        if budget.jobs is not None and spent.jobs + 1 > budget.jobs:
            return (
                f"the quota of {where} is {budget.jobs} metered jobs, {spent.jobs} are sent; {job.backend} asks for one"
            )
        if budget.money is not None and amount > 0 and spent.money + amount > budget.money + ROUNDING:
            return (
                f"the budget of {where} is {budget.money:.2f} {self.policy.currency}, {spent.reserved:.2f} of it "
                f"reserved and {spent.money - spent.reserved:.2f} spent; {job.backend} asks for {amount:.2f}"
            )
        return None

    def reserve(self, tx: sa.Connection, asked: Sequence[tuple[Job, float]], now: datetime | None = None) -> None:
        """Set money aside for the jobs' current submissions. Again for the same submission: the latest amount holds;
        a bill stays a bill."""
        keys = [job.provider_key for job, _ in asked]
        rows = tx.execute(sa.select(SPENDING).where(SPENDING.c.provider_key.in_(keys)).with_for_update()).all()
        known = {row.provider_key: row.state for row in rows}
        fresh: list[dict[str, Any]] = []
        for job, amount in asked:
            state = known.get(job.provider_key)
            values = {"backend": job.backend, "reserved": amount, "actual": None, "state": "reserved"}
            if state in (None, "released"):
                values |= {"owner": job.owner, "month": month_of(now)}
            if state is None:
                ids = {"job_id": job.job_id, "provider_key": job.provider_key, "updated_at": datetime.now(UTC)}
                fresh.append(values | ids)
            elif state != "settled":
                _write(tx, job, values, True)
        if fresh:
            tx.execute(SPENDING.insert(), fresh)

    def settle(self, tx: sa.Connection, job: Job, actual: float, now: datetime | None = None) -> None:
        """Replace the reservation by the bill; the latest bill holds. It counts in the month of the reservation.

        A bill without a reservation counts too; one that is no amount (not finite, negative) is taken to be what was
        reserved.
        """
        known = _row(tx, job)
        if not math.isfinite(actual) or actual < 0:
            actual = known.reserved if known is not None else 0.0
        values: dict[str, Any] = {"backend": job.backend, "actual": actual, "state": "settled"}
        if known is None:
            if actual == 0:
                return
            values |= {"owner": job.owner, "month": month_of(now), "reserved": 0.0}
        _write(tx, job, values, known is not None)

    def release(self, tx: sa.Connection, job: Job) -> None:
        """Give a reservation back: the submission never took place or cost nothing. A bill stays a bill."""
        known = _row(tx, job)
        if known is not None and known.state == "reserved":
            _write(tx, job, {"state": "released"}, True)

    @patient
    def spent(self, owner: str, month: str) -> Spent:
        """What the owner has spent and reserved in the month ``YYYY-MM``."""
        with self.ledger.engine.connect() as tx:
            return _spent(tx, owner, month, [])

    @patient
    def earlier(self, job: Job) -> float:
        """What the job's submissions before the current one cost, or may still cost."""
        others = (SPENDING.c.job_id == job.job_id) & (SPENDING.c.provider_key != job.provider_key)
        query = sa.select(sa.func.sum(_COUNTED)).where(others, SPENDING.c.state != "released")
        with self.ledger.engine.connect() as tx:
            return float(tx.execute(query).scalar() or 0.0)

    @patient
    def of_jobs(self, job_ids: Sequence[str]) -> float:
        """What all submissions of these jobs cost, or may still cost."""
        query = sa.select(sa.func.sum(_COUNTED)).where(SPENDING.c.job_id.in_(job_ids), SPENDING.c.state != "released")
        with self.ledger.engine.connect() as tx:
            return float(tx.execute(query).scalar() or 0.0)

    @patient
    def reserved(self, job_id: str, backend: str) -> float:
        """What was set aside for a job's latest submission to a backend."""
        mine = (SPENDING.c.job_id == job_id) & (SPENDING.c.backend == backend)
        query = sa.select(SPENDING.c.reserved).where(mine).order_by(SPENDING.c.updated_at.desc()).limit(1)
        with self.ledger.engine.connect() as tx:
            return float(tx.execute(query).scalar() or 0.0)

    def budget(self, owner: str) -> Budget | None:
        """The first budget of the policy that matches; ``None``: the owner has no limit."""
        for budget in self.policy.budgets:
            if matches(budget.owner, owner):
                return budget
        return None


def _spent(tx: sa.Connection, owner: str, month: str, without: Sequence[Job]) -> Spent:
    """Sums of a month; open reservations of the jobs ``without`` are left out."""
    reserved = SPENDING.c.state == "reserved"

    def total(amount: Any) -> sa.ColumnElement[float]:
        return sa.func.coalesce(sa.func.sum(amount), 0.0)

    query = sa.select(
        sa.func.count(),
        total(sa.case((reserved, SPENDING.c.reserved), else_=0.0)),
        total(sa.case((reserved, 0.0), else_=SPENDING.c.actual)),
    ).where(SPENDING.c.owner == owner, SPENDING.c.month == month, SPENDING.c.state != "released")
    if without:
        own = SPENDING.c.provider_key.in_([job.provider_key for job in without])
        query = query.where(sa.not_(reserved & own))
    row: Any = tx.execute(query).one()
    jobs, held, billed = row
    return Spent(held + billed, jobs, held)


def _of(job: Job) -> sa.ColumnElement[bool]:
    return (SPENDING.c.job_id == job.job_id) & (SPENDING.c.provider_key == job.provider_key)


def _row(tx: sa.Connection, job: Job) -> Any:
    return tx.execute(sa.select(SPENDING).where(_of(job)).with_for_update()).first()


def _write(tx: sa.Connection, job: Job, values: dict[str, Any], known: bool) -> None:
    values = values | {"updated_at": datetime.now(UTC)}
    if known:
        tx.execute(SPENDING.update().where(_of(job)).values(**values))
    else:
        tx.execute(SPENDING.insert().values(job_id=job.job_id, provider_key=job.provider_key, **values))
