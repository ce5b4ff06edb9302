"""Best fit decreasing with ruin and refill: the heuristic baseline of bin packing.

Here: restarts, temperatures, the record and the bound. Not here: the compiled steps (``problems.binpacking_loops``).
"""

from __future__ import annotations

import time

import numpy as np

from hybrid_assets.problems.packing.binpacking import fewest_bins, packed
from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask

#: Temperatures of the acceptance on Σ (load/capacity)², one after the other.
TEMPERATURES = (0.02, 0.005, 0.05)
#: Items times refills between two looks at the clock, and refills at one temperature.
CHUNK, REFILLS = 4_000, 400


class FitDecreasing(ClassicalSolver):
    """Best fit decreasing and descent, then the lightest bin and a few others are emptied and refilled, again and
    again. It is optimal where the bins are as many as Martello and Toth's lower bound L2."""

    name = "fit-decreasing"

    def supports(self, family: str) -> bool:
        """Bin packing."""
        return family == "binpacking"

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Search until the budget is spent, the bound or a proven optimum is reached."""
        from importlib.metadata import version

        from hybrid_assets.problems.packing.binpacking_loops import refill

        started = time.perf_counter()
        instance, rng = task.instance, np.random.default_rng(seed)
        sizes, capacity = instance.arrays["sizes"], int(instance.arrays["capacity"][0])
        bound = fewest_bins(instance)
        best = packed(instance)
        fewest = len(np.unique(best))
        trajectory, refills = [(time.perf_counter() - started, float(fewest))], 0
        per_look = max(1, CHUNK // instance.size)
        bins, loads = best.copy(), np.bincount(best, sizes, 2 * fewest + 1).astype(np.int64)
        while fewest > bound and time.perf_counter() - started < budget_seconds and not task.reached(float(fewest)):
            temperature = TEMPERATURES[refills // REFILLS % len(TEMPERATURES)]
            used = int(refill(sizes, bins, loads, capacity, per_look, temperature, rng))
            refills += per_look
            if used < fewest:
                best, fewest = bins.copy(), used
                trajectory.append((time.perf_counter() - started, float(used)))
        return SolverResult(
            solver=self.name,
            version=f"numba {version('numba')}",
            status="optimal" if fewest == bound else "feasible",
            values=best,
            objective=float(fewest),
            bound=float(bound),
            seconds=time.perf_counter() - started,
            trajectory=tuple(trajectory),
            seed=seed,
            evaluations=refills,
        )
