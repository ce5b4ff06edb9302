"""Jobs of every kind through the dispatcher and the real emulator: a lost answer is looked up and the job adopted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest

from resources.artifacts import ArtifactStore
from resources.backends.conformance import asymmetric_problem, envelope_for
from resources.backends.conformance_programs import asymmetric_program, program_envelope
from resources.backends.emulator import Emulator
from resources.dispatcher import Dispatcher, JobFailed
from resources.emulator.running import Running, serve_in_background
from resources.envelope import PAULI, Algorithm, JobEnvelope, JobResult
from resources.ledger import Ledger, job_id_of
from resources.ledger_tables import JOBS
from resources.payloads import to_bytes
from resources.policy import CachePolicy, Policy
from tests.waiting import PATIENCE, until

JobKind = Literal["sample", "estimate", "kernel"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serve_in_background(tmp_path_factory.mktemp("emulator"), queue_seconds=0.0, patience=PATIENCE) as running:
        yield running


@pytest.fixture
def service(shared: Running) -> Iterator[Running]:
    yield shared
    shared.admin("faults", {})


class System:
    """A dispatcher over a folder, with the emulator and nothing to fall back on; another process makes the same."""

    def __init__(self, root: Path, service: Running) -> None:
        self.artifacts, self.ledger = ArtifactStore(root / "artifacts"), Ledger(f"sqlite:///{root / 'ledger.db'}")
        self.dispatcher = Dispatcher(
            self.ledger,
            self.artifacts,
            {"emulator": lambda: Emulator(service.url, "quick-4", service.token)},
            Policy(cache=CachePolicy(window_seconds=0)),
        )

    def envelope(self, kind: JobKind, seed: int) -> JobEnvelope:
        backend, payload = Emulator(device="quick-4"), asymmetric_problem(3, 0)
        if kind == "sample":
            algorithm = Algorithm(depth=1, shots=64, tuning_shots=16, ramp_lengths=(3.0,), seed=seed)
            made, stored = envelope_for(backend, payload, algorithm), to_bytes(payload)
        else:
            program = asymmetric_program(kind)
            made = program_envelope(backend, program, kind, Algorithm(name=PAULI, shots=64, seed=seed))
            stored = to_bytes(program)
        return made.model_copy(update={"payload_ref": self.artifacts.put(stored)})

    def ended(self, envelope: JobEnvelope) -> JobResult:
        """The result, however many looks it takes."""
        found: list[JobResult] = []

        def looked() -> bool:
            with self.ledger.engine.begin() as tx:
                tx.execute(JOBS.update().where(JOBS.c.look_at.is_not(None)).values(look_at=datetime.now(UTC)))
            result = self.dispatcher.result(envelope)
            found.extend([result] if result else [])
            return bool(found)

        until(looked)
        return found[0]


def executions(service: Running) -> dict[str, Any]:
    """What the emulator has executed, by key."""
    found: Any = service.admin("executions")["executions"]
    return dict(found)


@pytest.mark.parametrize("kind", ["sample", "estimate", "kernel"])
def test_a_lost_answer_is_adopted_and_the_job_runs_once(service: Running, tmp_path: Path, kind: JobKind) -> None:
    system = System(tmp_path, service)
    envelope, before = system.envelope(kind, seed=1), executions(service)
    service.admin("faults", {"faults": [{"fault": "lost_answer", "times": 1}]})
    system.dispatcher.run(envelope, patience=0)
    result = System(tmp_path, service).ended(envelope)
    assert service.admin("faults")["shown"] == {"lost_answer": 1}
    assert (result.backend, result.attempts, result.fallback_path) == ("emulator", 1, ())
    assert result.envelope_digest == envelope.digest
    # 0.01 a job and 0.00001 a shot
    assert result.actual_cost == pytest.approx(0.01 + 0.00001 * 64 * envelope.program.circuits)
    assert bool(result.samples) is (kind == "sample")
    assert tuple(map(len, (result.values, (result.values or ((),))[0]))) == (
        (0, 0) if kind == "sample" else envelope.expected_shape
    )
    executed = [job["executions"] for key, job in executions(service).items() if key not in before]
    assert executed == [1]


@pytest.mark.parametrize("fault", ["partial_result", "garbled_result"])
@pytest.mark.parametrize("kind", ["estimate", "kernel"])
def test_a_spoilt_answer_is_never_stored(service: Running, tmp_path: Path, kind: JobKind, fault: str) -> None:
    system = System(tmp_path, service)
    envelope = system.envelope(kind, seed=2)
    service.admin("faults", {"faults": [{"fault": fault}]})
    system.dispatcher.run(envelope, patience=0)
    with pytest.raises(JobFailed, match="its result cannot be had"):
        system.ended(envelope)
    assert system.ledger.job(job_id_of(envelope)).state == "failed"
