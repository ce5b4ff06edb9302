"""Simulated annealing over swaps with the true objective, many chains at once."""

from __future__ import annotations

import numpy as np

from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask
from hybrid_assets.solvers.selection import SelectionSearch

#: Chains stepped together, and steps of each per asset held; the schedule is restarted until the budget is spent.
_CHAINS, _STEPS_PER_ASSET = 32, 40
#: Temperatures as shares of the typical change by a random swap.
_HOT, _COLD = 1.0, 0.003


class SwapAnnealing(ClassicalSolver):
    """Random swaps, every one scored by the QP, accepted by Metropolis on a geometric schedule."""

    name = "swap-annealing"

    def supports(self, family: str) -> bool:
        """Portfolios only."""
        return family == "portfolio"

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Anneal until the budget is spent or a proven optimum is reached; each schedule ends in a descent."""
        rng = np.random.default_rng(seed)
        search = SelectionSearch(task, budget_seconds)
        while True:
            last = _anneal(search, rng)
            if search.over or search.cardinality == search.size:
                return search.result(self.name, seed)
            search.descend(last, width=64)


def _anneal(search: SelectionSearch, rng: np.random.Generator) -> np.ndarray:
    """One schedule from random selections; the best chain's last selection, shape ``(k,)``."""
    chosen = search.random(rng, _CHAINS)
    values, _ = search.score(chosen)
    if search.cardinality == search.size:
        return chosen[0]
    first, _ = search.score(_swapped(search, rng, chosen))
    typical = float(np.abs(first - values).mean()) or 1.0
    for temperature in typical * np.geomspace(_HOT, _COLD, _STEPS_PER_ASSET * search.cardinality):
        if search.over:
            break
        proposed = _swapped(search, rng, chosen)
        scores, _ = search.score(proposed)
        worse = np.maximum(scores - values, 0.0)
        accepted = rng.random(_CHAINS) < np.exp(-worse / temperature)
        chosen[accepted], values[accepted] = proposed[accepted], scores[accepted]
    return chosen[values.argmin()]


def _swapped(search: SelectionSearch, rng: np.random.Generator, chosen: np.ndarray) -> np.ndarray:
    """Every selection with one random asset replaced by a random one from outside."""
    rows = np.arange(len(chosen))
    outside = rng.random((len(chosen), search.size))
    np.put_along_axis(outside, chosen, -1.0, axis=1)
    proposed = chosen.copy()
    proposed[rows, rng.integers(0, search.cardinality, len(chosen))] = outside.argmax(axis=1)
    return proposed
