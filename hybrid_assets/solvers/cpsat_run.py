"""How every CP-SAT baseline runs: one worker, what is left of the budget, each solution kept when it is found.

Here: the run of a finished model. Not here: models, or what their bounds are worth (the solvers).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hybrid_assets.solvers.base import SolveTask

if TYPE_CHECKING:
    from ortools.sat.python import cp_model


def run_cpsat(
    model: cp_model.CpModel,
    task: SolveTask,
    seconds: float,
    seed: int,
    keep: Callable[[cp_model.CpSolverSolutionCallback], float | None],
    **parameters: int,
) -> tuple[cp_model.CpSolver, cp_model.CpSolverStatus]:
    """Solve; the solver with its bound and branches, and its status.

    Args:
        keep: gets every solution when it is found and answers the best objective so far; the search ends where that
            is the proven target.
        parameters: further ones, by their names in ``SatParameters``.
    """
    from ortools.sat.python import cp_model

    class Improvements(cp_model.CpSolverSolutionCallback):
        """Keeps each solution when it is found."""

        def on_solution_callback(self) -> None:
            objective = keep(self)
            if objective is not None and task.reached(objective):
                self.stop_search()

    solver = cp_model.CpSolver()
    chosen = {
        "num_workers": 1,
        "linearization_level": 2,
        "random_seed": seed % 2**31,
        "max_time_in_seconds": max(0.01, seconds),
    }
    for name, value in (chosen | parameters).items():
        setattr(solver.parameters, name, value)
    return solver, solver.solve(model, Improvements())
