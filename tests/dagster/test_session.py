"""A command that waits for jobs waits for machines, not for people, and says what a person has to do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hybrid_assets.landing import Address
from hybrid_assets.request import parse
from hybrid_assets.session import open_session
from resources.controls import Mode
from resources.home import Home
from tests.waiting import PATIENCE

RING = "4 4\n1 2 1\n2 3 1\n3 4 1\n4 1 1\n"


def test_a_paused_backend_does_not_keep_a_command_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.setenv("HYBRID_ENV", "dev")
    (tmp_path / "ring.mc").write_text(RING)
    said: list[tuple[str, str]] = []
    with open_session(lambda *step: said.append(step), Home(tmp_path / "home")) as session:
        session.dispatcher.control("aer", Mode.PAUSED, by="ops", reason="calibration")
        request = parse({"backend": "aer", "shots": 100, "budget": 60.0}, "ring")
        key = session.land_file(Address(tmp_path / "ring.mc", 0), "maxcut", request).instance
        assert session.process(key).pending
        began = time.monotonic()
        ((found, outcome, _),) = session.finish([key])
        assert time.monotonic() - began < PATIENCE
        assert (found, outcome.pending) == (key, True)
        waits = session.waits_for(key)
        assert waits is not None
        assert waits.endswith("waits for `hybrid backend aer open`: paused by ops, calibration")
        session.dispatcher.control("aer", Mode.OPEN, by="ops", reason="done")
        assert session.waits_for(key) is None
        ((_, outcome, _),) = session.finish([key])
        assert (outcome.problem, outcome.pending) == (None, False)
    assert ("title", key) in said
    notes = [text for kind, text in said if kind == "note"]
    assert notes, "what the baselines say of themselves is shown"
    assert any(text.startswith("pending: job-") and text.endswith(" on aer is intended") for text in notes)
    assert all(text.startswith(("baseline ", "pending: ")) for text in notes), "Dagster's own lines are not"


def test_an_interrupted_command_stops_and_says_how_to_go_on(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox" / "maxcut"
    inbox.mkdir(parents=True)
    for number in range(12):
        (inbox / f"ring{number}.mc").write_text(RING.replace("4 1 1", f"4 1 {number + 2}"))
        (inbox / f"ring{number}.yaml").write_text("budget: 60\nshots: 50\ndepth: 1\n")
    where = {"HYBRID_HOME": str(tmp_path / "home"), "HYBRID_INBOX": str(inbox.parent), "HYBRID_ENV": "dev"}
    command = [sys.executable, "-m", "hybrid_assets.cli", "run"]
    with subprocess.Popen(command, env={**os.environ, **where}, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        told = ""
        for line in running.stderr:
            told += line
            if "[2/12]" in told and "baseline_runs …" in line:
                running.send_signal(signal.SIGINT)
                break
        told += running.stderr.read()
    assert running.returncode == 130
    assert told.endswith("interrupted; run the same command again to continue where it stopped.\n")
    assert "Warning" not in told
    # by when it hears of the interrupt it may be some instances further
    assert "[12/12]" not in told, "the interrupted instance is not one failure among others"
