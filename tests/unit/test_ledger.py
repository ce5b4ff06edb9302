"""The ledger: legal changes only, one row per job, nothing altered unnoticed, many processes at once."""

from __future__ import annotations

import itertools
import os
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resources.envelope import JobEnvelope
from resources.failures import InputError, InvariantError
from resources.ledger import Conflict, Landing, Ledger, is_alive, this_process
from resources.ledger_tables import ENVELOPES, TERMINAL, TRANSITIONS
from tests.unit.test_envelope import envelope

PROJECT = Path(__file__).resolve().parents[2]
STATES = sorted(TRANSITIONS)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.at(tmp_path / "ledger.db")


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
    ledger.move(job.job_id, "submitting", expect="intended", attempt=0, attempts=1)
    with pytest.raises(Conflict, match="is submitting, not intended"):
        ledger.move(job.job_id, "submitting", expect="intended")
    with pytest.raises(Conflict, match="attempt 1, not 0"):
        ledger.move(job.job_id, "submitted", expect="submitting", attempt=0)
    assert ledger.job(job.job_id).state == "submitting"


def test_of_many_claims_one_wins(ledger: Ledger, tmp_path: Path) -> None:
    job = ledger.intend(envelope())

    def claim(_: int) -> bool:
        try:
            Ledger.at(tmp_path / "ledger.db").move(job.job_id, "submitting", expect="intended", attempt=0, attempts=1)
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
root = Path(sys.argv[1])
made = JobEnvelope.model_validate_json((root / "envelope.json").read_text())
(root / f"ready-{sys.argv[2]}").touch()
while len(list(root.glob("ready-*"))) < int(sys.argv[3]):
    pass
ledger = Ledger.at(root / "ledger.db")
for repetition in range(10):
    ledger.intend(made.model_copy(update={"repetition": repetition}))
job = ledger.intend(made.model_copy(update={"repetition": 99, "tags": {"process": sys.argv[2]}}))
for _ in range(10):
    ledger.move(job.job_id, "intended")
"""


def test_processes_that_race_on_a_fresh_file_share_every_job(tmp_path: Path) -> None:
    (tmp_path / "envelope.json").write_text(envelope().model_dump_json())
    count = 8
    code = [sys.executable, "-c", WORKER, str(tmp_path)]
    processes = [
        subprocess.Popen([*code, str(n), str(count)], cwd=PROJECT, stderr=subprocess.PIPE, text=True)
        for n in range(count)
    ]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [p.returncode for p in processes] == [0] * count, said
    jobs, events = Ledger.at(tmp_path / "ledger.db").snapshot()
    assert len(jobs) == 11
    for job in jobs:
        own = [e["sequence"] for e in events if e["job_id"] == job.job_id]
        assert own == list(range(1, len(own) + 1))
    assert len(events) >= 11 + 10 * count


def test_an_envelope_altered_in_the_file_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    made = envelope()
    ledger.intend(made)
    with sqlite3.connect(tmp_path / "ledger.db") as raw:
        raw.execute("update envelopes set document = replace(document, '1024', '2048')")
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
        tx.execute(ENVELOPES.update().values(document='{"schema_version": "1"}'))
    with pytest.raises(InvariantError, match="was altered"):
        ledger.envelope(made.digest)


def test_a_snapshot_sees_one_moment(ledger: Ledger, tmp_path: Path) -> None:
    ledger.intend(envelope())
    other = Ledger.at(tmp_path / "ledger.db")

    def meanwhile(connection: object, cursor: object, statement: str, *_: object) -> None:
        if "FROM jobs" in statement:
            other.intend(envelope(repetition=1))

    sa.event.listen(ledger.engine, "after_cursor_execute", meanwhile)
    jobs, events = ledger.snapshot()
    sa.event.remove(ledger.engine, "after_cursor_execute", meanwhile)
    assert {e["job_id"] for e in events} == {j.job_id for j in jobs}
    assert len(ledger.jobs()) == 2


def test_a_busy_database_is_waited_for_and_a_defect_is_not(ledger: Ledger, tmp_path: Path) -> None:
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
    assert is_alive(this_process())
    assert is_alive("another-host.invalid:1")
    assert not is_alive(None)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not is_alive(this_process().replace(f":{os.getpid()}", f":{ended.pid}"))


def test_envelopes_come_back_equal(ledger: Ledger) -> None:
    made = envelope(tags={"ü": "→"}, owner="Ωmega 'quoted' \"twice\"")
    ledger.intend(made)
    assert isinstance(ledger.envelope(made.digest), JobEnvelope)
    assert ledger.envelope(made.digest) == made
