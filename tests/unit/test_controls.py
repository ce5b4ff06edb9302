"""What people decide: who, when and why, once, and in the log."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from resources.audit import AuditLog
from resources.controls import Approvals, Controls, Mode
from resources.database import patient
from resources.failures import InputError, InvariantError
from resources.ledger import Ledger
from tests.unit.test_envelope import envelope


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    made = Ledger(ledger_url)
    yield made
    made.engine.dispose()


@pytest.fixture
def controls(ledger: Ledger) -> Controls:
    return Controls(ledger)


@pytest.fixture
def approvals(ledger: Ledger) -> Approvals:
    return Approvals(ledger)


def log(ledger: Ledger) -> list[dict[str, Any]]:
    return AuditLog(ledger).rows()


def waiting_job(ledger: Ledger, number: int = 0, why: str = "it would cost 12 EUR") -> str:
    job_id = ledger.intend(envelope(repetition=number)).job_id
    ledger.move(job_id, "awaiting_approval", why)
    with ledger.transaction() as tx:
        Approvals(ledger).ask(tx, job_id, why)
    return job_id


@patient
def decide(approvals: Approvals, job_id: str, decision: Any, by: str = "ada", reason: str = "worth it") -> None:
    with approvals.ledger.transaction() as tx:
        approvals.decide(tx, job_id, decision, by, reason)


def test_a_backend_is_open_until_somebody_says_otherwise(controls: Controls) -> None:
    assert controls.mode("ibm") is Mode.OPEN
    assert controls.all() == []
    before = datetime.now(UTC)
    controls.set("ibm", Mode.PAUSED, " ada ", "maintenance on Friday")
    controls.set("braket", "killed", "bob", "wrong results")
    assert (controls.mode("ibm"), controls.mode("braket"), controls.mode("dwave")) == ("paused", "killed", "open")
    braket, ibm = controls.all()
    assert (braket.backend, braket.mode, braket.set_by, braket.reason) == (
        "braket", Mode.KILLED, "bob", "wrong results"
    )  # fmt: skip
    assert before <= ibm.updated_at <= datetime.now(UTC)
    controls.set("ibm", Mode.DRAINED, "ada", "going away")
    assert controls.mode("ibm") is Mode.DRAINED
    controls.set("ibm", Mode.OPEN, "ada", "back")
    assert controls.mode("ibm") is Mode.OPEN
    assert [c.backend for c in controls.all()] == ["braket"]
    assert [(r["actor"], r["action"], r["subject"], r["reason"], r["detail"]) for r in log(controls.ledger)] == [
        ("ada", "set_mode", "ibm", "maintenance on Friday", '{"before":"open","mode":"paused"}'),
        ("bob", "set_mode", "braket", "wrong results", '{"before":"open","mode":"killed"}'),
        ("ada", "set_mode", "ibm", "going away", '{"before":"paused","mode":"drained"}'),
        ("ada", "set_mode", "ibm", "back", '{"before":"drained","mode":"open"}'),
    ]


def test_an_unsigned_or_unknown_mode_is_refused(controls: Controls) -> None:
    for mode, by, reason, sentence in (
        ("paused", "", "why", "mode of ibm: by: it is empty; say who decides."),
        ("paused", "ada", " \t", "mode of ibm: reason: it is empty; say why in a few words."),
        ("paused", "ada", "a\0b", "mode of ibm: reason: 'a\\x00b' is no text; leave the odd characters out."),
        ("paused", "a\udcff", "why", "mode of ibm: by: 'a\\udcff' is no text; leave the odd characters out."),
        ("closed", "ada", "why", "mode of ibm: mode: there is no 'closed'; use one of open, paused, drained, killed."),
    ):
        with pytest.raises(InputError) as refused:
            controls.set("ibm", mode, by, reason)
        assert str(refused.value) == sentence
    assert controls.mode("ibm") is Mode.OPEN
    assert log(controls.ledger) == []


def test_a_pause_counts_as_long_as_it_lasted_whoever_set_it(controls: Controls) -> None:
    long_ago, colleague = datetime.now(UTC) - timedelta(hours=1), Controls(controls.ledger, "v2")
    assert controls.paused("aer", long_ago) == 0.0
    colleague.set("aer", Mode.PAUSED, "ada", "calibration")
    colleague.set("other", Mode.PAUSED, "ada", "calibration")
    began = time.monotonic()
    time.sleep(0.05)
    assert controls.paused("aer", long_ago) >= 0.05
    colleague.set("aer", Mode.OPEN, "ada", "done")
    ended = time.monotonic() - began
    first = controls.paused("aer", long_ago)
    assert 0.05 <= first <= ended + 0.05
    assert controls.paused("aer", long_ago) == first == Controls(controls.ledger).paused("aer", long_ago)
    assert controls.paused("aer", datetime.now(UTC)) == 0.0


def test_modes_set_at_the_same_time_leave_one_and_are_all_logged(controls: Controls) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: controls.set("ibm", list(Mode)[n % 4], "ada", f"reason {n}"), range(18)))
    modes = [json.loads(r["detail"]) for r in log(controls.ledger)]
    assert len(modes) == 18
    assert modes[-1]["mode"] == controls.mode("ibm")
    assert [m["before"] for m in modes[1:]] == [m["mode"] for m in modes[:-1]]


def test_a_decision_is_kept_with_who_when_and_why(approvals: Approvals) -> None:
    ledger = approvals.ledger
    job_id = waiting_job(ledger)
    (waiting,) = approvals.waiting()
    assert (waiting.job_id, waiting.why, waiting.decision) == (job_id, "it would cost 12 EUR", None)
    assert not approvals.granted(job_id, waiting.why)
    before = datetime.now(UTC)
    decide(approvals, job_id, "approved", " ada ", " worth it ")
    assert approvals.granted(job_id, waiting.why)
    assert not approvals.granted(job_id, "it would cost 13 EUR")
    assert approvals.waiting() == []
    (kept,) = approvals.history(job_id)
    assert (kept.decision, kept.decided_by, kept.reason) == ("approved", "ada", "worth it")
    assert kept.decided_at is not None
    assert before <= kept.decided_at <= datetime.now(UTC)
    last = log(ledger)[-1]
    assert (last["actor"], last["action"], last["job_id"], last["reason"]) == (
        "ada", "approve", job_id, "worth it"
    )  # fmt: skip


def test_a_decision_is_made_once(approvals: Approvals) -> None:
    job_id = waiting_job(approvals.ledger)
    decide(approvals, job_id, "rejected", "bob", "too dear")
    with pytest.raises(InputError, match=r"nothing waits for a decision \(it was rejected by bob\)"):
        decide(approvals, job_id, "approved")
    assert not approvals.granted(job_id, "it would cost 12 EUR")
    never = approvals.ledger.intend(envelope(repetition=9)).job_id
    for unknown in (never, "job-0"):
        with pytest.raises(InputError, match="no approval was asked for"):
            decide(approvals, unknown, "approved")
        assert not approvals.granted(unknown, "it would cost 12 EUR")
        assert approvals.history(unknown) == []
    assert [r["action"] for r in log(approvals.ledger)] == ["reject"]


def test_of_many_decisions_one_counts(approvals: Approvals) -> None:
    job_id = waiting_job(approvals.ledger)

    def attempt(n: int) -> bool:
        try:
            decide(approvals, job_id, ("approved", "rejected")[n % 2], f"person {n}")
        except InputError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(attempt, range(6))) == 1
    assert len(approvals.history(job_id)) == len(log(approvals.ledger)) == 1


def test_each_reason_has_its_own_answer(approvals: Approvals) -> None:
    ledger = approvals.ledger
    job_id = waiting_job(ledger)
    with ledger.transaction() as tx:
        approvals.ask(tx, job_id, "asked once more while it waits")
    assert len(approvals.history(job_id)) == 1
    decide(approvals, job_id, "approved")
    with ledger.transaction() as tx:
        approvals.ask(tx, job_id, "another backend, another price")
    assert approvals.granted(job_id, "it would cost 12 EUR")
    assert not approvals.granted(job_id, "another backend, another price")
    decide(approvals, job_id, "rejected")
    assert not approvals.granted(job_id, "another backend, another price")
    assert [(a.sequence, a.decision) for a in approvals.history(job_id)] == [(1, "approved"), (2, "rejected")]


def test_only_jobs_that_still_wait_are_listed_oldest_first(approvals: Approvals) -> None:
    ledger = approvals.ledger
    first, second, third = (waiting_job(ledger, n) for n in range(3))
    ledger.move(second, "cancelled", "by its owner")
    assert [a.job_id for a in approvals.waiting()] == [first, third]


def test_an_unsigned_or_unknown_decision_is_refused(approvals: Approvals) -> None:
    job_id = waiting_job(approvals.ledger)
    for decision, by, reason, sentence in (
        ("approved", " ", "why", "by: it is empty; say who decides."),
        ("rejected", "ada", "", "reason: it is empty; say why in a few words."),
        ("maybe", "ada", "why", "decision: there is no 'maybe'; use approved or rejected."),
    ):
        with pytest.raises(InputError) as refused:
            decide(approvals, job_id, decision, by, reason)
        assert str(refused.value).endswith(sentence)
    assert len(approvals.waiting()) == 1


def test_a_request_for_no_job_is_a_defect(approvals: Approvals) -> None:
    with pytest.raises(InvariantError, match="no job job-0"), approvals.ledger.transaction() as tx:
        approvals.ask(tx, "job-0", "why")
