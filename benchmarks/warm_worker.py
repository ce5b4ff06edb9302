"""A warm worker against a cold process: one 12-qubit ramp job, from the question to the verified answer.

    .venv/bin/python -m benchmarks.warm_worker [--json] [--rounds 7]

Cold: a fresh interpreter that imports what the job needs, runs it and prints the result. Warm: the worker that has run
a job of another seed before. Also what is paid once: a worker that starts for the job, and one that started while the
caller encoded the problem. Aim: warm at least 5 times sooner than cold. Rounds alternate, figures are medians.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
import time

QUBITS, AIM = 12, 5.0
COLD = """
import base64, io, sys, dimod
from resources.backends.aer import Aer
from resources.envelope import JobEnvelope
envelope, payload = sys.stdin.read().split("\\n")
model = dimod.BinaryQuadraticModel.from_file(io.BytesIO(base64.b64decode(payload)))
print(Aer().answer(JobEnvelope.model_validate_json(envelope), model).model_dump_json())
"""


def measure(rounds: int) -> dict[str, float]:
    """Median seconds of each way to an answer."""
    from resources.backends.aer import Aer
    from resources.backends.conformance import asymmetric_problem, envelope_for
    from resources.envelope import Algorithm, JobResult
    from resources.workers import WarmWorkers

    backend, payload = Aer(), asymmetric_problem(QUBITS, seed=1)
    with payload.to_file() as stored:
        content = base64.b64encode(stored.read()).decode()
    times: dict[str, list[float]] = {
        "cold process": [],
        "worker that starts": [],
        "worker warmed": [],
        "warm worker": [],
    }
    workers = WarmWorkers()
    workers(backend, envelope_for(backend, payload, Algorithm(seed=10_000)), payload)
    for seed in range(rounds):
        envelope = envelope_for(backend, payload, Algorithm(seed=seed))
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", COLD],
            input=f"{envelope.model_dump_json()}\n{content}",
            capture_output=True,
            text=True,
            check=True,
        )
        cold = JobResult.model_validate_json(done.stdout)
        times["cold process"].append(time.perf_counter() - started)

        started = time.perf_counter()
        warm = workers(backend, envelope, payload)
        times["warm worker"].append(time.perf_counter() - started)
        assert warm.samples == cold.samples, "the same job, the same answer"

        for way, pause in (("worker that starts", 0.0), ("worker warmed", 3.0)):
            fresh = WarmWorkers()
            if pause:
                fresh.warm(backend)
                time.sleep(pause)
            started = time.perf_counter()
            assert fresh(backend, envelope, payload).samples == cold.samples
            times[way].append(time.perf_counter() - started)
            fresh.close()
    workers.close()
    return {way: statistics.median(seconds) for way, seconds in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    seconds = measure(asked.rounds)
    ratio = seconds["cold process"] / seconds["warm worker"]
    record = {"seconds": seconds, "ratio": ratio, "aim": AIM, "met": ratio >= AIM, "load": os.getloadavg()[0]}
    if asked.json:
        print(json.dumps(record))
        return
    print(f"{QUBITS}-qubit ramp job on aer, median of {asked.rounds}, load {record['load']:.1f}")
    for way, taken in seconds.items():
        print(f"  {way:20} {taken:8.3f} s   {seconds['cold process'] / taken:6.1f} times sooner than cold")
    print(f"aim {AIM:g} times: {'met' if record['met'] else 'MISSED'} ({ratio:.1f})")


if __name__ == "__main__":
    main()
