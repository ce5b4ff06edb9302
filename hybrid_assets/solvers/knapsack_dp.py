"""Dynamic programming over the capacity: the exact baseline of the single knapsack.

Here: the table within a memory limit, the way back through it, and Dantzig's bound where it does not fit or time runs
out. Not here: knapsacks with pairs or several capacities.
"""

from __future__ import annotations

import time

import numpy as np

from hybrid_assets.problems.packing.knapsack_bag import Bag, Items
from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask, Status

#: Bytes of the table of decisions, one bit per item and capacity.
MAX_TABLE = 512 * 2**20
#: Cells between two looks at the clock.
CHUNK = 20_000_000


class KnapsackDp(ClassicalSolver):
    """Bellman's recursion with weights divided by their greatest common divisor, compiled; starts from a greedy choice
    with descent, whose value is the answer where the table is not finished."""

    name = "knapsack-dp"

    def supports(self, family: str) -> bool:
        """Knapsacks; with pairs or several capacities it answers with the greedy choice only."""
        return family == "knapsack"

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Solve within the budget."""
        from importlib.metadata import version

        started = time.perf_counter()
        instance, items = task.instance, Items.of(task.instance)
        single = items.weights.shape[1] == 1 and not len(items.pairs)
        bag = Bag.greedy(items, None)
        bag.descend(1_000_000)
        values = bag.x
        status: Status = "feasible"
        objective = task.family.evaluate(instance, values).objective
        trajectory = [(time.perf_counter() - started, objective)]
        bound = _relaxation(items) if single else None
        if single and not task.reached(objective):
            found = _table(items, started + budget_seconds)
            if found is not None:
                best = task.family.evaluate(instance, found).objective
                if best > objective:
                    values, objective = found, best
                    trajectory.append((time.perf_counter() - started, best))
                status, bound = "optimal", objective
        return SolverResult(
            solver=self.name,
            version=f"numba {version('numba')}",
            status=status,
            values=values,
            objective=objective,
            bound=None if bound is None else max(bound, objective),
            seconds=time.perf_counter() - started,
            trajectory=tuple(trajectory),
            seed=seed,
        )


def _relaxation(items: Items) -> float:
    """Dantzig's bound: what fits by efficiency, and the fitting share of the next item."""
    k = items.fitting
    value, weight = items.values[k], items.weights[k, 0]
    price = float(items.prices[0])
    return price * float(items.capacities[0]) + float(np.maximum(value - price * weight, 0.0).sum())


def _table(items: Items, deadline: float) -> np.ndarray | None:
    """The best bits, shape ``(n,)``; ``None`` when memory or time does not suffice."""
    from hybrid_assets.problems.packing.knapsack_loops import tabulate

    k = items.fitting
    divisor = max(int(np.gcd.reduce(items.weights[k, 0])), 1)
    weights = items.weights[k, 0] // divisor
    capacity = min(int(items.capacities[0]) // divisor, int(weights.sum()))
    if len(k) * (capacity + 8) // 8 > MAX_TABLE:
        return None
    best = np.zeros(capacity + 1)
    taken = np.zeros((len(k), (capacity + 8) // 8), dtype=np.uint8)
    rows = max(1, CHUNK // (capacity + 1))
    for start in range(0, len(k), rows):
        if time.perf_counter() > deadline:
            return None
        tabulate(best, taken, items.values[k], weights, start, min(start + rows, len(k)))
    bits, left = np.zeros(len(items.values), dtype=np.int8), capacity
    for i in range(len(k) - 1, -1, -1):
        if taken[i, left >> 3] >> (left & 7) & 1:
            bits[k[i]], left = 1, left - int(weights[i])
    return bits
