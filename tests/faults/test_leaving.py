"""Leaving a backend: stopped by its provider, given up in doubt, left without what the next one does not offer, held by
a pause. Each ends once, for the reason that is true. Not here: what people approve (``test_walk_approvals``)."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path

import dimod
import pytest

from resources import audit
from resources.backends.base import Capabilities, Estimate, JobHandle, ProviderStatus
from resources.controls import Mode
from resources.dispatcher import JobFailed
from resources.envelope import Algorithm, Compilation, JobEnvelope, Mitigation, TimeoutBudget
from resources.failures import BackendError, FailureClass
from resources.ledger import job_id_of
from resources.ledger_tables import Job
from resources.policy import CachePolicy, Limit, Policy
from tests.faults.test_dispatcher import System
from tests.faults.test_review import until_ended

NO_CACHE = CachePolicy(window_seconds=0)


@pytest.fixture
def system(tmp_path: Path, either: str) -> System:
    return System(tmp_path)


# --- stopped by its provider ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [ProviderStatus.QUEUED, ProviderStatus.RUNNING])
def test_what_a_provider_cancels_by_itself_goes_on_elsewhere(system: System, before: ProviderStatus) -> None:
    envelope = system.envelope()
    system.main.words = [before, ProviderStatus.CANCELLED]
    system.dispatcher.submit(envelope)
    system.look(envelope)
    answer = system.run(envelope)
    assert answer is not None
    (left,) = answer.fallback_path
    assert (answer.backend, left.failure_class, left.next_backend) == ("second", "backend", "second")
    assert left.reason == "main says that it was cancelled, which nobody here asked for"
    assert system.dispatcher.breakers.state("main").failures == 1
    last = system.envelope(repetition=1, fallback=())
    system.main.words = [ProviderStatus.CANCELLED]
    system.dispatcher.submit(last)
    job = system.look(last)
    assert (job.state, (job.error or "").partition(":")[0]) == ("failed", "backend")


def test_a_look_between_a_cancel_and_its_answer_knows_who_wanted_it(system: System) -> None:
    """The provider has stopped the job before the one who asked for that hears of it."""
    envelope = system.envelope()
    system.main.words = [ProviderStatus.QUEUED] * 9
    system.dispatcher.submit(envelope)
    other, stop = System(system.root), system.main.cancel
    seen: list[Job] = []

    def cancel(handle: JobHandle) -> None:
        stop(handle)
        seen.append(other.look(envelope))

    system.main.cancel = cancel  # type: ignore[method-assign]
    system.dispatcher.cancel(job_id_of(envelope), by="ada", reason="wrong data")
    job = system.ledger.job(job_id_of(envelope))
    assert (job.state, job.error) == ("cancelled", "input: cancelled by ada: wrong data")
    assert [job.state for job in seen] == ["cancelled"]
    assert system.taken() == {"main": 1}


def test_a_cancel_that_does_not_reach_the_provider_is_carried_out_later(system: System) -> None:
    envelope = system.envelope()
    system.main.words = [ProviderStatus.QUEUED] * 9
    system.dispatcher.submit(envelope)
    stop = system.main.cancel

    def away(handle: JobHandle) -> None:
        raise BackendError("503", FailureClass.TRANSIENT)

    system.main.cancel = away  # type: ignore[method-assign]
    assert system.dispatcher.cancel(job_id_of(envelope), by="ada", reason="wrong data").state == "submitted"
    system.main.cancel = stop  # type: ignore[method-assign]
    job = system.look(envelope)
    assert (job.state, job.error) == ("cancelled", "input: cancelled by ada: wrong data")


# --- given up in doubt ----------------------------------------------------------------------------------------------


def given_up(system: System) -> Job:
    """A job that its provider did not confirm to have stopped."""
    envelope = system.envelope(fallback=())
    system.main.words = [ProviderStatus.RUNNING] * 999
    system.main.cancel = lambda handle: None  # type: ignore[method-assign]
    system.dispatcher.submit(envelope)
    system.look(envelope)
    system.ago(envelope, 3600, "started_at", "began_at", "sent_at")
    until_ended(system, envelope)
    job = system.ledger.job(job_id_of(envelope))
    assert (job.state, "does not confirm that it has stopped" in (job.error or "")) == ("timed_out", True)
    return job


@pytest.mark.parametrize("word", [ProviderStatus.QUEUED, ProviderStatus.RUNNING, ProviderStatus.SUCCEEDED])
def test_what_was_given_up_and_still_runs_is_taken_up_again(system: System, word: ProviderStatus) -> None:
    before, envelope = given_up(system), system.envelope(fallback=())
    system.main.words = [word] * 2
    after = system.dispatcher.submit(envelope)
    assert after.provider_id == before.provider_id
    assert system.run(envelope) is not None
    assert system.taken() == {"main": 1}
    assert "adopt" in [row["action"] for row in system.dispatcher.audit.rows()]
    assert system.ledger.job(before.job_id).attempts == 1


@pytest.mark.parametrize("word", [ProviderStatus.CANCELLED, ProviderStatus.FAILED, None])
def test_what_was_given_up_and_has_stopped_is_sent_again(system: System, word: ProviderStatus | None) -> None:
    before, envelope = given_up(system), system.envelope(fallback=())
    if word is None:
        # the provider has forgotten it

        def status(handle: JobHandle) -> ProviderStatus:
            if handle.key == before.provider_key:
                raise BackendError("404", FailureClass.BACKEND)
            return ProviderStatus.SUCCEEDED

        system.main._job(before.provider_key).unlink()
        system.main.status = status  # type: ignore[method-assign]
    else:
        system.main.words = [word]
    assert system.run(envelope) is not None
    after = system.ledger.job(before.job_id)
    assert (after.attempts, after.provider_key == before.provider_key) == (2, False)
    assert system.taken() == {"main": 2}


def test_nothing_is_sent_again_while_nobody_can_say_whether_it_runs(system: System) -> None:
    before, envelope = given_up(system), system.envelope(fallback=())
    good = system.main.status

    def deaf(handle: JobHandle) -> ProviderStatus:
        raise BackendError("503", FailureClass.TRANSIENT)

    system.main.status = deaf  # type: ignore[method-assign]
    assert system.dispatcher.submit(envelope).state == "ambiguous"
    assert system.look(envelope).state == "ambiguous"
    system.ago(envelope, 3600, "began_at")
    until_ended(system, envelope)
    system.main.status = good  # type: ignore[method-assign]
    system.main.words = [ProviderStatus.RUNNING]
    assert system.run(envelope) is not None
    assert system.ledger.job(before.job_id).provider_id == before.provider_id
    assert system.taken() == {"main": 1}


def test_what_a_defect_of_ours_ended_is_asked_after_before_it_is_sent_again(system: System) -> None:
    envelope = system.envelope(fallback=())
    system.dispatcher.submit(envelope)

    def version() -> str:
        raise KeyError("version")

    good, system.main.version = system.main.version, version  # type: ignore[method-assign]
    system.dispatcher._versions.clear()
    system.ago(envelope, 3600, "began_at")
    until_ended(system, envelope)
    assert system.ledger.job(job_id_of(envelope)).state == "failed"
    system.main.version = good  # type: ignore[method-assign]
    assert system.run(envelope) is not None
    assert system.taken() == {"main": 1}


# --- left without what the next one does not offer ------------------------------------------------------------------


def test_what_a_fallback_does_without_is_said_and_kept_under_what_ran(
    tmp_path: Path, either: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = System(tmp_path, Policy(cache=CachePolicy(window_seconds=3600)))
    asked = Algorithm(
        shots=64,
        mitigation=Mitigation(readout=True, twirling=True),
        compilation=Compilation(layout=(3, 2, 1, 0), seed=7),
    )
    for backend, offers in ((system.main, ("readout", "twirling")), (system.second, ("twirling",))):
        can = replace(backend.capabilities(), mitigation=offers)
        monkeypatch.setattr(backend, "capabilities", partial(Capabilities, **vars(can)))
    system.main.refusals = [FailureClass.BACKEND]
    sent: list[JobEnvelope] = []
    submit = system.second.submit

    def keeping(envelope: JobEnvelope, payload: dimod.BinaryQuadraticModel, key: str) -> JobHandle:
        sent.append(envelope)
        return submit(envelope, payload, key)

    system.second.submit = keeping  # type: ignore[method-assign]
    answer = system.run(system.envelope(algorithm=asked))
    assert answer is not None
    assert (answer.backend, answer.parameters) == ("second", {"left_out": ["readout", "layout"]})
    ran = sent[0].algorithm
    assert ran == asked.model_copy(
        update={"mitigation": Mitigation(twirling=True), "compilation": Compilation(layout=None, seed=7)}
    )
    rows = [row["reason"] for row in system.dispatcher.audit.rows() if row["action"] == "submit"]
    assert rows == [
        "position 1 of main, second, surrogate",
        "position 2 of main, second, surrogate, without readout, layout",
    ]
    # who asks for what has run is answered by it, and nothing was left out for them; who asks for more is not
    plain = system.run(system.envelope(algorithm=ran, backend="second", fallback=()))
    assert plain is not None
    assert (plain.cached, plain.parameters) == (True, {})
    with pytest.raises(JobFailed, match="does not offer mitigation readout"):
        system.run(system.envelope(algorithm=asked, backend="second", fallback=()))
    # a replay on another backend says so too
    replayed = system.dispatcher.replay(
        job_id_of(system.envelope(algorithm=asked)), by="ada", reason="compare", backend="second"
    )
    assert system.dispatcher.envelope(replayed).algorithm == ran
    assert '"left_out":["readout","layout"]' in system.dispatcher.audit.rows()[-2]["detail"]


def test_the_first_backend_gets_all_that_was_asked(system: System) -> None:
    asked = Algorithm(shots=64, compilation=Compilation(layout=(3, 2, 1, 0)))
    answer = system.run(system.envelope(algorithm=asked))
    assert answer is not None
    assert (answer.backend, answer.parameters) == ("main", {})


# --- held by a pause ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cost", [math.inf, math.nan, -1.0])
def test_nothing_is_bought_at_a_price_that_is_none(system: System, cost: float) -> None:
    envelope = system.envelope()
    system.main.cost = 1.0
    system.main.estimate = lambda envelope: Estimate(0.0, 0.0, cost)  # type: ignore[method-assign]
    assert system.dispatcher.submit(envelope).backend == "second"
    assert "main gives no price" in system.ledger.job(job_id_of(envelope)).fallback_path
    assert system.taken() == {"second": 1}


def paused(system: System, backend: str, ago: float) -> None:
    """A person has paused a backend some seconds ago."""

    class Then(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Then:
            return cls.fromtimestamp((datetime.now(tz) - timedelta(seconds=ago)).timestamp(), tz)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit, "datetime", Then)
        system.dispatcher.control(backend, Mode.PAUSED, by="ada", reason="maintenance")


def test_the_time_of_a_pause_is_no_queueing(tmp_path: Path, either: str) -> None:
    system = System(tmp_path, Policy(limits={"main": Limit(open_jobs=1)}, cache=NO_CACHE))
    out, held = system.envelope(), system.envelope(repetition=1, timeout=TimeoutBudget(queue=600, total=900))
    system.main.words = [ProviderStatus.QUEUED] * 9
    system.dispatcher.submit(out)
    assert system.dispatcher.submit(held).state == "intended"
    paused(system, "main", 3600)
    system.ago(held, 3700, "updated_at")
    assert system.look(held).backend == "main"
    system.dispatcher.control("main", Mode.OPEN, by="ada", reason="done")
    # the cap is full: it has waited 100 s
    job = system.look(held)
    assert (job.state, job.backend) == ("intended", "main")
    system.ago(held, 4350, "updated_at")
    assert system.look(held).backend == "second"
    assert "as many as it may, for 7" in system.ledger.job(job.job_id).fallback_path


def test_the_time_of_a_pause_is_not_the_jobs(system: System) -> None:
    """The first backend was left 10 s before a pause of an hour of the second; the job has 300 s in all."""
    held, spent = (system.envelope(repetition=k, timeout=TimeoutBudget(total=300)) for k in range(2))
    system.dispatcher.control("second", Mode.PAUSED, by="ada", reason="for the first look")
    for envelope in (held, spent):
        system.main.refusals = [FailureClass.BACKEND]
        job = system.dispatcher.submit(envelope)
        assert (job.state, job.backend) == ("intended", "second")
    system.dispatcher.control("second", Mode.OPEN, by="ada", reason="seen")
    paused(system, "second", 3600)
    system.ago(held, 3610, "updated_at", "began_at")
    system.ago(spent, 3610, "updated_at")
    system.ago(spent, 4000, "began_at")
    assert system.look(held).backend == "second"
    # what was late before the pause is late
    assert system.look(spent).backend == "surrogate"
    system.dispatcher.control("second", Mode.OPEN, by="ada", reason="done")
    system.second.words = [ProviderStatus.QUEUED] * 3
    assert [system.look(held).state for _ in range(2)] == ["submitted", "submitted"]
    assert "cancel" not in system.second.calls
    answer = system.run(held)
    assert answer is not None
    assert (answer.backend, len(answer.fallback_path)) == ("second", 1)
    assert datetime.now(UTC) - (system.ledger.job(job_id_of(held)).began_at or datetime.min) < timedelta(seconds=300)
