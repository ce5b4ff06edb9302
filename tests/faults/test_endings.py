"""How jobs end when time, people and providers are against them: once, in the right state, for the right reason.

Every test here failed once. Not here: stale processes and poisoned batches (``test_review``).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from resources.backends.base import Capabilities, Estimate, JobHandle, ProviderStatus
from resources.backends.conformance import asymmetric_problem, envelope_for
from resources.backends.emulator import Emulator
from resources.envelope import Algorithm, EvidenceClass, JobEnvelope, TimeoutBudget
from resources.failures import BackendError, FailureClass, InvariantError
from resources.ledger import job_id_of
from resources.ledger_tables import JOBS
from resources.money import month_of
from resources.policy import Approval, BreakerPolicy, Budget, CachePolicy, Policy
from tests.faults.test_dispatcher import PROJECT, System
from tests.faults.test_review import until_ended

NO_CACHE = CachePolicy(window_seconds=0)


@pytest.fixture
def system(tmp_path: Path, either: str) -> System:
    return System(tmp_path)


def slow_to_stop(system: System, end: ProviderStatus) -> None:
    """The provider takes a cancel and stops the job only after that."""
    main, stopping = system.main, set[str]()

    def cancel(handle: JobHandle) -> None:
        main.calls.append("cancel")
        stopping.add(handle.key)
        main.words = [main.words[0] if main.words else ProviderStatus.RUNNING, *[end] * 9]

    main.cancel = cancel  # type: ignore[method-assign]


# --- stopping -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [ProviderStatus.CANCELLED, ProviderStatus.FAILED])
def test_what_a_timeout_stopped_goes_on_also_where_stopping_takes_time(system: System, end: ProviderStatus) -> None:
    envelope = system.envelope(timeout=TimeoutBudget(queue=90, execution=90, total=900))
    system.main.words = [ProviderStatus.QUEUED]
    system.dispatcher.submit(envelope)
    slow_to_stop(system, end)
    system.ago(envelope, 95, "sent_at")
    system.main.words = [ProviderStatus.QUEUED]
    assert system.look(envelope).state == "submitted"
    answer = system.run(envelope)
    assert answer is not None
    (left,) = answer.fallback_path
    assert (answer.backend, left.failure_class) == ("second", "capability")
    assert left.reason.startswith("it waited in the queue of main for")
    assert system.dispatcher.breakers.state("main").failures == 0


@pytest.mark.parametrize("end", [ProviderStatus.CANCELLED, ProviderStatus.FAILED])
def test_what_a_person_stopped_goes_nowhere_else(system: System, end: ProviderStatus) -> None:
    envelope = system.envelope()
    system.main.words = [ProviderStatus.RUNNING]
    system.dispatcher.submit(envelope)
    slow_to_stop(system, end)
    assert system.dispatcher.cancel(job_id_of(envelope), by="ada", reason="wrong data").state == "submitted"
    system.ago(envelope, 3600, "began_at", "sent_at")
    job = system.look(envelope)
    assert (job.state, job.error) == ("cancelled", "input: cancelled by ada: wrong data")
    assert system.taken() == {"main": 1}


def test_what_a_person_stopped_ends_also_where_nobody_confirms(tmp_path: Path, either: str) -> None:
    system = System(tmp_path, Policy(budgets=(Budget(money=10.0),), cache=NO_CACHE), cost=1.0)
    envelope = system.envelope()
    system.main.words = [ProviderStatus.RUNNING] * 99
    system.main.cancel = lambda handle: None  # type: ignore[method-assign]
    system.dispatcher.submit(envelope)
    system.dispatcher.cancel(job_id_of(envelope), by="ada", reason="wrong data")
    until_ended(system, envelope)
    assert system.ledger.job(job_id_of(envelope)).state == "cancelled"
    assert system.dispatcher.spending.spent(envelope.owner, month_of()).money == 1.0
    # one that has finished meanwhile keeps its result
    done = system.envelope(repetition=1)
    system.main.words = [ProviderStatus.RUNNING] * 2
    system.dispatcher.submit(done)
    system.dispatcher.cancel(job_id_of(done), by="ada", reason="wrong data")
    assert system.look(done).state == "succeeded"
    assert system.taken() == {"main": 2}


@pytest.mark.parametrize("call", ["statuses", "cancel"])
def test_a_person_who_stops_what_is_being_stopped_for_its_time_is_heard(system: System, call: str) -> None:
    """However long the provider takes to answer meanwhile."""
    envelope = system.envelope(timeout=TimeoutBudget(queue=90, execution=90, total=900))
    system.main.words = [ProviderStatus.QUEUED] * 2
    system.dispatcher.submit(envelope)
    system.ago(envelope, 95, "sent_at")
    asked, colleague, heard = getattr(system.main, call), System(system.root), list[str]()
    colleague.main.words = [ProviderStatus.QUEUED]
    # another process, whose cancel is not confirmed
    colleague.main.cancel = lambda handle: None  # type: ignore[method-assign]

    def meanwhile(argument: Any) -> Any:
        if not heard:
            heard.append(colleague.dispatcher.cancel(job_id_of(envelope), by="ada", reason="wrong data").state)
        return asked(argument)

    setattr(system.main, call, meanwhile)
    until_ended(system, envelope)
    job = system.ledger.job(job_id_of(envelope))
    assert heard == ["submitted"]
    assert (job.state, job.error) == ("cancelled", "input: cancelled by ada: wrong data")
    assert system.taken() == {"main": 1}


@pytest.mark.parametrize("kind", [FailureClass.TRANSIENT, FailureClass.SATURATION, FailureClass.CAPABILITY])
def test_a_result_that_is_never_handed_out_is_not_waited_for_for_ever(system: System, kind: FailureClass) -> None:
    def result(handle: JobHandle) -> Any:
        raise BackendError("not now", kind, retry_after=86400.0)

    system.main.result = result  # type: ignore[method-assign]
    envelope = system.envelope()
    system.dispatcher.submit(envelope)
    job = system.look(envelope)
    assert job.state == "submitted"
    assert job.look_at is not None
    assert (job.look_at - job.created_at).total_seconds() < 600
    system.ago(envelope, 3600, "began_at")
    until_ended(system, envelope)
    assert "its result cannot be had: not now" in system.ledger.job(job_id_of(envelope)).fallback_path
    assert system.taken() == {"main": 1}


def test_a_defect_that_keeps_a_result_away_ends_the_job(system: System) -> None:
    envelope = system.envelope()
    system.dispatcher.submit(envelope)

    def version() -> str:
        raise KeyError("version")

    system.main.version = version  # type: ignore[method-assign]
    system.dispatcher._versions.clear()
    assert system.look(envelope).state == "submitted"
    system.ago(envelope, 3600, "began_at")
    assert any("version" in problem for problem in until_ended(system, envelope))
    job = system.ledger.job(job_id_of(envelope))
    assert (job.state, job.error) == ("failed", "internal: main: KeyError: 'version'")


def test_a_backend_that_does_not_know_its_version_fails_its_jobs(tmp_path: Path, either: str) -> None:
    """Whether there is an earlier result cannot be said, and that is no reason to stand still."""
    system = System(tmp_path, Policy(cache=CachePolicy(window_seconds=3600)))

    def version() -> str:
        raise KeyError("version")

    system.main.version = version  # type: ignore[method-assign]
    envelope = system.envelope()
    system.dispatcher.submit(envelope)
    system.ago(envelope, 3600, "began_at")
    until_ended(system, envelope)
    assert "KeyError: 'version'" in (system.ledger.job(job_id_of(envelope)).error or "")


# --- doubt ----------------------------------------------------------------------------------------------------------


def test_not_there_is_believed_only_so_long_after_the_sender_was_there(system: System) -> None:
    """It may have worked on the job for long before it sent it."""
    system.main.settling = 1800.0
    envelope = system.envelope()
    dead = subprocess.run(
        [sys.executable, "-c", "from resources.claims import this_process; print(this_process())"],
        cwd=PROJECT,
        text=True,
        capture_output=True,
        check=True,
    ).stdout.strip()
    system.ledger.intend(envelope)
    system.ledger.move(job_id_of(envelope), "submitting", "by one that died", claimed_by=dead, attempts=1)
    system.ago(envelope, 3600, "sent_at", "began_at")
    for _ in range(2):
        assert system.look(envelope).state == "ambiguous"
    # there it is
    payload: Any = system.dispatcher.payload(envelope)
    system.main.submit(envelope, payload, system.ledger.job(job_id_of(envelope)).provider_key)
    assert system.look(envelope).provider_id is not None
    assert system.taken() == {"main": 1}
    # nor does a person's impatience make it known
    other = system.envelope(repetition=1)
    system.main.lost_answers = 1
    find, system.main.find = system.main.find, lambda key: None  # type: ignore[method-assign]
    system.dispatcher.submit(other)
    system.ago(other, 1000, "sent_at")
    assert system.dispatcher.cancel(job_id_of(other), by="ada", reason="enough").state == "cancelled"
    assert "not_there" not in [row["action"] for row in system.dispatcher.audit.rows()]
    system.main.find = find  # type: ignore[method-assign]


@pytest.mark.parametrize("said", ["lost\0", "lost \ud800"])
def test_an_answer_that_no_database_can_store_is_a_lost_answer_too(system: System, said: str) -> None:
    take = system.main.submit

    def submit(*asked: Any) -> JobHandle:
        take(*asked)
        raise BackendError(said, FailureClass.TRANSIENT)

    system.main.submit = submit  # type: ignore[method-assign,assignment]
    system.main.settling = 0.01
    envelope = system.envelope()
    system.dispatcher.submit(envelope)
    until_ended(system, envelope)
    assert system.ledger.job(job_id_of(envelope)).state == "succeeded"
    assert system.taken() == {"main": 1}


@pytest.mark.parametrize("arrived", [True, False])
def test_what_was_given_up_in_doubt_is_looked_for_before_it_is_sent_again(system: System, arrived: bool) -> None:
    main = system.main
    main.settling, main.deaf = 1.0, 1000
    if arrived:
        main.lost_answers = 1
    else:
        main.refusals = [FailureClass.TRANSIENT]
    envelope = system.envelope(fallback=())
    system.dispatcher.submit(envelope)
    system.ago(envelope, 3600, "began_at")
    until_ended(system, envelope)
    job = system.ledger.job(job_id_of(envelope))
    assert (job.state, "could not say" in (job.error or "")) == ("timed_out", True)
    # the provider is back; the next ask settles it
    main.deaf = 0
    assert system.dispatcher.submit(envelope).state == ("succeeded" if arrived else "ambiguous")
    system.ago(envelope, 10, "updated_at")
    answer = system.run(envelope)
    assert answer is not None
    assert (answer.backend, answer.fallback_path) == ("main", ())
    assert system.taken() == {"main": 1}
    assert ("resubmit" in [row["action"] for row in system.dispatcher.audit.rows()]) is not arrived


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", [FailureClass.CAPABILITY, FailureClass.SATURATION, FailureClass.CIRCUIT])
def test_a_refusal_after_a_lost_answer_does_not_say_that_the_job_is_not_there(
    system: System, monkeypatch: pytest.MonkeyPatch, kind: FailureClass, batch: int
) -> None:
    """The provider knows its keys, so the dispatcher sends again, and this time is refused."""
    main, can = system.main, system.main.capabilities()
    monkeypatch.setattr(
        main, "capabilities", lambda: Capabilities(**{**vars(can), "idempotent": True, "settling_seconds": 1800.0})
    )
    main.lost_answers = batch
    send, sent = main.submit, []

    def submit(envelope: JobEnvelope, payload: Any, key: str) -> JobHandle:
        if key in sent:
            raise BackendError("no", kind, not_sent=True)
        sent.append(key)
        return send(envelope, payload, key)

    main.submit = submit  # type: ignore[method-assign]
    envelopes = [system.envelope(repetition=k) for k in range(batch)]
    jobs = system.dispatcher.submit_many(envelopes)
    assert {job.state for job in jobs} == {"ambiguous"}
    assert [system.run(envelope) is not None for envelope in envelopes] == [True] * batch
    assert system.taken() == {"main": batch}


def test_a_defect_in_a_second_attempt_says_nothing_about_the_first(system: System, monkeypatch: Any) -> None:
    main, rounds = system.main, 0

    def submit_many(jobs: Sequence[Any]) -> list[JobHandle | BackendError]:
        nonlocal rounds
        rounds += 1
        if rounds == 2:
            raise KeyError("a defect")
        first, *_ = jobs
        down = BackendError("no connection", FailureClass.TRANSIENT, not_sent=True)
        refused = BackendError("too large", FailureClass.CAPABILITY, not_sent=True)
        return [main.submit(*first), refused, down, down]

    main.submit_many = submit_many  # type: ignore[method-assign]
    monkeypatch.setattr(main, "find", lambda key: None)
    main.settling = 1800.0
    envelopes = [system.envelope(repetition=k, fallback=("second",)) for k in range(4)]
    with pytest.raises(BackendError, match="KeyError"):
        system.dispatcher.submit_many(envelopes)
    found = [system.ledger.job(job_id_of(envelope)) for envelope in envelopes]
    assert sorted((job.state, job.backend) for job in found) == [
        ("ambiguous", "main"),
        ("ambiguous", "main"),
        ("submitted", "main"),
        ("submitted", "second"),
    ]


def test_the_defect_of_one_job_of_a_batch_is_its_own(system: System) -> None:
    main, send = system.main, system.main.submit
    odd = system.envelope(repetition=2)

    def submit(envelope: JobEnvelope, payload: Any, key: str) -> JobHandle:
        if envelope == odd:
            raise KeyError("a defect")
        return send(envelope, payload, key)

    main.submit = submit  # type: ignore[method-assign]
    envelopes = [system.envelope(repetition=k) for k in range(5)]
    with pytest.raises(BackendError, match="KeyError"):
        system.dispatcher.submit_many(envelopes)
    states = {envelope.repetition: system.ledger.job(job_id_of(envelope)).state for envelope in envelopes}
    assert states == {0: "submitted", 1: "submitted", 2: "ambiguous", 3: "submitted", 4: "submitted"}
    assert system.look(odd).error == "internal: KeyError: 'a defect'"
    assert system.taken() == {"main": 4}


def test_what_cannot_be_prepared_for_the_emulator_keeps_nobody_else_from_going(monkeypatch: Any) -> None:
    emulator = Emulator(url="http://127.0.0.1:9", device="quick-4")

    def prepared(envelope: JobEnvelope, payload: Any, key: str) -> dict[str, Any]:
        if key == "odd":
            raise KeyError("a defect")
        return {"idempotency_key": key, "circuits": []}

    monkeypatch.setattr(emulator, "_job", prepared)
    monkeypatch.setattr(
        emulator, "_client", SimpleNamespace(call=lambda *_: {"jobs": [{"id": "first"}, {"id": "third"}]})
    )
    payload = asymmetric_problem(3, 0)
    envelope = envelope_for(emulator, payload, Algorithm(shots=64))
    first, odd, third = emulator.submit_many([(envelope, payload, key) for key in ("first", "odd", "third")])
    assert [answer.provider_id for answer in (first, third) if isinstance(answer, JobHandle)] == ["first", "third"]
    assert isinstance(odd, BackendError)
    assert (odd.failure_class, str(odd)) == (FailureClass.INTERNAL, "KeyError: 'a defect'")


def test_a_provider_that_asks_for_an_hour_is_not_waited_for_inside_a_submit(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", pauses.append)
    system.main.submit = lambda *_: _raise(  # type: ignore[method-assign]
        BackendError("in an hour", FailureClass.TRANSIENT, retry_after=3600.0, not_sent=True)
    )
    answer = system.run(system.envelope())
    assert answer is not None
    assert (answer.backend, answer.fallback_path[0].failure_class) == ("second", "transient")
    assert not [pause for pause in pauses if pause > 10]


def _raise(error: Exception) -> Any:
    raise error


# --- people's time, and money ---------------------------------------------------------------------------------------


def test_the_time_a_person_takes_is_not_the_jobs(tmp_path: Path, either: str) -> None:
    system = System(tmp_path, Policy(approval=Approval(backends=("second",)), cache=NO_CACHE))
    system.main.refusals = [FailureClass.BACKEND]
    envelope = system.envelope()
    job = system.dispatcher.submit(envelope)
    assert (job.state, job.backend) == ("awaiting_approval", "second")
    system.ago(envelope, 86400, "began_at")
    system.dispatcher.decide(job.job_id, "approved", by="ada", reason="fine")
    answer = system.run(envelope)
    assert answer is not None
    assert answer.backend == "second"


def test_a_job_that_was_never_there_is_not_sent_again_after_its_time(system: System) -> None:
    system.main.settling = 1.0
    system.main.refusals = [FailureClass.TRANSIENT]
    envelope = system.envelope(fallback=())
    system.dispatcher.submit(envelope)
    system.ago(envelope, 3600, "sent_at", "began_at", "updated_at")
    until_ended(system, envelope)
    job = system.ledger.job(job_id_of(envelope))
    assert (job.state, "the total budget of" in (job.error or "")) == ("timed_out", True)
    assert not system.taken()


@pytest.mark.parametrize("how", ["rejected", "cancelled"])
def test_what_may_be_there_counts_as_spent_whatever_a_person_says(tmp_path: Path, either: str, how: str) -> None:
    system = System(tmp_path, Policy(budgets=(Budget(money=10.0),), cache=NO_CACHE), cost=1.0, lookup=False)
    system.main.lost_answers = 1
    envelope = system.envelope()
    job = system.dispatcher.submit(envelope)
    assert job.state == "awaiting_approval"
    if how == "rejected":
        system.dispatcher.decide(job.job_id, "rejected", by="ada", reason="no")
    else:
        system.dispatcher.cancel(job.job_id, by="ada", reason="no")
    spent = system.dispatcher.spending.spent(envelope.owner, month_of())
    assert (spent.money, spent.reserved) == (1.0, 0.0)


def test_nothing_is_bought_at_a_price_that_nobody_knows(tmp_path: Path, either: str) -> None:
    policy = Policy(budgets=(Budget(money=0.5),), cache=NO_CACHE, breaker=BreakerPolicy(failures=100))
    system = System(tmp_path, policy, cost=1.0)

    def estimate(envelope: JobEnvelope) -> Estimate:
        raise BackendError("503", FailureClass.TRANSIENT)

    good, system.main.estimate = system.main.estimate, estimate  # type: ignore[method-assign]
    envelope = system.envelope()
    job = system.dispatcher.submit(envelope)
    assert (job.state, job.backend) == ("intended", "main")
    assert not system.taken()
    system.main.estimate = good  # type: ignore[method-assign]
    assert system.look(envelope).backend == "second"
    late = system.envelope(repetition=1)
    system.main.estimate = estimate  # type: ignore[method-assign]
    system.dispatcher.submit(late)
    assert system.look(late).backend == "second"
    assert '"failure_class": "transient", "reason": "503"' in system.ledger.job(job_id_of(late)).fallback_path
    assert system.dispatcher.breakers.state("main").failures == 1
    assert "main" not in system.taken()


# --- tampering ------------------------------------------------------------------------------------------------------


def test_a_row_that_points_to_a_backend_its_envelope_does_not_name_is_never_sent(system: System) -> None:
    envelope = system.envelope(fallback=("surrogate",))
    system.ledger.intend(envelope)
    with system.ledger.engine.begin() as tx:
        tx.execute(JOBS.update().values(backend="second"))
    with pytest.raises(InvariantError, match="position 1 of main, surrogate is not second"):
        system.dispatcher.submit(envelope)
    assert system.ledger.job(job_id_of(envelope)).state == "failed"
    assert not system.taken()


def test_a_result_of_another_evidence_class_than_was_recorded_is_refused(system: System) -> None:
    envelope = system.envelope()
    result = system.run(envelope)
    assert result is not None
    better = result.model_copy(update={"evidence_class": EvidenceClass.HARDWARE})
    reference = system.artifacts.put(better.model_dump_json().encode())
    with system.ledger.engine.begin() as tx:
        tx.execute(JOBS.update().values(result_ref=reference))
    with pytest.raises(InvariantError, match="is hardware, not simulator"):
        system.dispatcher.result(envelope)
