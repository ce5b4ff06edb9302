"""Multi-start tabu search (Palubeckis 2004, dwave-samplers) with restarts until the budget ends.

Here: slicing the budget so that improvements have times. Not here: the search itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hybrid_assets.problems.unconstrained import TABU_VARIABLES
from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask
from hybrid_assets.solvers.search import Record, best_of, is_unconstrained, polynomial_of

#: First slice in seconds, growth from slice to slice, longest slice of a large model as a share of the budget.
FIRST, GROWTH, LONGEST = 0.02, 1.5, 0.2
#: Up to this size stages (200 n moves) and slices stay short, so that there are many restarts.
SMALL = 250


class Tabu(ClassicalSolver):
    """Tabu search in slices that grow, by turns from a steepest descent of random bits and from the best so far.

    The library's tenure of at most 20 suits dense models, sparse ones of many variables want n/20 or n/8 (measured on
    Gset graphs), and small weighted graphs n/4, so slices take turns.
    """

    name = "tabu"

    def supports(self, family: str) -> bool:
        """Families without constraints."""
        return is_unconstrained(family)

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Search until the budget ends or the proven target is reached; above 5,000 variables only the descent."""
        from dwave.samplers import SteepestDescentSampler, TabuSampler

        record, rng = Record(task, budget_seconds), np.random.default_rng(seed)
        bqm = polynomial_of(task)
        n, sampler, descent = bqm.num_variables, TabuSampler(), SteepestDescentSampler()
        tenures = sorted({min(20, n // 4), n // 20, n // 8, n // 4 if n <= SMALL else 0} - {0}) or [0]
        stage: dict[str, Any] = {}
        if n <= SMALL:
            stage = {"lower_bound_z": 200 * n, "coefficient_z_first": 1, "coefficient_z_restart": 1}
        longest = 3 * FIRST if n <= SMALL else max(FIRST, LONGEST * budget_seconds)
        best, length, slices, overhead = np.zeros(n, dtype=np.int8), FIRST, 0, 0.0
        while True:
            if slices % 2 == 0:
                found = descent.sample(bqm, num_reads=1, seed=int(rng.integers(2**32)))
                start, energy = best_of(found)
                if record.offer(start, energy):
                    best = start
            else:
                start = best
            # a slice should be worth the set-up of the dense matrix, and end with the budget
            allowed = min(max(length, 3 * overhead), record.left - overhead)
            if record.done or allowed < 0.001 or n > TABU_VARIABLES:
                return record.result(self.name, "dwave-samplers", seed, slices)
            before = record.elapsed
            found = sampler.sample(
                bqm,
                initial_states=(start[None, :], range(n)),
                num_reads=1,
                tenure=tenures[slices // 2 % len(tenures)],
                timeout=int(1000 * allowed),
                seed=int(rng.integers(2**32)),
                **stage,
            )
            overhead = max(0.0, record.elapsed - before - allowed)
            bits, energy = best_of(found)
            if record.offer(bits, energy):
                best = bits
            slices += 1
            length = min(longest, GROWTH * length)
