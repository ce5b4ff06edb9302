"""Steepest descent: the quick baseline.

Here: descents from all zeros, all ones and many random starts (dwave-samplers). Not here: anything that climbs.
"""

from __future__ import annotations

import numpy as np

from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask
from hybrid_assets.solvers.search import Record, best_of, is_unconstrained, polynomial_of

#: Descents in all; the first is the greedy construction from all zeros.
STARTS = 1_000


class Greedy(ClassicalSolver):
    """Multi-start steepest descent; from all zeros it is the greedy construction that sets the best bit first."""

    name = "greedy"

    def supports(self, family: str) -> bool:
        """Families without constraints."""
        return is_unconstrained(family)

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """At most 1,000 descents within the budget; the same seed makes the same starts."""
        import dimod
        from dwave.samplers import SteepestDescentSampler

        record, rng = Record(task, budget_seconds), np.random.default_rng(seed)
        bqm = polynomial_of(task).change_vartype(dimod.SPIN, inplace=False)
        n, sampler = bqm.num_variables, SteepestDescentSampler()
        sparse = n >= 1_000 and bqm.num_interactions < 0.05 * n * n / 2
        starts = np.stack([-np.ones(n, dtype=np.int8), np.ones(n, dtype=np.int8)])
        finished = flips = 0
        while True:
            before = record.elapsed
            found = sampler.sample(
                bqm, initial_states=(starts, range(n)), num_reads=len(starts), seed=0, large_sparse_opt=sparse
            )
            record.offer(*best_of(found))
            finished += len(starts)
            flips += int(found.record.num_steps.sum())
            if record.done or finished >= STARTS:
                return record.result(self.name, "dwave-samplers", seed, flips)
            # batches as long as a tenth of the budget, by the speed of the last one
            speed = len(starts) / max(record.elapsed - before, 1e-6)
            batch = int(np.clip(speed * min(record.left, budget_seconds / 10), 1, STARTS - finished))
            starts = rng.integers(0, 2, (batch, n), dtype=np.int8) * np.int8(2) - np.int8(1)
