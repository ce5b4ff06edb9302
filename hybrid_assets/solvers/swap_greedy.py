"""Greedy selection with the true objective: forward selection, then best-improvement swaps to a local optimum."""

from __future__ import annotations

from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask
from hybrid_assets.solvers.selection import SelectionSearch

#: Swaps scored by a QP in every step, of K(N−K).
_WIDTH = 256


class SwapGreedy(ClassicalSolver):
    """Deterministic; ends at a selection that none of the most promising swaps improves, well before most budgets."""

    name = "swap-greedy"

    def supports(self, family: str) -> bool:
        """Portfolios only."""
        return family == "portfolio"

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """One construction and one descent."""
        search = SelectionSearch(task, budget_seconds)
        search.descend(search.forward(), _WIDTH)
        return search.result(self.name, seed)
