"""What a hostile reader tried on the control plane: stale processes, poisoned batches, gates that were slipped past.

Every test here failed once, or guards against what was only prevented by luck.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dimod
import pytest
import sqlalchemy as sa

from resources import reconciler, sending
from resources.backends.base import Estimate, JobHandle, ProviderStatus, QuantumBackend
from resources.backends.heuristic import Heuristic
from resources.controls import Mode
from resources.database import Conflict
from resources.dispatcher import Dispatcher
from resources.envelope import Algorithm, EvidenceClass, JobEnvelope, JobResult, TimeoutBudget
from resources.failures import BackendError, FailureClass, InputError, InvariantError
from resources.ledger import Ledger, job_id_of
from resources.ledger_tables import JOBS, TERMINAL
from resources.money import month_of
from resources.policy import Approval, BreakerPolicy, Budget, CachePolicy, Limit, Policy, ReplayPolicy
from resources.sending import send
from tests.faults.test_dispatcher import PROJECT, Provider, System
from tests.waiting import PATIENCE, until

NO_CACHE = CachePolicy(window_seconds=0)


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


# --- stale processes ------------------------------------------------------------------------------------------------


def test_a_stale_process_cannot_send_a_job_past_the_gates_of_its_next_backend(system: System) -> None:
    """Between the look and the claim another process has passed the job on, without an attempt."""
    envelope = system.envelope()
    stale = system.ledger.intend(envelope, claim_seconds=60)
    system.dispatcher.control("main", Mode.KILLED, by="ada", reason="trouble")
    system.dispatcher.control("second", Mode.PAUSED, by="ada", reason="trouble")
    after = System(system.root).dispatcher.submit(envelope)
    assert (after.state, after.backend, after.hop) == ("intended", "second", 1)
    system.dispatcher.control("main", Mode.OPEN, by="ada", reason="over")
    assert send(system.dispatcher, [(stale, envelope)]) == [after]
    assert not system.taken()
    assert system.ledger.job(stale.job_id) == after


def test_a_stale_look_cannot_take_the_lease_of_a_sender(system: System) -> None:
    envelope = system.envelope()
    system.main.words = [ProviderStatus.QUEUED]
    system.dispatcher.submit(envelope)
    stale = system.ledger.job(job_id_of(envelope))
    until = datetime.now(UTC) + timedelta(seconds=100)
    system.ledger.move(stale.job_id, "intended", "passed on", backend="second", hop=1)
    system.ledger.move(stale.job_id, "submitting", "by another host", claimed_by="elsewhere:1:1", claimed_until=until)
    reconciler.look(system.dispatcher, "main", [(stale, envelope)])
    assert system.ledger.job(stale.job_id).claimed_until == until


# --- the trouble of one job -----------------------------------------------------------------------------------------


def test_a_job_without_its_payload_does_not_stop_the_others(system: System) -> None:
    good = [system.envelope(repetition=k) for k in range(12)]
    bad = system.envelope(payload_ref="0" * 64)
    with pytest.raises(InvariantError, match="is missing"):
        system.dispatcher.submit_many([bad, *good])
    assert system.ledger.job(job_id_of(bad)).state == "failed"
    assert {system.ledger.job(job_id_of(e)).state for e in good} == {"submitted"}
    assert system.taken() == {"main": 12}


def test_a_batch_of_every_kind_is_sorted_out(tmp_path: Path) -> None:
    system = System(tmp_path, Policy(limits={"second": Limit(open_jobs=1)}, cache=NO_CACHE))
    known, failed = system.envelope(repetition=1), system.envelope(repetition=2, fallback=())
    system.run(known)
    system.main.words = [ProviderStatus.FAILED]
    system.dispatcher.submit(failed)
    assert system.look(failed).state == "failed"
    system.main.words, system.second.words = [], [ProviderStatus.QUEUED] * 9
    fresh = system.envelope(repetition=3)
    capped = [system.envelope(repetition=k, backend="second", fallback=()) for k in (4, 5)]
    local = system.envelope(backend="surrogate", algorithm=Algorithm(name="annealing", shots=64), fallback=())
    missing = system.envelope(backend="hardware", fallback=("surrogate",))
    asked = [known, failed, fresh, *capped, local, missing, fresh, known]
    jobs = system.dispatcher.submit_many(asked)
    assert [job.job_id for job in jobs] == [job_id_of(envelope) for envelope in asked]
    states = [job.state for job in jobs]
    assert states[:3] + states[5:] == [
        *("succeeded", "submitted", "submitted", "succeeded", "succeeded", "submitted", "succeeded")
    ]
    assert sorted(states[3:5]) == ["intended", "submitted"]
    now = datetime.now(UTC)
    assert not [job for job in system.ledger.jobs() if job.claimed_until and job.claimed_until > now]


def test_a_job_that_is_cancelled_during_the_gates_does_not_leave_its_neighbours_behind(system: System) -> None:
    class Meddling(Provider):
        def check(self, envelope: JobEnvelope) -> None:
            if envelope.repetition == 1:
                system.ledger.move(job_id_of(envelope), "cancelled", "by a person")
                raise BackendError("no", FailureClass.CAPABILITY)

    main = Meddling("main", system.root / "provider")
    dispatcher = Dispatcher(system.ledger, system.artifacts, {"main": lambda: main})
    jobs = dispatcher.submit_many([system.envelope(repetition=k, fallback=()) for k in range(3)])
    assert [job.state for job in jobs] == ["submitted", "cancelled", "submitted"]


class Broken(Provider):
    """Raises what no backend may raise, where it is told to."""

    where = ""

    def _break(self, where: str) -> None:
        if self.where == where:
            raise KeyError(os.environ.get("FAKE_API_TOKEN", "a defect"))

    def estimate(self, envelope: JobEnvelope) -> Estimate:
        self._break("estimate")
        return super().estimate(envelope)

    def submit(self, envelope: JobEnvelope, payload: dimod.BinaryQuadraticModel, key: str) -> JobHandle:
        self._break("before the submit")
        handle = super().submit(envelope, payload, key)
        self._break("submit")
        return handle

    def find(self, key: str) -> JobHandle | None:
        self._break("find")
        return super().find(key)

    def statuses(self, handles: Any) -> dict[JobHandle, ProviderStatus]:
        self._break("statuses")
        return super().statuses(handles)

    def result(self, handle: JobHandle) -> JobResult:
        self._break("result")
        return super().result(handle)

    def cancel(self, handle: JobHandle) -> None:
        self._break("statuses")
        super().cancel(handle)


def broken(system: System, where: str) -> tuple[Broken, Dispatcher]:
    main = Broken("main", system.root / "provider")
    main.where = where
    plane = Dispatcher(
        system.ledger,
        system.artifacts,
        {"main": lambda: main, "second": lambda: system.second},
        Policy(cache=NO_CACHE, breaker=BreakerPolicy(failures=100)),
    )
    system.dispatcher = plane
    return main, plane


def until_ended(system: System, envelope: JobEnvelope, rounds: int = 60) -> list[str]:
    """Look until the job has ended; what was reported on the way."""
    problems: list[str] = []
    for _ in range(rounds):
        with system.ledger.engine.begin() as tx:
            tx.execute(JOBS.update().values(claimed_until=None))
        system.hurry()
        problems += system.dispatcher.reconcile().problems
        if system.ledger.job(job_id_of(envelope)).state in TERMINAL:
            return problems
    raise AssertionError(f"it never ends: {system.ledger.job(job_id_of(envelope))}")


def test_a_gate_that_breaks_fails_its_job_and_not_the_round(system: System) -> None:
    _, plane = broken(system, "estimate")
    envelope = system.envelope()
    with pytest.raises(BackendError, match="KeyError"):
        plane.submit(envelope)
    assert system.ledger.job(job_id_of(envelope)).state == "failed"


def test_after_a_defect_in_the_submit_the_job_is_looked_for_and_not_sent_again(system: System) -> None:
    main, plane = broken(system, "submit")
    sent, unsent = system.envelope(), system.envelope(repetition=1)
    with pytest.raises(BackendError, match="KeyError"):
        plane.submit_many([sent, system.envelope(repetition=2)])
    assert system.ledger.job(job_id_of(sent)).state == "ambiguous"
    until_ended(system, sent)
    assert system.ledger.job(job_id_of(sent)).state == "succeeded"
    main.where = "before the submit"
    with pytest.raises(BackendError, match="KeyError"):
        plane.submit(unsent)
    until_ended(system, unsent)
    job = system.ledger.job(job_id_of(unsent))
    assert (job.state, job.error) == ("failed", "internal: KeyError: 'a defect'")
    assert system.taken() == {"main": 2}


@pytest.mark.parametrize("where", ["find", "statuses", "result"])
def test_a_backend_that_breaks_when_it_is_asked_is_left_in_the_end(system: System, where: str) -> None:
    """With its reason; the defect is reported and the job is never sent twice."""
    main, _ = broken(system, where)
    envelope = system.envelope()
    main.lost_answers = where == "find"
    main.settling = 1.0 if where == "find" else 0.0
    system.dispatcher.submit(envelope)
    system.ago(envelope, 3600, "began_at")
    problems = until_ended(system, envelope)
    job = system.ledger.job(job_id_of(envelope))
    assert where == "result" or any("KeyError" in problem for problem in problems)
    assert '"backend": "main"' in job.fallback_path
    assert system.taken()["main"] == 1


def test_a_backend_that_cannot_be_made_does_not_stop_a_round(system: System) -> None:
    def missing() -> QuantumBackend:
        raise InputError("FAKE_URL", "value", "it is no URL", "give one")

    dispatcher = Dispatcher(
        system.ledger, system.artifacts, {"main": missing, "second": lambda: system.second}, Policy(cache=NO_CACHE)
    )
    stuck, well = system.envelope(priority=9), system.envelope(backend="second", fallback=())
    system.ledger.intend_many([stuck, well])
    dispatcher.reconcile(local=False)
    assert system.ledger.job(job_id_of(well)).state == "submitted"
    # a job that is out where nobody can be asked any more ends as well
    out = system.envelope(repetition=1, fallback=())
    System(system.root).dispatcher.submit(out)
    system.dispatcher = dispatcher
    system.ago(out, 3600, "began_at")
    until_ended(system, out)
    assert system.ledger.job(job_id_of(out)).state == "timed_out"


def test_a_provider_that_is_not_available_for_ever_does_not_hold_its_jobs_for_ever(system: System) -> None:
    out, lost = system.envelope(), system.envelope(repetition=1)
    system.main.words = [ProviderStatus.QUEUED] * 9
    system.dispatcher.submit(out)
    system.main.lost_answers, system.main.deaf = 1, 1000
    system.dispatcher.submit(lost)
    system.main.available_ = "no token"
    for envelope in (out, lost):
        system.ago(envelope, 3600, "began_at")
        until_ended(system, envelope)
        assert '"backend": "main"' in system.ledger.job(job_id_of(envelope)).fallback_path
    assert system.taken()["main"] == 2


# --- time -----------------------------------------------------------------------------------------------------------


def test_after_a_long_sleep_a_job_is_cancelled_first_and_left_only_when_it_has_stopped(system: System) -> None:
    """However often it was looked at before."""
    envelope = system.envelope(fallback=("second",))
    system.main.words = [ProviderStatus.QUEUED] * 40
    system.dispatcher.submit(envelope)
    system.ledger.touch(job_id_of(envelope), looks=500)
    system.ago(envelope, 3600, "sent_at")
    system.main.cancel = lambda handle: system.main.calls.append("cancel")  # type: ignore[method-assign]
    for _ in range(10):
        assert system.look(envelope).state == "submitted"
    assert "cancel" in system.main.calls
    # it stops after all, with a result
    system.main.words = []
    assert system.look(envelope).state == "succeeded"
    assert system.ledger.job(job_id_of(envelope)).error is None
    assert system.taken() == {"main": 1}


def test_jobs_that_are_held_back_do_not_starve_those_that_are_out(tmp_path: Path) -> None:
    system = System(tmp_path, Policy(cache=NO_CACHE))
    system.dispatcher.control("second", Mode.PAUSED, by="ada", reason="maintenance")
    out = system.envelope(priority=0)
    system.dispatcher.submit(out)
    held = [system.envelope(repetition=k, backend="second", priority=5) for k in range(20)]
    system.ledger.intend_many(held)
    system.hurry()
    system.dispatcher.reconcile(limit=10)
    assert system.ledger.job(job_id_of(out)).state == "succeeded"


def test_machines_whose_clocks_disagree_share_no_ledger(postgresql: sa.URL) -> None:
    """Their leases and timeouts would not mean the same."""
    engine = sa.create_engine(postgresql)
    with engine.begin() as tx:
        tx.execute(sa.schema.CreateSchema("another_time"))
        tx.exec_driver_sql(
            "CREATE FUNCTION another_time.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
            "$$SELECT pg_catalog.clock_timestamp() - interval '5 minutes'$$"
        )
    engine.dispose()
    with pytest.raises(InputError, match=r"is 3\d\d s ahead of the database's"):
        Ledger(postgresql.update_query_dict({"options": "-csearch_path=another_time,pg_catalog"}))


def test_a_sender_that_slept_through_its_lease_sends_nothing(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its successor has sent the job under the same key."""
    # the sleeper's is over when it wakes up, its successor's is not
    leases = iter([0.0])
    monkeypatch.setattr(sending, "lease_seconds", lambda _: next(leases, 600.0))
    envelope, slow = system.envelope(), System(system.root)
    payload = slow.dispatcher.payload

    def asleep(asked: JobEnvelope) -> dimod.BinaryQuadraticModel:
        system.hurry()
        assert system.dispatcher.reconcile().looked == 1
        system.hurry()
        system.dispatcher.reconcile()
        return payload(asked)

    slow.dispatcher.payload = asleep  # type: ignore[method-assign]
    assert slow.dispatcher.submit(envelope).state == "submitted"
    assert not slow.main.calls
    assert system.taken() == {"main": 1}


# --- interrupts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    "where", ["examine", "_claim", "_deliver", "_submitted", "submit", "_without_sending", "move_many", "payload"]
)
def test_an_interrupted_send_leaves_nothing_behind_a_living_claim(
    system: System, where: str, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was interrupted: the same process finishes, another need not wait, and nothing is sent twice."""
    count = 0

    def interrupt_after(original: Any) -> Any:
        def interrupted(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            answer = original(*args, **kwargs)
            count += 1
            if count == batch:
                raise KeyboardInterrupt
            return answer

        return interrupted

    if where == "submit":
        system.main.submit = interrupt_after(system.main.submit)  # type: ignore[method-assign]
    elif where == "move_many":
        system.ledger.move_many = interrupt_after(system.ledger.move_many)  # type: ignore[method-assign]
    elif where == "payload":
        system.dispatcher.payload = interrupt_after(system.dispatcher.payload)  # type: ignore[method-assign]
    else:
        monkeypatch.setattr(sending, where, interrupt_after(getattr(sending, where)))
    envelopes = [system.envelope(repetition=k) for k in range(batch)]
    if batch == 3 and where in ("_claim", "_deliver", "_submitted", "move_many", "payload"):
        count = 2
    with pytest.raises(KeyboardInterrupt):
        system.dispatcher.submit_many(envelopes)
    monkeypatch.undo()
    for name in ("submit", "move_many", "payload"):
        for owner in (system.main, system.ledger, system.dispatcher):
            owner.__dict__.pop(name, None)
    now = datetime.now(UTC)
    assert not [job for job in system.ledger.jobs() if job.claimed_until and job.claimed_until > now]
    system.hurry()
    assert len(system.dispatcher.submit_many(envelopes)) == batch
    assert all(system.run(envelope) is not None for envelope in envelopes)
    assert system.taken() == {"main": batch}


@pytest.mark.parametrize("where", ["status", "result"])
def test_an_interrupted_round_gives_its_leases_back(system: System, where: str) -> None:
    envelopes = [system.envelope(repetition=k) for k in range(3)]
    system.dispatcher.submit_many(envelopes)

    def interrupted(handle: JobHandle) -> Any:
        raise KeyboardInterrupt

    setattr(system.main, where, interrupted)
    system.hurry()
    with pytest.raises(KeyboardInterrupt):
        system.dispatcher.reconcile()
    delattr(system.main, where)
    assert len(system.dispatcher.reconcile().ended) == 3
    assert system.taken() == {"main": 3}


# --- people and money -----------------------------------------------------------------------------------------------


def test_who_approved_one_price_has_not_approved_another(tmp_path: Path) -> None:
    system = System(tmp_path, Policy(approval=Approval(cost_above=0.5), cache=NO_CACHE), cost=1.0)
    system.second.cost = 1000.0
    envelope = system.envelope(fallback=("second",))
    job = system.dispatcher.submit(envelope)
    system.main.refusals = [FailureClass.BACKEND]
    system.dispatcher.decide(job.job_id, "approved", by="ada", reason="one is fine")
    again = system.dispatcher.submit(envelope)
    assert (again.state, again.backend) == ("awaiting_approval", "second")
    assert "1000.00" in system.dispatcher.approvals.waiting()[0].why
    assert not system.taken()
    system.dispatcher.decide(job.job_id, "approved", by="ada", reason="so be it")
    assert system.run(envelope) is not None
    assert system.taken() == {"second": 1}


def test_a_decision_is_made_once_and_a_cancel_ends_the_question(tmp_path: Path) -> None:
    system = System(tmp_path, Policy(approval=Approval(cost_above=0.5), cache=NO_CACHE), cost=1.0)
    for repetition in range(4):
        envelope = system.envelope(repetition=repetition)
        job_id = system.dispatcher.submit(envelope).job_id

        def act(number: int, job_id: str = job_id) -> str:
            other = System(tmp_path, system.dispatcher.policy, cost=1.0).dispatcher
            try:
                if number % 2:
                    return other.cancel(job_id, by="bob", reason="no").state
                return other.decide(job_id, "approved", by="ada", reason="yes").state
            except (InputError, Conflict):
                return "refused"

        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(act, range(4)))
        assert answers.count("intended") <= 1
        assert answers.count("cancelled") <= 1
        state = system.ledger.job(job_id).state
        assert state == ("cancelled" if "cancelled" in answers else "intended"), answers
        assert system.dispatcher.approvals.waiting() == []


def test_a_cancel_that_races_with_the_end_tells_the_truth(system: System) -> None:
    for repetition in range(6):
        envelope = system.envelope(repetition=repetition)
        system.main.words = [ProviderStatus.QUEUED]
        job_id = system.dispatcher.submit(envelope).job_id
        system.hurry()

        def cancel(job_id: str = job_id) -> str:
            try:
                return system.dispatcher.cancel(job_id, by="ada", reason="wrong data").state
            except (InputError, Conflict) as error:
                return str(error)

        with ThreadPoolExecutor(2) as pool:
            said, _ = pool.submit(cancel), pool.submit(System(system.root).dispatcher.reconcile)
        state = system.look(envelope).state
        assert state == "cancelled" or ("succeeded" in said.result() and state == "succeeded"), (said.result(), state)


def test_replays_keep_to_their_limit_together(tmp_path: Path, either: str) -> None:
    policy = Policy(replay=ReplayPolicy(per_hour=3), cache=NO_CACHE)
    system = System(tmp_path, policy)
    envelope = system.envelope()
    system.run(envelope)

    def replay(_: int) -> str | None:
        try:
            other = System(tmp_path, policy).dispatcher
            return other.replay(job_id_of(envelope), by="ada", reason="again").job_id
        except InputError:
            return None

    with ThreadPoolExecutor(6) as pool:
        made = [job_id for job_id in pool.map(replay, range(6)) if job_id]
    assert len(set(made)) == len(made) == 3
    # a replay of a replay names the replay
    plenty = System(tmp_path, Policy(cache=NO_CACHE))
    first = plenty.ledger.job(made[0])
    second = plenty.dispatcher.replay(made[0], by="ada", reason="again")
    assert second.replay_of == first.envelope_digest
    assert second.job_id not in made


def test_a_cap_holds_for_all_processes_together(tmp_path: Path, either: str) -> None:
    policy = Policy(limits={"main": Limit(open_jobs=2)}, cache=NO_CACHE)
    systems = [System(tmp_path, policy, words=[ProviderStatus.QUEUED] * 99) for _ in range(6)]
    envelopes = [systems[0].envelope(repetition=k) for k in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda k: systems[k].dispatcher.submit(envelopes[k]), range(6)))
    assert systems[0].taken() == {"main": 2}


@pytest.mark.parametrize("how", ["no result", "no answer", "refused"])
def test_what_ran_is_paid_for_also_without_a_result(tmp_path: Path, how: str) -> None:
    policy = Policy(budgets=(Budget(money=10.0),), cache=NO_CACHE, breaker=BreakerPolicy(failures=100))
    system = System(tmp_path, policy, cost=1.0)
    envelope = system.envelope(fallback=("second",))
    if how == "refused":
        system.main.refusals = [FailureClass.BACKEND]
    system.dispatcher.submit(envelope)
    if how == "no result":
        system.main._job(system.ledger.job(job_id_of(envelope)).provider_key).unlink()
    elif how == "no answer":
        system.main.words = [ProviderStatus.RUNNING] * 99
        system.main.cancel = lambda handle: None  # type: ignore[method-assign]
        system.ago(envelope, 90, "began_at", "sent_at")
        system.ago(envelope, 3600, "began_at")
    until_ended(system, envelope)
    assert '"backend": "main"' in system.ledger.job(job_id_of(envelope)).fallback_path
    spent = system.dispatcher.spending.spent(envelope.owner, month_of())
    assert (spent.money, spent.reserved) == (0.0 if how == "refused" else 1.0, 0.0)


def test_a_job_that_nobody_can_find_can_be_cancelled_and_counts_as_spent(tmp_path: Path) -> None:
    system = System(tmp_path, Policy(budgets=(Budget(money=10.0),), cache=NO_CACHE), cost=1.0)
    main, plane = broken(system, "find")
    main.cost, main.lost_answers, main.settling = 1.0, 1, 1.0
    envelope = system.envelope()
    job_id = plane.submit(envelope).job_id
    assert plane.cancel(job_id, by="ada", reason="enough").state == "cancelled"
    assert plane.spending.spent(envelope.owner, month_of()).money == 1.0


# --- the cache ------------------------------------------------------------------------------------------------------


def test_an_earlier_result_that_is_gone_answers_nobody(tmp_path: Path) -> None:
    policy = Policy(cache=CachePolicy(window_seconds=10**9))
    system = System(tmp_path, policy)
    first = system.envelope()
    assert system.run(first) is not None
    # another key of the same question
    other = system.envelope(timeout=TimeoutBudget(execution=61.0))
    reference = system.ledger.job(job_id_of(first)).result_ref
    assert reference is not None
    system.artifacts.path(reference).unlink()
    answer = system.run(other)
    assert answer is not None
    assert not answer.cached
    system.main.refusals = [FailureClass.BACKEND] * 9
    reference = system.ledger.job(job_id_of(other)).result_ref
    system.artifacts.path(reference or "").unlink()
    last = system.dispatcher.submit(system.envelope(repetition=5, fallback=("cached",)))
    assert (last.state, "no earlier result" in (last.error or "")) == ("failed", True)


def test_what_answers_again_and_what_does_not(tmp_path: Path) -> None:
    policy = Policy(cache=CachePolicy(window_seconds=10**9))
    system = System(tmp_path, policy, cost=1.0, changes={"actual_cost": 1.0})
    first = system.envelope()
    original = system.run(first)
    assert original is not None
    hit = system.run(system.envelope(timeout=TimeoutBudget(execution=61.0)))
    assert hit is not None
    assert (hit.cached, hit.evidence_class, hit.samples) == (True, original.evidence_class, original.samples)
    assert (original.actual_cost, hit.actual_cost) == (1.0, 0.0)
    assert system.taken() == {"main": 1}
    # neither a repetition nor a replay
    system.run(system.envelope(repetition=1))
    system.dispatcher.replay(job_id_of(first), by="ada", reason="is it stable?")
    assert system.taken() == {"main": 3}
    system.dispatcher.cache.invalidate(everything=True, by="ada", reason="recalibrated")
    again = system.run(system.envelope(timeout=TimeoutBudget(execution=62.0)))
    assert again is not None
    assert not again.cached


def test_a_classical_answer_is_no_earlier_result(tmp_path: Path) -> None:
    system = System(tmp_path, Policy(cache=CachePolicy(window_seconds=10**9)))
    system.surrogate.evidence = EvidenceClass.CLASSICAL
    system.main.refusals = [FailureClass.BACKEND] * 9
    classical = system.run(system.envelope(fallback=("surrogate",)))
    assert classical is not None
    assert classical.evidence_class is EvidenceClass.CLASSICAL
    job = system.dispatcher.submit(system.envelope(repetition=1, fallback=("cached",)))
    assert job.state == "failed"


# --- secrets --------------------------------------------------------------------------------------------------------


def test_a_secret_goes_nowhere(system: System, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    secret = "sesame-4711-open"
    monkeypatch.setenv("FAKE_API_TOKEN", secret)
    said: list[str] = []
    system.main.changes = {"parameters": {"header": [f"Bearer {secret}"]}, "calibration": {secret: secret}}
    assert system.run(system.envelope()) is not None
    for number, where in enumerate(["estimate", "submit", "statuses", "result", "circuit", "backend"]):
        main, plane = broken(system, where)
        if where in set(FailureClass):

            def submit(*_: Any, kind: str = where) -> JobHandle:
                raise BackendError(f"401 for {secret}", FailureClass(kind))

            main.submit = submit  # type: ignore[method-assign]
        envelope = system.envelope(repetition=number + 1)
        try:
            plane.submit(envelope)
            system.ago(envelope, 3600, "began_at")
            said += until_ended(system, envelope)
        except BackendError as error:
            said += traceback.format_exception(error)
    assert secret not in str(said)
    system.ledger.engine.dispose()
    kept = [path for path in system.root.rglob("*") if path.is_file() and path.parent.name != "provider"]
    assert len(kept) > 3
    assert not [path for path in kept if secret.encode() in path.read_bytes()]
    assert secret not in "".join(capfd.readouterr())


# --- growth ---------------------------------------------------------------------------------------------------------


def test_nothing_grows_with_the_number_of_jobs(system: System) -> None:
    heuristic = Heuristic()
    plane = Dispatcher(
        system.ledger,
        system.artifacts,
        {"main": lambda: system.main, "heuristic": lambda: heuristic},
        Policy(cache=NO_CACHE),
    )
    plane.submit_many([system.envelope(repetition=k, fallback=("heuristic",)) for k in range(100)])
    system.hurry()
    assert len(plane.reconcile().ended) == 100
    system.main.refusals = [FailureClass.BACKEND] * 30
    for k in range(100, 130):
        assert plane.submit(system.envelope(repetition=k, fallback=("heuristic",))).state == "succeeded"
    assert heuristic._jobs == {}


# --- two of everything ----------------------------------------------------------------------------------------------


def stopped(root: str) -> None:
    """A process that stops in the middle of a look, as a suspended laptop does, and goes on later."""
    system = System(Path(root))

    def status(handle: JobHandle) -> ProviderStatus:
        if not (Path(root) / "looking").exists():
            (Path(root) / "looking").touch()
            os.kill(os.getpid(), signal.SIGSTOP)
        return ProviderStatus.FAILED

    system.main.status = status  # type: ignore[method-assign]
    done = system.dispatcher.reconcile()
    print(len(done.ended), done.problems)


def test_a_reconciler_that_is_stopped_and_goes_on_does_no_harm(tmp_path: Path, either: str) -> None:
    system = System(tmp_path)
    envelopes = [system.envelope(repetition=k) for k in range(3)]
    system.dispatcher.submit_many(envelopes)
    system.hurry()
    code = "import sys; from tests.faults.test_review import stopped; stopped(*sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )
    try:
        until((tmp_path / "looking").exists)
        # it lives, so its jobs are its own until its lease ends
        assert system.dispatcher.reconcile().looked == 0
        with system.ledger.engine.begin() as tx:
            tx.execute(JOBS.update().values(claimed_until=datetime.now(UTC)))
        done = system.dispatcher.reconcile()
        assert [job.state for job in done.ended] == ["succeeded"] * 3
        before = system.ledger.jobs()
        process.send_signal(signal.SIGCONT)
        out, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert out.strip() == "0 []"
    assert system.ledger.jobs() == before
    assert system.taken() == {"main": 3}


def one_read(root: str, dies: str) -> None:
    """A reconciler whose provider gives each result once; it dies before it has stored what it read."""
    system = System(Path(root))
    given = system.main.result

    def result(handle: JobHandle) -> JobResult:
        answer = given(handle)
        system.main._job(handle.key).unlink()
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    system.main.result = result  # type: ignore[method-assign]
    system.hurry()
    print(len(system.dispatcher.reconcile().ended))


def test_a_result_that_can_be_read_once_is_read_by_one(tmp_path: Path, either: str) -> None:
    system = System(tmp_path)
    first = [system.envelope(repetition=k) for k in range(6)]
    system.dispatcher.submit_many(first)
    code = "import sys; from tests.faults.test_review import one_read; one_read(*sys.argv[1:])"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), ""], cwd=PROJECT, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    ended = [int(process.communicate(timeout=PATIENCE)[0]) for process in processes]
    assert sum(ended) == 6
    assert {system.ledger.job(job_id_of(envelope)).backend for envelope in first} == {"main"}
    # the reader dies with the result in its hands: the next backend answers, and says why
    lost = system.envelope(repetition=9)
    system.dispatcher.submit(lost)
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path), "dies"], cwd=PROJECT).returncode == -9
    answer = system.run(lost)
    assert answer is not None
    assert "its result cannot be had" in answer.fallback_path[0].reason
    assert system.taken() == {"main": 7, "second": 1}
