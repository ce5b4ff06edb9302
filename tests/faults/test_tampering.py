"""What could be changed behind the platform's back: refused, with the field and the reason, and nothing is sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from resources.dispatcher import JobFailed
from resources.envelope import JobEnvelope
from resources.failures import InvariantError
from resources.ledger import job_id_of
from resources.ledger_tables import ENVELOPES, JOBS
from resources.money import month_of
from resources.policy import Budget, CachePolicy, Policy
from tests.faults.test_dispatcher import System


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


def alter(system: System, envelope: JobEnvelope, **changes: Any) -> None:
    """Rewrite the stored envelope, digest and all else left as it was."""
    with system.ledger.engine.begin() as tx:
        stored = ENVELOPES.c.digest == envelope.digest
        document = json.loads(tx.execute(ENVELOPES.select().where(stored)).one().document)
        tx.execute(ENVELOPES.update().where(stored).values(document=json.dumps({**document, **changes})))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"owner": "somebody else"}, "was altered: it now digests to"),
        ({"payload_ref": "0" * 64}, "was altered: it now digests to"),
        ({"schema_version": "1"}, "schema_version"),
        ({"cost_ceiling": -1}, "cost_ceiling"),
        ({"discount": 0.5}, "discount"),
        ({"timeout": {"queue": 10, "execution": 60, "total": 20}}, "timeout"),
    ],
)
def test_an_altered_envelope_is_never_sent(system: System, changes: dict[str, Any], said: str) -> None:
    envelope = system.envelope()
    system.ledger.intend(envelope)
    alter(system, envelope, **changes)
    with pytest.raises(InvariantError, match=said):
        system.ledger.envelope(envelope.digest)
    done = system.dispatcher.reconcile()
    assert [said in problem for problem in done.problems] == [True]
    job = system.ledger.job(job_id_of(envelope))
    assert job.state == "failed"
    assert said in (job.error or "")
    assert not system.taken()


def test_a_job_that_waits_with_an_envelope_of_an_earlier_version_can_be_ended(system: System) -> None:
    rejected, cancelled = (system.envelope(repetition=number) for number in range(2))
    for envelope in (rejected, cancelled):
        system.ledger.intend(envelope)
        with system.ledger.transaction() as tx:
            system.dispatcher.approvals.ask(tx, job_id_of(envelope), "its price")
            system.ledger.move(job_id_of(envelope), "awaiting_approval", tx=tx)
        alter(system, envelope, schema_version="1")
    decide, cancel = system.dispatcher.decide, system.dispatcher.cancel
    with pytest.raises(InvariantError, match="schema_version is 1"):
        decide(job_id_of(rejected), "approved", by="ada", reason="fine")
    assert decide(job_id_of(rejected), "rejected", by="ada", reason="too old").state == "rejected"
    assert cancel(job_id_of(cancelled), by="ada", reason="too old").state == "cancelled"
    assert not system.taken()


@pytest.mark.parametrize("lost", [0, 1])
def test_what_may_be_out_under_an_envelope_that_cannot_be_read_counts_as_spent(tmp_path: Path, lost: int) -> None:
    policy = Policy(budgets=(Budget(money=10.0),), cache=CachePolicy(window_seconds=0))
    system = System(tmp_path, policy, cost=1.0, settling=3600.0, lost_answers=lost)
    envelope = system.envelope()
    assert system.dispatcher.submit(envelope).state == ("ambiguous" if lost else "submitted")
    alter(system, envelope, schema_version="1")
    assert system.look(envelope).state == "failed"
    assert system.dispatcher.spending.spent(envelope.owner, month_of()).money == 1.0


def test_a_job_that_points_to_a_foreign_envelope_is_never_sent(system: System) -> None:
    mine, other = system.envelope(), system.envelope(repetition=1)
    system.ledger.intend(mine)
    system.ledger.intend(other)
    with system.ledger.engine.begin() as tx:
        row = JOBS.c.job_id == job_id_of(mine)
        tx.execute(JOBS.update().where(row).values(envelope_digest=other.digest))
    done = system.dispatcher.reconcile()
    assert any("belongs to" in problem for problem in done.problems), done.problems
    assert system.ledger.job(job_id_of(mine)).state == "failed"
    assert system.taken() == {"main": 1}
    with pytest.raises(JobFailed, match="belongs to"):
        system.dispatcher.result(mine)


def test_a_payload_that_was_exchanged_is_never_sent(system: System) -> None:
    envelope = system.envelope()
    blob = system.artifacts.path(envelope.payload_ref)
    blob.write_bytes(blob.read_bytes()[:-1] + b"\x01")
    system.ledger.intend(envelope)
    done = system.dispatcher.reconcile()
    assert [envelope.payload_ref in problem for problem in done.problems] == [True]
    assert system.ledger.job(job_id_of(envelope)).state == "failed"
    assert not system.taken()
