"""The emulator's durable memory: jobs with their results, circuits kept once, and the state of the devices.

Here: SQLite (write-ahead log), one transaction per change, one connection behind a lock. Not here: who may ask
(``service``), running a job (``engine``), or what a device is (``devices``). What is in the file survives ``kill -9``;
a job that was running then is queued again, and an execution counts when its result is stored.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic_core import to_json

_SCHEMA = """
CREATE TABLE IF NOT EXISTS circuits (digest TEXT PRIMARY KEY, kind TEXT NOT NULL, program TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    key TEXT UNIQUE,              -- idempotency key; null for a job sent without one
    device TEXT NOT NULL,
    circuits TEXT NOT NULL,       -- JSON: [[digest, bindings], ...]
    shots INTEGER NOT NULL,
    seed INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    metadata TEXT NOT NULL,       -- JSON, handed back as it came
    state TEXT NOT NULL,          -- queued, running, completed, failed, cancelled
    arrival INTEGER NOT NULL,     -- order of arrival
    created_at REAL NOT NULL,
    due_at REAL NOT NULL,         -- earliest start: the queue delay
    started_at REAL,
    ended_at REAL,
    seconds REAL NOT NULL DEFAULT 0,
    cost REAL NOT NULL DEFAULT 0,
    executions INTEGER NOT NULL DEFAULT 0,
    calibration INTEGER,          -- number of the calibration it ran on
    calibrated_at REAL,
    noise TEXT,                   -- noise model it ran with
    counts TEXT,                  -- JSON: per circuit, per row of bindings: {bits: count}
    error TEXT,
    reads_left INTEGER            -- null: the result may be read any number of times
);
CREATE INDEX IF NOT EXISTS jobs_waiting ON jobs (state, priority, arrival);
CREATE TABLE IF NOT EXISTS tags (
    tag TEXT NOT NULL, job TEXT NOT NULL REFERENCES jobs (id), PRIMARY KEY (tag, job)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS devices (
    name TEXT PRIMARY KEY, calibration INTEGER NOT NULL, calibrated_at REAL NOT NULL, maintenance_until REAL NOT NULL
);
"""
ENDED = ("completed", "failed", "cancelled")


@dataclass(frozen=True)
class NewJob:
    """A checked submission; ``circuits`` are (kind, program, digest, bindings)."""

    key: str | None
    device: str
    circuits: tuple[tuple[str, str, str, list[list[float]]], ...]
    shots: int
    seed: int
    priority: int
    tags: tuple[str, ...]
    metadata: dict[str, Any]


@dataclass(frozen=True)
class DeviceState:
    """What changes about a device. Times are seconds since the epoch."""

    calibration: int
    calibrated_at: float
    maintenance_until: float


class Store:
    """All durable state of one service, in ``<home>/emulator.db``."""

    def __init__(self, home: Path, devices: Sequence[str]) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._db = sqlite3.connect(home / "emulator.db", isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(_SCHEMA)
        with self._transaction() as db:
            db.executemany(
                "INSERT OR IGNORE INTO devices VALUES (?, 0, ?, 0)", [(name, time.time()) for name in devices]
            )
            # what was running when the service died runs again; its result was not stored
            db.execute("UPDATE jobs SET state = 'queued', started_at = NULL WHERE state = 'running'")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def close(self) -> None:
        """Checkpoint and close."""
        with self._lock:
            self._db.close()

    # --- jobs ---------------------------------------------------------------------------------------------------

    def add(self, jobs: Sequence[NewJob], queue_seconds: float) -> list[str]:
        """Keep all jobs in one transaction and give their ids; a known key gives the job that has it.

        Args:
            queue_seconds: each waits at least so long.
        """
        ids, now, circuits = list[str](), time.time(), dict[str, tuple[str, str, str]]()
        with self._transaction() as db:
            (arrival,) = db.execute("SELECT coalesce(max(arrival), 0) FROM jobs").fetchone()
            for offset, job in enumerate(jobs, start=1):
                known = db.execute("SELECT id FROM jobs WHERE key = ?", (job.key,)).fetchone() if job.key else None
                if known:
                    ids.append(known["id"])
                    continue
                identifier = f"job-{uuid.uuid4().hex[:20]}"
                circuits |= {digest: (digest, kind, program) for kind, program, digest, _ in job.circuits}
                db.execute(
                    "INSERT INTO jobs (id, key, device, circuits, shots, seed, priority, metadata, state, arrival,"
                    " created_at, due_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?)",
                    (
                        *(identifier, job.key, job.device),
                        to_json([[digest, bindings] for *_, digest, bindings in job.circuits]).decode(),
                        *(job.shots, job.seed, job.priority, to_json(job.metadata).decode()),
                        *(arrival + offset, now, now + queue_seconds),
                    ),
                )
                db.executemany("INSERT OR IGNORE INTO tags VALUES (?, ?)", [(tag, identifier) for tag in job.tags])
                ids.append(identifier)
            db.executemany("INSERT OR IGNORE INTO circuits VALUES (?, ?, ?)", circuits.values())
        return ids

    def job(self, identifier: str) -> sqlite3.Row | None:
        """A job's row."""
        return next(iter(self._rows("SELECT * FROM jobs WHERE id = ?", identifier)), None)

    def jobs(self, identifiers: Sequence[str]) -> list[sqlite3.Row]:
        """The rows of the jobs that exist."""
        marks = ", ".join("?" * len(identifiers))
        return self._rows(f"SELECT * FROM jobs WHERE id IN ({marks})", *identifiers)

    def tagged(self, tag: str) -> list[sqlite3.Row]:
        """The jobs with this tag, the latest first."""
        return self._rows(
            "SELECT jobs.* FROM jobs JOIN tags ON tags.job = jobs.id WHERE tag = ? ORDER BY arrival DESC", tag
        )

    def tags(self, identifier: str) -> list[str]:
        """A job's tags, sorted."""
        return [row["tag"] for row in self._rows("SELECT tag FROM tags WHERE job = ? ORDER BY tag", identifier)]

    def another(self, identifier: str) -> sqlite3.Row | None:
        """Some other finished job: what a confused provider would answer with."""
        rows = self._rows(
            "SELECT * FROM jobs WHERE id != ? AND state = 'completed' ORDER BY arrival DESC LIMIT 1", identifier
        )
        return rows[0] if rows else None

    def circuit(self, digest: str) -> tuple[str, str]:
        """Kind and program of a kept circuit."""
        (row,) = self._rows("SELECT kind, program FROM circuits WHERE digest = ?", digest)
        return row["kind"], row["program"]

    def position(self, row: sqlite3.Row) -> int:
        """How many jobs of the device wait before this one."""
        (found,) = self._rows(
            "SELECT count(*) AS n FROM jobs WHERE state = 'queued' AND device = ?"
            " AND (priority > ? OR (priority = ? AND arrival < ?))",
            *(row["device"], row["priority"], row["priority"], row["arrival"]),
        )
        return int(found["n"])

    def take(self) -> sqlite3.Row | None:
        """Start the next due job of a device that is online: highest priority, then first come."""
        with self._transaction() as db:
            now = time.time()
            row: sqlite3.Row | None = db.execute(
                "SELECT jobs.* FROM jobs JOIN devices ON devices.name = jobs.device"
                " WHERE state = 'queued' AND due_at <= ? AND maintenance_until <= ?"
                " ORDER BY priority DESC, arrival LIMIT 1",
                (now, now),
            ).fetchone()
            if row:
                db.execute("UPDATE jobs SET state = 'running', started_at = ? WHERE id = ?", (now, row["id"]))
            return row

    def seconds_to_next(self, otherwise: float) -> float:
        """Seconds until the next queued job is due on a device that is online; ``otherwise`` when none waits."""
        (row,) = self._rows(
            "SELECT min(max(due_at, maintenance_until)) AS at FROM jobs JOIN devices ON devices.name = jobs.device"
            " WHERE state = 'queued'"
        )
        return otherwise if row["at"] is None else max(0.001, row["at"] - time.time())

    def finish(
        self, identifier: str, counts: Any, noise: str, seconds: float, cost: float, device: DeviceState
    ) -> None:
        """Store a result; an execution counts here. A job cancelled meanwhile keeps no result."""
        with self._transaction() as db:
            db.execute(
                "UPDATE jobs SET state = 'completed', executions = executions + 1, counts = ?, noise = ?, seconds = ?,"
                " cost = ?, calibration = ?, calibrated_at = ?, ended_at = ? WHERE id = ? AND state = 'running'",
                (
                    *(json.dumps(counts), noise, seconds, cost),
                    *(device.calibration, device.calibrated_at, time.time(), identifier),
                ),
            )

    def fail(self, identifier: str, error: str) -> None:
        """A running job ends without a result and without cost."""
        with self._transaction() as db:
            db.execute(
                "UPDATE jobs SET state = 'failed', error = ?, ended_at = ? WHERE id = ? AND state = 'running'",
                (error, time.time(), identifier),
            )

    def cancel(self, identifier: str) -> bool:
        """Whether the job was still open and is cancelled now."""
        with self._transaction() as db:
            changed = db.execute(
                "UPDATE jobs SET state = 'cancelled', ended_at = ? WHERE id = ? AND state IN ('queued', 'running')",
                (time.time(), identifier),
            )
            return changed.rowcount > 0

    def read_result(self, identifier: str, last: bool) -> bool:
        """Whether the result may still be read; ``last``: this time and never again."""
        with self._transaction() as db:
            (left,) = db.execute("SELECT reads_left FROM jobs WHERE id = ?", (identifier,)).fetchone()
            if left is None and last:
                db.execute("UPDATE jobs SET reads_left = 0 WHERE id = ?", (identifier,))
            return left is None or left > 0

    # --- devices and figures --------------------------------------------------------------------------------------

    def device(self, name: str) -> DeviceState:
        """What changes about a device."""
        (row,) = self._rows("SELECT * FROM devices WHERE name = ?", name)
        return DeviceState(row["calibration"], row["calibrated_at"], row["maintenance_until"])

    def drift(self, name: str) -> None:
        """The next calibration."""
        with self._transaction() as db:
            db.execute(
                "UPDATE devices SET calibration = calibration + 1, calibrated_at = ? WHERE name = ?",
                (time.time(), name),
            )

    def maintain(self, name: str, until: float) -> None:
        """Take a device offline; what is queued there waits."""
        with self._transaction() as db:
            db.execute("UPDATE devices SET maintenance_until = ? WHERE name = ?", (until, name))

    def queue(self, name: str) -> tuple[int, float]:
        """Open jobs of a device, and the mean seconds of its last hundred."""
        (row,) = self._rows(
            "SELECT (SELECT count(*) FROM jobs WHERE device = ?1 AND state IN ('queued', 'running')) AS open,"
            " (SELECT avg(seconds) FROM (SELECT seconds FROM jobs WHERE device = ?1 AND state = 'completed'"
            " ORDER BY ended_at DESC LIMIT 100)) AS mean",
            name,
        )
        return int(row["open"]), float(row["mean"] or 0.0)

    def usage(self) -> list[dict[str, Any]]:
        """Jobs, shots, seconds and cost of each month (UTC) and device."""
        months: dict[tuple[str, str], dict[str, Any]] = {}
        for row in self._rows("SELECT device, circuits, shots, seconds, cost, ended_at FROM jobs WHERE executions > 0"):
            month = datetime.fromtimestamp(row["ended_at"], UTC).strftime("%Y-%m")
            entry = months.setdefault(
                (month, row["device"]),
                {"month": month, "device": row["device"], "jobs": 0, "shots": 0, "seconds": 0.0, "cost": 0.0},
            )
            rows = sum(len(bindings) for _, bindings in json.loads(row["circuits"]))
            for name, value in (
                ("jobs", 1),
                ("shots", rows * row["shots"]),
                *((n, row[n]) for n in ("seconds", "cost")),
            ):
                entry[name] += value
        return [months[at] for at in sorted(months)]

    def executions(self) -> dict[str, dict[str, Any]]:
        """By key: the job, its state and how many results were stored for it."""
        rows = self._rows("SELECT key, id, state, executions FROM jobs WHERE key IS NOT NULL ORDER BY arrival")
        return {row["key"]: {"id": row["id"], "state": row["state"], "executions": row["executions"]} for row in rows}
