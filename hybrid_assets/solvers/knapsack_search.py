"""The heuristic baseline of every knapsack: restarts of a compiled walk over choices that keep the capacities.

Here: temperatures, restarts and the record. Not here: the steps (``problems.knapsack_loops``).
"""

from __future__ import annotations

import time

import numpy as np

from hybrid_assets.problems.packing.knapsack_bag import Bag, Items
from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask

#: First and last temperature as shares of an item's mean gain: flip and repair, and annealing with pairs.
HOT, COLD = 0.05, 0.002
HOT_PAIRS, COLD_PAIRS = 0.1, 0.003
#: Mean distance from the border of the items that a step flips.
WIDTH = 8.0
#: Work of a run: items that its steps look at. Each run is longer than the last by a factor, up to a limit.
FIRST, GROWTH, LONGEST = 2_000_000, 1.3, 50_000_000
#: Work between two looks at the clock, and ΔE evaluations of a descent.
CHUNK, DESCENT = 20_000_000, 200_000


class KnapsackSearch(ClassicalSolver):
    """From noisy greedy starts, until time is up: flips near the border with drop and add repair by the prices of the
    relaxation (after Chu & Beasley, Journal of Heuristics 4, 1998) where values are linear, simulated annealing over
    adds, drops and swaps with descent where there are pairs."""

    name = "knapsack-search"

    def supports(self, family: str) -> bool:
        """Knapsacks."""
        return family == "knapsack"

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Search until the budget is spent or a proven optimum is reached."""
        from importlib.metadata import version

        started = time.perf_counter()
        rng, items = np.random.default_rng(seed), Items.of(task.instance)
        best = Bag.greedy(items, None)
        best.descend(DESCENT)
        values, objective = best.x, task.family.evaluate(task.instance, best.x).objective
        trajectory, evaluations = [(time.perf_counter() - started, objective)], 0
        work = float(FIRST)
        while True:
            bag, chunks = Bag.greedy(items, rng), max(1, int(-(-work // CHUNK)))
            for part in range(chunks):
                if time.perf_counter() - started >= budget_seconds or task.reached(objective):
                    return SolverResult(
                        solver=self.name,
                        version=f"numba {version('numba')}",
                        status="feasible",
                        values=values,
                        objective=objective,
                        bound=None,
                        seconds=time.perf_counter() - started,
                        trajectory=tuple(trajectory),
                        seed=seed,
                        evaluations=evaluations,
                    )
                evaluations += _walk(bag, work / chunks, part / chunks, (part + 1) / chunks, rng)
                value = task.family.evaluate(task.instance, bag.x).objective
                if value > objective:
                    values, objective = bag.x.copy(), value
                    trajectory.append((time.perf_counter() - started, value))
            work = min(work * GROWTH, LONGEST)


def _walk(bag: Bag, work: float, start: float, stop: float, rng: np.random.Generator) -> int:
    """One part of a run, ``start`` to ``stop`` of its temperatures; steps made."""
    from hybrid_assets.problems.packing.knapsack_loops import rebuild

    items = bag.items
    pool = items.fitting
    unit = float(items.typical[pool].mean()) or 1.0
    if len(items.pairs):
        hot, cold = (HOT_PAIRS * (COLD_PAIRS / HOT_PAIRS) ** share for share in (start, stop))
        steps = max(1, int(work / 8))
        bag.anneal(steps, hot * unit, cold * unit, rng)
        return steps + (bag.descend(DESCENT) if stop == 1.0 else 0)
    hot, cold = (HOT * (COLD / HOT) ** share for share in (start, stop))
    efficiency = (items.typical / bag.priced(items.prices))[pool]
    steps = max(1, int(work / len(pool)))
    order = pool[np.argsort(-efficiency, kind="stable")]
    border = int((efficiency > 1).sum())
    rebuild(bag.x, items.values, items.weights, bag.room, order, border, WIDTH, steps, hot * unit, cold * unit, rng)
    return steps
