"""Checkpoints: a training that was killed goes on where it was, and ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from resources.artifacts import ArtifactStore
from resources.backends import notes
from resources.backends.aer import Aer
from resources.backends.conformance import asymmetric_problem, envelope_for
from resources.circuits import checkpoint, device
from resources.circuits.checkpoint import resumable
from resources.circuits.diagonal_template import DiagonalTemplate
from resources.circuits.ising import Ising, Structure
from resources.circuits.qaoa import WHOLE_RUNS, Readout, run_qaoa
from resources.circuits.templates import Template, qiskit_template
from resources.dispatcher import Dispatcher
from resources.envelope import Algorithm, JobEnvelope, JobResult
from resources.home import Home
from resources.ledger import Ledger
from resources.workers import WarmWorkers

PROJECT = Path(__file__).resolve().parents[2]
PAYLOAD = asymmetric_problem(4, seed=1)
ISING = Ising.from_bqm(PAYLOAD)
TRAINED = Algorithm(name="qaoa-trained", depth=1, shots=50, tuning_shots=32, training_circuits=20, seed=3)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HYBRID_HOME", str(tmp_path))
    return tmp_path


def kept() -> list[Path]:
    return list((Home.from_environment().root / "submissions").glob("*.json"))


class Counted:
    """A template that counts the circuits it runs, takes its time, and dies where it is told to."""

    def __init__(self, inner: Template, dies_at: float = np.inf, seconds: float = 0.0, log: Path | None = None) -> None:
        self.inner, self.dies_at, self.seconds, self.log, self.circuits = inner, dies_at, seconds, log, 0
        self.depth, self.two_qubit_gates = inner.depth, inner.two_qubit_gates

    def sample(self, angles: np.ndarray, shots: int, seed: int) -> np.ndarray:
        if self.circuits + len(angles) > self.dies_at:
            raise KeyboardInterrupt
        self.circuits += len(angles)
        time.sleep(self.seconds * len(angles))
        if self.log:
            with self.log.open("a") as log:
                log.write("circuit\n" * len(angles))
        return self.inner.sample(angles, shots, seed)


def template(dies_at: float = np.inf) -> Counted:
    return Counted(qiskit_template(ISING.structure(1)), dies_at)


def attempt(algorithm: Algorithm, template: Template, broadcast: bool = False) -> Readout:
    with resumable("here", PAYLOAD, algorithm) as kept:
        return run_qaoa(PAYLOAD, ISING, template, algorithm, time.perf_counter() + 600, broadcast, kept)


@pytest.mark.parametrize(
    ("algorithm", "broadcast"),
    [(TRAINED, True), (TRAINED, False), (TRAINED.model_copy(update={"name": "qaoa-ramp"}), False)],
)
@pytest.mark.parametrize("dies_at", [0, 4, 61])
def test_the_answer_is_the_one_without_interruption(
    monkeypatch: pytest.MonkeyPatch, algorithm: Algorithm, broadcast: bool, dies_at: int
) -> None:
    monkeypatch.setattr(checkpoint, "EVERY_SECONDS", 0.0)
    whole = run_qaoa(PAYLOAD, ISING, template(), algorithm, time.perf_counter() + 600, broadcast)
    dies_at = min(dies_at, whole.circuits - 1)
    first, second = template(dies_at), template()
    with pytest.raises(KeyboardInterrupt):
        attempt(algorithm, first, broadcast)
    resumed = attempt(algorithm, second, broadcast)

    assert np.array_equal(resumed.bits, whole.bits)
    assert resumed.run_energies == whole.run_energies
    # all that was run is charged, once
    assert (resumed.circuits, resumed.tuning_shots) == (whole.circuits, whole.tuning_shots)
    parameters = dict(resumed.parameters)
    before = parameters.pop("resumed_from", {"circuits": 0, "shots": 0})
    assert parameters == whole.parameters
    # read-outs are run again, nothing else is
    readouts = first.circuits - before["circuits"]
    assert second.circuits == whole.circuits - before["circuits"]
    assert before["shots"] == before["circuits"] * algorithm.tuning_shots
    assert 0 <= readouts <= WHOLE_RUNS
    assert kept() == []


def test_an_uninterrupted_choice_says_nothing_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "EVERY_SECONDS", 0.0)
    first, second = attempt(TRAINED, template()), attempt(TRAINED, template())
    assert "resumed_from" not in first.parameters
    assert first.parameters == second.parameters
    assert kept() == []


def test_seconds_of_the_first_attempt_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "EVERY_SECONDS", 0.0)
    slow = template(30)
    slow.seconds = 0.05
    with pytest.raises(KeyboardInterrupt):
        attempt(TRAINED, slow)
    later = template()
    later.seconds = 0.05
    with resumable("here", PAYLOAD, TRAINED) as known:
        resumed = run_qaoa(PAYLOAD, ISING, later, TRAINED, time.perf_counter() + 2.0, False, known)
    before = resumed.parameters["resumed_from"]
    assert before["seconds"] >= 0.05 * before["circuits"] > 0.2
    assert 0.05 * later.circuits + before["seconds"] < 2.2, "both attempts together have the budget of one"


def test_nothing_of_another_machine_problem_or_seed_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "EVERY_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        attempt(TRAINED, template(30))
    other = asymmetric_problem(4, seed=2)
    for where, payload, algorithm in (
        ("elsewhere", PAYLOAD, TRAINED),
        ("here", other, TRAINED),
        ("here", PAYLOAD, TRAINED.model_copy(update={"seed": 4})),
    ):
        with resumable(where, payload, algorithm) as known:
            assert known.evaluations == {}
    with resumable("here", PAYLOAD, TRAINED) as known:
        assert len(known.evaluations) > 10


def test_the_choice_before_a_trip_to_a_device_goes_on_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "EVERY_SECONDS", 0.0)
    whole = device.tune(PAYLOAD, ISING, TRAINED, time.perf_counter() + 600)
    kernel = DiagonalTemplate(ISING.structure(1))
    monkeypatch.setattr(device, "DiagonalTemplate", lambda structure: Counted(kernel, 15))
    with pytest.raises(KeyboardInterrupt):
        device.tune(PAYLOAD, ISING, TRAINED, time.perf_counter() + 600)
    counted = Counted(kernel)
    monkeypatch.setattr(device, "DiagonalTemplate", lambda structure: counted)
    resumed = device.tune(PAYLOAD, ISING, TRAINED, time.perf_counter() + 600)
    assert np.array_equal(resumed.gammas, whole.gammas)
    assert np.array_equal(resumed.betas, whole.betas)
    assert resumed.record["resumed_from"]["circuits"] == 15
    assert counted.circuits == whole.circuits - 15
    assert kept() == []


def test_old_notes_are_swept() -> None:
    notes.write("old", {"a": 1})
    notes.write("new", {"a": 2})
    (old,) = (path for path in kept() if path.read_text() == '{"a":1}')
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    assert notes.sweep(1.0) == 1
    assert notes.read("old") is None
    assert notes.read("new") == {"a": 2}


# --- kill -9 ----------------------------------------------------------------------------------------------------------


@dataclass
class Slow(Aer):
    """Aer with a fiftieth of a second more for each circuit, and a line in a file."""

    name = "slow"

    def template(self, structure: Structure) -> Template:
        log = Home.from_environment().root / "circuits"
        return Counted(qiskit_template(structure), seconds=0.02, log=log)


def circuits_run() -> int:
    log = Home.from_environment().root / "circuits"
    return len(log.read_text().splitlines()) if log.exists() else 0


class System:
    """Dispatcher, ledger and worker over one folder."""

    def __init__(self) -> None:
        root = Home.from_environment().root
        artifacts = ArtifactStore(root / "artifacts")
        self.workers = WarmWorkers()
        self.ledger = Ledger(f"sqlite:///{root / 'ledger.db'}")
        self.dispatcher = Dispatcher(self.ledger, artifacts, {"slow": Slow}, runner=self.workers)
        with PAYLOAD.to_file() as stored:
            reference = artifacts.put(stored.read())
        self.envelope: JobEnvelope = envelope_for(Slow(), PAYLOAD, TRAINED).model_copy(
            update={"payload_ref": reference}
        )

    def run(self) -> JobResult:
        result = self.dispatcher.run(self.envelope)
        assert result is not None
        return result


def kill_when_there_is_a_checkpoint(pid: Callable[[], int | None]) -> None:
    until = time.monotonic() + 60
    while not kept() and time.monotonic() < until:
        time.sleep(0.05)
    found = pid()
    assert found is not None
    os.kill(found, signal.SIGKILL)


def resumed_as(result: JobResult, whole: JobResult, before: int) -> None:
    """The result is that of an uninterrupted job, and most of what had been run was not run again."""
    assert result.samples == whole.samples
    assert result.circuits == whole.circuits
    spared = result.parameters["resumed_from"]["circuits"]
    assert 10 < spared <= before
    assert circuits_run() - before == whole.circuits - spared
    assert {k: v for k, v in result.parameters.items() if k != "resumed_from"} == whole.parameters
    assert kept() == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> JobResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBRID_HOME", str(tmp_path_factory.mktemp("whole")))
        return Slow().answer(envelope_for(Slow(), PAYLOAD, TRAINED), PAYLOAD)


def test_a_killed_worker_s_training_goes_on(whole: JobResult) -> None:
    system = System()
    ran: list[int] = []

    def kill() -> None:
        kill_when_there_is_a_checkpoint(lambda: system.workers.pid)
        ran.append(circuits_run())

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        result = system.run()
    finally:
        killer.join()
        system.workers.close()
    # the job was tried again at once, on the same backend
    assert result.fallback_path == ()
    resumed_as(result, whole, ran[0])


def test_a_killed_process_s_training_goes_on_in_the_next(whole: JobResult) -> None:
    code = "from tests.unit.test_checkpoint import System; System().run()"
    with subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT, stderr=subprocess.DEVNULL) as process:
        kill_when_there_is_a_checkpoint(lambda: process.pid)
    time.sleep(1.2)  # its worker notices within half a second
    before, system = circuits_run(), System()
    try:
        resumed_as(system.run(), whole, before)
    finally:
        system.workers.close()
