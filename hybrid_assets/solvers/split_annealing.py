"""Annealing over flips and pairs of flips on Σ|Ax − b|: the heuristic baseline of market split.

Here: temperatures, restarts and the record. Not here: the compiled steps (``problems.marketsplit_loops``).
"""

from __future__ import annotations

import time

import numpy as np

from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask

#: First and last temperature as shares of the mean coefficient times the number of rows.
HOT, COLD = 0.5, 0.02
#: Metropolis steps of a run.
STEPS = 400_000


class SplitAnnealing(ClassicalSolver):
    """Runs of falling temperature from random bits until time is up; 0 is optimal, since no residual is below."""

    name = "split-annealing"

    def supports(self, family: str) -> bool:
        """Market split."""
        return family == "marketsplit"

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Search until the budget is spent, 0 or a proven optimum is reached."""
        from importlib.metadata import version

        from hybrid_assets.problems.packing.marketsplit_loops import anneal

        started = time.perf_counter()
        rng, instance = np.random.default_rng(seed), task.instance
        matrix, targets = instance.arrays["matrix"], instance.arrays["targets"]
        columns, unit = np.ascontiguousarray(matrix.T), float(matrix.mean()) * len(targets)
        best = rng.integers(0, 2, instance.size, dtype=np.int8)
        objective = task.family.evaluate(instance, best).objective
        trajectory, steps = [(time.perf_counter() - started, objective)], 0
        while objective > 0 and time.perf_counter() - started < budget_seconds and not task.reached(objective):
            bits = rng.integers(0, 2, instance.size, dtype=np.int8)
            residual = matrix @ bits.astype(np.int64) - targets
            value = float(anneal(bits, residual, columns, STEPS, HOT * unit, COLD * unit, rng))
            steps += STEPS
            if value < objective:
                best, objective = bits, value
                trajectory.append((time.perf_counter() - started, value))
        return SolverResult(
            solver=self.name,
            version=f"numba {version('numba')}",
            status="optimal" if objective == 0 else "feasible",
            values=best,
            objective=objective,
            bound=0.0,
            seconds=time.perf_counter() - started,
            trajectory=tuple(trajectory),
            seed=seed,
            evaluations=steps,
        )
