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
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dimod
import numpy as np
import pytest

from resources.artifacts import ArtifactStore
from resources.backends.base import Capabilities, Estimate, JobHandle, ProviderStatus, QuantumBackend
from resources.backends.conformance import asymmetric_problem, envelope_for
from resources.backends.readout import counted
from resources.controls import Mode
from resources.dispatcher import Dispatcher, JobFailed
from resources.envelope import Algorithm, EvidenceClass, JobEnvelope, JobResult, TimeoutBudget, Timings
from resources.failures import BackendError, FailureClass, InputError, InvariantError
from resources.ledger import Ledger, job_id_of
from resources.ledger_tables import ENVELOPES, JOBS, Job
from resources.money import Spent, month_of
from resources.policy import Approval, BreakerPolicy, Budget, CachePolicy, Limit, Policy, Price, ReplayPolicy
from tests.waiting import PATIENCE, until

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
    words: list[ProviderStatus] = field(default_factory=list)
    #: where the process dies
    crash: str = ""
    seconds: float = 0.0
    #: whether it answers later, as a provider does, or inside ``submit``
    remote: bool = True
    lookup: bool = True
    settling: float = 0.0
    queue_seconds: float = 0.0
    cost: float = 0.0
    available_: str | None = None
    calls: list[str] = field(default_factory=list)
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
            time.sleep(PATIENCE)

    def capabilities(self) -> Capabilities:
        return Capabilities(
            self.evidence,
            20,
            self.algorithms,
            remote=self.remote,
            lookup=self.lookup,
            settling_seconds=self.settling,
            metered=self.cost > 0,
            leaves_machine=self.remote,
            batch=10,
        )

    def available(self) -> str | None:
        return self.available_

    def version(self) -> str:
        return "1"

    def estimate(self, envelope: JobEnvelope) -> Estimate:
        return Estimate(self.queue_seconds, 0.0, self.cost)

    def submit(self, envelope: JobEnvelope, payload: dimod.BinaryQuadraticModel, key: str) -> JobHandle:
        self.check(envelope)
        self.calls.append("submit")
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
        self.calls.append("find")
        if self.deaf:
            self.deaf -= 1
            raise BackendError("no route to the provider", FailureClass.TRANSIENT)
        return JobHandle(self.name, f"{self.name}-{key[:8]}", key) if self._job(key).exists() else None

    def status(self, handle: JobHandle) -> ProviderStatus:
        if self._cancelled(handle.key).exists():
            return ProviderStatus.CANCELLED
        return self.words.pop(0) if self.words else ProviderStatus.SUCCEEDED

    def _cancelled(self, key: str) -> Path:
        return self._job(key).with_suffix(".cancelled")

    def result(self, handle: JobHandle) -> JobResult:
        self._die("before the result")
        self.calls.append("result")
        if not self._job(handle.key).exists():
            raise BackendError("there is no such job", FailureClass.BACKEND)
        return JobResult.model_validate_json(self._job(handle.key).read_text())

    def cancel(self, handle: JobHandle) -> None:
        self.calls.append("cancel")
        self._cancelled(handle.key).touch()


class System:
    """Ledger, artefacts, three providers and a dispatcher over a folder; another process makes the same again.

    ``main`` and ``second`` are remote, ``surrogate`` answers at once.
    """

    def __init__(self, root: Path, policy: Policy | None = None, **faults: Any) -> None:
        self.root = root
        (root / "provider").mkdir(parents=True, exist_ok=True)
        folder = root / "provider"
        self.main = Provider("main", folder, **faults)
        self.second = Provider("second", folder)
        self.surrogate = Provider("surrogate", folder, EvidenceClass.SURROGATE, ("annealing",), remote=False)
        self.artifacts = ArtifactStore(root / "artifacts")
        self.ledger = Ledger(os.environ.get("HYBRID_LEDGER") or f"sqlite:///{root / 'ledger.db'}")
        self.dispatcher = Dispatcher(
            self.ledger,
            self.artifacts,
            {b.name: lambda b=b: b for b in (self.main, self.second, self.surrogate)},
            policy or Policy(cache=CachePolicy(window_seconds=0)),
        )
        self.payload = asymmetric_problem(4, 0)

    def hurry(self) -> None:
        """Every open job is due now."""
        with self.ledger.engine.begin() as tx:
            tx.execute(JOBS.update().where(JOBS.c.look_at.is_not(None)).values(look_at=datetime.now(UTC)))

    def run(self, envelope: JobEnvelope) -> JobResult | None:
        """Bring a job to its end, with as many looks as it takes, also while another process is at work on it."""
        result, deadline = self.dispatcher.run(envelope), time.monotonic() + PATIENCE
        while result is None and time.monotonic() < deadline:
            self.hurry()
            result = self.dispatcher.result(envelope)
            if result is None:
                time.sleep(0.005)
        return result

    def look(self, envelope: JobEnvelope) -> Job:
        """One round of reconciliation."""
        self.hurry()
        self.dispatcher.reconcile()
        return self.ledger.job(job_id_of(envelope))

    def ago(self, envelope: JobEnvelope, seconds: float, *columns: str) -> None:
        """Move times of a job into the past."""
        then = datetime.now(UTC) - timedelta(seconds=seconds)
        with self.ledger.engine.begin() as tx:
            tx.execute(JOBS.update().where(JOBS.c.job_id == job_id_of(envelope)).values(**dict.fromkeys(columns, then)))

    def envelope(self, **changes: Any) -> JobEnvelope:
        with self.payload.to_file() as stored:
            reference = self.artifacts.put(stored.read())
        made = envelope_for(self.main, self.payload, Algorithm(shots=64))
        standard = {"payload_ref": reference, "fallback": ("second", "surrogate"), "sensitivity": "internal"}
        return made.model_copy(update={**standard, **changes})

    def taken(self) -> Counter[str]:
        """How many jobs each provider took."""
        log = self.root / "provider" / "taken"
        return Counter(line.split()[0] for line in log.read_text().splitlines()) if log.exists() else Counter()

    def history(self, envelope: JobEnvelope) -> list[str]:
        return [e["state"] for e in self.ledger.snapshot()[1] if e["job_id"] == job_id_of(envelope)]


@pytest.fixture
def system(tmp_path: Path, either: str) -> System:
    return System(tmp_path)


def child(root: str, crash: str = "", statuses: str = "", seconds: str = "0") -> None:
    """What a second process does: run the one job."""
    waiting = [ProviderStatus(s) for s in statuses.split(",") if s]
    other = System(Path(root), crash=crash, words=waiting, seconds=float(seconds))
    if crash == "after the intent":
        other.ledger.intend(other.envelope())
        os._exit(9)
    (Path(root) / f"ready-{os.getpid()}").touch()
    while seconds != "0" and len(list(Path(root).glob("ready-*"))) < 3:
        time.sleep(0.01)
    result = other.run(other.envelope())
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
    first = system.run(envelope)
    assert first is not None
    assert first.envelope_digest == envelope.digest
    assert (first.backend, first.evidence_class, first.attempts, first.cached) == ("main", "simulator", 1, False)
    assert {s.bits: s.energy for s in first.samples} == {
        s.bits: pytest.approx(system.payload.energy(dict(enumerate(map(int, s.bits))))) for s in first.samples
    }
    assert system.run(envelope.model_copy(update={"correlation_id": "another request"})) == first
    assert system.taken() == {"main": 1}
    assert system.history(envelope) == ["intended", "submitting", "submitted", "succeeded"]
    assert system.dispatcher.stored_result(system.dispatcher.job_id(envelope)) == first


def test_another_envelope_with_the_same_key_is_answered_from_the_first_and_says_so(system: System) -> None:
    first, other = system.envelope(), system.envelope(owner="somebody else", purpose="again")
    assert first.digest != other.digest
    assert first.idempotency_key == other.idempotency_key
    original, cached = system.run(first), system.run(other)
    assert original is not None
    assert cached == original.model_copy(update={"cached": True, "envelope_digest": other.digest})
    assert system.taken() == {"main": 1}


@pytest.mark.parametrize("change", [{"repetition": 1}, {"backend": "second"}])
def test_another_key_is_another_job(system: System, change: dict[str, Any]) -> None:
    system.run(system.envelope())
    answered = system.run(system.envelope(**change))
    assert answered is not None
    assert not answered.cached
    assert sum(system.taken().values()) == 2


def test_a_transient_failure_is_retried(system: System) -> None:
    system.main.refusals = [FailureClass.TRANSIENT, FailureClass.TRANSIENT]
    result = system.run(system.envelope())
    assert result is not None
    assert (result.backend, result.fallback_path) == ("main", ())
    assert system.taken() == {"main": 1}


def test_a_lost_answer_is_looked_up_and_not_sent_again(system: System) -> None:
    system.main.lost_answers = 1
    result = system.run(system.envelope())
    assert result is not None
    assert result.backend == "main"
    assert system.taken() == {"main": 1}


def test_a_backend_that_may_have_the_job_and_is_silent_leaves_it_ambiguous(system: System) -> None:
    envelope = system.envelope()
    # the look before a retry asks in vain, and so do the next two
    system.main.lost_answers, system.main.deaf = 1, 3
    assert system.dispatcher.run(envelope) is None
    assert system.ledger.job(job_id_of(envelope)).state == "ambiguous"
    assert system.look(envelope).state == "ambiguous"
    result = system.run(envelope)
    assert result is not None
    assert (result.backend, result.attempts) == ("main", 1)
    assert system.taken() == {"main": 1}
    assert "adopt" in [row["action"] for row in system.dispatcher.audit.rows()]


@pytest.mark.parametrize("kind", [FailureClass.CAPABILITY, FailureClass.SATURATION, FailureClass.BACKEND])
def test_a_failure_that_reroutes_records_the_hop(system: System, kind: FailureClass) -> None:
    system.main.refusals = [kind]
    envelope = system.envelope()
    result = system.run(envelope)
    assert result is not None
    assert result.backend == "second"
    assert [h.model_dump() for h in result.fallback_path] == [
        {"backend": "main", "failure_class": kind, "reason": "the provider says no", "next_backend": "second"}
    ]
    assert system.ledger.job(job_id_of(envelope)).backend == "second"
    assert system.taken() == {"second": 1}


def test_a_job_that_never_arrives_is_sent_once_more_and_then_rerouted(system: System) -> None:
    system.main.refusals = [FailureClass.TRANSIENT] * 100
    envelope = system.envelope()
    result = system.run(envelope)
    assert result is not None
    assert (result.backend, result.fallback_path[0].failure_class) == ("second", "backend")
    assert "2 submissions never arrived at main" in result.fallback_path[0].reason
    actions = [row["action"] for row in system.dispatcher.audit.rows()]
    assert actions.count("resubmit") == 1
    assert system.taken() == {"second": 1}


def test_not_there_is_believed_only_after_the_settling_time(system: System) -> None:
    system.main.settling = 1800.0
    system.main.refusals = [FailureClass.TRANSIENT]
    envelope = system.envelope()
    system.dispatcher.submit(envelope)
    for _ in range(3):
        assert system.look(envelope).state == "ambiguous"
    assert system.main.calls.count("submit") == 1
    system.ago(envelope, 1801, "updated_at")
    assert system.look(envelope).state == "intended"
    result = system.run(envelope)
    assert result is not None
    assert (result.backend, result.attempts) == ("main", 2)


def test_without_a_lookup_a_person_decides(system: System) -> None:
    system.main.lookup, system.main.lost_answers = False, 1
    envelope = system.envelope()
    job = system.dispatcher.submit(envelope)
    assert job.state == "awaiting_approval"
    for _ in range(2):
        assert system.look(envelope).state == "awaiting_approval"
        assert system.dispatcher.run(envelope) is None
    assert system.taken() == {"main": 1}
    with pytest.raises(InputError, match="reason"):
        system.dispatcher.decide(job.job_id, "approved", by="ada", reason=" ")
    system.dispatcher.decide(job.job_id, "approved", by="ada", reason="the provider's console shows no job")
    assert system.run(envelope) is not None
    assert system.taken() == {"main": 2}
    with pytest.raises(InputError, match="nobody is asked"):
        system.dispatcher.decide(job.job_id, "rejected", by="ada", reason="too late")


def test_a_surrogate_at_the_end_of_the_chain_stays_a_surrogate(system: System) -> None:
    system.main.refusals, system.second.refusals = [FailureClass.BACKEND], [FailureClass.SATURATION]
    envelope = system.envelope()
    result = system.run(envelope)
    assert result is not None
    assert (result.backend, result.evidence_class) == ("surrogate", EvidenceClass.SURROGATE)
    assert [(h.backend, h.next_backend) for h in result.fallback_path] == [("main", "second"), ("second", "surrogate")]
    assert result.envelope_digest == envelope.digest


def test_a_queued_job_is_pending_and_keeps_its_hops(system: System) -> None:
    envelope = system.envelope()
    system.main.refusals = [FailureClass.BACKEND]
    system.second.words = [ProviderStatus.QUEUED, ProviderStatus.QUEUED, ProviderStatus.RUNNING]
    assert system.dispatcher.run(envelope) is None
    assert [system.look(envelope).state for _ in range(3)] == ["submitted", "submitted", "running"]
    # another process collects it
    result = System(system.root).run(envelope)
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
    result = system.run(envelope)
    assert result is not None
    assert (result.backend, result.attempts, result.fallback_path) == ("main", 4, ())
    assert system.ledger.job(job.job_id).error is None


def test_a_missing_backend_is_a_reason(system: System) -> None:
    alone = system.envelope(backend="hardware", fallback=())
    assert "no backend is registered as 'hardware'" in (system.dispatcher.submit(alone).error or "")
    result = system.run(system.envelope(backend="hardware", fallback=("second",), repetition=1))
    assert result is not None
    assert (result.backend, result.fallback_path[0].failure_class) == ("second", "capability")


def test_a_backend_whose_package_is_missing_is_rerouted(system: System) -> None:
    def make() -> QuantumBackend:
        import no_such_sdk  # type: ignore[import-not-found]

        return no_such_sdk.Backend()

    system.second.remote = False
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
def test_a_dishonest_result_is_never_stored(system: System, changes: dict[str, Any], said: str) -> None:
    """From a provider it is a failure of that backend; out of this process it is a defect."""
    system.main.changes = system.surrogate.changes = changes
    result = system.run(system.envelope())
    assert result is not None
    assert (result.backend, result.evidence_class) == ("second", "simulator")
    assert said in result.fallback_path[0].reason
    # it was asked for again, in case the answer was garbled on its way
    assert system.main.calls.count("result") == 3
    assert system.taken() == {"main": 1, "second": 1}
    local = system.envelope(backend="surrogate", fallback=(), algorithm=Algorithm(name="annealing", shots=64))
    with pytest.raises(InvariantError):
        system.dispatcher.submit(local)
    job = system.ledger.job(job_id_of(local))
    assert (job.state, job.result_ref, job.attempts) == ("failed", None, 1)


def test_a_weaker_class_than_the_backend_could_have_is_honest(system: System) -> None:
    system.main.changes = {"evidence_class": EvidenceClass.SURROGATE}
    result = system.run(system.envelope())
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
        system.run(envelope)
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


def test_a_result_that_is_gone_or_a_failed_job_goes_on_with_a_reason(system: System) -> None:
    lost, failed = system.envelope(), system.envelope(repetition=1, fallback=())
    system.dispatcher.submit(lost)
    system.main._job(system.ledger.job(job_id_of(lost)).provider_key).unlink()
    result = system.run(lost)
    assert result is not None
    assert "its result cannot be had" in result.fallback_path[0].reason
    assert system.taken() == {"main": 1, "second": 1}
    system.main.words = [ProviderStatus.FAILED]
    with pytest.raises(JobFailed, match="says that the job failed"):
        system.run(failed)


def test_asked_for_again_a_failed_job_is_sent_with_a_new_key(system: System) -> None:
    envelope = system.envelope(fallback=())
    system.main.words = [ProviderStatus.FAILED]
    with pytest.raises(JobFailed):
        system.run(envelope)
    before = system.ledger.job(job_id_of(envelope))
    assert system.run(envelope) is not None
    after = system.ledger.job(job_id_of(envelope))
    assert (before.attempts, after.attempts) == (1, 2)
    assert before.provider_key != after.provider_key
    assert system.taken() == {"main": 2}


# --- budgets --------------------------------------------------------------------------------------------------------


def test_a_queue_longer_than_the_budget_reroutes_before_anything_is_sent(system: System) -> None:
    system.main.queue_seconds = 90.0
    result = system.run(system.envelope(timeout=TimeoutBudget(queue=60, execution=5, total=65)))
    assert result is not None
    assert (result.backend, result.fallback_path[0].failure_class) == ("second", "saturation")
    assert "90 s long, the job may wait 60 s" in result.fallback_path[0].reason
    assert system.taken() == {"second": 1}


@pytest.mark.parametrize(
    ("word", "column", "budget", "said"),
    [
        (ProviderStatus.QUEUED, "sent_at", TimeoutBudget(queue=90, execution=90, total=900), "waited in the queue"),
        (ProviderStatus.RUNNING, "started_at", TimeoutBudget(queue=90, execution=90, total=900), "it ran on main"),
        (ProviderStatus.UNKNOWN, "began_at", TimeoutBudget(queue=90, execution=10, total=90), "all in all"),
    ],
)
def test_a_job_over_its_budget_is_cancelled_and_then_answered_elsewhere(
    system: System, word: ProviderStatus, column: str, budget: TimeoutBudget, said: str
) -> None:
    envelope = system.envelope(timeout=budget, fallback=("second",))
    system.main.words = [word] * 2
    system.dispatcher.submit(envelope)
    system.look(envelope)
    system.ago(envelope, 95, column)
    job = system.look(envelope)
    assert "cancel" in system.main.calls
    if column == "began_at":
        # the total is spent: no further backend is begun
        assert job.state == "intended"
        with pytest.raises(JobFailed, match="the total budget of 90 s is spent"):
            system.dispatcher.run(envelope)
        assert system.ledger.job(job.job_id).state == "timed_out"
        assert system.taken() == {"main": 1}
        return
    result = system.run(envelope)
    assert result is not None
    assert said in result.fallback_path[0].reason
    assert system.taken() == {"main": 1, "second": 1}


def test_a_job_that_finishes_while_it_is_stopped_keeps_its_result(system: System) -> None:
    envelope = system.envelope(timeout=TimeoutBudget(queue=10, execution=10, total=100))
    system.main.words = [ProviderStatus.QUEUED]
    system.dispatcher.submit(envelope)
    system.ago(envelope, 20, "sent_at")

    def too_late(handle: JobHandle) -> None:
        system.main.calls.append("cancel")

    system.main.cancel = too_late  # type: ignore[method-assign]
    assert system.look(envelope).state == "succeeded"
    assert system.taken() == {"main": 1}


def test_money_is_refused_before_it_is_spent(tmp_path: Path) -> None:
    policy = Policy(budgets=(Budget(owner="conformance", money=2.5),), cache=CachePolicy(window_seconds=0))
    system = System(tmp_path, policy, cost=1.0, changes={"actual_cost": 1.0})
    results = [system.run(system.envelope(repetition=k)) for k in range(4)]
    assert [r.backend for r in results if r] == ["main", "main", "second", "second"]
    assert "2.50" in results[2].fallback_path[0].reason  # type: ignore[union-attr]
    dear = system.run(system.envelope(repetition=9, cost_ceiling=0.5))
    assert dear is not None
    assert "ceiling is 0.50" in dear.fallback_path[0].reason


def test_a_job_costs_at_most_its_ceiling_over_all_its_submissions(tmp_path: Path) -> None:
    system = System(tmp_path, cost=1.0, changes={"width": 99})
    system.second.cost = 1.0
    envelope = system.envelope(cost_ceiling=1.5)
    result = system.run(envelope)
    # the first provider ran it and its answer cannot be read: that is spent, and a second bill does not fit
    assert result is not None
    assert result.backend == "surrogate"
    assert [hop.backend for hop in result.fallback_path] == ["main", "second"]
    assert "the job's ceiling is 1.50, 1.00 of it spent" in result.fallback_path[1].reason
    assert system.taken() == {"main": 1, "surrogate": 1}
    assert system.dispatcher.spending.spent(envelope.owner, month_of()).money == 1.0


def test_a_bill_above_its_estimate_is_taken_from_what_later_trips_may_cost(tmp_path: Path) -> None:
    system = System(tmp_path, cost=1.0, changes={"actual_cost": 1.5})
    shared = {"cost_ceiling": 1.2, "fallback": ("surrogate",)}
    walk, backends, parent = [], [], None
    for trip in range(5):
        envelope = system.envelope(repetition=trip, parent_digest=parent, **shared)
        result = system.run(envelope)
        assert result is not None
        walk.append(result)
        backends.append(result.backend)
        parent = envelope.digest
    # two trips may cost 2.40: 0.90 are left for the second; by the fifth it is 6.00 in all
    assert backends == ["main", "surrogate", "main", "main", "main"]
    assert "ceiling is 1.20, 0.30 of it used up by the bills of the jobs before it" in walk[1].fallback_path[0].reason
    assert system.dispatcher.spending.spent(system.envelope().owner, month_of()).money == pytest.approx(6.0)
    assert system.run(system.envelope(repetition=9, **shared)).backend == "main"  # type: ignore[union-attr]


def test_the_bill_is_what_was_used_by_the_price_list(tmp_path: Path) -> None:
    prices = {"main": Price(per_job=0.5, per_shot=0.001, per_second=2.0)}
    policy = Policy(prices=prices, cache=CachePolicy(window_seconds=0))
    used = {"timings": Timings(execute=3.0), "discarded_shots": 36}
    system = System(tmp_path, policy, cost=9.0, changes=used)
    envelope = system.envelope()
    result = system.run(envelope)
    assert result is not None
    assert result.actual_cost == pytest.approx(0.5 + 0.1 + 6.0)
    job = system.ledger.job(job_id_of(envelope))
    assert (job.estimated_cost, job.actual_cost) == (9.0, result.actual_cost)
    assert system.dispatcher.spending.spent(envelope.owner, month_of()).money == pytest.approx(job.actual_cost)


def test_an_expensive_job_waits_for_a_person(tmp_path: Path) -> None:
    system = System(tmp_path, Policy(approval=Approval(cost_above=0.5)), cost=1.0)
    yes, no = system.envelope(), system.envelope(repetition=1)
    for envelope in (yes, no):
        waiting = system.dispatcher.submit(envelope)
        assert (waiting.state, waiting.estimated_cost) == ("awaiting_approval", 1.0)
    assert not system.taken()
    system.dispatcher.decide(job_id_of(yes), "approved", by="ada", reason="worth it")
    system.dispatcher.decide(job_id_of(no), "rejected", by="bob", reason="not worth it")
    assert system.run(yes) is not None
    with pytest.raises(JobFailed, match="rejected by bob: not worth it"):
        system.dispatcher.run(no)
    assert system.taken() == {"main": 1}


def test_every_decision_of_a_person_names_the_policy_in_force(tmp_path: Path) -> None:
    system = System(tmp_path, Policy(version="7+abc", approval=Approval(cost_above=0.5)), cost=1.0)
    yes, no, stop = (system.envelope(repetition=k) for k in range(3))
    for envelope in (yes, no, stop):
        system.dispatcher.submit(envelope)
    system.dispatcher.decide(job_id_of(yes), "approved", by="ada", reason="worth it")
    system.dispatcher.decide(job_id_of(no), "rejected", by="ada", reason="not worth it")
    system.dispatcher.cancel(job_id_of(stop), by="ada", reason="wrong data")
    system.dispatcher.control("main", Mode.PAUSED, by="ada", reason="maintenance")
    system.dispatcher.cache.invalidate(backend="main", by="ada", reason="drift")
    system.dispatcher.replay(job_id_of(no), by="ada", reason="to compare", backend="surrogate")
    decided = {row["action"]: row["policy_version"] for row in system.dispatcher.audit.rows() if row["actor"] == "ada"}
    assert decided == dict.fromkeys(("approve", "reject", "cancel", "set_mode", "invalidate_cache", "replay"), "7+abc")


def test_what_is_out_when_its_envelope_is_altered_counts_as_spent(tmp_path: Path) -> None:
    system = System(tmp_path, cost=1.0, words=[ProviderStatus.QUEUED] * 9)
    envelope = system.envelope()
    assert system.dispatcher.submit(envelope).state == "submitted"
    with system.ledger.engine.begin() as tx:
        tx.execute(ENVELOPES.update().values(document=ENVELOPES.c.document + "x"))
    assert system.look(envelope).state == "failed"
    assert system.dispatcher.spending.spent(envelope.owner, month_of()) == Spent(money=1.0, jobs=1)


def test_a_confidential_payload_stays_here(system: System) -> None:
    result = system.run(system.envelope(sensitivity="confidential"))
    assert result is not None
    assert result.backend == "surrogate"
    assert all("may not leave this machine" in hop.reason for hop in result.fallback_path)
    assert not system.main.calls


def test_backends_are_paused_drained_and_killed_by_hand(system: System) -> None:
    control = system.dispatcher.control
    control("main", Mode.PAUSED, by="ada", reason="maintenance")
    envelope = system.envelope(fallback=())
    system.dispatcher.submit(envelope)
    system.ago(envelope, 3600, "updated_at")
    assert system.look(envelope).state == "intended"
    assert "held back: main is paused" in [e["detail"] for e in system.ledger.snapshot()[1]]
    control("main", Mode.OPEN, by="ada", reason="done")
    assert system.run(envelope) is not None
    for repetition, mode in enumerate((Mode.DRAINED, Mode.KILLED), start=1):
        control("main", mode, by="ada", reason="trouble")
        result = system.run(system.envelope(repetition=repetition))
        assert result is not None
        assert result.backend == "second"
    assert system.taken() == {"main": 1, "second": 2}


def test_a_cap_on_open_jobs_holds_the_rest_back(tmp_path: Path) -> None:
    system = System(tmp_path, Policy(limits={"main": Limit(open_jobs=2)}, cache=CachePolicy(window_seconds=0)))
    envelopes = [system.envelope(repetition=k) for k in range(5)]
    system.main.words = [ProviderStatus.QUEUED] * 10
    system.dispatcher.submit_many(envelopes)
    assert Counter(job.state for job in system.ledger.jobs()) == {"submitted": 2, "intended": 3}
    assert all(system.run(envelope) is not None for envelope in envelopes)
    assert system.taken() == {"main": 5}


def test_a_broken_backend_is_left_alone_by_everybody(tmp_path: Path) -> None:
    policy = Policy(breaker=BreakerPolicy(failures=2, open_seconds=600), cache=CachePolicy(window_seconds=0))
    system = System(tmp_path, policy)
    system.main.refusals = [FailureClass.BACKEND] * 2
    for repetition in range(2):
        system.run(system.envelope(repetition=repetition))
    other = System(tmp_path, policy)
    result = other.run(other.envelope(repetition=5))
    assert result is not None
    assert (result.backend, result.fallback_path[0].failure_class) == ("second", "saturation")
    assert not other.main.calls


def test_the_last_resorts_are_an_earlier_result_and_a_person(system: System) -> None:
    plenty = System(system.root, Policy(cache=CachePolicy(window_seconds=3600)))
    first = plenty.run(plenty.envelope())
    assert first is not None
    plenty.main.refusals = [FailureClass.BACKEND] * 9
    again = plenty.run(plenty.envelope(repetition=7, fallback=("cached", "review")))
    assert again is not None
    assert (again.cached, again.evidence_class, again.samples) == (True, first.evidence_class, first.samples)
    assert again.fallback_path[0].next_backend == "cached"
    # another problem has no earlier result
    plenty.payload = asymmetric_problem(4, 77)
    unknown = plenty.envelope(fallback=("cached", "review"))
    job = plenty.dispatcher.submit(unknown)
    assert (job.state, job.backend) == ("awaiting_approval", "review")
    plenty.main.refusals = []
    plenty.dispatcher.decide(job.job_id, "approved", by="ada", reason="the provider is back")
    answered = plenty.run(unknown)
    assert answered is not None
    assert (answered.backend, answered.cached) == ("main", False)


def test_cancel_reaches_the_provider(system: System) -> None:
    out, waiting = system.envelope(), system.envelope(repetition=1)
    system.main.words = [ProviderStatus.QUEUED] * 5
    system.dispatcher.submit(out)
    assert system.dispatcher.cancel(job_id_of(out), by="ada", reason="wrong data").state == "cancelled"
    assert "cancel" in system.main.calls
    with pytest.raises(JobFailed, match="cancelled by ada: wrong data"):
        system.dispatcher.run(out)
    with pytest.raises(InputError, match="it has ended as cancelled"):
        system.dispatcher.cancel(job_id_of(out), by="ada", reason="again")
    system.dispatcher.control("main", Mode.PAUSED, by="ada", reason="maintenance")
    system.dispatcher.submit(waiting)
    assert system.dispatcher.cancel(job_id_of(waiting), by="ada", reason="not needed").state == "cancelled"
    assert system.taken() == {"main": 1}


def test_a_replay_is_a_new_job_linked_to_the_first(tmp_path: Path) -> None:
    system = System(tmp_path, Policy(replay=ReplayPolicy(per_hour=2)))
    original = system.envelope()
    first = system.run(original)
    replays = [
        system.dispatcher.replay(job_id_of(original), by="ada", reason="is it stable?", backend=backend)
        for backend in (None, "second")
    ]
    assert len({job.job_id for job in replays} | {job_id_of(original)}) == 3
    assert {job.replay_of for job in replays} == {original.digest}
    system.look(original)
    results = [system.dispatcher.stored_result(job.job_id) for job in replays]
    assert first is not None
    assert [(r.backend, r.cached, r.samples) for r in results] == [
        ("main", False, first.samples),
        ("second", False, first.samples),
    ]
    with pytest.raises(InputError, match="the policy allows 2"):
        system.dispatcher.replay(job_id_of(original), by="ada", reason="once more")
    assert system.dispatcher.audit.verify() == []


def test_jobs_for_one_provider_go_out_together(system: System) -> None:
    envelopes = [system.envelope(repetition=k) for k in range(12)]
    together: list[int] = []
    original = Provider.submit_many

    def counting(self: Provider, jobs: Any) -> Any:
        together.append(len(jobs))
        return original(self, jobs)

    system.main.submit_many = counting.__get__(system.main)  # type: ignore[method-assign]
    jobs = system.dispatcher.submit_many([*envelopes, envelopes[0]])
    assert together == [10, 2]
    assert len(jobs) == 13
    assert jobs[0].job_id == jobs[-1].job_id
    system.hurry()
    assert len(system.dispatcher.reconcile().ended) == 12
    assert system.taken() == {"main": 12}


# --- dead processes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("crash", "statuses", "left"),
    [
        ("after the intent", "", "intended"),
        ("before the provider takes it", "", "submitting"),
        ("after the provider took it", "", "submitting"),
        ("before the result", "", "submitted"),
        ("before the result", "queued", "submitted"),
    ],
)
def test_the_next_process_finishes_what_a_dead_one_left(tmp_path: Path, crash: str, statuses: str, left: str) -> None:
    process = start(tmp_path, crash, statuses)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 9, said
    system = System(tmp_path)
    envelope = system.envelope()
    assert system.ledger.job(job_id_of(envelope)).state == left
    result = system.run(envelope)
    assert result is not None
    assert result.envelope_digest == envelope.digest
    assert system.taken() == {"main": 1}
    assert len(system.ledger.jobs()) == 1
    assert system.history(envelope)[-1] == "succeeded"


def test_a_killed_process_leaves_a_job_for_the_next(tmp_path: Path) -> None:
    process = start(tmp_path, "after the provider took it, killed")
    try:
        until((tmp_path / "provider" / "hanging").exists)
        system = System(tmp_path)
        envelope = system.envelope()
        # while it lives, nobody takes its job
        assert system.dispatcher.run(envelope, patience=0.3) is None
        assert system.ledger.job(job_id_of(envelope)).state == "submitting"
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=PATIENCE)
    assert system.run(envelope) is not None
    assert system.taken() == {"main": 1}
    assert system.history(envelope) == ["intended", "submitting", "ambiguous", "submitted", "succeeded"]


def test_an_interrupted_process_that_lives_on_finishes_the_job(system: System) -> None:
    envelope = system.envelope()
    system.main.crash = "after the provider took it, interrupted"
    with pytest.raises(KeyboardInterrupt):
        system.run(envelope)
    assert system.ledger.job(job_id_of(envelope)).state == "ambiguous"
    assert system.run(envelope) is not None
    assert system.taken() == {"main": 1}


def test_a_job_that_was_rerouted_when_its_process_died_is_found_at_the_second_backend(system: System) -> None:
    envelope = system.envelope()
    system.main.refusals = [FailureClass.BACKEND]
    system.second.crash = "after the provider took it, interrupted"
    with pytest.raises(KeyboardInterrupt):
        system.run(envelope)
    result = System(system.root).run(envelope)
    assert result is not None
    assert (result.backend, [h.backend for h in result.fallback_path]) == ("second", ["main"])
    assert system.taken() == {"second": 1}


def test_a_claim_of_a_reused_process_number_runs_out(system: System) -> None:
    envelope = system.envelope(timeout=TimeoutBudget(queue=1, execution=1, total=1), fallback=())
    system.ledger.intend(envelope)
    # a process of another host counts as alive, until it has been silent for too long
    now = datetime.now(UTC)
    system.ledger.move(
        job_id_of(envelope),
        "submitting",
        attempts=1,
        claimed_by=f"another-host.invalid:{os.getpid()}",
        claimed_until=now + timedelta(seconds=60),
        sent_at=now,
    )
    assert system.dispatcher.run(envelope, patience=0) is None
    system.ago(envelope, 3600, "sent_at", "claimed_until")
    assert system.run(envelope) is not None
    assert system.taken() == {"main": 1}


def test_a_process_given_up_for_dead_cannot_overwrite_its_successor(system: System) -> None:
    envelope = system.envelope()

    class Slow(Provider):
        def submit(self, envelope: JobEnvelope, payload: dimod.BinaryQuadraticModel, key: str) -> JobHandle:
            # meanwhile somebody else takes the job over and finishes it
            system.ledger.move(job_id_of(envelope), "ambiguous", "given up", expect="submitting")
            successor = System(system.root).run(envelope)
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
    answers = [process.communicate(timeout=PATIENCE) for process in processes]
    assert [p.returncode for p in processes] == [0, 0, 0], answers
    assert len({out for out, _ in answers}) == 1
    assert JobResult.model_validate_json(answers[0][0]).backend == "main"
    assert System(tmp_path).taken() == {"main": 1}


def test_threads_that_race_for_a_job_run_it_once(system: System) -> None:
    system.main.seconds = 0.2
    envelope = system.envelope()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: system.run(envelope), range(8)))
    assert all(result == results[0] and result is not None for result in results)
    assert system.taken() == {"main": 1}


def test_a_failure_answers_everybody_who_waited(system: System) -> None:
    waiting: list[Job] = []
    intend = system.ledger.intend

    def counted_intend(*args: Any, **options: Any) -> Job:
        waiting.append(job := intend(*args, **options))
        return job

    system.ledger.intend = counted_intend  # type: ignore[method-assign]

    class Slow(Provider):
        def submit(self, envelope: JobEnvelope, payload: dimod.BinaryQuadraticModel, key: str) -> JobHandle:
            # who comes after the failure asks for a new attempt
            until(lambda: len(waiting) == 4)
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
    assert system.dispatcher.run(envelope) is None
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: System(system.root).run(envelope), range(8)))
    assert all(result == results[0] and result is not None for result in results)
    assert system.history(envelope).count("succeeded") == 1
