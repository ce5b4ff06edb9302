"""Tabu search for sequences of low autocorrelation (Gallardo, Cotta and Fernández 2009), one thread.

Here: clock and record. Not here: the compiled loop (``labs_kernels``).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hybrid_assets.problems.sequences.labs import lowest_energy
from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask
from hybrid_assets.solvers.search import Record

#: Spin products between two looks at the clock, roughly.
CHUNK = 20_000_000
#: An energy above all, before anything is found.
UNKNOWN = 2**62


class LabsTabu(ClassicalSolver):
    """Short tabu searches from random sequences.

    A Barker sequence meets the bound that needs no search, and so is proven. Compiling, once per installation, is not
    charged.
    """

    name = "labs-tabu"

    def supports(self, family: str) -> bool:
        """Low-autocorrelation sequences."""
        return family == "labs"

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Search until the budget ends, the proven target is reached or no sequence can be better."""
        from hybrid_assets.solvers.labs_kernels import tabu_runs

        rng, n = np.random.default_rng(seed), task.instance.size
        bound = lowest_energy(n)
        goal = bound if task.target is None else max(bound, int(min(task.target, UNKNOWN - 1)))
        best, energy, flips = np.ones(n, dtype=np.int64), UNKNOWN, 0
        # no runs: this only loads the compiled code
        tabu_runs(best, energy, 0, goal, rng)
        record = Record(task, budget_seconds)
        runs = max(1, CHUNK // n**3)
        while not record.done and energy > bound:
            energy, made = tabu_runs(best, energy, 1 if energy == UNKNOWN else runs, goal, rng)
            flips += made
            record.offer((best < 0).astype(np.int8), float(energy))
        result = record.result(self.name, "numba", seed, flips * n)
        return replace(result, bound=float(bound), status="optimal" if energy == bound else result.status)
