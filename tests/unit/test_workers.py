"""Warm workers: hard limits kill, deaths are told apart, errors travel, nobody is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from resources.backends.annealer import Annealer
from resources.backends.base import LocalBackend
from resources.backends.conformance import asymmetric_problem, envelope_for
from resources.envelope import Algorithm, JobEnvelope, JobResult, TimeoutBudget
from resources.failures import BackendError, FailureClass, InputError, InvariantError, TimedOut
from resources.workers import WarmWorkers, hard_limit
from tests.waiting import until

PROJECT = Path(__file__).resolve().parents[2]
PAYLOAD = asymmetric_problem(4, seed=1)


@dataclass
class Odd(Annealer):
    """An annealer that does something else first."""

    name = "odd"
    mischief: str = ""

    def run(self, envelope, payload):  # type: ignore[no-untyped-def]
        if self.mischief == "sleep":
            time.sleep(60)
        if self.mischief.startswith("child in "):
            child = subprocess.Popen(["sleep", "60"])
            Path(self.mischief.removeprefix("child in ")).write_text(str(child.pid))
            child.wait()
        if self.mischief == "spin":
            # one long call that neither looks at the time nor lets signals in
            pow(7, 10**8)
        if self.mischief == "memory":
            np.ones(2**28)
        if self.mischief == "die":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.mischief == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.mischief == "exit":
            os._exit(3)
        if self.mischief == "backend error":
            raise BackendError("busy", FailureClass.SATURATION, retry_after=7.0)
        if self.mischief == "invariant":
            raise InvariantError("does not hold")
        if self.mischief == "input":
            raise InputError("a", "b", "c", "d")
        if self.mischief == "foreign":
            raise KeyError("no such thing")
        result = super().run(envelope, payload)
        return result.model_copy(update={"parameters": {"pid": os.getpid()}})


@dataclass
class Missing(Annealer):
    name = "missing"
    modules = ("no_such_sdk",)


@pytest.fixture(scope="module")
def shared() -> Iterator[WarmWorkers]:
    workers = WarmWorkers()
    yield workers
    workers.close()


def envelope(backend: LocalBackend, seconds: float = 5.0, seed: int = 0) -> JobEnvelope:
    made = envelope_for(backend, PAYLOAD, Algorithm(name="annealing", shots=32, seed=seed))
    return made.model_copy(update={"timeout": TimeoutBudget(execution=seconds)})


def run(workers: WarmWorkers, backend: LocalBackend, seconds: float = 5.0, seed: int = 0) -> JobResult:
    return workers(backend, envelope(backend, seconds, seed), PAYLOAD)


def lives(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(shown) and not shown.startswith("Z")


def gone(pid: int, within: float = 5.0) -> bool:
    until = time.monotonic() + within
    while lives(pid):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def test_the_answer_is_the_backends_own_and_the_worker_stays_warm(shared: WarmWorkers) -> None:
    backend = Odd()
    first, second = run(shared, backend), run(shared, backend, seed=1)
    assert first.parameters["pid"] == second.parameters["pid"] == shared.pid != os.getpid()
    here = backend.answer(envelope(backend), PAYLOAD)
    assert first.samples == here.samples
    assert first.envelope_digest == here.envelope_digest
    assert 0 < first.timings.total < 5


def test_a_backend_with_a_runner_answers_through_it(shared: WarmWorkers) -> None:
    backend = Odd(runner=shared)
    asked = envelope(backend)
    handle = backend.submit(asked, PAYLOAD, "key")
    assert backend.result(handle).parameters["pid"] == shared.pid
    assert backend.find("key") == handle


@pytest.mark.parametrize("mischief", ["sleep", "spin"])
def test_a_job_is_killed_at_its_hard_limit_and_the_next_one_answered(shared: WarmWorkers, mischief: str) -> None:
    run(shared, Odd())
    killed, started = shared.pid, time.monotonic()
    assert killed is not None
    with pytest.raises(TimedOut, match=r"odd was killed at the hard limit of 1\.2 s") as raised:
        run(shared, Odd(mischief=mischief), seconds=0.2)
    assert 1.2 <= time.monotonic() - started < 2.5
    assert raised.value.failure_class is FailureClass.CAPABILITY
    assert gone(killed, within=1.0)
    assert run(shared, Odd()).parameters["pid"] == shared.pid != killed


def test_hard_limits_are_a_little_above_the_soft_ones() -> None:
    assert [hard_limit(s) for s in (0.5, 5.0, 100.0)] == pytest.approx([1.5, 6.0, 115.0])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts private memory")
def test_a_job_that_needs_too_much_memory_is_told_so() -> None:
    workers = WarmWorkers(memory_gib=1.0)
    try:
        with pytest.raises(TimedOut, match="odd needed more than 1 GiB of memory") as raised:
            run(workers, Odd(mischief="memory"))
        assert raised.value.failure_class is FailureClass.CAPABILITY
        assert run(workers, Odd()).shots == 32
    finally:
        workers.close()


@pytest.mark.parametrize(
    ("mischief", "how", "kind"),
    [
        ("die", "SIGSEGV", FailureClass.BACKEND),
        ("exit", "exit status 3", FailureClass.BACKEND),
        # by somebody else: the next attempt may fare better
        ("killed", "SIGKILL, perhaps for want of memory", FailureClass.TRANSIENT),
    ],
)
def test_a_dead_worker_is_told_by_its_death_and_replaced(
    shared: WarmWorkers, mischief: str, how: str, kind: FailureClass
) -> None:
    with pytest.raises(BackendError, match=f"the worker died while odd ran .{how}") as raised:
        run(shared, Odd(mischief=mischief))
    assert raised.value.failure_class is kind
    assert run(shared, Odd()).shots == 32


def test_a_worker_killed_between_two_jobs_is_not_noticed(shared: WarmWorkers) -> None:
    run(shared, Odd())
    assert shared.pid is not None
    os.kill(shared.pid, signal.SIGKILL)
    assert run(shared, Odd()).shots == 32


def test_errors_travel_with_class_and_message(shared: WarmWorkers) -> None:
    with pytest.raises(BackendError, match=r"^busy$") as busy:
        run(shared, Odd(mischief="backend error"))
    assert (busy.value.failure_class, busy.value.retry_after) == (FailureClass.SATURATION, 7.0)
    with pytest.raises(InvariantError, match="does not hold"):
        run(shared, Odd(mischief="invariant"))
    with pytest.raises(InputError, match=r"^a: b: c; d\.$"):
        run(shared, Odd(mischief="input"))
    with pytest.raises(BackendError, match=r"KeyError in test_workers.py:\d+: 'no such thing'") as foreign:
        run(shared, Odd(mischief="foreign"))
    assert foreign.value.failure_class is FailureClass.INTERNAL
    pid = shared.pid
    assert run(shared, Odd()).parameters["pid"] == pid, "an error is no reason for another worker"


def test_a_missing_sdk_and_a_class_nobody_can_import_are_refused(shared: WarmWorkers) -> None:
    with pytest.raises(BackendError, match="missing cannot be loaded: No module named 'no_such_sdk'") as missing:
        run(shared, Missing())
    assert missing.value.failure_class is FailureClass.CAPABILITY

    @dataclass
    class Hidden(Odd):
        name = "hidden"

    with pytest.raises(BackendError, match="hidden cannot be made again in a worker"):
        run(shared, Hidden())


def test_warming_does_not_wait_and_threads_take_turns() -> None:
    workers = WarmWorkers()
    try:
        started = time.monotonic()
        workers.warm(Odd())
        assert time.monotonic() - started < 0.3
        results: list[JobResult] = []
        threads = [
            threading.Thread(target=lambda s=seed: results.append(run(workers, Odd(), seed=s))) for seed in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {r.parameters["pid"] for r in results} == {workers.pid}
        assert {r.envelope_digest for r in results} == {envelope(Odd(), seed=s).digest for s in range(4)}
    finally:
        workers.close()


def test_a_forked_child_has_a_worker_of_its_own(shared: WarmWorkers) -> None:
    ours = run(shared, Odd()).parameters["pid"]
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, str(run(shared, Odd(), seed=3).parameters["pid"]).encode())
        finally:
            shared.close()
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answers:
        theirs = int(answers.read())
    assert os.waitpid(child, 0)[1] == 0
    assert theirs != ours
    assert run(shared, Odd()).parameters["pid"] == ours


PARENT = """
import signal, sys, time
# a suite that runs in the background inherits that Ctrl-C is ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
from tests.unit.test_workers import Odd, WarmWorkers, run
workers = WarmWorkers()
print(run(workers, Odd()).parameters["pid"], flush=True)
{then}
"""


def parent(then: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PARENT.format(then=then)],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def worker_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


@pytest.mark.parametrize("then", ["time.sleep(60)", "run(workers, Odd(mischief='sleep'), 60)"])
def test_the_worker_dies_with_its_parent(then: str) -> None:
    with parent(then) as process:
        worker = worker_of(process)
        assert lives(worker)
        process.kill()
        assert gone(worker, within=2.0)


def test_what_a_backend_has_started_ends_with_the_worker(shared: WarmWorkers, tmp_path: Path) -> None:
    number = tmp_path / "child"
    with pytest.raises(TimedOut):
        run(shared, Odd(mischief=f"child in {number}"), seconds=0.2)
    assert gone(int(number.read_text()), within=1.0)
    number.unlink()
    with parent(f"run(workers, Odd(mischief='child in {number}'), 60)") as process:
        worker_of(process)
        until(lambda: number.exists() and number.read_text())
        process.kill()
        assert gone(int(number.read_text()), within=2.0)


def test_the_worker_ends_with_the_program_in_silence() -> None:
    with parent("") as process:
        worker = worker_of(process)
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(10) == 0
        assert gone(worker, within=1.0)


def test_ctrl_c_is_a_traceback_of_the_parent_alone() -> None:
    with parent("run(workers, Odd(mischief='sleep'), 60)") as process:
        worker = worker_of(process)
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGINT)
        assert process.stderr is not None
        said = process.stderr.read()
        assert said.count("Traceback") == 1
        assert said.rstrip().endswith("KeyboardInterrupt")
        assert gone(worker, within=1.0)


def test_importing_the_module_loads_no_sdk() -> None:
    code = "import sys, resources.workers; print({'pebble', 'dimod', 'numpy', 'qiskit'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
