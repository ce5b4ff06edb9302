"""How long `import hybrid_assets.definitions` takes against `import dagster`, each in fresh processes, in turn.

    .venv/bin/python -m benchmarks.imports

Aim: at most 4 times as long, no quantum SDK or solver loaded (dagster_dbt brings networkx).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile

REPEATS = 7
HEAVY = (
    "qiskit",
    "qiskit_aer",
    "pennylane",
    "dimod",
    "dwave",
    "ortools",
    "pyscipopt",
    "highspy",
    "clarabel",
    "sklearn",
    "scipy",
    "matplotlib",
)


def seconds(module: str, home: str) -> tuple[float, list[str]]:
    """Wall-clock seconds of one import in a fresh interpreter, and the heavy packages it loaded."""
    code = (
        f"import time, sys, json; t = time.perf_counter(); import {module}; t = time.perf_counter() - t; "
        f"print(json.dumps([t, [m for m in {HEAVY!r} if m in sys.modules]]))"
    )
    env = {"HYBRID_HOME": home, "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    took, loaded = json.loads(done.stdout.splitlines()[-1])
    return took, loaded


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        for module in ("dagster", "hybrid_assets.definitions"):
            seconds(module, home)  # warm the file cache
        pairs = [(seconds("dagster", home), seconds("hybrid_assets.definitions", home)) for _ in range(REPEATS)]
    dagster = statistics.median(a[0] for a, _ in pairs)
    ours = statistics.median(b[0] for _, b in pairs)
    ratio = statistics.median(b[0] / a[0] for a, b in pairs)
    print(f"dagster {dagster:.2f} s, hybrid_assets.definitions {ours:.2f} s, ratio {ratio:.2f} (aim: at most 4)")
    with tempfile.TemporaryDirectory() as home:
        built = statistics.median(
            seconds("hybrid_assets.definitions; hybrid_assets.definitions.defs", home)[0] for _ in range(3)
        )
    print(f"assembling defs as well: {built:.2f} s, ratio {built / dagster:.2f}")
    print(f"heavy packages loaded: {', '.join(pairs[-1][1][1]) or 'none'} (aim: none)")


if __name__ == "__main__":
    main()
