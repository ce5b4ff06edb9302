"""A burst: 200 files dropped at once become one batch run.

    .venv/bin/python -m benchmarks.burst [200]

Two looks of the inbox sensor (a file is taken when two looks agree), then the batch in a process of its own. Printed:
requests, seconds of the looks, seconds of the batch in all (start of the process included) and per instance, of these
the solving, and the peak memory.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.overhead import graph


def main() -> None:
    dagster = str(Path(sys.executable).with_name("dagster"))
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory() as folder:
        inbox = Path(folder) / "inbox"
        (inbox / "maxcut").mkdir(parents=True)
        os.environ["HYBRID_INBOX"] = str(inbox)
        from hybrid_assets import sensors
        from hybrid_assets.session import open_session
        from resources.home import Home

        for number in range(count):
            (inbox / "maxcut" / f"graph-{number}.txt").write_text(graph(number))
            (inbox / "maxcut" / f"graph-{number}.yaml").write_text("budget: 1.0\nshots: 256\n")
        with open_session(home=Home(Path(folder) / "var")) as session:
            graph_of_assets = session.repository.asset_graph
            started = time.perf_counter()
            first = sensors.look(None, session.dispatcher, session.instance, graph_of_assets)
            second = sensors.look(first.cursor, session.dispatcher, session.instance, graph_of_assets)
            looked = time.perf_counter() - started
            requests = list(second.run_requests or [])
            for request in second.dynamic_partitions_requests or []:
                session.instance.add_dynamic_partitions("instances", list(request.partition_keys))
            config = Path(folder) / "config.yaml"
            config.write_text(json.dumps(requests[0].run_config))
            started = time.perf_counter()
            # a process of its own, as the daemon would start
            subprocess.run(
                [
                    dagster,
                    "job",
                    "execute",
                    "-m",
                    "hybrid_assets.definitions",
                    "-a",
                    "defs",
                    "-j",
                    "process_batch",
                    "-c",
                    config,
                ],
                env={**os.environ, "HYBRID_HOME": str(session.home.root)},
                check=True,
                capture_output=True,
            )
            took = time.perf_counter() - started
            decided = session.lake.read("decisions")
        solving = sum(sum(json.loads(phases).values()) for phases in decided["seconds_by_phase"])
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(
            f"{count} files: {len(requests)} request(s), two looks {looked:.1f} s, {len(decided)} decided in "
            f"{took:.0f} s ({took / count:.2f} s each, of it solving {solving / count:.2f} s), "
            f"peak memory {peak:.0f} MB"
        )


if __name__ == "__main__":
    main()
