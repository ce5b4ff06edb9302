"""What people decide through Dagster: approvals, rejections, cancelled jobs and cancelled runs."""

from __future__ import annotations

import json
from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError

from hybrid_assets.definitions import build_defs
from hybrid_assets.line import LINE
from resources.dispatcher import Dispatcher
from resources.emulator.running import Running, serve_in_background
from resources.environments import backend_factories
from resources.home import Home
from resources.ledger_tables import Job
from resources.policy import POLICIES
from tests.dagster.conftest import Staging, staging_at
from tests.waiting import PATIENCE


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An emulator whose queue is longer than any test."""
    place = tmp_path_factory.mktemp("emulator")
    with serve_in_background(place, queue_seconds=3000.0, patience=PATIENCE) as running:
        yield running


@pytest.fixture(scope="module")
def queueing(busy: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staging]:
    """A platform whose jobs may wait as long as that queue is."""
    home = Home(tmp_path_factory.mktemp("queueing"))
    shipped = (POLICIES / "staging.yaml").read_text()
    policy = home.root / "policy.yaml"
    policy.write_text(shipped.replace("queue_seconds: 60", "queue_seconds: 3600"))
    assert policy.read_text() != shipped
    with staging_at(home, busy.url) as platform, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBRID_POLICY", str(policy))
        yield platform


def run_job(staging: Staging, name: str, op: str, **config: str) -> dg.ExecuteInProcessResult:
    return staging.repository.get_job(name).execute_in_process(
        instance=staging.instance, run_config={"ops": {op: {"config": config}}}, raise_on_error=False
    )


def sentence(result: dg.ExecuteInProcessResult) -> str:
    (step,) = [event for event in result.all_events if event.is_step_failure]
    return str(step.step_failure_data.user_failure_data.description)  # type: ignore[union-attr]


def decisions(staging: Staging, job_id: str, action: str) -> list[tuple[str, str]]:
    rows = [row for row in staging.dispatcher.audit.rows() if row["job_id"] == job_id and row["action"] == action]
    return [(row["actor"], row["reason"]) for row in rows]


# --- approvals ------------------------------------------------------------------------------------------------------


def test_an_approved_job_is_sent_and_decided(staging: Staging) -> None:
    key = staging.landed(name="grave.mc", seed=201, impact="high")
    assert staging.run(key, LINE[:4]).pending
    job = staging.job(key)
    assert (job.state, job.attempts) == ("awaiting_approval", 0)
    assert (
        staging.waits_for(key) == f"job {job.job_id} waits for `hybrid approve` or `hybrid reject`: its impact is high"
    )
    assert staging.asked() == [], "a job that waits for a person is no end"
    refused = run_job(staging, "approval", "decide", job_id=job.job_id, decision="approved", by="ada", reason=" ")
    assert sentence(refused).endswith("reason: it is empty; say why in a few words.")
    done = run_job(staging, "approval", "decide", job_id=job.job_id, decision="approved", by="ada", reason="checked")
    assert done.success
    (run,) = staging.follow()
    assert run.success
    assert staging.stale(key) == []
    assert decisions(staging, job.job_id, "approve") == [("ada", "checked")]
    again = run_job(staging, "approval", "decide", job_id=job.job_id, decision="approved", by="ada", reason="again")
    assert "it is succeeded, nobody is asked" in sentence(again)


def test_a_rejected_job_stays_unsent_and_its_instance_is_answered_classically(staging: Staging) -> None:
    key = staging.landed(name="dear.mc", seed=202, impact="high")
    assert staging.run(key, LINE[:4]).pending
    job = staging.job(key)
    assert run_job(
        staging, "approval", "decide", job_id=job.job_id, decision="rejected", by="bob", reason="too dear"
    ).success
    (request,) = staging.asked()
    assert staging.execute(request).success
    assert staging.asked() == []
    assert staging.stale(key) == []
    rejected, stand_in = staging.dispatcher.ledger.jobs(instance=key)
    assert (rejected.state, rejected.attempts) == ("rejected", 0)
    assert decisions(staging, job.job_id, "reject") == [("bob", "too dear")]
    assert (stand_in.backend, stand_in.state, stand_in.evidence_class) == ("heuristic", "succeeded", "classical")
    decided = staging.rows("decisions", key).iloc[0]
    assert (decided["decision"], decided["source"]) == ("fallback", "classical")
    assert "answered by the heuristic fallback" in decided["reason"]
    assert json.loads(decided["path"])[0] == (
        f"left emulator for heuristic: {job.job_id} was rejected by bob: too dear"
    )
    # all of it again changes nothing: neither job is sent once more
    before = staging.versions(key)
    assert staging.run(key).problem is None
    assert staging.versions(key) == before
    assert len(staging.dispatcher.ledger.jobs(instance=key)) == 2


# --- cancelling -----------------------------------------------------------------------------------------------------


def test_the_cancellation_job_reaches_the_provider(queueing: Staging, busy: Running) -> None:
    key = queueing.landed(name="stop.mc", seed=203)
    assert queueing.run(key, LINE[:4]).pending
    job = queueing.job(key)
    done = run_job(queueing, "cancellation", "stop", job_id=job.job_id, by="ada", reason="wrong file")
    assert done.success
    assert queueing.job(key).state == "cancelled"
    assert state_there(busy, job) == "cancelled"
    assert decisions(queueing, job.job_id, "cancel") == [("ada", "wrong file")]
    (request,) = queueing.asked()
    assert queueing.execute(request).success
    assert queueing.asked() == []
    assert "was cancelled by ada: wrong file" in queueing.rows("decisions", key)["path"].iloc[0]
    nobody = run_job(queueing, "cancellation", "stop", job_id="job-nobody", by="ada", reason="?")
    assert "there is no such job" in sentence(nobody)


class Interrupted(Dispatcher):
    """Its process is told to stop when the job has just been sent."""

    instance: dg.DagsterInstance
    by_a_person = True

    def submit(self, envelope):  # type: ignore[no-untyped-def]
        super().submit(envelope)
        if self.by_a_person:
            (run,) = self.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
            self.instance.report_run_canceling(run)
        raise DagsterExecutionInterruptedError


def interrupted_run(queueing: Staging, key: str, by_a_person: bool) -> dg.DagsterRun:
    known = queueing.dispatcher
    dispatcher = Interrupted(known.ledger, known.artifacts, backend_factories(), known.policy)
    dispatcher.instance, dispatcher.by_a_person = queueing.instance, by_a_person
    defs = build_defs(environment="staging", home=queueing.home, dispatcher=dispatcher)
    with pytest.raises(KeyboardInterrupt):
        queueing.run(key, LINE, defs)
    (run,) = queueing.instance.get_runs(dg.RunsFilter(tags={"dagster/partition": key}))
    return run


def test_a_run_that_a_person_cancels_takes_its_job_with_it(queueing: Staging, busy: Running) -> None:
    assert queueing.tick("cancelled_runs").skip_message == "no run was cancelled"
    key = queueing.landed(name="terminated.mc", seed=204)
    run = interrupted_run(queueing, key, by_a_person=True)
    assert run.status is dg.DagsterRunStatus.CANCELED
    job = queueing.job(key)
    assert (job.state, state_there(busy, job)) == ("submitted", "queued")
    queueing.tick("cancelled_runs")
    assert queueing.job(key).state == "cancelled"
    assert state_there(busy, job) == "cancelled"
    ((_, reason),) = decisions(queueing, job.job_id, "cancel")
    assert reason == f"run {run.run_id} was cancelled in Dagster"
    assert queueing.tick("cancelled_runs").skip_message == "no run was cancelled"
    assert queueing.asked() == [], "who cancelled the run wants no other"


def test_a_daemon_that_comes_late_leaves_the_job_of_a_run_that_was_asked_for_again(
    queueing: Staging, busy: Running
) -> None:
    queueing.tick("cancelled_runs")
    key = queueing.landed(name="late.mc", seed=207)
    assert interrupted_run(queueing, key, by_a_person=True).status is dg.DagsterRunStatus.CANCELED
    # somebody wants it after all, and the next run finds the job where it was
    assert queueing.run(key, LINE[:4]).pending
    queueing.tick("cancelled_runs")
    job = queueing.job(key)
    assert (job.state, state_there(busy, job)) == ("submitted", "queued")
    assert decisions(queueing, job.job_id, "cancel") == []


def test_a_run_that_is_merely_interrupted_keeps_its_job(queueing: Staging, busy: Running) -> None:
    queueing.tick("cancelled_runs")
    key = queueing.landed(name="restarted.mc", seed=205)
    run = interrupted_run(queueing, key, by_a_person=False)
    assert run.status is dg.DagsterRunStatus.FAILURE
    assert queueing.tick("cancelled_runs").skip_message == "no run was cancelled"
    job = queueing.job(key)
    assert (job.state, state_there(busy, job)) == ("submitted", "queued")
    assert decisions(queueing, job.job_id, "cancel") == []
    # the next run finds it
    assert queueing.run(key, LINE[:4]).pending
    assert queueing.job(key).provider_id == job.provider_id


def test_a_cancelled_run_of_other_stages_leaves_the_job(queueing: Staging, busy: Running) -> None:
    queueing.tick("cancelled_runs")
    key = queueing.landed(name="other.mc", seed=206)
    assert queueing.run(key, LINE[:4]).pending
    nightly = queueing.repository.get_job("baselines_again")
    run = queueing.instance.create_run_for_job(
        nightly, status=dg.DagsterRunStatus.STARTED, tags={"dagster/partition": key}
    )
    queueing.instance.report_run_canceled(run)
    queueing.tick("cancelled_runs")
    assert state_there(busy, queueing.job(key)) == "queued"


def state_there(busy: Running, job: Job) -> str:
    """What the provider says about a job."""
    stored = busy.admin("executions")["executions"]
    return str(stored[job.provider_key]["state"])  # type: ignore[index]
