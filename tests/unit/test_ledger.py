"""The ledger: legal changes only, one row per job, nothing altered unnoticed, many processes at once."""

from __future__ import annotations

import itertools
import os
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resources.envelope import JobEnvelope
from resources.failures import InputError, InvariantError
from resources.ledger import Conflict, Job, Landing, Ledger, Move, is_alive, job_id_of, this_process
from resources.ledger_tables import ENVELOPES, JOBS, TERMINAL, TRANSITIONS
from tests.unit.test_envelope import envelope

PROJECT = Path(__file__).resolve().parents[2]
STATES = sorted(TRANSITIONS)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return Ledger.at(tmp_path_factory.mktemp("shared") / "ledger.db")


@pytest.fixture
def ledger(ledger_url: str) -> Ledger:
    return Ledger(ledger_url)


def put_in(ledger: Ledger, job_id: str, state: str) -> None:
    """Put a job in a state, past the rules."""
    with ledger.engine.begin() as tx:
        tx.execute(sa.text("update jobs set state = :state where job_id = :job"), {"state": state, "job": job_id})


def landing(**changes: object) -> Landing:
    values = {
        "instance": "maxcut.g",
        "family": "maxcut",
        "name": "g.txt",
        "path": "/inbox/g.txt",
        "member": 0,
        "source_digest": "a" * 64,
        "content_ref": "b" * 64,
        "options": {"shots": 5},
    }
    return Landing(**(values | changes))  # type: ignore[arg-type]


def test_the_states_are_closed() -> None:
    assert set().union(*TRANSITIONS.values()) <= set(TRANSITIONS)
    assert set(TRANSITIONS) >= TERMINAL
    for state in ("succeeded", "cancelled", "rejected"):
        assert not TRANSITIONS[state]


def test_a_job_has_the_columns_of_its_table_in_their_order() -> None:
    assert [field.name for field in fields(Job)] == [column.name for column in JOBS.columns]


def test_exactly_the_legal_changes_are_accepted(ledger: Ledger) -> None:
    job = ledger.intend(envelope())
    for before in STATES:
        for after in STATES:
            put_in(ledger, job.job_id, before)
            events = len(ledger.snapshot()[1])
            if after in TRANSITIONS[before]:
                assert ledger.move(job.job_id, after).state == after
                assert len(ledger.snapshot()[1]) == events + 1
            else:
                with pytest.raises(InvariantError, match=f"cannot go from {before} to {after}"):
                    ledger.move(job.job_id, after, error="never written")
                unchanged = ledger.job(job.job_id)
                assert (unchanged.state, unchanged.error) == (before, None)
                assert len(ledger.snapshot()[1]) == events


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wishes=st.lists(st.sampled_from(STATES), max_size=12), number=st.integers(0, 10**9))
def test_any_sequence_of_wishes_leaves_a_legal_history_without_gaps(
    ledger: Ledger, wishes: list[str], number: int
) -> None:
    job = ledger.intend(envelope(repetition=number))
    known = len([e for e in ledger.snapshot()[1] if e["job_id"] == job.job_id])
    for wish in wishes:
        try:
            ledger.move(job.job_id, wish)
        except InvariantError:
            continue
        known += 1
    events = [e for e in ledger.snapshot()[1] if e["job_id"] == job.job_id]
    assert [e["sequence"] for e in events] == list(range(1, known + 1))
    states = [e["state"] for e in events]
    assert states[0] == "intended"
    assert all(b in TRANSITIONS[a] for a, b in itertools.pairwise(states))
    assert states[-1] == ledger.job(job.job_id).state


def test_a_state_passed_on_the_way_is_checked_and_recorded(ledger: Ledger) -> None:
    job = ledger.intend(envelope())
    ledger.move(job.job_id, "submitting")
    with pytest.raises(InvariantError, match="from submitting to running"):
        ledger.move(job.job_id, "succeeded", through="running")
    ledger.move(job.job_id, "succeeded", "result", through="submitted")
    assert [(e["state"], e["detail"]) for e in ledger.snapshot()[1]][2:] == [("submitted", ""), ("succeeded", "result")]


def test_a_claim_that_does_not_hold_any_more_is_a_conflict(ledger: Ledger) -> None:
    job = ledger.intend(envelope())
    ledger.move(job.job_id, "submitting", expect="intended", version=1, attempts=1)
    with pytest.raises(Conflict, match="is submitting, not intended"):
        ledger.move(job.job_id, "submitting", expect="intended")
    with pytest.raises(Conflict, match="has moved on"):
        ledger.move(job.job_id, "submitted", expect="submitting", version=1)
    with pytest.raises(Conflict, match="has moved on"):
        ledger.touch(job.job_id, read=job, looks=9)
    assert ledger.job(job.job_id).state == "submitting"


def test_of_many_moves_one_wins(ledger: Ledger, ledger_url: str) -> None:
    job = ledger.intend(envelope())

    def claim(_: int) -> bool:
        try:
            Ledger(ledger_url).move(job.job_id, "submitting", expect="intended", version=1, attempts=1)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(claim, range(8))) == 1


def test_an_intent_is_written_once_and_every_envelope_is_kept(ledger: Ledger) -> None:
    first, same_job, other = envelope(), envelope(owner="team:b"), envelope(repetition=1)
    jobs = [ledger.intend(e) for e in (first, first, same_job, other)]
    assert jobs[0] == jobs[1] == jobs[2] != jobs[3]
    assert jobs[2].envelope_digest == first.digest
    assert ledger.envelope(same_job.digest) == same_job
    assert len(ledger.jobs()) == 2
    assert ledger.jobs(state="intended", instance="maxcut.g1") == ledger.jobs()
    assert ledger.jobs(state="failed") == ledger.jobs(instance="maxcut.g2") == []
    assert jobs[0].created_at.tzinfo is not None


WORKER = """
import sys
from pathlib import Path
from resources.envelope import JobEnvelope
from resources.ledger import Ledger
root, url = Path(sys.argv[1]), sys.argv[4]
made = JobEnvelope.model_validate_json((root / "envelope.json").read_text())
(root / f"ready-{sys.argv[2]}").touch()
while len(list(root.glob("ready-*"))) < int(sys.argv[3]):
    pass
ledger = Ledger(url)
for repetition in range(10):
    ledger.intend(made.model_copy(update={"repetition": repetition}))
job = ledger.intend(made.model_copy(update={"repetition": 99, "tags": {"process": sys.argv[2]}}))
for _ in range(10):
    ledger.move(job.job_id, "intended")
"""


def test_processes_that_race_on_a_fresh_database_share_every_job(tmp_path: Path, ledger_url: str) -> None:
    (tmp_path / "envelope.json").write_text(envelope().model_dump_json())
    count = 4
    code = [sys.executable, "-c", WORKER, str(tmp_path)]
    processes = [
        subprocess.Popen([*code, str(n), str(count), ledger_url], cwd=PROJECT, stderr=subprocess.PIPE, text=True)
        for n in range(count)
    ]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [p.returncode for p in processes] == [0] * count, said
    jobs, events = Ledger(ledger_url).snapshot()
    assert len(jobs) == 11
    for job in jobs:
        own = [e["sequence"] for e in events if e["job_id"] == job.job_id]
        assert own == list(range(1, len(own) + 1))
    assert len(events) >= 11 + 10 * count


def test_an_envelope_altered_in_the_database_is_refused(ledger: Ledger) -> None:
    made = envelope()
    ledger.intend(made)
    with ledger.transaction() as tx:
        tx.exec_driver_sql("update envelopes set document = replace(document, '1024', '2048')")
    with pytest.raises(InvariantError, match="was altered"):
        ledger.envelope(made.digest)
    with pytest.raises(InvariantError, match="no envelope"):
        ledger.envelope("0" * 64)
    with pytest.raises(InvariantError, match="no job"):
        ledger.job("job-0")


def test_a_document_that_is_no_envelope_any_more_is_refused(ledger: Ledger) -> None:
    made = envelope()
    ledger.intend(made)
    with ledger.engine.begin() as tx:
        tx.execute(ENVELOPES.update().values(document='{"schema_version": "4"}'))
    with pytest.raises(InvariantError, match="was altered"):
        ledger.envelope(made.digest)


def test_a_snapshot_sees_one_moment(ledger: Ledger, ledger_url: str) -> None:
    ledger.intend(envelope())
    other = Ledger(ledger_url)

    def meanwhile(connection: object, cursor: object, statement: str, *_: object) -> None:
        if "FROM jobs" in statement:
            other.intend(envelope(repetition=1))

    sa.event.listen(ledger.engine, "after_cursor_execute", meanwhile)
    jobs, events = ledger.snapshot()
    sa.event.remove(ledger.engine, "after_cursor_execute", meanwhile)
    assert {e["job_id"] for e in events} == {j.job_id for j in jobs}
    assert len(ledger.jobs()) == 2


def test_a_busy_file_is_waited_for_and_a_defect_is_not(tmp_path: Path) -> None:
    ledger = Ledger.at(tmp_path / "ledger.db")
    blocker = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None, check_same_thread=False)
    blocker.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ledger.intend, envelope())
        time.sleep(2.5)
        assert not waiting.done()
        blocker.execute("ROLLBACK")
        assert waiting.result(timeout=30).state == "intended"
    blocker.execute("DROP TABLE job_events")
    began = time.monotonic()
    with pytest.raises(sa.exc.OperationalError, match="no such table"):
        ledger.snapshot()
    assert time.monotonic() - began < 5


def test_a_file_that_is_no_ledger_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database at all, only text " * 100)
    (tmp_path / "folder.db").mkdir()
    for name in ("text.db", "folder.db", "missing/ledger.db"):
        with pytest.raises(InputError, match=r"ledger: it cannot be used \(.*\); check"):
            Ledger.at(tmp_path / name)


def test_a_server_that_does_not_answer_is_one_sentence_without_its_password() -> None:
    with pytest.raises(InputError, match=r"refused.*; check HYBRID_LEDGER and that its server answers\.$") as told:
        Ledger("postgresql+psycopg2://somebody:sesame-street@127.0.0.1:1/jobs")
    assert "sesame" not in str(told.value)


def test_landings_are_replaced_by_key_and_never_by_another_file(ledger: Ledger) -> None:
    ledger.land(landing())
    ledger.land(landing(options={"shots": 7}, source_digest="c" * 64))
    assert ledger.landing("maxcut.g") == landing(options={"shots": 7}, source_digest="c" * 64)
    with pytest.raises(Conflict, match=r"/inbox/g\.txt"):
        ledger.land(landing(path="/other/g.txt"))
    ledger.land(landing(instance="maxcut.h", path="/inbox/h.txt"))
    assert [found.instance for found in ledger.landings()] == ["maxcut.g", "maxcut.h"]
    assert [found.instance for found in ledger.landings(path="/inbox/h.txt")] == ["maxcut.h"]
    ledger.mark_landing("maxcut.g", "deleted")
    assert [found.state for found in ledger.landings()] == ["deleted", "present"]
    assert ledger.landing("maxcut.nobody") is None
    for instance, state in (("maxcut.nobody", "deleted"), ("maxcut.g", "gone")):
        with pytest.raises(InvariantError):
            ledger.mark_landing(instance, state)


def test_claims_of_the_living_and_the_dead() -> None:
    host, pid, start = this_process().split(":")
    assert is_alive(this_process())
    # as it was written before starts were recorded
    assert is_alive(f"{host}:{pid}")
    assert is_alive("another-host.invalid:1:5.0")
    assert not is_alive(None)
    # the number was given to another process
    assert not is_alive(f"{host}:{pid}:{float(start) - 60:.2f}")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    while ended.returncode is None and is_alive(f"{host}:{ended.pid}"):
        time.sleep(0.01)
    # killed or ended, and nobody has asked for it yet
    assert ended.returncode is None
    ended.wait()
    assert not is_alive(f"{host}:{ended.pid}:{start}")


def another_process_claims(ledger: Ledger, job_id: str, claimed_by: str, seconds: float = 60.0) -> None:
    ledger.touch(job_id, claimed_by=claimed_by, claimed_until=datetime.now(UTC) + timedelta(seconds=seconds))


ELSEWHERE = "another-host.invalid:17:3.00"
DEAD = f"{this_process().split(':')[0]}:{os.getpid()}:1.00"


def test_an_intent_holds_what_the_control_plane_needs(ledger: Ledger) -> None:
    made = envelope(owner="team:b", priority=4, policy_version="p1", replay_of="f" * 64)
    job = ledger.intend(made, claim_seconds=30)
    assert (job.owner, job.priority, job.policy_version, job.replay_of) == ("team:b", 4, "p1", "f" * 64)
    assert job.provider_key == f"{job.job_id}-1"
    assert (job.version, job.hop, job.cached, job.look_at) == (1, 0, False, job.created_at)
    assert job.claimed_by == this_process()
    assert job.claimed_until == job.created_at + timedelta(seconds=30)
    # every column, also those of which an intent says nothing
    assert ledger.job(job.job_id) == job
    # what is there already is not claimed
    another_process_claims(ledger, job.job_id, ELSEWHERE)
    assert ledger.intend(made, claim_seconds=30).claimed_by == ELSEWHERE


def test_many_intents_are_one_transaction(ledger: Ledger) -> None:
    known = ledger.intend(envelope(repetition=1))
    twin = envelope(repetition=2, instance="maxcut.twin")
    jobs = ledger.intend_many([envelope(repetition=2), envelope(repetition=1), twin, envelope(repetition=3)], 60)
    assert [job.job_id for job in jobs] == [job_id_of(envelope(repetition=r)) for r in (2, 1, 2, 3)]
    assert jobs[1] == known
    assert [job.claimed_by for job in jobs] == [this_process(), None, this_process(), this_process()]
    assert len(ledger.snapshot()[1]) == 3
    # the twin's instance is served by a job that another instance asked for
    assert ledger.jobs(instance="maxcut.twin") == [jobs[0]]
    assert ledger.envelope(twin.digest) == twin
    assert len(ledger.jobs()) == 3


def test_a_joined_transaction_is_kept_or_undone_as_a_whole(ledger: Ledger) -> None:
    job = ledger.intend(envelope())

    def given_up() -> None:
        with ledger.transaction() as tx:
            ledger.intend(envelope(repetition=1), tx=tx)
            ledger.move(job.job_id, "submitting", tx=tx)
            assert ledger.open_jobs(tx=tx) == 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        given_up()
    assert ledger.jobs() == [job]

    def refused(tx: sa.Connection) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        ledger.move(job.job_id, "submitting", also=refused)
    assert ledger.job(job.job_id) == job
    assert len(ledger.snapshot()[1]) == 1


def test_moves_of_many_jobs_each_stand_for_themselves(ledger: Ledger) -> None:
    jobs = ledger.intend_many([envelope(repetition=r) for r in range(4)])
    ledger.move(jobs[1].job_id, "submitting")
    called: list[str] = []
    moves = [
        Move(job.job_id, "submitting", "to aer", expect="intended", also=lambda tx, j=job: called.append(j.job_id))
        for job in jobs
    ]
    moved = ledger.move_many(moves)
    assert [type(answer) for answer in moved] == [Job, Conflict, Job, Job]
    assert [answer.job_id for answer in moved if isinstance(answer, Job)] == called
    assert called == [job.job_id for job in (jobs[0], jobs[2], jobs[3])]
    with pytest.raises(InvariantError):
        ledger.move_many([Move(jobs[0].job_id, "submitted"), Move(jobs[1].job_id, "running")])
    assert ledger.job(jobs[0].job_id).state == "submitting"
    assert ledger.move_many([]) == []


def test_a_move_may_expect_one_of_several_states(ledger: Ledger) -> None:
    job = ledger.intend(envelope())
    with pytest.raises(Conflict, match="is intended, not submitted or running"):
        ledger.move(job.job_id, "succeeded", expect=("submitted", "running"))
    assert ledger.move(job.job_id, "submitting", expect=("intended", "submitted")).state == "submitting"


def test_a_job_that_ends_or_waits_is_not_looked_at(ledger: Ledger) -> None:
    job = ledger.intend(envelope(), claim_seconds=60)
    later = job.created_at + timedelta(hours=1)
    waiting = ledger.move(job.job_id, "awaiting_approval", look_at=later)
    assert (waiting.look_at, waiting.claimed_until, waiting.ended_at) == (None, None, None)
    approved = ledger.move(job.job_id, "intended")
    assert approved.look_at == approved.updated_at
    assert ledger.move(job.job_id, "submitting", look_at=later).look_at == later
    assert ledger.move(job.job_id, "ambiguous").look_at == later
    failed = ledger.move(job.job_id, "failed", error="backend: gone")
    assert (failed.look_at, failed.claimed_until, failed.ended_at) == (None, None, failed.updated_at)
    again = ledger.move(job.job_id, "intended")
    assert (again.look_at, again.ended_at, again.version) == (again.updated_at, None, 7)


def test_columns_are_touched_without_an_event(ledger: Ledger) -> None:
    job = ledger.intend(envelope())
    touched = ledger.touch(job.job_id, looks=3, provider_id="p")
    assert touched == ledger.job(job.job_id)
    assert (touched.looks, touched.provider_id, touched.version, touched.updated_at) == (3, "p", 1, job.updated_at)
    assert len(ledger.snapshot()[1]) == 1
    with pytest.raises(InvariantError, match="only a move"):
        ledger.touch(job.job_id, state="failed")
    with pytest.raises(InvariantError, match="no job"):
        ledger.touch("job-0", looks=1)


def test_a_lease_is_respected_while_its_holder_lives(ledger: Ledger) -> None:
    job = ledger.intend(envelope())
    assert ledger.claim(job.job_id, 60)
    assert ledger.claim(job.job_id, 90), "its own is renewed"
    another_process_claims(ledger, job.job_id, ELSEWHERE)
    assert not ledger.claim(job.job_id, 60)
    assert ledger.due(5, 60) == []
    ledger.release([job.job_id])
    assert ledger.job(job.job_id).claimed_until is not None, "another's is not released"
    another_process_claims(ledger, job.job_id, ELSEWHERE, seconds=-1)
    assert ledger.claim(job.job_id, 60)
    another_process_claims(ledger, job.job_id, DEAD)
    assert [taken.claimed_by for taken in ledger.due(5, 60)] == [this_process()]
    another_process_claims(ledger, job.job_id, DEAD)
    assert ledger.claim(job.job_id, 60)
    later = datetime.now(UTC) + timedelta(minutes=5)
    ledger.release([job.job_id], look_at=later)
    assert (ledger.job(job.job_id).look_at, ledger.job(job.job_id).claimed_until) == (later, None)
    ledger.move(job.job_id, "failed")
    ledger.release([job.job_id], look_at=later)
    assert ledger.job(job.job_id).look_at is None


def test_due_jobs_come_by_priority_and_then_by_waiting_time(ledger: Ledger) -> None:
    now = datetime.now(UTC)
    asked = [(0, -10), (5, -1), (5, -20), (9, 60), (0, -30)]
    jobs = [ledger.intend(envelope(repetition=n, priority=p)) for n, (p, _) in enumerate(asked)]
    for job, (_, seconds) in zip(jobs, asked, strict=True):
        ledger.touch(job.job_id, look_at=now + timedelta(seconds=seconds))
    assert [job.job_id for job in ledger.due(3, 60, now)] == [jobs[n].job_id for n in (2, 1, 4)]
    assert [job.job_id for job in ledger.due(3, 60, now)] == [jobs[0].job_id]
    assert ledger.due(3, 60, now) == []
    # leases run out; what is not open is never due
    ledger.move(jobs[2].job_id, "cancelled")
    late = now + timedelta(seconds=90)
    assert [job.job_id for job in ledger.due(9, 60, late)] == [jobs[n].job_id for n in (3, 1, 4, 0)]


def test_due_jobs_are_leased_to_one_only(ledger: Ledger, ledger_url: str) -> None:
    ledger.intend_many([envelope(repetition=n) for n in range(40)])

    def take(_: int) -> list[str]:
        mine, own = [], Ledger(ledger_url)
        while jobs := own.due(3, 60):
            mine += [job.job_id for job in jobs]
        return mine

    with ThreadPoolExecutor(4) as pool:
        taken = [job_id for share in pool.map(take, range(4)) for job_id in share]
    assert sorted(taken) == sorted(job.job_id for job in ledger.jobs())


def test_open_jobs_are_those_a_backend_has_or_may_have(ledger: Ledger) -> None:
    jobs = ledger.intend_many([envelope(repetition=n) for n in range(3)] + [envelope(backend="lightning")])
    for job in jobs[1:]:
        ledger.move(job.job_id, "submitting")
    ledger.move(jobs[1].job_id, "ambiguous")
    assert (ledger.open_jobs(), ledger.open_jobs("aer"), ledger.open_jobs("lightning")) == (3, 2, 1)
    ledger.move(jobs[1].job_id, "failed")
    assert (ledger.open_jobs("aer"), ledger.open_jobs("nobody")) == (1, 0)


@settings(max_examples=20, deadline=None)
@given(when=st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1)), hours=st.integers(-12, 12))
def test_times_keep_their_moment_whatever_their_zone(shared: Ledger, when: datetime, hours: int) -> None:
    job = shared.intend(envelope())
    at = when.replace(tzinfo=timezone(timedelta(hours=hours)))
    assert shared.touch(job.job_id, look_at=at).look_at == at
    assert [j.job_id for j in shared.jobs() if j.look_at == at] == [job.job_id]


def test_envelopes_come_back_equal(ledger: Ledger) -> None:
    made = envelope(tags={"ü": "→"}, owner="Ωmega 'quoted' \"twice\"")
    ledger.intend(made)
    assert isinstance(ledger.envelope(made.digest), JobEnvelope)
    assert ledger.envelope(made.digest) == made
