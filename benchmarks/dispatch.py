"""What the control plane costs: dispatch against calling the backend, a batch against single jobs.

    .venv/bin/python -m benchmarks.dispatch [--json] [--jobs 200] [--rounds 5]

Overhead: each job (8 variables, 64 reads, a few milliseconds) is run directly and through ``Dispatcher.run`` on a
SQLite ledger, by turns; in this process (heuristic) and in the warm worker (annealer). Aim: at most 5 ms a job at the
median. Batch: 100 jobs through ``Dispatcher.submit_many`` against the emulator on loopback, beside 10 single
``submit``; aim: the hundred cost less than the ten. Once as fast as loopback is, once with answers that take 100 ms,
as a cloud's do. The emulator's queue is long, so that no job runs meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resources.dispatcher import Dispatcher
    from resources.envelope import JobEnvelope

OVERHEAD_AIM = 0.005
BATCH, SINGLES = 100, 10
#: Seconds a cloud takes longer than loopback to answer a call.
LATENCY = 0.1


def dispatcher_at(folder: Path, **backends: Any) -> Dispatcher:
    """A dispatcher on a fresh ledger."""
    from resources.artifacts import ArtifactStore
    from resources.dispatcher import Dispatcher
    from resources.ledger import Ledger
    from resources.workers import WarmWorkers

    folder.mkdir()
    ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}")
    return Dispatcher(
        ledger,
        ArtifactStore(folder / "artifacts"),
        {name: (lambda b=b: b) for name, b in backends.items()},
        runner=WarmWorkers(),
    )


def overhead(folder: Path, name: str, backend: Any, direct: Any, count: int) -> dict[str, float]:
    """Median seconds a job: directly, dispatched, and the difference of each pair."""
    from resources.backends.conformance import asymmetric_problem, envelope_for
    from resources.envelope import Algorithm

    payload = asymmetric_problem(8, seed=1)
    dispatcher = dispatcher_at(folder / name, **{name: backend})
    with payload.to_file() as stored:
        reference = dispatcher.artifacts.put(stored.read())
    (algorithm,) = backend.capabilities().algorithms
    pairs = []
    for seed in range(count + 5):
        envelope = envelope_for(backend, payload, Algorithm(name=algorithm, shots=64, seed=seed))
        assert envelope.payload_ref == reference

        def call(envelope: JobEnvelope = envelope) -> Any:
            return direct.result(direct.submit(envelope, payload, envelope.idempotency_key))

        def dispatch(envelope: JobEnvelope = envelope) -> Any:
            return dispatcher.run(envelope)

        taken, samples = {}, []
        for way in (call, dispatch) if seed % 2 else (dispatch, call):
            started = time.perf_counter()
            result = way()
            taken[way] = time.perf_counter() - started
            samples.append(result.samples)
        assert samples[0] == samples[1]
        pairs.append((taken[call], taken[dispatch]))
    pairs = pairs[5:]
    return {
        "direct": statistics.median(c for c, _ in pairs),
        "dispatched": statistics.median(d for _, d in pairs),
        "overhead": statistics.median(d - c for c, d in pairs),
    }


def batches(folder: Path, rounds: int, latency: float) -> dict[str, float]:
    """Median seconds of 10 single submits and of one batch of 100, with ``latency`` seconds more per answer."""
    from resources.backends.conformance import asymmetric_problem, envelope_for
    from resources.backends.emulator import Emulator
    from resources.emulator.running import serve_in_background
    from resources.envelope import Algorithm, TimeoutBudget

    payload = asymmetric_problem(4, seed=1)
    folder.mkdir()
    slow = folder / "slow.json"
    slow.write_text(json.dumps({"faults": [{"fault": "slow_body", "seconds": latency}] if latency else []}))
    service = serve_in_background(folder / "service", queue_seconds=600.0, rate=10_000.0, workers=1, faults=slow)
    try:
        backend = Emulator(url=service.url, token=service.token)
        dispatcher = dispatcher_at(folder / "batch", emulator=backend)
        with payload.to_file() as stored:
            dispatcher.artifacts.put(stored.read())
        seeds = iter(range(1_000_000))
        patient = TimeoutBudget(queue=3600.0, execution=60.0, total=7200.0)

        def envelopes(count: int) -> list[JobEnvelope]:
            algorithm = Algorithm(depth=2, shots=64, tuning_shots=10, ramp_lengths=(3.0,))
            asked = envelope_for(backend, payload, algorithm).model_copy(update={"timeout": patient})
            return [
                asked.model_copy(update={"algorithm": algorithm.model_copy(update={"seed": next(seeds)})})
                for _ in range(count)
            ]

        # compiled once per circuit family and device, before the clock runs
        dispatcher.submit(envelopes(1)[0])
        singles, batch = [], []
        for _ in range(rounds):
            ten, hundred = envelopes(SINGLES), envelopes(BATCH)
            started = time.perf_counter()
            jobs = [dispatcher.submit(envelope) for envelope in ten]
            singles.append(time.perf_counter() - started)
            started = time.perf_counter()
            jobs += dispatcher.submit_many(hundred)
            batch.append(time.perf_counter() - started)
            states = {job.state for job in jobs}
            assert states <= {"submitted", "running"}, f"jobs ended as {states}"
            assert len({job.provider_id for job in jobs}) == SINGLES + BATCH, "every job is one at the provider"
        return {
            f"{SINGLES} single": statistics.median(singles),
            f"{BATCH} batched": statistics.median(batch),
            "batched / single": statistics.median(b / s for b, s in zip(batch, singles, strict=True)),
        }
    finally:
        service.stop()


def main() -> None:
    from resources.backends.annealer import Annealer
    from resources.backends.heuristic import Heuristic

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        here = overhead(folder, "heuristic", Heuristic(), Heuristic(), asked.jobs)
        worker = overhead(folder, "annealer", Annealer(), Annealer(), asked.jobs)
        near = batches(folder / "near", asked.rounds, 0.0)
        far = batches(folder / "far", asked.rounds, LATENCY)
    record = {
        "overhead in process": here,
        "overhead with worker": worker,
        "batch on loopback": near,
        "batch with latency": far,
        "load": os.getloadavg()[0],
        "met": here["overhead"] <= OVERHEAD_AIM and max(t["batched / single"] for t in (near, far)) < 1.0,
    }
    if asked.json:
        print(json.dumps(record))
        return
    print(f"median of {asked.jobs} jobs, load {record['load']:.1f}   direct  dispatched  overhead")
    for label, row in (("in this process", here), ("in the warm worker", worker)):
        print(
            f"  {label:20} {1e3 * row['direct']:10.2f} {1e3 * row['dispatched']:10.2f} {1e3 * row['overhead']:10.2f} ms"
        )
    print(f"aim {1e3 * OVERHEAD_AIM:g} ms: {'met' if here['overhead'] <= OVERHEAD_AIM else 'MISSED'}")
    for label, batch in (("loopback", near), (f"answers {1e3 * LATENCY:g} ms later", far)):
        ratio = batch["batched / single"]
        figures = ", ".join(f"{name} {value:.3f}" for name, value in batch.items())
        print(f"  {label:22} {figures}; aim below 1: {'met' if ratio < 1 else 'MISSED'}")


if __name__ == "__main__":
    main()
