"""SCIP on any program: branch and cut over binaries and their products, with a proven bound.

Here: the model and its run. Not here: the portfolio's mixed-integer QP (``scip``), the linearization (``linearized``),
what all solvers of programs share (``program_search``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask
from hybrid_assets.solvers.linearized import Linearized, scale_of
from hybrid_assets.solvers.program_search import EVERY, ProgramSearch, takes_programs

if TYPE_CHECKING:
    from pyscipopt import Model


class ScipProgram(ClassicalSolver):
    """SCIP (Bolusani et al., The SCIP Optimization Suite 9.0, 2024), one thread.

    Products of binaries are its AND constraints, which it linearizes, propagates and cuts by itself, of any degree. The
    search starts from the family's reference point.
    """

    name = "scip-program"

    def supports(self, family: str) -> bool:
        """Every registered family whose program is its whole problem."""
        return takes_programs(family)

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Minimize the program within the budget; the bound is SCIP's, or the sum of all negative terms. A model that
        cannot be built in half the budget keeps the start and that sum.

        Raises:
            InputError: the program would be too large to hold.
        """
        from pyscipopt import Model

        search = ProgramSearch(task, budget_seconds, seed)
        bound, infeasible, nodes = -np.inf, False, 0
        model = Model()
        program = search.linearized()
        if program is not None:
            bound = program.floor
            scale = scale_of(program)
            variables = _fill(model, program, scale, search, seed)
            if variables is not None and not search.done:
                model.setParam("limits/time", search.left)
                model.optimize()
                infeasible, nodes = model.getStatus() == "infeasible", int(model.getNTotalNodes())
                if model.getNSols() > 0:
                    search.offer(_bits(model, model.getBestSol(), variables[: program.binaries]))
                if not infeasible and abs(model.getDualbound()) < model.infinity():
                    bound = max(bound, model.getDualbound() / scale + program.offset)
        return search.result(
            self.name, f"SCIP {model.version()}", bound=bound, infeasible=infeasible, evaluations=nodes
        )


def _fill(model: Model, program: Linearized, scale: float, search: ProgramSearch, seed: int) -> list[Any] | None:
    """Put the program, the hint and a handler of new incumbents into an empty model.

    Returns:
        its variables, one per column; ``None`` when half the budget is gone before it stands.
    """
    from pyscipopt import quicksum

    model.hideOutput()
    model.setParam("parallel/maxnthreads", 1)
    model.setParam("numerics/feastol", 1e-9)
    model.setParam("numerics/dualfeastol", 1e-9)
    model.setParam("randomization/randomseedshift", seed % 2**31)
    cost = (program.cost * scale).tolist()
    variables = [model.addVar(vtype="B", obj=c) for c in cost[: program.binaries]]
    for k, indices in enumerate(program.products):
        if k % EVERY == 0 and search.late:
            return None
        variables.append(model.addVar(vtype="B", obj=cost[program.binaries + k]))
        model.addConsAnd([variables[i] for i in indices], variables[-1])
    for k, row in enumerate(program.rows):
        if k % EVERY == 0 and search.late:
            return None
        body = quicksum(
            float(c) * variables[column] for c, column in zip(row.coefficients, row.columns.tolist(), strict=True)
        )
        if not len(row.columns):
            # still an expression
            body = 0.0 * variables[0]
        if row.low == row.high:
            model.addCons(body == row.low)
        elif np.isfinite(row.low):
            model.addCons(body >= row.low)
        elif np.isfinite(row.high):
            model.addCons(body <= row.high)
    hint = search.hint(program)
    if hint is not None:
        known = model.createSol()
        for variable, value in zip(variables, hint.tolist(), strict=True):
            model.setSolVal(known, variable, value)
        model.addSol(known)
    _record(model, variables[: program.binaries], search)
    return variables


def _bits(model: Model, solution: Any, binaries: list[Any]) -> np.ndarray:
    return np.array([round(model.getSolVal(solution, x)) for x in binaries], dtype=np.int8)


def _record(model: Model, binaries: list[Any], search: ProgramSearch) -> None:
    """Offer every new incumbent, and stop at the target."""
    from pyscipopt import SCIP_EVENTTYPE, Eventhdlr

    class Incumbents(Eventhdlr):
        def eventinit(self) -> None:
            self.model.catchEvent(SCIP_EVENTTYPE.BESTSOLFOUND, self)

        def eventexec(self, event: Any) -> None:
            search.offer(_bits(self.model, self.model.getBestSol(), binaries))
            if search.done:
                self.model.interruptSolve()

    model.includeEventhdlr(Incumbents(), "incumbents", "records every new incumbent")
