"""Platform overhead per instance: everything of the line that is not solving, in process, without stage 10.

    .venv/bin/python -m benchmarks.overhead [10 50 200]

Small random graphs go through stages 2 to 9 in one process. Overhead of an instance is its wall clock minus the
seconds that its decision reports for sampling, scoring, control and baselines. Aim: at most 1 s, flat from 10 to 200.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

NODES = 8


def graph(seed: int) -> str:
    """A random graph in rudy format, connected by a cycle."""
    rng = np.random.default_rng(seed)
    edges = {(i, (i + 1) % NODES) for i in range(NODES)} | {
        (i, j) for i in range(NODES) for j in range(i + 1, NODES) if rng.random() < 0.3
    }
    edges = {(min(e), max(e)) for e in edges}
    return f"{NODES} {len(edges)}\n" + "".join(f"{i + 1} {j + 1} {rng.integers(1, 9)}\n" for i, j in sorted(edges))


def measure(count: int) -> list[float]:
    """Overhead of each of ``count`` instances in a fresh home."""
    from hybrid_assets.landing import Address
    from hybrid_assets.request import Request
    from hybrid_assets.session import open_session
    from resources.home import Home

    overheads = []
    with tempfile.TemporaryDirectory() as folder, open_session(home=Home(Path(folder) / "var")) as session:
        for number in range(count):
            path = Path(folder) / f"graph-{number}.txt"
            path.write_text(graph(number))
            started = time.perf_counter()
            landing = session.land_file(Address(path, 0), "maxcut", Request(budget=1.0, shots=256))
            outcome = session.process(landing.instance)
            took = time.perf_counter() - started
            assert outcome.problem is None, outcome.problem
            phases = session.lake.read("decisions", [landing.instance])["seconds_by_phase"].iloc[0]
            overheads.append(took - sum(json.loads(phases).values()))
    return overheads


def main() -> None:
    for count in [int(a) for a in sys.argv[1:]] or [10, 50, 200]:
        overheads = measure(count)
        warm = overheads[1:]
        last = warm[-10:]
        print(
            f"{count} instances: first {overheads[0]:.2f} s (imports), then median {statistics.median(warm):.2f} s, "
            f"worst {max(warm):.2f} s, last ten {statistics.median(last):.2f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
