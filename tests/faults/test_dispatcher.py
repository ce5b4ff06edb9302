"""The dispatcher under faults: nothing is lost, nothing runs twice, every reason is recorded.

The backends are fakes of a provider: their jobs live in files, as a real provider's live elsewhere, and every job they
take is a line in ``taken``. The dispatcher, the ledger and the artefact store are the real ones.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dimod
import numpy as np
import pytest
import sqlalchemy as sa

from resources.artifacts import ArtifactStore
from resources.backends.base import Capabilities, Estimate, JobHandle, ProviderStatus, QuantumBackend
from resources.backends.conformance import asymmetric_problem, envelope_for
from resources.backends.readout import counted
from resources.dispatcher import Dispatcher, JobFailed
from resources.envelope import Algorithm, EvidenceClass, JobEnvelope, JobResult, TimeoutBudget
from resources.failures import BackendError, FailureClass, InvariantError
from resources.ledger import Ledger, job_id_of
from resources.ledger_tables import JOBS

PROJECT = Path(__file__).resolve().parents[2]


@dataclass
class Provider(QuantumBackend):
    """A provider whose jobs outlive the process, with faults on demand."""

    name: str
    root: Path
    evidence: EvidenceClass = EvidenceClass.SIMULATOR
    algorithms: tuple[str, ...] = ("qaoa-ramp", "qaoa-trained")
    #: raised by the next submits, before the job is taken
    refusals: list[FailureClass] = field(default_factory=list)
    #: so many submits take the job and lose the answer
    lost_answers: int = 0
    #: so many calls of ``find`` fail
    deaf: int = 0
    #: what ``status`` says before the job is done
    statuses: list[ProviderStatus] = field(default_factory=list)
    #: where the process dies
    crash: str = ""
    seconds: float = 0.0
    changes: dict[str, Any] = field(default_factory=dict)

    def _job(self, key: str) -> Path:
        return self.root / f"{self.name}-{key}.json"

    def _die(self, where: str) -> None:
        if self.crash == where:
            os._exit(9)
        if self.crash == f"{where}, interrupted":
            self.crash = ""
            raise KeyboardInterrupt
        if self.crash == f"{where}, killed":
            (self.root / "hanging").touch()
            time.sleep(60)

    def capabilities(self) -> Capabilities:
        return Capabilities(self.evidence, 20, self.algorithms)

    def version(self) -> str:
        return "1"

    def estimate(self, envelope: JobEnvelope) -> Estimate:
        return Estimate(0.0, 0.0, 0.0)

    def submit(self, envelope: JobEnvelope, payload: dimod.BinaryQuadraticModel, key: str) -> JobHandle:
        self.check(envelope)
        self._die("before the provider takes it")
        if self.refusals:
            raise BackendError("the provider says no", self.refusals.pop(0))
        with (self.root / "taken").open("a") as log:
            log.write(f"{self.name} {key}\n")
        rng = np.random.default_rng(envelope.algorithm.seed)
        samples = counted(payload, rng.integers(0, 2, (envelope.algorithm.shots, payload.num_variables), np.int8))
        result = JobResult(
            envelope_digest=envelope.digest,
            samples=samples,
            evidence_class=self.evidence,
            backend=self.name,
            backend_version="1",
            sdk_versions={},
            width=payload.num_variables,
            depth=1,
            two_qubit_gates=0,
            shots=envelope.algorithm.shots,
        ).model_copy(update=self.changes)
        time.sleep(self.seconds)
        self._job(key).write_text(result.model_dump_json())
        self._die("after the provider took it")
        if self.lost_answers:
            self.lost_answers -= 1
            raise BackendError("the connection was reset", FailureClass.TRANSIENT)
        return JobHandle(self.name, f"{self.name}-{key[:8]}", key)

    def find(self, key: str) -> JobHandle | None:
        if self.deaf:
            self.deaf -= 1
            raise BackendError("no route to the provider", FailureClass.TRANSIENT)
        return JobHandle(self.name, f"{self.name}-{key[:8]}", key) if self._job(key).exists() else None

    def status(self, handle: JobHandle) -> ProviderStatus:
        return self.statuses.pop(0) if self.statuses else ProviderStatus.SUCCEEDED

    def result(self, handle: JobHandle) -> JobResult:
        self._die("before the result")
        return JobResult.model_validate_json(self._job(handle.key).read_text())

    def cancel(self, handle: JobHandle) -> None:
        self._job(handle.key).unlink(missing_ok=True)


class System:
    """Ledger, artefacts, three providers and a dispatcher over a folder; another process makes the same again."""

    def __init__(self, root: Path, **faults: Any) -> None:
        self.root = root
        (root / "provider").mkdir(parents=True, exist_ok=True)
        folder = root / "provider"
        self.main = Provider("main", folder, **faults)
        self.second = Provider("second", folder)
        self.surrogate = Provider("surrogate", folder, EvidenceClass.SURROGATE, ("annealing",))
        self.artifacts = ArtifactStore(root / "artifacts")
        self.ledger = Ledger.at(root / "ledger.db")
        self.dispatcher = Dispatcher(
            self.ledger, self.artifacts, {b.name: lambda b=b: b for b in (self.main, self.second, self.surrogate)}
        )
        self.payload = asymmetric_problem(4, 0)

    def envelope(self, **changes: Any) -> JobEnvelope:
        with self.payload.to_file() as stored:
            reference = self.artifacts.put(stored.read())
        made = envelope_for(self.main, self.payload, Algorithm(shots=64))
        return made.model_copy(update={"payload_ref": reference, "fallback": ("second", "surrogate"), **changes})

    def taken(self) -> Counter[str]:
        """How many jobs each provider took."""
        log = self.root / "provider" / "taken"
        return Counter(line.split()[0] for line in log.read_text().splitlines()) if log.exists() else Counter()

    def history(self, envelope: JobEnvelope) -> list[str]:
        return [e["state"] for e in self.ledger.snapshot()[1] if e["job_id"] == job_id_of(envelope)]


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


def child(root: str, crash: str = "", statuses: str = "", seconds: str = "0") -> None:
    """What a second process does: run the one job."""
    waiting = [ProviderStatus(s) for s in statuses.split(",") if s]
    other = System(Path(root), crash=crash, statuses=waiting, seconds=float(seconds))
    if crash == "after the intent":
        other.ledger.intend(other.envelope())
        os._exit(9)
    (Path(root) / f"ready-{os.getpid()}").touch()
    while seconds != "0" and len(list(Path(root).glob("ready-*"))) < 3:
        time.sleep(0.01)
    result = other.dispatcher.run(other.envelope())
    print(result.model_dump_json() if result else "pending")


def start(root: Path, *arguments: str) -> subprocess.Popen[str]:
    code = "import sys; from tests.faults.test_dispatcher import child; child(*sys.argv[1:])"
    return subprocess.Popen(
        [sys.executable, "-c", code, str(root), *arguments],
        cwd=PROJECT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


# --- one process ----------------------------------------------------------------------------------------------------


def test_a_job_runs_once_and_its_result_is_its_own(system: System) -> None:
    envelope = system.envelope()
    first = system.dispatcher.run(envelope)
    assert first is not None
    assert first.envelope_digest == envelope.digest
    assert (first.backend, first.evidence_class, first.attempts, first.cached) == ("main", "simulator", 1, False)
    assert {s.bits: s.energy for s in first.samples} == {
        s.bits: pytest.approx(system.payload.energy(dict(enumerate(map(int, s.bits))))) for s in first.samples
    }
    assert system.dispatcher.run(envelope.model_copy(update={"correlation_id": "another request"})) == first
    assert system.taken() == {"main": 1}
    assert system.history(envelope) == ["intended", "submitting", "submitted", "succeeded"]
    assert system.dispatcher.stored_result(system.dispatcher.job_id(envelope)) == first


def test_another_envelope_with_the_same_key_is_answered_from_the_first_and_says_so(system: System) -> None:
    first, other = system.envelope(), system.envelope(owner="somebody else", purpose="again")
    assert first.digest != other.digest
    assert first.idempotency_key == other.idempotency_key
    original, cached = system.dispatcher.run(first), system.dispatcher.run(other)
    assert original is not None
    assert cached == original.model_copy(update={"cached": True, "envelope_digest": other.digest})
    assert system.taken() == {"main": 1}


@pytest.mark.parametrize("change", [{"repetition": 1}, {"backend": "second"}])
def test_another_key_is_another_job(system: System, change: dict[str, Any]) -> None:
    system.dispatcher.run(system.envelope())
    answered = system.dispatcher.run(system.envelope(**change))
    assert answered is not None
    assert not answered.cached
    assert sum(system.taken().values()) == 2


def test_a_transient_failure_is_retried(system: System) -> None:
    system.main.refusals = [FailureClass.TRANSIENT, FailureClass.TRANSIENT]
    result = system.dispatcher.run(system.envelope())
    assert result is not None
    assert (result.backend, result.fallback_path) == ("main", ())
    assert system.taken() == {"main": 1}


def test_a_lost_answer_is_looked_up_and_not_sent_again(system: System) -> None:
    system.main.lost_answers = 1
    result = system.dispatcher.run(system.envelope())
    assert result is not None
    assert result.backend == "main"
    assert system.taken() == {"main": 1}


def test_a_backend_that_may_have_the_job_and_is_silent_leaves_it_ambiguous(system: System) -> None:
    envelope = system.envelope()
    # two retries and the last look before rerouting ask in vain, and so does the next caller
    system.main.lost_answers, system.main.deaf = 1, 4
    for _ in range(2):
        assert system.dispatcher.run(envelope) is None
        assert system.ledger.job(job_id_of(envelope)).state == "ambiguous"
    result = system.dispatcher.run(envelope)
    assert result is not None
    assert result.backend == "main"
    assert system.taken() == {"main": 1}


@pytest.mark.parametrize("kind", [FailureClass.CAPABILITY, FailureClass.SATURATION, FailureClass.BACKEND])
def test_a_failure_that_reroutes_records_the_hop(system: System, kind: FailureClass) -> None:
    system.main.refusals = [kind]
    envelope = system.envelope()
    result = system.dispatcher.run(envelope)
    assert result is not None
    assert result.backend == "second"
    assert [h.model_dump() for h in result.fallback_path] == [
        {"backend": "main", "failure_class": kind, "reason": "the provider says no", "next_backend": "second"}
    ]
    assert system.ledger.job(job_id_of(envelope)).backend == "second"
    assert system.taken() == {"second": 1}


def test_retries_that_run_out_reroute(system: System) -> None:
    system.main.refusals = [FailureClass.TRANSIENT] * 3
    result = system.dispatcher.run(system.envelope())
    assert result is not None
    assert (result.backend, result.fallback_path[0].failure_class) == ("second", "transient")


def test_a_surrogate_at_the_end_of_the_chain_stays_a_surrogate(system: System) -> None:
    system.main.refusals, system.second.refusals = [FailureClass.BACKEND], [FailureClass.SATURATION]
    envelope = system.envelope()
    result = system.dispatcher.run(envelope)
    assert result is not None
    assert (result.backend, result.evidence_class) == ("surrogate", EvidenceClass.SURROGATE)
    assert [(h.backend, h.next_backend) for h in result.fallback_path] == [("main", "second"), ("second", "surrogate")]
    assert result.envelope_digest == envelope.digest


def test_a_queued_job_is_pending_and_keeps_its_hops(system: System) -> None:
    envelope = system.envelope()
    system.main.refusals = [FailureClass.BACKEND]
    system.second.statuses = [ProviderStatus.QUEUED, ProviderStatus.QUEUED, ProviderStatus.RUNNING]
    assert system.dispatcher.run(envelope) is None
    # another process collects it
    result = System(system.root).dispatcher.run(envelope)
    assert result is not None
    assert [h.backend for h in result.fallback_path] == ["main"]
    assert system.taken() == {"second": 1}


def test_a_failure_that_stops_is_recorded_and_goes_nowhere_else(system: System) -> None:
    system.main.refusals = [FailureClass.INPUT]
    envelope = system.envelope()
    job = system.dispatcher.submit(envelope)
    assert (job.state, job.error) == ("failed", "input: main: the provider says no")
    assert not system.taken()
    with pytest.raises(JobFailed, match="the provider says no") as failed:
        system.dispatcher.result(envelope)
    assert failed.value.failure_class is FailureClass.INPUT
    assert str(pickle.loads(pickle.dumps(failed.value))) == str(failed.value)


@pytest.mark.parametrize("kind", [FailureClass.CIRCUIT, FailureClass.INTERNAL])
def test_a_defect_is_raised_as_well(system: System, kind: FailureClass) -> None:
    system.main.refusals = [kind]
    envelope = system.envelope()
    with pytest.raises(BackendError, match="the provider says no"):
        system.dispatcher.submit(envelope)
    job = system.ledger.job(job_id_of(envelope))
    assert job.state == "failed"
    assert job.error is not None
    assert job.error.startswith(f"{kind}: ")
    assert not system.taken()


def test_a_chain_without_an_answer_fails_with_every_reason(system: System) -> None:
    for backend in (system.main, system.second, system.surrogate):
        backend.refusals = [FailureClass.BACKEND]
    envelope = system.envelope()
    job = system.dispatcher.submit(envelope)
    assert job.state == "failed"
    assert job.error == "backend: " + " → ".join(f"{n}: the provider says no" for n in ("main", "second", "surrogate"))
    # asked for again it is a new attempt, and its reasons are new ones
    result = system.dispatcher.run(envelope)
    assert result is not None
    assert (result.backend, result.attempts, result.fallback_path) == ("main", 2, ())
    assert system.ledger.job(job.job_id).error is None


def test_a_missing_backend_is_a_reason(system: System) -> None:
    alone = system.envelope(backend="hardware", fallback=())
    assert "no backend is registered as 'hardware'" in (system.dispatcher.submit(alone).error or "")
    result = system.dispatcher.run(system.envelope(backend="hardware", fallback=("second",), repetition=1))
    assert result is not None
    assert (result.backend, result.fallback_path[0].failure_class) == ("second", "capability")


def test_a_backend_whose_package_is_missing_is_rerouted(system: System) -> None:
    def make() -> QuantumBackend:
        import no_such_sdk  # type: ignore[import-not-found]

        return no_such_sdk.Backend()

    dispatcher = Dispatcher(system.ledger, system.artifacts, {"main": make, "second": lambda: system.second})
    result = dispatcher.run(system.envelope())
    assert result is not None
    assert result.backend == "second"
    assert "no_such_sdk" in result.fallback_path[0].reason


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"evidence_class": EvidenceClass.HARDWARE}, "claims hardware, it can only be simulator"),
        ({"envelope_digest": "0" * 64}, "answered envelope 000"),
        ({"backend": "second"}, "in the name of second"),
        (
            {"width": 5, "samples": counted(asymmetric_problem(5, 0), np.zeros((64, 5), np.int8))},
            "answered 5 variables",
        ),
    ],
)
def test_a_dishonest_result_is_refused_and_nothing_is_stored(
    system: System, changes: dict[str, Any], said: str
) -> None:
    system.main.changes = changes
    envelope = system.envelope()
    before = sum(1 for p in (system.root / "artifacts").rglob("*") if p.is_file())
    with pytest.raises(InvariantError, match=said):
        system.dispatcher.submit(envelope)
    job = system.ledger.job(job_id_of(envelope))
    assert (job.state, job.result_ref) == ("failed", None)
    assert said in (job.error or "")
    assert sum(1 for p in (system.root / "artifacts").rglob("*") if p.is_file()) == before


def test_a_dishonest_result_after_a_queue_is_refused_once(system: System) -> None:
    system.main.changes, system.main.statuses = {"evidence_class": EvidenceClass.HARDWARE}, [ProviderStatus.QUEUED]
    envelope = system.envelope()
    with pytest.raises(InvariantError, match="claims hardware"):
        system.dispatcher.submit(envelope)
    job = system.ledger.job(job_id_of(envelope))
    assert (job.state, job.attempts) == ("failed", 1)
    assert system.taken() == {"main": 1}


def test_a_weaker_class_than_the_backend_could_have_is_honest(system: System) -> None:
    system.main.changes = {"evidence_class": EvidenceClass.SURROGATE}
    result = system.dispatcher.run(system.envelope())
    assert result is not None
    assert result.evidence_class is EvidenceClass.SURROGATE


def test_an_altered_payload_is_never_sent(system: System) -> None:
    envelope = system.envelope()
    blob = system.artifacts.path(envelope.payload_ref)
    blob.write_bytes(blob.read_bytes()[:-1] + b"\x01")
    with pytest.raises(InvariantError, match="was altered"):
        system.dispatcher.submit(envelope)
    assert system.ledger.job(job_id_of(envelope)).state == "failed"
    assert not system.taken()


def test_a_payload_of_another_size_is_never_sent(system: System) -> None:
    envelope = system.envelope(payload_variables=5)
    with pytest.raises(InvariantError, match="has 4 variables, its envelope says 5"):
        system.dispatcher.submit(envelope)
    assert not system.taken()


def test_an_altered_or_swapped_result_is_refused(system: System) -> None:
    first, second = system.envelope(), system.envelope(repetition=1)
    for envelope in (first, second):
        system.dispatcher.run(envelope)
    theirs = system.ledger.job(job_id_of(second)).result_ref
    with system.ledger.engine.begin() as tx:
        tx.execute(JOBS.update().where(JOBS.c.job_id == job_id_of(first)).values(result_ref=theirs))
    with pytest.raises(InvariantError, match="answers envelope"):
        system.dispatcher.result(first)
    assert theirs is not None
    blob = system.artifacts.path(theirs)
    blob.write_text(blob.read_text().replace('"count":', '"count": '))
    with pytest.raises(InvariantError, match="was altered"):
        system.dispatcher.result(second)


def test_a_job_that_the_provider_lost_or_failed_is_a_failure_with_a_reason(system: System) -> None:
    lost, failed = system.envelope(), system.envelope(repetition=1)
    system.main.statuses = [ProviderStatus.QUEUED] * 2
    system.dispatcher.submit(lost)
    (system.root / "provider" / f"main-{lost.idempotency_key}.json").unlink()
    with pytest.raises(JobFailed, match="has lost the job"):
        system.dispatcher.result(lost)
    system.main.statuses = [ProviderStatus.FAILED, ProviderStatus.FAILED]
    assert "says that the job failed" in (system.dispatcher.submit(failed).error or "")


def test_asked_for_again_a_job_that_still_runs_is_adopted_and_a_failed_one_is_sent(system: System) -> None:
    slow, failed = system.envelope(), system.envelope(repetition=1)
    system.main.statuses = [ProviderStatus.QUEUED] * 2
    job = system.dispatcher.submit(slow)
    system.ledger.move(job.job_id, "timed_out", "the queue was too long")
    result = system.dispatcher.run(slow)
    assert result is not None
    assert result.attempts == 2
    assert system.taken() == {"main": 1}
    system.main.statuses = [ProviderStatus.FAILED] * 3
    assert system.dispatcher.submit(failed).state == "failed"
    assert system.dispatcher.run(failed) is not None
    assert system.taken() == {"main": 3}


# --- dead processes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("crash", "statuses", "left"),
    [
        ("after the intent", "", "intended"),
        ("before the provider takes it", "", "submitting"),
        ("after the provider took it", "", "submitting"),
        ("before the result", "", "submitting"),
        ("before the result", "queued", "submitted"),
    ],
)
def test_the_next_process_finishes_what_a_dead_one_left(tmp_path: Path, crash: str, statuses: str, left: str) -> None:
    process = start(tmp_path, crash, statuses)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 9, said
    system = System(tmp_path)
    envelope = system.envelope()
    assert system.ledger.job(job_id_of(envelope)).state == left
    result = system.dispatcher.run(envelope)
    assert result is not None
    assert result.envelope_digest == envelope.digest
    assert system.taken() == {"main": 1}
    assert len(system.ledger.jobs()) == 1
    assert system.history(envelope)[-1] == "succeeded"


def test_a_killed_process_leaves_a_job_for_the_next(tmp_path: Path) -> None:
    process = start(tmp_path, "after the provider took it, killed")
    deadline = time.monotonic() + 30
    while not (tmp_path / "provider" / "hanging").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    system = System(tmp_path)
    envelope = system.envelope()
    # while it lives, nobody takes its job
    assert system.dispatcher.run(envelope, patience=0.3) is None
    assert system.ledger.job(job_id_of(envelope)).state == "submitting"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert system.dispatcher.run(envelope) is not None
    assert system.taken() == {"main": 1}
    assert system.history(envelope) == ["intended", "submitting", "ambiguous", "submitted", "succeeded"]


def test_an_interrupted_process_that_lives_on_finishes_the_job(system: System) -> None:
    envelope = system.envelope()
    system.main.crash = "after the provider took it, interrupted"
    with pytest.raises(KeyboardInterrupt):
        system.dispatcher.run(envelope)
    assert system.ledger.job(job_id_of(envelope)).state == "ambiguous"
    assert system.dispatcher.run(envelope) is not None
    assert system.taken() == {"main": 1}


def test_a_job_that_was_rerouted_when_its_process_died_is_found_at_the_second_backend(system: System) -> None:
    envelope = system.envelope()
    system.main.refusals = [FailureClass.BACKEND]
    system.second.crash = "after the provider took it, interrupted"
    with pytest.raises(KeyboardInterrupt):
        system.dispatcher.run(envelope)
    result = System(system.root).dispatcher.run(envelope)
    assert result is not None
    assert (result.backend, [h.backend for h in result.fallback_path]) == ("second", ["main"])
    assert system.taken() == {"second": 1}


def test_a_claim_of_a_reused_process_number_runs_out(system: System) -> None:
    envelope = system.envelope(timeout=TimeoutBudget(queue=1, execution=1, total=1), fallback=())
    system.ledger.intend(envelope)
    # our own number: alive, though the process that wrote it is long gone
    job = system.ledger.move(
        job_id_of(envelope), "submitting", attempts=1, claimed_by=f"another-host.invalid:{os.getpid()}"
    )
    assert system.dispatcher.run(envelope, patience=0) is None
    with system.ledger.engine.begin() as tx:
        long_ago = sa.func.datetime("now", "-1 hour")
        tx.execute(JOBS.update().where(JOBS.c.job_id == job.job_id).values(updated_at=long_ago))
    assert system.dispatcher.run(envelope) is not None
    assert system.taken() == {"main": 1}


def test_a_process_given_up_for_dead_cannot_overwrite_its_successor(system: System) -> None:
    envelope = system.envelope()

    class Slow(Provider):
        def submit(self, envelope: JobEnvelope, payload: dimod.BinaryQuadraticModel, key: str) -> JobHandle:
            # meanwhile somebody else takes the job over and finishes it
            system.ledger.move(job_id_of(envelope), "ambiguous", "given up", expect="submitting")
            successor = System(system.root).dispatcher.run(envelope)
            assert successor is not None
            return super().submit(envelope, payload, key)

    slow = Slow("main", system.root / "provider")
    late = Dispatcher(system.ledger, system.artifacts, {"main": lambda: slow}).run(envelope)
    assert late is not None
    assert late.attempts == 2
    assert system.history(envelope)[-1] == "succeeded"
    assert system.history(envelope).count("succeeded") == 1


# --- races ----------------------------------------------------------------------------------------------------------


def test_processes_that_race_for_a_job_run_it_once(tmp_path: Path) -> None:
    processes = [start(tmp_path, "", "", "0.5") for _ in range(3)]
    answers = [process.communicate(timeout=60) for process in processes]
    assert [p.returncode for p in processes] == [0, 0, 0], answers
    assert len({out for out, _ in answers}) == 1
    assert JobResult.model_validate_json(answers[0][0]).backend == "main"
    assert System(tmp_path).taken() == {"main": 1}


def test_threads_that_race_for_a_job_run_it_once(system: System) -> None:
    system.main.seconds = 0.2
    envelope = system.envelope()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: system.dispatcher.run(envelope), range(8)))
    assert all(result == results[0] and result is not None for result in results)
    assert system.taken() == {"main": 1}


def test_a_failure_answers_everybody_who_waited(system: System) -> None:
    class Slow(Provider):
        def submit(self, envelope: JobEnvelope, payload: dimod.BinaryQuadraticModel, key: str) -> JobHandle:
            time.sleep(0.5)
            raise BackendError("the provider says no", FailureClass.BACKEND)

    slow = Slow("main", system.root / "provider")
    dispatcher = Dispatcher(system.ledger, system.artifacts, {"main": lambda: slow})
    envelope = system.envelope(fallback=())

    def ask(_: int) -> str:
        with pytest.raises(JobFailed) as failed:
            dispatcher.run(envelope)
        return str(failed.value)

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(ask, range(4)))) == 1
    assert system.ledger.job(job_id_of(envelope)).attempts == 1


def test_everybody_may_collect_a_finished_job(system: System) -> None:
    envelope = system.envelope()
    system.main.statuses = [ProviderStatus.QUEUED] * 3
    assert system.dispatcher.run(envelope) is None
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: System(system.root).dispatcher.run(envelope), range(8)))
    assert all(result == results[0] and result is not None for result in results)
    assert system.history(envelope).count("succeeded") == 1
