"""What the swap heuristics share: exact scores of many selections at once, swap estimates, the record of improvements.

Here: ``SelectionSearch``. Not here: which swaps a heuristic takes.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from hybrid_assets.problems.portfolio_ruled import nearest_selection, ruled_weights
from hybrid_assets.problems.portfolio_rules import Rules
from hybrid_assets.problems.portfolio_weights import objectives, optimal_weights, swap_estimates
from hybrid_assets.solvers.base import SolverResult, SolveTask


class SelectionSearch:
    """A search over selections of K of N assets under a wall-clock budget; every score is that of the optimal QP.
    Compiling, once per installation, is not charged.

    Attributes:
        size, cardinality: N and K.
        best: indices of the best selection so far, shape ``(k,)``; ``None`` at first.
        best_objective: its objective.
        evaluations: QPs solved.
    """

    def __init__(self, task: SolveTask, budget_seconds: float) -> None:
        self.task = task
        rules = task.instance.settings
        self.mean, self.covariance = task.instance.arrays["mean"], task.instance.arrays["covariance"]
        # two weights without bounds: this only loads the compiled code
        optimal_weights(self.mean, self.covariance, 0.5, 0.0, 1.0, np.arange(2))
        self.started = time.perf_counter()
        self.deadline = self.started + budget_seconds
        self.risk_aversion = rules["risk_aversion"]
        self.size, self.cardinality = task.instance.size, rules["cardinality"]
        self.rules = Rules.of(task.instance)
        # no two objectives are half of this apart
        self.charge = 1.0 + 8 * float(np.abs(self.mean).max() + np.diag(self.covariance).max())
        self.best: np.ndarray | None = None
        self.best_objective = float("inf")
        self.trajectory: list[tuple[float, float]] = []
        self.evaluations = 0

    @property
    def over(self) -> bool:
        """Whether the budget is spent or a proven optimum has been reached."""
        return time.perf_counter() >= self.deadline or self.task.reached(self.best_objective)

    def score(self, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Objectives ``(b,)`` and optimal weights ``(b, k)`` of selections ``(b, k)``; K-selections are recorded.

        Smaller selections, on the way to K, get bounds that they can satisfy and no further rules. K-selections without
        weights under the rules are charged beyond any gain and not recorded.
        """
        count, held = chosen.shape
        high = max(self.rules.high, 1.0 / held)
        weights = optimal_weights(self.mean, self.covariance, self.risk_aversion, self.rules.low, high, chosen)
        values = objectives(self.mean, self.covariance, self.risk_aversion, chosen, weights)
        self.evaluations += count
        if held == self.cardinality and not self.rules.plain:
            self._rule(chosen, weights, values)
        winner = int(values.argmin())
        allowed = values[winner] < self.charge / 2
        if held == self.cardinality and allowed and values[winner] < self.best_objective - 1e-15 * abs(values[winner]):
            self.best, self.best_objective = chosen[winner].copy(), float(values[winner])
            self.trajectory.append((time.perf_counter() - self.started, self.best_objective))
        return values, weights

    def _rule(self, chosen: np.ndarray, weights: np.ndarray, values: np.ndarray) -> None:
        """Weights and values under the rules, in place."""
        for row, picked in enumerate(chosen):
            ruled = ruled_weights(self.task.instance, self.rules, picked)
            if ruled is None:
                values[row] += self.charge
            else:
                problem = self.mean, self.covariance, self.risk_aversion
                weights[row], values[row] = ruled, objectives(*problem, picked[None, :], ruled[None, :])[0]

    def mended(self, chosen: np.ndarray) -> np.ndarray:
        """The selection itself, or the nearest one with weights under the rules; shape ``(k,)``."""
        if self.rules.plain or ruled_weights(self.task.instance, self.rules, chosen) is not None:
            return chosen
        found = nearest_selection(self.rules, np.isin(np.arange(self.size), chosen), -self.mean)
        return chosen if found is None else np.flatnonzero(found)

    def swaps(self, chosen: np.ndarray, weights: np.ndarray, width: int) -> np.ndarray:
        """The ``width`` most promising neighbours of a selection: indices, shape ``(≤ width, k)``.

        Returns:
            each row is ``chosen`` with one position replaced.
        """
        outside = np.setdiff1d(np.arange(self.size), chosen)
        if not len(outside):
            return np.empty((0, len(chosen)), dtype=np.int64)
        problem = self.mean, self.covariance, self.risk_aversion
        estimate = swap_estimates(*problem, chosen, weights, outside).ravel()
        width = min(width, len(estimate))
        picks = np.sort(np.argpartition(estimate, width - 1)[:width])
        neighbours = np.repeat(chosen[None, :], width, axis=0)
        position, newcomer = np.unravel_index(picks, (len(chosen), len(outside)))
        neighbours[np.arange(width), position] = outside[newcomer]
        return neighbours

    def forward(self) -> np.ndarray:
        """Greedy forward selection: add the asset that improves the QP most until K are held; shape ``(k,)``."""
        chosen = np.empty((1, 0), dtype=np.int64)
        while chosen.shape[1] < self.cardinality:
            outside = np.setdiff1d(np.arange(self.size), chosen)
            grown = np.hstack([np.repeat(chosen, len(outside), axis=0), outside[:, None]])
            values, _ = self.score(grown)
            chosen = grown[values.argmin()][None, :]
            if self.over and chosen.shape[1] < self.cardinality:
                rest = np.setdiff1d(np.arange(self.size), chosen)[: self.cardinality - chosen.shape[1]]
                chosen = np.hstack([chosen, rest[None, :]])
                self.score(chosen)
        if self.rules.plain:
            return chosen[0]
        mended = self.mended(chosen[0])
        self.score(mended[None, :])
        return mended

    def random(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Uniformly random selections, the nearest ones with weights where they have none; shape ``(count, k)``."""
        drawn = np.argsort(rng.random((count, self.size)), axis=1)[:, : self.cardinality]
        return np.array([self.mended(chosen) for chosen in drawn])

    def descend(self, chosen: np.ndarray, width: int) -> np.ndarray:
        """Best-improvement swaps until none of the ``width`` most promising ones helps; shape ``(k,)``."""
        values, weights = self.score(chosen[None, :])
        value, at = float(values[0]), weights[0]
        while not self.over:
            neighbours = self.swaps(chosen, at, width)
            if not len(neighbours):
                break
            values, weights = self.score(neighbours)
            winner = int(values.argmin())
            if values[winner] >= value - 1e-12 * abs(value):
                break
            chosen, value, at = neighbours[winner], float(values[winner]), weights[winner]
        return chosen

    def result(self, solver: str, seed: int, **more: Any) -> SolverResult:
        """What was found, as the family itself completes and scores it."""
        import numpy

        values, objective = None, None
        if self.best is not None:
            selection = np.zeros(self.size, dtype=np.int8)
            selection[self.best] = 1
            solution = self.task.family.complete(self.task.instance, selection)
            values, objective = solution.values, solution.evaluation.objective
        return SolverResult(
            solver,
            f"numpy {numpy.__version__}",
            "no solution" if values is None else "feasible",
            values,
            objective,
            None,
            time.perf_counter() - self.started,
            tuple(self.trajectory),
            seed,
            evaluations=self.evaluations,
            **more,
        )
