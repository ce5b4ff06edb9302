"""The command in a clean environment: production stops before anything is stored; a killed staging run sends nothing
twice."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from resources.emulator.running import serve_in_background
from tests.waiting import PATIENCE, until

RING = "6 8\n1 2 1\n2 3 2\n3 4 1\n4 5 3\n5 6 1\n6 1 2\n1 4 1\n2 5 2\n"
#: What every backend of the policy needs, one variable each.
NEEDED = ("HYBRID_IBM_TOKEN", "HYBRID_BRAKET_DEVICE", "DWAVE_API_TOKEN")


def environment(home: Path, **more: str) -> dict[str, str]:
    """Nothing but what is needed to start Python: no credentials, no proxy, no settings of this machine."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "HYBRID_HOME": str(home), **more}


def hybrid(env: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hybrid_assets.cli", *arguments]
    return subprocess.run(command, env=env, text=True, capture_output=True, timeout=PATIENCE)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox" / "maxcut"
    folder.mkdir(parents=True)
    (folder / "ring.mc").write_text(RING)
    (folder / "ring.yaml").write_text("budget: 60\nshots: 200\ndepth: 2\n")
    return tmp_path / "inbox"


def test_production_stops_with_one_sentence_per_backend_and_stores_nothing(inbox: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    # nothing can be reached: every proxy leads to a port where nobody listens
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        secret = "s3cret-of-another-account"
        env = environment(
            home,
            HYBRID_ENV="production",
            HYBRID_INBOX=str(inbox),
            HTTP_PROXY=proxy,
            HTTPS_PROXY=proxy,
            AWS_SECRET_ACCESS_KEY=secret,
        )
        routed = hybrid(env, "route", str(inbox / "maxcut" / "ring.mc"), "--family", "maxcut")
        solved = hybrid(env, "solve", str(inbox / "maxcut" / "ring.mc"), "--family", "maxcut", "--json")
    for done in (routed, solved):
        assert done.returncode == 1, done.stderr
        assert done.stdout == ""
        last = done.stderr.strip().splitlines()[-1]
        for variable in NEEDED:
            assert last.count(variable) == 1, "one sentence per backend"
        assert "Traceback" not in done.stderr
        assert secret not in done.stderr
    ledger = sqlite3.connect(home / "ledger.db")
    assert ledger.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
    assert ledger.execute("SELECT count(*) FROM envelopes").fetchone() == (0,)
    assert ledger.execute("SELECT count(*) FROM spending").fetchone() == (0,)
    assert not [path for path in home.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def test_a_killed_staging_run_sends_nothing_twice(inbox: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with serve_in_background(tmp_path / "emulator", queue_seconds=4.0, patience=PATIENCE) as emulator:
        env = environment(
            home,
            HYBRID_ENV="staging",
            HYBRID_EMULATOR_URL=emulator.url,
            HYBRID_EMULATOR_DEVICE="quick-8",
            HYBRID_INBOX=str(inbox),
        )
        solve = ["solve", str(inbox / "maxcut" / "ring.mc"), "--family", "maxcut", "--json"]
        command = [sys.executable, "-m", "hybrid_assets.cli", *solve]
        first = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: executions(emulator.admin("executions")) or first.poll() is not None)
        assert first.poll() is None
        first.send_signal(signal.SIGKILL)
        first.wait()
        (key,) = executions(emulator.admin("executions"))
        again = hybrid(env, *solve)
        assert again.returncode == 0, again.stderr
        answer = json.loads(again.stdout)
        assert (answer["quantum_backend"], answer["quantum_evidence_class"]) == ("emulator", "emulator")
        assert executions(emulator.admin("executions")) == {key: 1}


def executions(document: Any) -> dict[str, int]:
    """How many results are stored of each job."""
    return {key: row["executions"] for key, row in document["executions"].items()}
