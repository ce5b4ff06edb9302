"""SCIP on the portfolio's mixed-integer QP: the exact baseline, with a proven bound.

Here: the perspective model, with sectors, turnover and lots where there are any, and its run. Not here: heuristics, or
the weights of a selection (the family's QP).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid_assets.problems.portfolio_ruled import relaxed_weights
from hybrid_assets.problems.portfolio_rules import Rules
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
        """Solve within the budget; the weights of the selection found are those of the family's QP, or SCIP's own where
        rules beyond the bounds make them better."""
        instance = task.instance
        search = SelectionSearch(task, budget_seconds / 10)
        started = search.started
        start = np.zeros(instance.size, dtype=np.int8)
        start[search.descend(search.forward(), width=256)] = 1
        known = task.family.complete(instance, start)
        start = task.family.assignment(instance, known.values)
        found = [(time.perf_counter() - started, start)]
        model, weights, chosen, scale = _model(instance)
        if known.evaluation.feasible:
            _start_from(model, instance, scale, start, known.values)
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
            if solution.evaluation.feasible and (objective is None or solution.evaluation.objective < objective):
                values, objective = solution.values, solution.evaluation.objective
                trajectory.append((seconds, objective))
        if not Rules.of(instance).plain and model.getNSols() > 0:
            # the family's weights under rules are rounded, which need not end at the best ones
            own = np.array([model.getVal(w) for w in weights])
            if lots := float(instance.settings.get("lots", 0.0)):
                own = lots * np.round(own / lots)
            evaluation = task.family.evaluate(instance, own)
            if evaluation.feasible and (objective is None or evaluation.objective < objective):
                values, objective = own, evaluation.objective
                trajectory.append((time.perf_counter() - started, objective))
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


def _model(instance: Instance) -> tuple[Model, list[Any], list[Any], float]:
    """The model, its weights, its selection variables and the factor on its objective."""
    from pyscipopt import Model, quicksum

    size, rules, risk_aversion = instance.size, Rules.of(instance), instance.settings["risk_aversion"]
    mean, covariance = instance.arrays["mean"], instance.arrays["covariance"]
    # tolerances are absolute: bring the objective to the order of 1
    scale = 1.0 / max(
        risk_aversion * float(np.diag(covariance).mean()), (1 - risk_aversion) * np.abs(mean).max(), 1e-300
    )
    model = Model()
    model.hideOutput()
    model.setParam("parallel/maxnthreads", 1)
    model.setParam("numerics/feastol", 1e-9)
    model.setParam("numerics/dualfeastol", 1e-9)
    w = [model.addVar(f"w{i}", lb=0.0, ub=rules.high) for i in range(size)]
    z = [model.addVar(f"z{i}", vtype="B") for i in range(size)]
    model.addCons(quicksum(w) == 1)
    model.addCons(quicksum(z) == rules.cardinality)
    for i in range(size):
        model.addCons(w[i] <= rules.high * z[i])
        model.addCons(w[i] >= rules.low * z[i])
    _add_rules(model, rules, w)
    objective = quicksum(-scale * (1 - risk_aversion) * float(mean[i]) * w[i] for i in range(size))
    if risk_aversion > 0:
        rest, diagonal = _split(scale * risk_aversion * covariance)
        risk = model.addVar("risk", lb=0.0, ub=None)
        rows, columns = np.triu_indices(size)
        double = np.where(rows == columns, 1.0, 2.0)
        model.addCons(
            quicksum(float(f * rest[i, j]) * w[i] * w[j] for i, j, f in zip(rows, columns, double, strict=True)) <= risk
        )
        objective += risk
        for i in np.flatnonzero(diagonal > 0).tolist():
            square = model.addVar(f"u{i}", lb=0.0, ub=rules.high * rules.high)
            model.addCons(w[i] * w[i] <= square * z[i])
            objective += float(diagonal[i]) * square
    model.setObjective(objective, "minimize")
    return model, w, z, scale


def _add_rules(model: Model, rules: Rules, w: list[Any]) -> None:
    """Sector limits, turnover (``t``: what each weight changes by) and lots (``m``: how many of them)."""
    from pyscipopt import quicksum

    for k, limit in enumerate(rules.limits.tolist()):
        model.addCons(quicksum(w[i] for i in np.flatnonzero(rules.sector == k).tolist()) <= limit)
    if rules.turnover < np.inf:
        t = [model.addVar(f"t{i}", lb=0.0, ub=1.0) for i in range(len(w))]
        for i, before in enumerate(rules.previous.tolist()):
            model.addCons(t[i] >= w[i] - before)
            model.addCons(t[i] >= before - w[i])
        model.addCons(quicksum(t) <= rules.turnover)
    if rules.lots:
        for i in range(len(w)):
            lots = model.addVar(f"m{i}", vtype="I", lb=0.0, ub=round(rules.high / rules.lots))
            model.addCons(w[i] == rules.lots * lots)


def _start_from(model: Model, instance: Instance, scale: float, selection: np.ndarray, weights: np.ndarray) -> None:
    """Tell the model a selection and its weights, and what its other variables are there."""
    rules = Rules.of(instance)
    rest, _ = _split(scale * instance.settings["risk_aversion"] * instance.arrays["covariance"])
    values = {"risk": max(float(weights @ rest @ weights), 0.0) + 1e-9}
    for i, (held, weight) in enumerate(zip(selection.tolist(), weights.tolist(), strict=True)):
        values |= {f"w{i}": weight, f"z{i}": float(held), f"u{i}": weight**2}
        values[f"t{i}"] = abs(weight - float(rules.previous[i]))
        values[f"m{i}"] = float(round(weight / rules.lots)) if rules.lots else 0.0
    known = model.createSol()
    for variable in model.getVars():
        model.setSolVal(known, variable, values[variable.name])
    model.addSol(known)


def _relaxation(instance: Instance) -> float:
    """A lower bound: the convex QP over all assets without cardinality, lower bounds and lots, a little less for
    rounding."""
    risk_aversion = instance.settings["risk_aversion"]
    mean, covariance = instance.arrays["mean"], instance.arrays["covariance"]
    weights = relaxed_weights(instance, risk_aversion)
    value = float(risk_aversion * weights @ covariance @ weights - (1.0 - risk_aversion) * mean @ weights)
    unit = max(abs(value), float(risk_aversion * np.diag(covariance).mean() + (1 - risk_aversion) * np.abs(mean).max()))
    return value - 1e-8 * unit


def _split(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A positive semidefinite rest and the diagonal taken from it: the largest multiple of the own one, a little less
    for rounding."""
    deviation = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    smallest = float(np.linalg.eigvalsh(matrix / np.outer(deviation, deviation))[0])
    diagonal = max(0.0, smallest - 1e-9) * np.diag(matrix)
    return matrix - np.diag(diagonal), diagonal


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
