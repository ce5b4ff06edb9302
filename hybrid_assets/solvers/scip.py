"""SCIP on the portfolio's mixed-integer QP: the exact baseline, with a proven bound.

Here: the perspective model and its run. Not here: heuristics, or the weights of a selection (the family's QP).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid_assets.problems.portfolio_weights import objectives, optimal_weights
from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask, Status
from hybrid_assets.solvers.selection import SelectionSearch

if TYPE_CHECKING:
    from pyscipopt import Model

    from hybrid_assets.problems.base import Instance


class Scip(ClassicalSolver):
    """SCIP with a perspective reformulation.

    Σ is split into a diagonal D and a positive semidefinite rest; d·w² becomes d·u with w² ≤ u·z, which is the convex
    hull of a semi-continuous weight (Frangioni & Gentile, Mathematical Programming 106, 2006; Zheng, Sun & Li, INFORMS
    Journal on Computing 26, 2014 for the diagonal). It starts from a greedy selection, which halves its time, because
    its own heuristics find the first good one late.
    """

    name = "scip"

    def supports(self, family: str) -> bool:
        """Portfolios only."""
        return family == "portfolio"

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Solve within the budget; the weights of the selection found are those of the family's QP."""
        started = time.perf_counter()
        instance = task.instance
        search = SelectionSearch(task, budget_seconds / 10)
        start = np.zeros(instance.size, dtype=np.int8)
        start[search.descend(search.forward(), width=256)] = 1
        found = [(time.perf_counter() - started, start)]
        model, chosen, scale = _model(instance, start, task.family.complete(instance, start).values)
        model.setParam("randomization/randomseedshift", seed % 2**31)
        _record(model, chosen, started, found)
        model.setParam("limits/time", max(0.0, budget_seconds - (time.perf_counter() - started)))
        model.optimize()
        if model.getNSols() > 0:
            found.append((time.perf_counter() - started, _selection(model, chosen)))
        trajectory: list[tuple[float, float]] = []
        values, objective = None, None
        for seconds, selection in found:
            solution = task.family.complete(instance, selection)
            if objective is None or solution.evaluation.objective < objective:
                values, objective = solution.values, solution.evaluation.objective
                trajectory.append((seconds, objective))
        proven: Status = "optimal" if model.getStatus() == "optimal" else "feasible"
        bound = model.getDualbound() / scale
        if proven != "optimal":
            # stopped early, SCIP may know less than the relaxation without cardinality, or nothing
            bound = max(bound, _relaxation(instance))
        return SolverResult(
            self.name,
            f"SCIP {model.version()}",
            proven if values is not None else "no solution",
            values,
            objective,
            # tolerances may place the bound a hair above the objective of its own solution
            min(bound, objective) if objective is not None else bound,
            time.perf_counter() - started,
            tuple(trajectory),
            seed,
            evaluations=int(model.getNTotalNodes()),
        )


def _model(instance: Instance, selection: np.ndarray, start: np.ndarray) -> tuple[Model, list[Any], float]:
    """The model, its selection variables and the factor on its objective; it knows a selection and its weights."""
    from pyscipopt import Model, quicksum

    size, rules = instance.size, instance.settings
    mean, covariance = instance.arrays["mean"], instance.arrays["covariance"]
    risk_aversion, low, high = rules["risk_aversion"], rules["min_weight"], rules["max_weight"]
    # tolerances are absolute: bring the objective to the order of 1
    scale = 1.0 / max(
        risk_aversion * float(np.diag(covariance).mean()), (1 - risk_aversion) * np.abs(mean).max(), 1e-300
    )
    model = Model()
    model.hideOutput()
    model.setParam("parallel/maxnthreads", 1)
    model.setParam("numerics/feastol", 1e-9)
    model.setParam("numerics/dualfeastol", 1e-9)
    w = [model.addVar(f"w{i}", lb=0.0, ub=high) for i in range(size)]
    z = [model.addVar(f"z{i}", vtype="B") for i in range(size)]
    model.addCons(quicksum(w) == 1)
    model.addCons(quicksum(z) == rules["cardinality"])
    for i in range(size):
        model.addCons(w[i] <= high * z[i])
        model.addCons(w[i] >= low * z[i])
    known = model.createSol()
    for i in range(size):
        model.setSolVal(known, w[i], start[i])
        model.setSolVal(known, z[i], float(selection[i]))
    objective = quicksum(-scale * (1 - risk_aversion) * float(mean[i]) * w[i] for i in range(size))
    if risk_aversion > 0:
        matrix = scale * risk_aversion * covariance
        diagonal = _diagonal(matrix)
        rest = matrix - np.diag(diagonal)
        risk = model.addVar("risk", lb=0.0, ub=None)
        rows, columns = np.triu_indices(size)
        double = np.where(rows == columns, 1.0, 2.0)
        model.addCons(
            quicksum(float(f * rest[i, j]) * w[i] * w[j] for i, j, f in zip(rows, columns, double, strict=True)) <= risk
        )
        model.setSolVal(known, risk, max(float(start @ rest @ start), 0.0) + 1e-9)
        objective += risk
        for i in np.flatnonzero(diagonal > 0).tolist():
            square = model.addVar(f"u{i}", lb=0.0, ub=high * high)
            model.addCons(w[i] * w[i] <= square * z[i])
            model.setSolVal(known, square, start[i] ** 2)
            objective += float(diagonal[i]) * square
    model.setObjective(objective, "minimize")
    model.addSol(known)
    return model, z, scale


def _relaxation(instance: Instance) -> float:
    """A lower bound: the convex QP over all assets without cardinality and lower bounds, a little less for rounding."""
    rules, everything = instance.settings, np.arange(instance.size)[None, :]
    problem = instance.arrays["mean"], instance.arrays["covariance"], rules["risk_aversion"]
    weights = optimal_weights(*problem, 0.0, rules["max_weight"], everything)
    value = float(objectives(*problem, everything, weights)[0])
    return value - 1e-8 * abs(value)


def _diagonal(matrix: np.ndarray) -> np.ndarray:
    """Largest multiple of the diagonal that leaves the rest positive semidefinite, a little less for rounding."""
    deviation = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    smallest = float(np.linalg.eigvalsh(matrix / np.outer(deviation, deviation))[0])
    return max(0.0, smallest - 1e-9) * np.diag(matrix)


def _selection(model: Model, chosen: list[Any]) -> np.ndarray:
    return np.array([round(model.getVal(z)) for z in chosen], dtype=np.int8)


def _record(model: Model, chosen: list[Any], started: float, found: list[tuple[float, np.ndarray]]) -> None:
    """Append the selection of every new incumbent, with the seconds since ``started``."""
    from pyscipopt import SCIP_EVENTTYPE, Eventhdlr

    class Incumbents(Eventhdlr):
        def eventinit(self) -> None:
            self.model.catchEvent(SCIP_EVENTTYPE.BESTSOLFOUND, self)

        def eventexec(self, event: Any) -> None:
            best = self.model.getBestSol()
            selection = np.array([round(self.model.getSolVal(best, z)) for z in chosen], dtype=np.int8)
            found.append((time.perf_counter() - started, selection))

    model.includeEventhdlr(Incumbents(), "incumbents", "records every new incumbent")
