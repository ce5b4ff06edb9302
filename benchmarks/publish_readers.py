"""200 concurrent readers of the published DuckDB file during 20 publishes: does anybody fail or see a mixture?

Run from the checkout: ``python -m benchmarks.publish_readers``.

Measured: each reader is a process of its own that, over and over, opens the published path, reads the run id from
``publication`` and the run ids stamped into five marts, keeps the connection open for up to 20 seconds, reads again and
closes; so nearly all 200 connections are open at any time, across swaps. A visit is consistent when everything it read
carries one run id. Both cores would otherwise be busy with opening files only, and publishes would wait for them.

A publish is a copy of a prepared warehouse (built once by dbt, 200 instances), stamped with its own run id, and then
the platform's own ``finish``: record, checkpoint, close, atomic swap. dbt itself is not part of the timings. Exits with
1 when a read failed or a visit was mixed.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import duckdb

from resources import warehouse

READERS, PUBLISHES, INSTANCES = 200, 20, 200
THINK = 20.0
STAMPS = {
    "publication": "run_id",
    "decisions": "data_version",
    "samples": "data_version",
    "candidates": "data_version",
    "comparisons": "data_version",
    "leaderboard": "reason",
}
QUERY = " UNION ALL ".join(f"SELECT DISTINCT '{table}', {column} FROM {table}" for table, column in STAMPS.items())


def prepare(place: Path) -> tuple[warehouse.Build, Any]:
    """A real warehouse of ``INSTANCES`` instances, unpublished."""
    from hybrid_assets.contracts import TABLES, arrow_schema, frame_of
    from resources.lake import Lake
    from tests.rows import rows

    lake = Lake(place / "lake", {table: arrow_schema(table) for table in TABLES})
    lake.ensure_tables()
    keys = [f"maxcut.n{number}" for number in range(INSTANCES)]
    for table in TABLES:
        found = [row for key in keys for row in rows(table, key)]
        if table == "control_audit":
            found = [{**row, "sequence": number} for number, row in enumerate(found, start=1)]
        lake.write(table, frame_of(table, found), None if table.startswith("control_") else keys, {})
    build = warehouse.begin(place / "prepared.duckdb", lake, "prepared", place / "dbt")
    warehouse.dbt_build(build)
    return build, lake


def publish(place: Path, prepared: Path, lake: Any, number: int) -> float:
    """One publish of the stamped copy; returns its seconds."""
    began = time.perf_counter()
    build = warehouse.begin(place / "warehouse.duckdb", lake, f"run-{number}", place / "dbt")
    shutil.copyfile(prepared, build.path)
    with duckdb.connect(str(build.path)) as connection:
        for table, column in STAMPS.items():
            if table != "publication":
                connection.execute(f"UPDATE {table} SET {column} = ?", [build.run_id])
    warehouse.finish(build)
    return time.perf_counter() - began


def read(path: str, ready: Any, stop: Event, results: Any) -> None:
    """Read until told to stop; reports counts, latencies, failures and what was seen."""
    seen: Counter[str] = Counter()
    seconds: list[float] = []
    failures: list[str] = []
    mixed = 0
    think = random.Random(os.getpid())
    ready.release()
    while not stop.wait(THINK * think.random()):
        stamps: set[str] = set()
        began = time.perf_counter()
        try:
            with duckdb.connect(path, read_only=True, config={"threads": "1"}) as connection:
                connection.execute("SET enable_progress_bar = false")
                for pause in (THINK * think.random(), 0.0):
                    found = connection.execute(QUERY).fetchall()
                    seconds.append(time.perf_counter() - began)
                    stamps |= {stamp for _, stamp in found}
                    complete = {table for table, _ in found} == set(STAMPS)
                    mixed += len(stamps) != 1 or not complete
                    stop.wait(pause)
                    began = time.perf_counter()
        except Exception as error:
            failures.append(f"{type(error).__name__}: {error}")
        seen.update(stamps)
    results.put((seconds, failures, mixed, seen))


def main() -> None:
    """Run it and print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        prepared, lake = prepare(place)
        publish(place, prepared.path, lake, 0)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["duckdb"])
        stop, results, ready = context.Event(), context.Queue(), context.Semaphore(0)
        readers = [
            context.Process(target=read, args=(str(place / "warehouse.duckdb"), ready, stop, results), daemon=True)
            for _ in range(READERS)
        ]
        for reader in readers:
            reader.start()
        for _ in readers:
            ready.acquire()
        began = time.perf_counter()
        publishes = []
        for number in range(1, PUBLISHES + 1):
            time.sleep(1)
            publishes.append(publish(place, prepared.path, lake, number))
        time.sleep(1)
        stop.set()
        reports = [results.get(timeout=120) for _ in readers]
        elapsed = time.perf_counter() - began
        for reader in readers:
            reader.join()

    seconds = sorted(second for report in reports for second in report[0])
    failures = [failure for report in reports for failure in report[1]]
    seen: Counter[str] = sum((report[3] for report in reports), Counter())
    mixed = sum(report[2] for report in reports)
    print(f"readers            {READERS} processes, {elapsed:.1f} s")
    print(f"publishes          {len(publishes)} of {PUBLISHES}, {_times(publishes)}")
    print(f"reads              {len(seconds)}, {_times(seconds)}")
    print(f"failed reads       {len(failures)} {Counter(failures).most_common(3) if failures else ''}")
    print(f"mixed visits       {mixed}")
    print(f"versions seen      {len(seen)} of {PUBLISHES + 1}")
    sys.exit(bool(failures or mixed or not seconds))


def _times(seconds: list[float]) -> str:
    if not seconds:
        return "none"
    return f"median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s"


if __name__ == "__main__":
    main()
