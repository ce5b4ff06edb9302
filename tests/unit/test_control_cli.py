"""The commands of the control plane as a user types them: what they do, and one sentence for what they refuse."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import dimod
import pytest

from hybrid_assets import cli
from resources.assembly import build_dispatcher
from resources.dispatcher import Dispatcher
from resources.envelope import JobEnvelope
from resources.home import Home
from tests.unit.test_envelope import envelope

POLICY = """
version: t
routes:
  - {name: all, then: {backends: [annealer], fallback: [heuristic]}}
approval: {impact: [high]}
replay: {per_hour: 3}
"""


class Said(NamedTuple):
    code: int
    out: str
    err: str


Hybrid = Callable[..., Said]


@pytest.fixture
def hybrid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Hybrid]:
    """The command on a home of its own."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    for name, value in {
        "HYBRID_HOME": str(tmp_path / "home"),
        "HYBRID_POLICY": str(tmp_path / "policy.yaml"),
        "HYBRID_ENV": "dev",
        "HYBRID_USER": "ada",
        "COLUMNS": "400",
    }.items():
        monkeypatch.setenv(name, value)

    def call(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["hybrid", *arguments])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        out, err = capsys.readouterr()
        return Said(code, out, err)

    yield call
    work().ledger.engine.dispose()


def work() -> Dispatcher:
    return build_dispatcher(Home.from_environment().prepare())


def sent(number: int, **changes: object) -> str:
    """Id of a job that somebody has submitted."""
    bqm = dimod.BinaryQuadraticModel({0: 1.0, 1: -1.0 - number}, {(0, 1): -2.0}, 0.0, "BINARY")
    reference = work().artifacts.put(bqm.to_file().read())
    made: JobEnvelope = envelope(
        payload_ref=reference,
        payload_variables=2,
        backend="annealer",
        algorithm={"name": "annealing", "shots": 20, "seed": number},
        expected_shape=(20, 2),
        fallback=(),
        **changes,
    )
    return work().submit(made).job_id


def refused(said: Said, sentence: str) -> None:
    """Exit code 2 and one sentence that says so."""
    assert said.code == 2, said
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_a_waiting_job_is_approved_and_sent(hybrid: Hybrid) -> None:
    job = sent(1, impact="high")
    waiting = hybrid("jobs", "--waiting")
    assert job in waiting.out
    assert "its impact is high" in waiting.out
    refused(hybrid("approve", job, "--reason", " "), "reason: it is empty; say why in a few words")
    done = hybrid("approve", job[:12], "--reason", "looked at it")
    assert (done.code, done.err.startswith(f"{job} is intended")) == (0, True)
    assert f"{job} on annealer is succeeded." in hybrid("reconcile", "--wait", "30").err
    assert "succeeded" in hybrid("jobs", "--state", "succeeded").out
    history = hybrid("jobs", "--history", job).out
    assert "approved by ada: looked at it" in history
    refused(hybrid("approve", job, "--reason", "again"), "it is succeeded, nobody is asked")
    rows = [json.loads(line) for line in hybrid("audit", "log", "--json").out.splitlines()]
    assert [(row["actor"], row["reason"]) for row in rows if row["action"] == "approve"] == [("ada", "looked at it")]


def test_a_waiting_job_is_rejected_or_cancelled(hybrid: Hybrid) -> None:
    first, second = sent(2, impact="high"), sent(3, impact="high")
    assert hybrid("reject", first, "--reason", "too dear").err == f"{first} is rejected.\n"
    assert f"{second} on annealer is cancelled" in hybrid("cancel", second[:12], "--reason", "wrong file").err
    refused(hybrid("cancel", second, "--reason", "again"), "it has ended as cancelled; cancel jobs that are open")
    third = sent(4, impact="high")
    refused(hybrid("cancel", third, "--reason", ""), "reason: it is empty")
    assert work().ledger.job(third).state == "awaiting_approval"
    assert hybrid("audit", "verify").code == 0


def test_a_replay_is_a_job_of_its_own(hybrid: Hybrid) -> None:
    job = sent(5)
    done = hybrid("replay", job[:12], "--reason", "doubts")
    assert done.code == 0
    (again,) = [row for row in work().ledger.jobs() if row.replay_of]
    assert (again.state, again.replay_of) == ("succeeded", work().ledger.job(job).envelope_digest)
    assert f"{again.job_id} on annealer is succeeded." in done.err
    assert job in done.out
    assert again.job_id in done.out
    other = hybrid("replay", job, "--reason", "elsewhere", "--backend", "heuristic")
    assert "on heuristic is succeeded." in other.err
    refused(hybrid("replay", job, "--reason", "where", "--backend", "nowhere"), "no backend has this name; use one of")
    refused(hybrid("replay", job, "--reason", " "), "reason: it is empty")
    assert hybrid("replay", job, "--reason", "third").code == 0
    refused(hybrid("replay", job, "--reason", "fourth"), "the policy allows 3")


def test_a_backend_is_paused_and_opened(hybrid: Hybrid) -> None:
    assert hybrid("backend", "annealer", "paused", "--reason", "lunch").err == "annealer is paused.\n"
    assert "lunch" in hybrid("backend").out
    job = sent(6)
    assert work().ledger.job(job).state == "intended"
    hybrid("reconcile")
    assert work().ledger.job(job).state == "intended"
    assert hybrid("backend", "annealer", "open", "--reason", "back").code == 0
    hybrid("reconcile", "--wait", "30")
    assert work().ledger.job(job).state == "succeeded"


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("approve job-nobody --reason x", "job-nobody: job: there is no such job; see `hybrid jobs` for the ids"),
        ("reject job-nobody --reason x", "there is no such job"),
        ("cancel job-nobody --reason x", "there is no such job"),
        ("replay job-nobody --reason x", "there is no such job"),
        ("jobs --history job-nobody", "there is no such job"),
        ("jobs --state done", "--state: done: there is no such state; use one of intended"),
        ("backend annealer asleep --reason x", "there is no such mode; use one of open, paused, drained, killed"),
        ("backend annealer paused", "reason: it is empty; say why in a few words"),
        ("backend nobody paused --reason x", "no backend has this name"),
        ("backend nobody", "no backend has this name"),
        ("spending --month 2026-13", "--month: 2026-13: it is no month; write for example 2026-11"),
        ("cache invalidate --reason x", "nothing was selected"),
        ("cache invalidate --reason x --backend nobody", "no backend has this name"),
        ("cache invalidate --reason x --job job-nobody", "there is no such job"),
    ],
)
def test_nonsense_is_one_sentence(hybrid: Hybrid, command: str, sentence: str) -> None:
    refused(hybrid(*command.split()), sentence)
    assert work().audit.rows() == []


@pytest.mark.parametrize("reason", ["ticket [/ops]", "[red]old[/red] fridge :fire:"])
def test_a_reason_is_shown_as_it_was_written(hybrid: Hybrid, reason: str) -> None:
    job = sent(7, impact="high")
    assert hybrid("backend", "aer", "paused", "--reason", reason).code == 0
    assert hybrid("reject", job, "--reason", reason).code == 0
    for command in (["backend"], ["jobs", "--history", job], ["audit", "log"]):
        said = hybrid(*command)
        assert (said.code, reason in said.out) == (0, True), command


def test_two_jobs_that_begin_alike_are_not_guessed(hybrid: Hybrid) -> None:
    sent(7)
    sent(8)
    refused(hybrid("cancel", "job-", "--reason", "which"), "several jobs begin so")


def test_spending_and_the_cache_are_told(hybrid: Hybrid) -> None:
    sent(9)
    assert hybrid("spending").code == 0
    said = hybrid("cache", "invalidate", "--everything", "--reason", "new calibration")
    assert said.err.endswith("results do not answer any more.\n")
    rows = work().audit.rows()
    assert rows[-1]["reason"] == "new calibration"


def test_a_forged_row_is_named(hybrid: Hybrid) -> None:
    sent(10)
    hybrid("backend", "annealer", "drained", "--reason", "maintenance")
    intact = hybrid("audit", "verify")
    assert (intact.code, "rows, all intact" in intact.out) == (0, True)
    with sqlite3.connect(Home.from_environment().ledger) as file:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            file.execute("UPDATE audit_log SET reason = 'no reason' WHERE sequence = 1")
        # who owns the file can go further
        for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            file.execute(f'DROP TRIGGER "{name}"')
        file.execute("UPDATE audit_log SET reason = 'no reason' WHERE sequence = 1")
    found = hybrid("audit", "verify")
    assert (found.code, found.out.strip()) == (1, "row 1 was altered")
