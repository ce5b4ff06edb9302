"""The breaker: closed, open, half-open with one probe, for all processes that share a ledger."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from resources.audit import AuditLog
from resources.breaker import Breakers
from resources.ledger import Ledger
from resources.ledger_tables import BREAKERS
from resources.policy import BreakerPolicy

PROJECT = Path(__file__).resolve().parents[2]
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = BreakerPolicy(failures=3, open_seconds=10, longest_seconds=35, probe_seconds=4)


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    made = Ledger(ledger_url)
    yield made
    made.engine.dispose()


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def opened(breakers: Breakers, backend: str = "qpu", at: float = 0) -> None:
    for _ in range(breakers.policy.failures):
        breakers.failed(backend, "HTTP 503", after(at))


def actions(ledger: Ledger, subject: str = "qpu") -> list[str]:
    return [row["action"] for row in AuditLog(ledger).rows() if row["subject"] == subject]


@pytest.fixture
def breakers(ledger: Ledger) -> Breakers:
    return Breakers(ledger, POLICY, "policy-7")


class Model(RuleBasedStateMachine):
    """Three processes, one backend, and the three states written down once more in the plainest way."""

    ledger: Ledger
    numbers = itertools.count()

    @initialize()
    def start(self) -> None:
        self.backend = f"qpu-{next(self.numbers)}"
        self.processes = [Breakers(self.ledger, POLICY) for _ in range(3)]
        self.now, self.in_a_row, self.times = NOON, 0, 0
        #: ends of the pause and of the probe; both None: closed
        self.pause: datetime | None = None
        self.probe: datetime | None = None
        self.log: list[str] = []

    def pick(self, number: int, seconds: int) -> Breakers:
        # a closed breaker is believed for less than a second
        self.now += timedelta(seconds=seconds)
        return self.processes[number]

    WHO: Any = st.integers(0, 2)
    LATER: Any = st.integers(1, 12)

    @rule(who=WHO, later=LATER)
    def fail(self, who: int, later: int) -> None:
        self.pick(who, later).failed(self.backend, "no answer", self.now)
        if self.pause is not None and self.probe is None:
            return
        self.in_a_row += 1
        if self.probe is not None or self.in_a_row >= POLICY.failures:
            self.pause = self.now + timedelta(seconds=(10, 20, 35)[min(self.times, 2)])
            self.probe, self.times = None, self.times + 1
            self.log.append("open_breaker")

    @rule(who=WHO, later=LATER)
    def succeed(self, who: int, later: int) -> None:
        self.pick(who, later).succeeded(self.backend, self.now)
        if self.pause is None or self.probe is not None:
            if self.probe is not None:
                self.log.append("close_breaker")
            self.in_a_row, self.times, self.pause, self.probe = 0, 0, None, None

    @rule(who=WHO, later=LATER)
    def ask(self, who: int, later: int) -> None:
        refusal = self.pick(who, later).refuses(self.backend, self.now)
        if self.pause is None:
            assert refusal is None
        elif self.now < (self.probe or self.pause):
            assert refusal is not None
            assert self.backend in refusal
        else:
            assert refusal is None
            self.probe = self.now + timedelta(seconds=4)
            self.log.append("probe_breaker")

    @invariant()
    def the_row_says_the_same(self) -> None:
        found = self.processes[0].state(self.backend)
        expected = "closed" if self.pause is None else "open" if self.probe is None else "half-open"
        assert (found.state, found.failures, found.opened) == (expected, self.in_a_row, self.times)
        assert (found.open_until, found.probe_until) == (self.pause, self.probe)

    def teardown(self) -> None:
        assert actions(self.ledger, self.backend) == self.log


def test_every_history_follows_the_model(ledger: Ledger) -> None:
    machine = type("Bound", (Model,), {"ledger": ledger})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_pauses_double_up_to_the_longest_and_start_anew_after_a_success(breakers: Breakers) -> None:
    opened(breakers)
    at, pauses = 0.0, []
    for _ in range(4):
        state = breakers.state("qpu")
        assert state.open_until is not None
        pauses.append((state.open_until - after(at)).total_seconds())
        at += pauses[-1]
        assert breakers.refuses("qpu", after(at - 0.001)) is not None
        assert breakers.refuses("qpu", after(at)) is None
        breakers.failed("qpu", "still down", after(at))
    assert pauses == [10, 20, 35, 35]
    assert breakers.refuses("qpu", after(at + 35)) is None
    breakers.succeeded("qpu", after(at + 36))
    assert breakers.refuses("qpu", after(at + 36)) is None
    opened(breakers, at=at + 40)
    assert breakers.state("qpu").open_until == after(at + 50)


def test_a_pause_never_overflows(breakers: Breakers) -> None:
    opened(breakers)
    with breakers.ledger.transaction() as tx:
        tx.execute(BREAKERS.update().values(opened=5000))
    assert breakers.refuses("qpu", after(10)) is None
    breakers.failed("qpu", "down", after(10))
    assert breakers.state("qpu").open_until == after(45)


def test_the_sentence_says_how_long_and_why(breakers: Breakers) -> None:
    opened(breakers)
    refusal = breakers.refuses("qpu", after(2.4))
    assert refusal == "backend qpu is left alone for another 8 s after 3 failures in a row, the last one: HTTP 503"
    assert "another 1 s" in str(breakers.refuses("qpu", after(9.9)))
    assert breakers.refuses("qpu", after(10)) is None
    assert "at most 3 s" in str(breakers.refuses("qpu", after(11)))
    # nobody else is meant
    assert breakers.refuses("other", after(1)) is None


def test_a_probe_that_never_answers_is_followed_by_another(breakers: Breakers) -> None:
    opened(breakers)
    assert [breakers.refuses("qpu", after(t)) is None for t in (10, 10, 13.9, 14, 14, 17.9, 18)] == [
        True, False, False, True, False, False, True
    ]  # fmt: skip


def test_what_was_sent_before_the_pause_neither_closes_it_nor_makes_it_longer(breakers: Breakers) -> None:
    opened(breakers)
    before = breakers.state("qpu")
    breakers.failed("qpu", "sent earlier", after(1))
    breakers.succeeded("qpu", after(2))
    assert breakers.state("qpu") == before


def test_a_success_between_failures_starts_the_count_anew(breakers: Breakers) -> None:
    for _ in range(5):
        breakers.failed("qpu", "hiccup", NOON)
        breakers.failed("qpu", "hiccup", NOON)
        breakers.succeeded("qpu", NOON)
    assert breakers.state("qpu").state == "closed"
    assert breakers.state("qpu").failures == 0
    assert actions(breakers.ledger) == []


def test_the_log_names_the_policy_the_reason_and_the_pause(breakers: Breakers) -> None:
    opened(breakers)
    assert breakers.refuses("qpu", after(10)) is None
    breakers.succeeded("qpu", after(11))
    assert actions(breakers.ledger) == ["open_breaker", "probe_breaker", "close_breaker"]
    first = AuditLog(breakers.ledger).rows()[0]
    assert (first["reason"], first["policy_version"]) == ("HTTP 503", "policy-7")
    assert '"pause_seconds":10' in first["detail"]
    assert [s.backend for s in breakers.states()] == ["qpu"]


def statements(ledger: Ledger) -> list[str]:
    """Everything that is sent to the database from now on."""
    seen: list[str] = []
    sa.event.listen(
        ledger.engine, "before_cursor_execute", lambda c, k, statement, *_: seen.append(statement.split()[0])
    )
    return seen


def test_a_healthy_backend_costs_one_read_a_second_and_no_write(breakers: Breakers) -> None:
    seen = statements(breakers.ledger)
    for n in range(10):
        assert breakers.refuses("qpu", after(n / 10)) is None
    assert seen == ["SELECT"]
    breakers.succeeded("qpu", after(1))
    assert seen == ["SELECT"] * 2
    assert breakers.refuses("qpu", after(1)) is None
    assert seen == ["SELECT"] * 3


def test_what_another_process_saw_counts_after_a_second_and_what_this_one_saw_at_once(ledger: Ledger) -> None:
    here, there = Breakers(ledger, POLICY), Breakers(ledger, POLICY)
    assert here.refuses("qpu", after(0)) is None
    opened(there)
    assert here.refuses("qpu", after(0.9)) is None
    assert here.refuses("qpu", after(1.1)) is not None
    assert here.refuses("other", after(0)) is None
    opened(here, "other")
    assert here.refuses("other", after(0.1)) is not None
    # a clock that was set back proves nothing
    assert here.refuses("third", after(0)) is None
    opened(there, "third")
    assert here.refuses("third", after(-3600)) is not None


def test_of_many_threads_one_gets_the_probe(ledger: Ledger, breakers: Breakers) -> None:
    opened(breakers)
    for moment in (10, 14):
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(Breakers(ledger, POLICY).refuses, "qpu", after(moment)) for _ in range(8)]
            answers = [answer.result() for answer in asked]
        assert answers.count(None) == 1


def test_failures_of_many_threads_are_all_counted(ledger: Ledger) -> None:
    policy = BreakerPolicy(failures=24)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: Breakers(ledger, policy).failed("qpu", "down", NOON), range(23)))
    assert Breakers(ledger, policy).state("qpu").failures == 23
    Breakers(ledger, policy).failed("qpu", "down", NOON)
    assert actions(ledger) == ["open_breaker"]


WORKER = """
import sys, time
from datetime import datetime
from pathlib import Path
from resources.breaker import Breakers
from resources.ledger import Ledger
from resources.ledger_tables import BREAKERS
from resources.policy import BreakerPolicy
url, root, number, count, now = sys.argv[1:]
breakers = Breakers(Ledger(url), BreakerPolicy(failures=3, open_seconds=10, longest_seconds=35, probe_seconds=4))
(Path(root) / f"ready-{number}").touch()
while len(list(Path(root).glob("ready-*"))) < int(count):
    time.sleep(0.001)
print(breakers.refuses("qpu", datetime.fromisoformat(now)) is None)
"""


def test_of_many_processes_one_gets_the_probe(ledger: Ledger, breakers: Breakers, tmp_path: Path) -> None:
    opened(breakers)
    url = ledger.engine.url.render_as_string(hide_password=False)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, url, str(tmp_path), str(n), "3", after(10).isoformat()],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(3)
    ]
    said = [process.communicate(timeout=120) for process in processes]
    assert sorted(out.strip() for out, _ in said) == ["False"] * 2 + ["True"], said
