"""Money: nobody spends more than the budget, whoever asks at the same time."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resources.database import patient
from resources.envelope import EvidenceClass, JobResult, SampleCount, Timings
from resources.ledger import Job, Ledger
from resources.ledger_tables import SPENDING
from resources.money import Spending, Spent, bill, month_of, price
from resources.policy import Budget, Policy, Price
from tests.unit.test_envelope import envelope

PROJECT = Path(__file__).resolve().parents[2]
MARCH = datetime(2026, 3, 31, 23, 59, tzinfo=UTC)
APRIL = datetime(2026, 4, 1, tzinfo=UTC)


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    made = Ledger(ledger_url)
    yield made
    made.engine.dispose()


def policy(*budgets: Budget) -> Policy:
    return Policy(version="7", budgets=budgets, prices={"qpu": Price(per_job=0.3, per_shot=0.01, per_second=2.0)})


def spending(ledger: Ledger, money: float | None = 10.0, jobs: int | None = None) -> Spending:
    return Spending(ledger, policy(Budget(owner="team:*", money=money, jobs=jobs)))


def job(ledger: Ledger, number: int = 0, owner: str = "team:a") -> Job:
    return ledger.intend(envelope(backend="qpu", repetition=number, owner=owner))


def result_of(**used: Any) -> JobResult:
    """A result that used so much."""
    empty = JobResult(
        envelope_digest="",
        samples=(SampleCount(bits="0", energy=0.0, count=1),),
        evidence_class=EvidenceClass.HARDWARE,
        backend="qpu",
        backend_version="1",
        sdk_versions={},
        width=1,
        depth=1,
        two_qubit_gates=0,
        shots=1,
    )
    return empty.model_copy(update=used)


@patient
def spend(of: Spending, asking: Job, amount: float, now: datetime = MARCH) -> str | None:
    """Check and reserve as the dispatcher does, in one transaction."""
    with of.ledger.transaction() as tx:
        (refusal,) = of.refuses(tx, [(asking, amount)], now)
        if refusal is None:
            of.reserve(tx, [(asking, amount)], now)
        return refusal


def test_the_price_is_the_lists() -> None:
    assert price(policy(), "qpu", jobs=2, shots=100, seconds=1.5) == pytest.approx(0.6 + 1.0 + 3.0)
    assert price(policy(), "qpu") == pytest.approx(0.3)
    assert price(policy(), "aer", shots=10**6) == 0


@pytest.mark.parametrize(
    ("answer", "listed", "cost"),
    [
        # the answer's own price goes first
        ({"actual_cost": 4.0, "timings": Timings(execute=1.0)}, {"per_second": 2.0}, 4.0),
        # IBM: seconds that were charged; Braket's kind: shots that were taken, dropped ones too
        ({"timings": Timings(queue=9.0, execute=2.5)}, {"per_second": 1.6}, 4.0),
        ({"shots": 90, "discarded_shots": 10}, {"per_job": 0.3, "per_shot": 0.01}, 1.3),
        # seconds that nobody tells are those of the estimate
        ({"shots": 90}, {"per_second": 1.6, "per_job": 0.1}, 7.0),
        ({"shots": 90}, None, 7.0),
    ],
)
def test_the_bill_is_for_what_was_used(answer: dict[str, Any], listed: dict[str, float] | None, cost: float) -> None:
    prices = {} if listed is None else {"qpu": Price(**listed)}
    assert bill(Policy(prices=prices), "qpu", result_of(**answer), 7.0) == pytest.approx(cost)


def test_a_job_that_does_not_fit_is_refused_with_the_sums(ledger: Ledger) -> None:
    of = spending(ledger)
    assert spend(of, job(ledger, 0), 5.5) is None
    with ledger.transaction() as tx:
        of.settle(tx, job(ledger, 0), 5.0)
    assert spend(of, job(ledger, 1), 3.0) is None
    assert spend(of, job(ledger, 2), 2.01) == (
        "the budget of team:a in 2026-03 (budget 'team:*') is 10.00 EUR, 3.00 of it reserved and 5.00 spent; qpu asks "
        "for 2.01"
    )
    assert spend(of, job(ledger, 2), 2.0) is None
    assert of.spent("team:a", "2026-03") == Spent(10.0, 3, 5.0)


def test_decimal_amounts_fill_a_budget_exactly(ledger: Ledger) -> None:
    of = spending(ledger, money=0.3)
    assert [spend(of, job(ledger, n), 0.1) is None for n in range(4)] == [True, True, True, False]


def test_the_quota_counts_every_metered_job_and_a_free_one_asks_no_money(ledger: Ledger) -> None:
    of = spending(ledger, money=0.0, jobs=2)
    assert [spend(of, job(ledger, n), 0.0) for n in range(2)] == [None, None]
    refusal = spend(of, job(ledger, 2), 0.0)
    assert refusal == "the quota of team:a in 2026-03 (budget 'team:*') is 2 metered jobs, 2 are sent; qpu asks for one"
    with ledger.transaction() as tx:
        of.release(tx, job(ledger, 0))
    assert spend(of, job(ledger, 2), 0.01) is not None
    assert spend(of, job(ledger, 2), 0.0) is None


def test_the_first_budget_that_matches_counts_for_each_owner_alone(ledger: Ledger) -> None:
    of = Spending(ledger, policy(Budget(owner="team:rich", money=100), Budget(owner="team:*", money=1)))
    asked = [
        (job(ledger, 10 + number, owner), amount)
        for number, (owner, amount) in enumerate([("team:rich", 99), ("team:richer", 99), ("nobody's", 1e9)])
    ]
    with ledger.transaction() as tx:
        rich, richer, nobody = of.refuses(tx, asked)
    assert (rich, nobody) == (None, None)
    assert "'team:*'" in str(richer)
    assert spend(of, job(ledger, 0, "team:a"), 1.0) is None
    assert spend(of, job(ledger, 1, "team:b"), 1.0) is None
    assert spend(of, job(ledger, 2, "team:b"), 1.0) is not None


def test_a_month_is_utc_and_a_reservation_stays_in_its_month(ledger: Ledger) -> None:
    assert month_of(MARCH) == "2026-03"
    assert month_of(datetime.fromisoformat("2026-04-01T01:30:00+02:00")) == "2026-03"
    of, first = spending(ledger), job(ledger)
    assert spend(of, first, 10.0, MARCH) is None
    assert spend(of, job(ledger, 1), 10.0, APRIL) is None
    with ledger.transaction() as tx:
        of.settle(tx, first, 7.0, APRIL)
    assert of.spent("team:a", "2026-03") == Spent(7.0, 1, 0.0)
    assert of.spent("team:a", "2026-04") == Spent(10.0, 1, 10.0)


def test_what_is_no_amount_neither_passes_nor_spoils_the_sums(ledger: Ledger) -> None:
    of = spending(ledger)
    for number, amount in enumerate((math.nan, math.inf, -1.0)):
        asking = job(ledger, number)
        assert "cannot be estimated" in str(spend(of, asking, amount))
        assert spend(of, asking, 2.0) is None
        with ledger.transaction() as tx:
            of.settle(tx, asking, amount)
    assert of.spent("team:a", "2026-03") == Spent(6.0, 3, 0.0)


def test_each_step_may_be_repeated(ledger: Ledger) -> None:
    of, asking = spending(ledger), job(ledger)
    # asked again after a crash: its own reservation is not in its way
    assert [spend(of, asking, 10.0) for _ in range(3)] == [None] * 3
    assert of.spent("team:a", "2026-03") == Spent(10.0, 1, 10.0)
    # to another backend, at another price
    assert spend(of, replace(asking, backend="other"), 6.0, APRIL) is None
    assert of.spent("team:a", "2026-03") == Spent(6.0, 1, 6.0)
    with ledger.transaction() as tx:
        of.release(tx, asking)
        of.release(tx, asking)
        assert of.spent("team:a", "2026-03").jobs == 1  # not before the commit
    assert of.spent("team:a", "2026-03") == Spent(0.0, 0, 0.0)
    # sent again with the same key after a definite "not there"
    assert spend(of, asking, 5.0, APRIL) is None
    assert of.spent("team:a", "2026-04") == Spent(5.0, 1, 5.0)
    with ledger.transaction() as tx:
        of.settle(tx, asking, 4.0)
        of.settle(tx, asking, 4.0)
        of.release(tx, asking)
        of.reserve(tx, [(asking, 9.0)])
    assert of.spent("team:a", "2026-04") == Spent(4.0, 1, 0.0)
    # what is billed is in the way of whoever asks
    with ledger.transaction() as tx:
        assert of.refuses(tx, [(asking, 6.5)], APRIL) != [None]
    # a further submission has a further key, and is paid as well
    assert spend(of, replace(asking, provider_key="again"), 5.0, APRIL) is None
    assert of.spent("team:a", "2026-04") == Spent(9.0, 2, 5.0)


def test_a_bill_counts_whether_or_not_it_was_reserved(ledger: Ledger) -> None:
    of, free, dear = spending(ledger), job(ledger, 0), job(ledger, 1)
    with ledger.transaction() as tx:
        of.release(tx, free)
        of.settle(tx, free, 0.0, MARCH)
        of.settle(tx, dear, 12.5, MARCH)
    assert of.spent("team:a", "2026-03") == Spent(12.5, 1, 0.0)
    # the bill came to more than the budget: what is left is nothing, not less
    assert spend(of, job(ledger, 2), 0.01) is not None


def reserved_for(tx: sa.Connection, asking: Job) -> float | None:
    row = tx.execute(sa.select(SPENDING).filter_by(job_id=asking.job_id, state="reserved").with_for_update()).first()
    return row.reserved if row else None


@patient
def close(of: Spending, asking: Job, share: float | None) -> None:
    """Settle this share of what is reserved, or release it."""
    with of.ledger.transaction() as tx:
        if share is None:
            of.release(tx, asking)
        elif (reserved := reserved_for(tx, asking)) is not None:
            of.settle(tx, asking, reserved * min(share, 1.0))


STEPS = st.tuples(
    st.sampled_from(["reserve", "settle", "release"]), st.integers(0, 5), st.floats(0, 6, allow_subnormal=False)
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scripts=st.lists(st.lists(STEPS, max_size=6), min_size=3, max_size=3), number=st.integers(0, 10**9))
def test_whatever_the_interleaving_the_budget_holds(
    ledger: Ledger, scripts: list[list[tuple[str, int, float]]], number: int
) -> None:
    owner, month = f"team:{number}", month_of(MARCH)
    jobs = [job(ledger, 6 * number + n, owner) for n in range(6)]
    of = spending(ledger, money=10.0, jobs=4)
    seen: list[Spent] = []

    def act(script: list[tuple[str, int, float]]) -> None:
        for step, which, amount in script:
            asking = jobs[which]
            if step == "reserve":
                spend(of, asking, amount)
            else:
                close(of, asking, amount if step == "settle" else None)
            seen.append(of.spent(owner, month))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(act, scripts))
    for spent in seen:
        assert spent.money <= 10.0 + 1e-6
        assert 0 <= spent.reserved <= spent.money + 1e-9
        assert spent.jobs <= 4


WORKER = """
import sys, time
from datetime import datetime
from pathlib import Path
from resources.database import patient
from resources.ledger import Ledger
from resources.money import Spending
from resources.policy import Budget, Policy
url, root, number, count = sys.argv[1:]
ledger = Ledger(url)
of = Spending(ledger, Policy(budgets=(Budget(owner="team:a", money=5.0),)))
jobs = ledger.jobs()
(Path(root) / f"ready-{number}").touch()
while len(list(Path(root).glob("ready-*"))) < int(count):
    time.sleep(0.001)
@patient
def spend(job):
    with ledger.transaction() as tx:
        fits = of.refuses(tx, [(job, 1.0)]) == [None]
        if fits:
            of.reserve(tx, [(job, 1.0)])
        return fits
print(sum(spend(job) for job in jobs[int(number)::int(count)]))
"""


def test_processes_do_not_share_the_last_euro(ledger: Ledger, tmp_path: Path) -> None:
    for number in range(24):
        job(ledger, number)
    url = ledger.engine.url.render_as_string(hide_password=False)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, url, str(tmp_path), str(n), "3"],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(3)
    ]
    said = [process.communicate(timeout=120) for process in processes]
    assert [p.returncode for p in processes] == [0] * 3, said
    assert sum(int(out) for out, _ in said) == 5
    assert spending(ledger).spent("team:a", month_of()) == Spent(5.0, 5, 5.0)


def test_jobs_that_go_out_together_share_what_is_left(ledger: Ledger) -> None:
    of = spending(ledger, money=2.5)
    asked = [(job(ledger, number), 1.0) for number in range(4)]
    with ledger.transaction() as tx:
        assert [no is None for no in of.refuses(tx, asked)] == [True, True, False, False]
        of.reserve(tx, asked[:2])
    assert of.spent("team:a", month_of()) == Spent(2.0, 2, 2.0)
    with ledger.transaction() as tx:
        # asked again after a crash, their own reservations are not in their way
        assert [no is None for no in of.refuses(tx, asked[:2])] == [True, True]
        of.reserve(tx, asked[:2])
    assert of.spent("team:a", month_of()) == Spent(2.0, 2, 2.0)
