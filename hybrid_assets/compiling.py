"""Compile the numba loops once, at set-up: ``python -m hybrid_assets.compiling``.

Here: one tiny instance per family that is walked and solved, so that compiled code lies in numba's cache and no budget
of a first job or baseline pays for it. Not here: the loops, which compile by themselves when they were not found. Where
the checkout cannot be written numba keeps its cache with the user, or nowhere; then every process compiles.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress

import numpy as np

from hybrid_assets import registry
from hybrid_assets.problems.landscape import random_bits
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.solvers.base import SolveTask
from resources.failures import HybridError

_PLACES = "NODE_COORD_SECTION\n1 0 0\n2 3 4\n3 8 1\n4 2 9\n5 7 7\n6 1 5\n7 9 3\n"
#: One small file per family.
EXAMPLES = {
    "maxcut": "6 7\n1 2 1\n2 3 2\n3 4 1\n4 5 3\n5 6 1\n6 1 2\n1 4 1\n",
    "qubo": "5 6\n1 1 -3\n1 2 2\n2 3 -1\n3 4 4\n4 5 -2\n5 5 1\n",
    "mis": "c independent set\np edge 6 7\ne 1 2\ne 3 2\ne 3 4\ne 1 4\ne 5 1\ne 5 6\ne 2 6\n",
    "labs": "labs 9\n",
    "qap": "5\n\n0 3 1 2 4\n3 0 1 4 2\n1 1 0 2 1\n2 4 2 0 3\n4 2 1 3 0\n\n"
    "0 1 2 3 4\n1 0 1 2 3\n2 1 0 1 2\n3 2 1 0 1\n4 3 2 1 0\n",
    "knapsack": "6 11\n8 4\n10 5\n15 8\n4 3\n9 2\n7 12\n",
    "binpacking": "6\n10\n6\n5\n4\n3\n2\n5\n",
    "marketsplit": "2 6\n 3 5 2 7 4 1 11\n 2 2 6 1 3 5 9\n",
    "jobshop": "3 3\n0 3 1 2 2 2\n0 2 2 1 1 4\n1 4 2 3 0 1\n",
    "tsp": f"NAME: t\nTYPE: TSP\nDIMENSION: 7\nEDGE_WEIGHT_TYPE: EUC_2D\n{_PLACES}EOF\n",
    "cvrp": "NAME: c-k3\nTYPE: CVRP\nDIMENSION: 7\nCAPACITY: 10\nEDGE_WEIGHT_TYPE: EUC_2D\n"
    f"{_PLACES}DEMAND_SECTION\n1 0\n2 4\n3 5\n4 3\n5 6\n6 2\n7 4\nDEPOT_SECTION\n1\n-1\nEOF\n",
    "rcpsp": "5 1\n3\n0 0 3 2 3 4\n2 2 1 5\n1 1 1 5\n2 2 1 5\n0 0 0\n",
    "program": "Maximize\n obj: 2 a + 3 b + 4 c\nSubject To\n w: 3 a + 4 b + 5 c <= 10\nBinary\n a b c\nEnd\n",
    "portfolio": "4\n0.01 0.1\n0.02 0.2\n0.03 0.3\n0.015 0.1\n"
    + "".join(f"{i} {j} {1.0 if i == j else 0.1}\n" for i in range(1, 5) for j in range(i, 5)),
}


def compile_family(name: str, content: str) -> None:
    """Walk and solve one instance with everything that the family's code compiles."""
    from hybrid_assets.proposals.arms import ARMS
    from hybrid_assets.proposals.engine import Budget, search
    from hybrid_assets.proposals.walk import WalkSettings

    family = registry.family(name)
    source = SourceFile(f"{name}.txt", content.encode(), hashlib.sha256(content.encode()).hexdigest())
    instance = family.normalize(family.read(source)[0], family.options(), name)
    landscape, rng = family.landscape(instance), np.random.default_rng(0)
    if landscape is not None:
        state = landscape.start(0)
        landscape.polish(landscape.shaken(state, rng), 100)
        for kind in landscape.kinds:
            if (block := landscape.block(state, kind, 6, rng)) is not None:
                landscape.apply(state, block, random_bits(block, 1, rng)[0])
        for arm in ARMS.values():
            search(landscape, arm(), Budget(trips=2), 0, WalkSettings(sizes=(4,), polish=True))
    for solver in family.baselines(instance):
        with suppress(HybridError):
            registry.solver(solver).solve(SolveTask(family, instance), 0.2, 0)


def main() -> None:
    """Everything, with a line of progress; what families share first, then the families side by side."""
    from resources.backends.statevector import Statevector

    began = time.perf_counter()

    def progress(name: str) -> None:
        print(f"\rcompiling loops: {name:<12}", end="", file=sys.stderr, flush=True)

    progress("kernel")
    Statevector().load()
    first, *rest = EXAMPLES
    progress(first)
    compile_family(first, EXAMPLES[first])
    with ProcessPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for name, _ in zip(rest, pool.map(compile_family, rest, [EXAMPLES[name] for name in rest]), strict=True):
            progress(name)
    print(f"\rcompiled in {time.perf_counter() - began:.0f} s{'':<16}", file=sys.stderr)


if __name__ == "__main__":
    main()
