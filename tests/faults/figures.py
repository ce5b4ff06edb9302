"""Fault figures: jobs against the provider emulator under a random fault plan, with processes killed at random points.

``make faults`` runs 1,000 jobs with at least 50 kills. Submitting and reconciling processes are killed with ``kill -9``
and started again; a restarted submitter asks for everything once more. Afterwards the ledger is held against what the
emulator really executed. The last line of the output holds the figures; the exit status is 0 only when nothing was
lost, executed twice, left open or left unexplained, and the audit chain verifies.

Here: the experiment. Not here: the tests of single faults (``test_dispatcher``, the emulator's own).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import pickle
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from resources.artifacts import ArtifactStore
from resources.backends.conformance import asymmetric_problem, envelope_for
from resources.backends.conformance_programs import PROGRAM_KINDS, asymmetric_program, program_envelope
from resources.backends.emulator import Emulator
from resources.backends.heuristic import Heuristic
from resources.control_plane import hops_of
from resources.dispatcher import Dispatcher
from resources.emulator.running import serve_in_background
from resources.envelope import PAULI, Algorithm, JobEnvelope, TimeoutBudget
from resources.failures import FailureClass
from resources.ledger import Ledger
from resources.ledger_tables import TERMINAL, Job
from resources.payloads import to_bytes
from resources.policy import BreakerPolicy, CachePolicy, Policy
from tests.servers import postgresql_server

SUBMITTERS, RECONCILERS = 3, 2
DEVICE, SHOTS = "quick-4", 64
#: How often each fault shows, per call or execution.
FAULTS: dict[str, float] = {
    "lost_answer": 0.05,
    "reset": 0.02,
    "http_401": 0.003,
    "http_403": 0.003,
    "http_429": 0.02,
    "http_500": 0.02,
    "http_502": 0.01,
    "http_503": 0.02,
    "slow_body": 0.005,
    "unknown_status": 0.03,
    "result_once": 0.1,
    "partial_result": 0.02,
    "garbled_result": 0.02,
    "foreign_result": 0.02,
    "maintenance": 0.003,
    "drift": 0.05,
    "failed_job": 0.02,
}
SECONDS = {"http_429": 0.2, "slow_body": 0.5, "maintenance": 1.0}


def plan(seed: int) -> dict[str, Any]:
    """The fault plan as the emulator reads it."""
    rules = [
        {"fault": name, "probability": p, **({"seconds": SECONDS[name]} if name in SECONDS else {})}
        for name, p in FAULTS.items()
    ]
    return {"seed": seed, "faults": rules}


def dispatcher(root: Path, url: str) -> Dispatcher:
    """What every process of the experiment works with."""
    return Dispatcher(
        Ledger(os.environ.get("HYBRID_LEDGER") or f"sqlite:///{root / 'ledger.db'}"),
        ArtifactStore(root / "artifacts"),
        {"emulator": lambda: Emulator(url=url, device=DEVICE), "heuristic": Heuristic},
        Policy(
            version="fault figures",
            cache=CachePolicy(window_seconds=0),
            # many processes share one breaker: it should open now and then, not for most of the run
            breaker=BreakerPolicy(failures=8, open_seconds=0.5, longest_seconds=2.0, probe_seconds=5.0),
        ),
    )


def envelopes(root: Path, jobs: int, seed: int) -> list[JobEnvelope]:
    """Different small jobs of all kinds, four in five of them samples; their payloads stored."""
    store, rng, backend = ArtifactStore(root / "artifacts"), random.Random(seed), Emulator(device=DEVICE)
    made = []
    for number in range(jobs):
        if number % 5:
            model = asymmetric_problem(rng.choice((3, 4)), number)
            reference = store.put(to_bytes(model))
            algorithm = Algorithm(depth=1, shots=SHOTS, tuning_shots=16, ramp_lengths=(2.0, 6.0), seed=number)
            envelope = envelope_for(backend, model, algorithm)
        else:
            kind = rng.choice(PROGRAM_KINDS)
            program = asymmetric_program(kind)
            reference = store.put(to_bytes(program))
            envelope = program_envelope(backend, program, kind, Algorithm(name=PAULI, shots=SHOTS, seed=number))
        made.append(
            envelope.model_copy(
                update={
                    "payload_ref": reference,
                    "instance": f"{envelope.problem_type}.figure-{number}",
                    "fallback": ("heuristic",),
                    "timeout": TimeoutBudget(queue=60, execution=30, total=120),
                    "priority": rng.choice((0, 0, 0, 5)),
                }
            )
        )
    return made


def submit(root: Path, url: str, part: int) -> None:
    """A submitting process: everything of its part, alone or in batches."""
    mine: list[JobEnvelope] = pickle.loads((root / "envelopes").read_bytes())[part::SUBMITTERS]
    # another process may live exactly as long: the batches should differ
    rng, work = random.Random(os.getpid()), dispatcher(root, url)
    while mine:
        batch, mine = mine[: (size := rng.choice((1, 1, 1, 2, 5, 20)))], mine[size:]
        if len(batch) == 1:
            work.submit(batch[0])
        else:
            work.submit_many(batch)
    (root / f"submitted-{part}").touch()


def reconcile(root: Path, url: str, _: int) -> None:
    """A reconciling process, until it is killed."""
    work = dispatcher(root, url)
    while True:
        done = work.reconcile(limit=100)
        for problem in done.problems:
            with (root / "problems").open("a") as log:
                log.write(problem + "\n")
        time.sleep(0.02 if done.looked else 0.1)


def run(root: Path, jobs: int, kills: int, seed: int, patience: float) -> dict[str, Any]:
    """The experiment; returns its figures."""
    rng = random.Random(seed)
    (root / "envelopes").write_bytes(pickle.dumps(envelopes(root, jobs, seed)))
    (root / "plan.json").write_text(json.dumps(plan(seed)))
    context = multiprocessing.get_context("forkserver")
    # the children start from a process that has imported everything, and has no connection open
    context.set_forkserver_preload(
        ["resources.dispatcher", "resources.backends.emulator", "qiskit", "qiskit_aer", "dimod", "httpx"]
    )
    killed = Counter[str]()
    started = time.monotonic()
    with serve_in_background(
        root / "emulator", queue_seconds=0.05, faults=root / "plan.json", rate=2000, patience=240
    ) as cloud:

        def start(kind: str, part: int) -> BaseProcess:
            target = submit if kind == "submitter" else reconcile
            process = context.Process(target=target, args=(root, cloud.url, part), daemon=True)
            process.start()
            return process

        work = dispatcher(root, cloud.url)
        roles = [("submitter", k) for k in range(SUBMITTERS)] + [("reconciler", k) for k in range(RECONCILERS)]
        processes = {role: start(*role) for role in roles}
        done, said = 0, started
        while time.monotonic() - started < patience:
            time.sleep(rng.uniform(0.0, 0.4))
            states = Counter(job.state for job in work.ledger.jobs())
            done = sum(states[state] for state in TERMINAL)
            submitted = all((root / f"submitted-{k}").exists() for k in range(SUBMITTERS))
            if submitted and done == jobs:
                break
            # as the work goes on, so that kills fall into every phase of it; the submitters' is short
            progress = (sum(states.values()) + done) / (2 * jobs)
            if sum(killed.values()) <= kills * 1.2 * progress + 2:
                role = rng.choice(roles if submitted or rng.random() < 0.4 else roles[:SUBMITTERS])
                if processes[role].is_alive():
                    os.kill(processes[role].pid or 0, signal.SIGKILL)
                    processes[role].join()
                    killed[role[0]] += 1
            for role, process in processes.items():
                finished = role[0] == "submitter" and (root / f"submitted-{role[1]}").exists()
                if not process.is_alive() and not finished:
                    processes[role] = start(*role)
            if time.monotonic() - said > 5:
                said = time.monotonic()
                print(
                    f"{said - started:5.0f} s: {done} of {jobs} jobs ended, {sum(killed.values())} processes killed",
                    file=sys.stderr,
                )
        for process in processes.values():
            process.kill()
            process.join()
        found: Any = cloud.admin("executions")["executions"]
        executions = {key: job["executions"] for key, job in found.items()}
        shown = cloud.admin("faults")["shown"]
    figures = judge(work, pickle.loads((root / "envelopes").read_bytes()), executions)
    problems = root / "problems"
    return {
        **figures,
        "kills": sum(killed.values()),
        "killed": dict(killed),
        "faults": shown,
        "defects": problems.read_text().splitlines() if problems.exists() else [],
        "seconds": time.monotonic() - started,
    }


def judge(work: Dispatcher, asked: list[JobEnvelope], executions: dict[str, int]) -> dict[str, Any]:
    """Hold the ledger against what was asked for and what the emulator executed."""
    found = {job.job_id: job for job in work.ledger.jobs()}
    jobs = [found.get(work.job_id(envelope)) for envelope in asked]
    ended = [job for job in jobs if job is not None and job.state in TERMINAL]
    rows = work.audit.rows()
    per_job: Counter[str] = Counter()
    for key, number in executions.items():
        per_job[key.rpartition("-")[0]] += number
    return {
        "jobs": len(asked),
        "lost": sum(job is None for job in jobs) + sum(not _answered(work, job) for job in ended),
        "duplicated": sum(number > 1 for number in per_job.values()) + len(jobs) - len(set(map(id, jobs))),
        "terminal": len(ended),
        "unexplained": sum(not _explained(work, job, rows) or _denied(job, executions) for job in ended),
        "audit": work.audit.verify(),
        "states": dict(Counter(job.state for job in ended)),
        "answered by": dict(Counter(job.evidence_class for job in ended)),
        "reasons": dict(Counter(h.failure_class + ": " + h.reason[:60] for job in ended for h in hops_of(job))),
        "decisions": dict(Counter(row["action"] for row in rows)),
        "executed": sum(executions.values()),
    }


def _answered(work: Dispatcher, job: Job) -> bool:
    """Whether an ended job has the result that its row promises, or says why it has none."""
    if job.state != "succeeded":
        return bool(job.error)
    result = work.stored_result(job.job_id)
    same = result.envelope_digest == job.envelope_digest and result.backend == job.backend
    whole = result.shots == SHOTS * work.envelope(job).program.circuits
    return same and str(result.evidence_class) == job.evidence_class and whole


def _explained(work: Dispatcher, job: Job, rows: list[dict[str, Any]]) -> bool:
    """Whether every position that was left has its reason, in the row, in the result and in the audit log."""
    hops = hops_of(job)
    if job.hop != len(hops) and job.state == "succeeded":
        return False
    if job.state == "succeeded" and list(work.stored_result(job.job_id).fallback_path) != hops:
        return False
    logged = [row["reason"] for row in rows if row["job_id"] == job.job_id and row["action"] in ("fallback", "give_up")]
    return all(hop.reason and f"{hop.failure_class}: {hop.reason}" in logged for hop in hops)


def _denied(job: Job, executions: dict[str, int]) -> bool:
    """Whether the emulator executed a submission that was left because it had been refused: a wrong reason."""
    return any(
        executions.get(f"{job.job_id}-{number}", 0) > 0
        and hop.failure_class in (FailureClass.CAPABILITY, FailureClass.SATURATION, FailureClass.TRANSIENT)
        # of a timeout: it had been taken, and was stopped
        and not hop.reason.startswith("it ")
        for number, hop in enumerate(hops_of(job), start=1)
    )


def main() -> int:
    """Run and print; the last line holds the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=50, help="at least so many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--patience", type=float, default=900.0, help="seconds after which what is open counts as such")
    parser.add_argument("--postgresql", action="store_true", help="the ledger is on a PostgreSQL server of its own")
    parser.add_argument("--keep", type=Path, help="folder for the state, kept afterwards")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        if asked.postgresql:
            os.environ["HYBRID_LEDGER"] = stack.enter_context(postgresql_server()).render_as_string(hide_password=False)
        root = asked.keep or Path(folder)
        root.mkdir(parents=True, exist_ok=True)
        figures = run(root, asked.jobs, asked.kills, asked.seed, asked.patience)
    for name in ("states", "answered by", "executed", "decisions", "reasons", "faults", "killed", "defects", "audit"):
        print(f"{name}: {json.dumps(figures[name])}")
    print(f"seconds: {figures['seconds']:.0f}")
    print(
        " ".join(
            f"{name}={figures[key]}"
            for name, key in (
                ("jobs", "jobs"),
                ("kills", "kills"),
                ("lost", "lost"),
                ("duplicated", "duplicated"),
                ("terminal", "terminal"),
                ("fallbacks_without_reason", "unexplained"),
            )
        )
    )
    good = (
        not (figures["lost"] or figures["duplicated"] or figures["unexplained"] or figures["audit"])
        and figures["terminal"] == figures["jobs"]
        and figures["kills"] >= asked.kills
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
