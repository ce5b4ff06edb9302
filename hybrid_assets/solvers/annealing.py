"""Simulated annealing with a linear schedule and restarts (dwave-samplers).

Here: the schedule, scaled by the couplings, and runs that grow until the budget ends. Not here: the annealer backend,
which goes through a quantum interface as a surrogate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask
from hybrid_assets.solvers.search import Record, best_of, is_unconstrained, polynomial_of

if TYPE_CHECKING:
    import dimod

#: Inverse temperatures in units of 1 / (scale of the couplings), first and last.
BETAS = (0.1, 3.0)
#: Sweeps of the first run and of the longest; each batch has twice the sweeps of the one before.
SWEEPS = (100, 10_000)
#: Couplings looked at in the first run at most.
FIRST_UPDATES = 20_000_000


class Annealing(ClassicalSolver):
    """Restarted simulated annealing, each run ended by a steepest descent; the best of all runs."""

    name = "annealing"

    def supports(self, family: str) -> bool:
        """Families without constraints."""
        return is_unconstrained(family)

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Anneal again and again until the budget ends or the proven target is reached."""
        import dimod
        from dwave.samplers import SimulatedAnnealingSampler, SteepestDescentSampler

        record, rng = Record(task, budget_seconds), np.random.default_rng(seed)
        bqm = polynomial_of(task).change_vartype(dimod.SPIN, inplace=False)
        scale, sampler, quench = coupling_scale(bqm), SimulatedAnnealingSampler(), SteepestDescentSampler()
        # the speed is not known yet: the first run of a very large model is shorter
        sweeps = int(np.clip(FIRST_UPDATES // (bqm.num_variables + bqm.num_interactions), 10, SWEEPS[0]))
        total, speed, overhead = 0, 0.0, 0.0
        while True:
            before = record.elapsed
            found = sampler.sample(
                bqm,
                num_reads=1,
                num_sweeps=sweeps,
                beta_range=(BETAS[0] / scale, BETAS[1] / scale),
                beta_schedule_type="linear",
                seed=int(rng.integers(2**31)),
            )
            sampling = found.info["timing"]["sampling_ns"] / 1e9
            # with couplings of many sizes the last temperature is warm for the small ones
            record.offer(
                *best_of(quench.sample(bqm, initial_states=(found.record.sample, found.variables), num_reads=1, seed=0))
            )
            total += sweeps
            speed = sweeps / max(sampling, 1e-6)
            overhead = record.elapsed - before - sampling
            # the last run is shortened to what is left, and left out when nothing worth a run is
            sweeps = int(min(SWEEPS[1], 2 * sweeps, speed * (record.left - overhead)))
            if record.done or sweeps < 10:
                return record.result(self.name, "dwave-samplers", seed, total)


def coupling_scale(bqm: dimod.BinaryQuadraticModel) -> float:
    """Root mean square of the non-zero couplings of a SPIN model; of the fields where there are no couplings."""
    linear, (_, _, couplings), _ = bqm.to_numpy_vectors()[:3]
    terms = couplings[couplings != 0] if np.any(couplings) else linear[linear != 0]
    return float(np.sqrt(np.mean(terms**2))) if terms.size else 1.0
