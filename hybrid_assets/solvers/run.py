"""All baselines of an instance, one after the other, each with the whole budget.

Here: the order, the proven target, the rows of ``baseline_runs``. Not here: any solver.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from hybrid_assets import registry
from hybrid_assets.problems.base import Instance, ProblemFamily
from hybrid_assets.solvers.base import SolverResult, SolveTask
from resources.failures import InvariantError


def run_baselines(
    family: ProblemFamily,
    instance: Instance,
    key: str,
    budget_seconds: float,
    seed: int,
    progress: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Rows of ``baseline_runs``, one per solver.

    Every solver gets ``budget_seconds`` of wall clock on one thread. Once one has proven an optimum, later ones may
    stop on reaching it; their time to that point is what is compared.

    Raises:
        InvariantError: a solver reports an objective that its values do not have.
    """
    task = SolveTask(family, instance)
    rows = []
    for name in family.baselines(instance):
        progress(f"baseline {name}: up to {budget_seconds:g} s")
        result = registry.solver(name).solve(task, budget_seconds, seed)
        rows.append(_row(family, instance, key, budget_seconds, result))
        if result.status == "optimal" and task.target is None:
            task.target = result.objective
    return rows


def _row(
    family: ProblemFamily, instance: Instance, key: str, budget_seconds: float, result: SolverResult
) -> dict[str, Any]:
    feasible = False
    if result.values is not None:
        evaluation = family.evaluate(instance, np.asarray(result.values, dtype=float))
        feasible = evaluation.feasible
        if result.objective is None or abs(evaluation.objective - result.objective) > 1e-7 * max(
            1e-9, abs(evaluation.objective)
        ):
            raise InvariantError(
                f"solver {result.solver} reports {result.objective} for {key}, its values give {evaluation.objective}"
            )
    return {
        "instance": key,
        "family": family.name,
        "input_digest": instance.digest,
        "solver": result.solver,
        "solver_version": result.version,
        "seed": result.seed,
        "budget_seconds": budget_seconds,
        "seconds": result.seconds,
        "time_to_best": result.trajectory[-1][0] if result.trajectory else None,
        "status": result.status,
        "objective": evaluation.objective if result.values is not None else None,
        "bound": result.bound,
        "values": None if result.values is None else json.dumps(np.asarray(result.values).tolist()),
        "trajectory": json.dumps([[round(t, 4), v] for t, v in result.trajectory]),
        "threads": result.threads,
        "evaluations": result.evaluations,
        "feasible": feasible,
        "evidence_class": "classical",
    }
