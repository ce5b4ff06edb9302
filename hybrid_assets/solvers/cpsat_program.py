"""CP-SAT on any program: Booleans, products as Booleans, whole coefficients, with a proven bound where they are exact.

Here: the model and its run. Not here: programs without constraints, which ``cpsat`` bounds better; the linearization
(``linearized``), what all solvers of programs share (``program_search``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask
from hybrid_assets.solvers.cpsat import whole_coefficients
from hybrid_assets.solvers.cpsat_run import run_cpsat
from hybrid_assets.solvers.linearized import Linearized, Row
from hybrid_assets.solvers.program_search import EVERY, ProgramSearch, takes_programs

if TYPE_CHECKING:
    from ortools.sat.python import cp_model

#: A side that is so close to a whole number, relatively, carries a rounding error only.
NEAR = 1e-9


class CpSatProgram(ClassicalSolver):
    """CP-SAT (ortools), one worker, on the linearized program.

    Coefficients of at most six decimals become whole numbers; others are rounded. A rounded objective costs its
    largest error of the bound; a rounded constraint all claims, and what is found is checked by the family.
    """

    name = "cpsat-program"

    def supports(self, family: str) -> bool:
        """Every registered family whose program is its whole problem."""
        return takes_programs(family)

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Minimize the program within the budget; a model that cannot be built in half of it keeps the start and the
        sum of all negative terms.

        Raises:
            InputError: the program would be too large to hold.
        """
        from importlib.metadata import version

        from ortools.sat.python import cp_model

        search = ProgramSearch(task, budget_seconds, seed)
        bound, infeasible, branches = -np.inf, False, 0
        program = search.linearized()
        if program is not None:
            bound = program.floor
            model, bits, exact, scale, error = _model(program, search)

            def keep(solution: cp_model.CpSolverSolutionCallback) -> float | None:
                search.offer(np.fromiter((solution.boolean_value(b) for b in bits), dtype=np.int8, count=len(bits)))
                return search.objective

            if model is not None and not search.done:
                solver, status = run_cpsat(model, task, search.left, seed, keep)
                branches = solver.num_branches
                infeasible = exact and status == cp_model.INFEASIBLE
                # an unknown status may come with a bound of 0 that nobody proved
                if exact and status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
                    proven = solver.best_objective_bound / scale - error + program.offset
                    bound = max(bound, proven) if np.isfinite(proven) else bound
        return search.result(
            self.name, f"ortools {version('ortools')}", bound=bound, infeasible=infeasible, evaluations=branches
        )


def whole_row(row: Row) -> tuple[np.ndarray, int | None, int | None, bool]:
    """A row over whole numbers.

    Returns:
        int64 coefficients, the sides (``None``: there is none), and whether the row still says the same.
    """
    whole, scale, error = whole_coefficients(row.coefficients)
    exact = error == 0.0

    def side(value: float, up: bool) -> int | None:
        if not np.isfinite(value):
            return None
        nearest = round(value * scale)
        if abs(value * scale - nearest) <= NEAR * max(1.0, abs(value * scale)):
            return nearest
        return int(np.ceil(value * scale) if up else np.floor(value * scale))

    low, high = side(row.low, True), side(row.high, False)
    if low is not None and high is not None and low > high and row.low <= row.high:
        # an equation between whole numbers and one that is none: nothing satisfies it, unless rounding says so
        return whole, high, high, False
    return whole, low, high, exact


def _model(
    program: Linearized, search: ProgramSearch
) -> tuple[cp_model.CpModel | None, list[cp_model.IntVar], bool, float, float]:
    """The model (``None``: half the budget is gone before it stands), the program's bits, whether its constraints are
    exact, the objective's scale and rounding error."""
    from ortools.sat.python import cp_model

    nothing_yet: tuple[None, list[cp_model.IntVar], bool, float, float] = (None, [], False, 1.0, 0.0)
    model = cp_model.CpModel()
    variables = [model.new_bool_var("") for _ in range(program.binaries)]
    for k, indices in enumerate(program.products):
        if k % EVERY == 0 and search.late:
            return nothing_yet
        product, factors = model.new_bool_var(""), [variables[i] for i in indices]
        variables.append(product)
        if program.from_below[k]:
            model.add_bool_or(*(~factor for factor in factors), product)
        if program.from_above[k]:
            for factor in factors:
                model.add_implication(product, factor)
    exact, nothing = True, model.new_constant(0)
    for k, row in enumerate(program.rows):
        if k % EVERY == 0 and search.late:
            return nothing_yet
        whole, low, high, same = whole_row(row)
        exact = exact and same
        # a constant of zero, so that a row without columns is an expression too
        body = cp_model.LinearExpr.weighted_sum([nothing, *(variables[c] for c in row.columns)], [1, *whole.tolist()])
        if low is not None and low == high:
            model.add(body == low)
        else:
            if low is not None:
                model.add(body >= low)
            if high is not None:
                model.add(body <= high)
    hint = search.hint(program)
    if hint is not None:
        for variable, value in zip(variables, np.rint(hint).astype(int).tolist(), strict=True):
            model.add_hint(variable, value)
    whole, scale, error = whole_coefficients(program.cost)
    model.minimize(cp_model.LinearExpr.weighted_sum(variables, whole.tolist()))
    return model, variables[: program.binaries], exact, scale, error
