"""Tabu search over swaps with the true objective (after Chang et al., Computers & Operations Research 27, 2000)."""

from __future__ import annotations

import numpy as np

from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask
from hybrid_assets.solvers.selection import SelectionSearch

#: Swaps scored by a QP in every step, and steps without improvement before a restart.
_WIDTH, _PATIENCE = 64, 60


class SwapTabu(ClassicalSolver):
    """Starts greedily, takes the best allowed swap, forbids both assets for a random while, restarts when stuck."""

    name = "swap-tabu"

    def supports(self, family: str) -> bool:
        """Portfolios only."""
        return family == "portfolio"

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Search until the budget is spent or a proven optimum is reached."""
        rng = np.random.default_rng(seed)
        search = SelectionSearch(task, budget_seconds)
        chosen = search.forward()
        _walk(search, rng, chosen)
        while not search.over and search.cardinality < search.size:
            _walk(search, rng, _restart(search, rng))
        return search.result(self.name, seed)


def _restart(search: SelectionSearch, rng: np.random.Generator) -> np.ndarray:
    """Half of the time a new random selection, otherwise the best one with half of its assets exchanged."""
    fresh = search.random(rng, 1)[0]
    if search.best is None or rng.random() < 0.5:
        return fresh
    kept = rng.permutation(search.best)[: search.cardinality // 2]
    return np.concatenate([kept, np.setdiff1d(fresh, kept)[: search.cardinality - len(kept)]])


def _walk(search: SelectionSearch, rng: np.random.Generator, chosen: np.ndarray) -> None:
    """Tabu steps from a selection until ``_PATIENCE`` of them in a row bring no new best of this walk."""
    values, weights = search.score(chosen[None, :])
    at, best, idle, step = weights[0], float(values[0]), 0, 0
    until = np.zeros(search.size, dtype=np.int64)
    while idle < _PATIENCE and not search.over:
        step += 1
        neighbours = search.swaps(chosen, at, _WIDTH)
        if not len(neighbours):
            return
        values, weights = search.score(neighbours)
        position = (neighbours != chosen).argmax(axis=1)
        newcomers, leavers = neighbours[np.arange(len(neighbours)), position], chosen[position]
        tabu = (until[newcomers] >= step) | (until[leavers] >= step)
        allowed = np.where(tabu & (values >= best), np.inf, values)
        winner = int(allowed.argmin() if np.isfinite(allowed).any() else values.argmin())
        tenure = step + rng.integers(2, 3 + search.cardinality // 2, size=2)
        until[newcomers[winner]], until[leavers[winner]] = tenure
        chosen, at = neighbours[winner], weights[winner]
        idle += 1
        if values[winner] < best - 1e-12 * abs(best):
            best, idle = float(values[winner]), 0
