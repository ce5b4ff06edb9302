"""HiGHS on any program: branch and cut over its linearization, with a proven bound.

Here: the arrays HiGHS is given and its run. Not here: the linearization (``linearized``), what all solvers of programs
share (``program_search``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask
from hybrid_assets.solvers.linearized import Linearized, scale_of
from hybrid_assets.solvers.program_search import EVERY, ProgramSearch, takes_programs

if TYPE_CHECKING:
    from highspy import Highs, HighsLp


class HighsProgram(ClassicalSolver):
    """HiGHS (Huangfu & Hall, Mathematical Programming Computation 10, 2018), one thread, gap zero.

    Products of binaries are columns held to them by McCormick's inequalities, only those that the objective pulls
    against. The search starts from the family's reference point.
    """

    name = "highs"

    def supports(self, family: str) -> bool:
        """Every registered family whose program is its whole problem."""
        return takes_programs(family)

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Minimize the program within the budget; the bound is HiGHS's, or the sum of all negative terms. A model that
        cannot be built in half the budget keeps the start and that sum.

        Raises:
            InputError: the program would be too large to hold.
        """
        import highspy

        search = ProgramSearch(task, budget_seconds, seed)
        bound, infeasible, nodes = -np.inf, False, 0
        program = search.linearized()
        if program is not None:
            bound = program.floor
            scale = scale_of(program)
            solver = _loaded(program, scale, search, seed)
            if solver is not None and not search.done:
                solver.setOptionValue("time_limit", search.left)
                solver.solve()
                status, info = solver.getModelStatus(), solver.getInfo()
                infeasible = status == highspy.HighsModelStatus.kInfeasible
                nodes = max(0, int(info.mip_node_count))
                point = np.asarray(solver.getSolution().col_value)
                if info.primal_solution_status == 2:
                    search.offer(np.rint(point[: program.binaries]))
                if np.isfinite(info.mip_dual_bound) and not infeasible:
                    bound = max(bound, info.mip_dual_bound / scale + program.offset)
        return search.result(
            self.name, f"HiGHS {highspy.Highs().version()}", bound=bound, infeasible=infeasible, evaluations=nodes
        )


def one_thread(model: HighsLp, seed: int, **options: float) -> Highs:
    """A silent HiGHS on one thread with a model; ``options`` by their names in HiGHS."""
    import highspy

    solver = highspy.Highs()
    for option, value in {"output_flag": False, "threads": 1, "random_seed": seed % 2**31, **options}.items():
        solver.setOptionValue(option, value)
    solver.passModel(model)
    return solver


def within_nodes(program: Linearized, nodes: int) -> tuple[np.ndarray | None, bool]:
    """What a run of so many nodes finds, whatever the time: bits (int8) or ``None``, and whether there are none.

    The same on every machine with the same HiGHS: for reference points and proofs while reading, not for comparisons.
    """
    import highspy

    solver = one_thread(_model(program, scale_of(program), lambda: False), 0, mip_max_nodes=nodes)
    solver.solve()
    if solver.getInfo().primal_solution_status != 2:
        return None, solver.getModelStatus() == highspy.HighsModelStatus.kInfeasible
    point = np.asarray(solver.getSolution().col_value)[: program.binaries]
    return np.rint(point).astype(np.int8), False


def _loaded(program: Linearized, scale: float, search: ProgramSearch, seed: int) -> Highs | None:
    """HiGHS with the model, the hint and callbacks that record improvements and stop at the target; ``None`` when half
    the budget is gone before it stands."""
    model = _model(program, scale, lambda: search.late)
    if model is None:
        return None
    solver = one_thread(model, seed, mip_rel_gap=0.0)
    hint = search.hint(program)
    if hint is not None:
        solver.setSolution(len(hint), np.arange(len(hint), dtype=np.int32), hint)

    def improved(event: Any) -> None:
        search.offer(np.rint(np.asarray(event.data_out.mip_solution)[: program.binaries]))

    def stop(event: Any) -> None:
        if search.done:
            event.interrupt()

    solver.cbMipImprovingSolution += improved
    solver.cbMipInterrupt += stop
    return solver


def _model(program: Linearized, scale: float, late: Callable[[], bool]) -> HighsLp | None:
    """All columns integer; the program's rows, then the sides of every product that need holding."""
    import highspy

    n, infinity = program.binaries, float(highspy.kHighsInf)
    columns = [row.columns for row in program.rows]
    coefficients = [row.coefficients for row in program.rows]
    low, high = [row.low for row in program.rows], [row.high for row in program.rows]
    for k, indices in enumerate(program.products):
        if k % EVERY == 0 and late():
            return None
        members = np.array(indices, dtype=np.int64)
        if program.from_below[k]:
            # product ≥ sum of its factors − (their number − 1)
            columns.append(np.append(members, n + k))
            coefficients.append(np.append(np.ones(len(members)), -1.0))
            low.append(-infinity)
            high.append(len(members) - 1.0)
        if program.from_above[k]:
            for member in indices:
                columns.append(np.array([n + k, member], dtype=np.int64))
                coefficients.append(np.array([1.0, -1.0]))
                low.append(-infinity)
                high.append(0.0)
    lp = highspy.HighsLp()
    total = len(program.cost)
    lp.num_col_, lp.num_row_ = total, len(columns)
    lp.col_cost_ = program.cost * scale
    lp.col_lower_, lp.col_upper_ = np.zeros(total), np.ones(total)
    lp.row_lower_ = np.clip(np.array(low, dtype=float), -infinity, infinity)
    lp.row_upper_ = np.clip(np.array(high, dtype=float), -infinity, infinity)
    lengths = np.array([len(c) for c in columns], dtype=np.int64)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    lp.a_matrix_.index_ = np.concatenate([np.empty(0, dtype=np.int64), *columns]).astype(np.int32)
    lp.a_matrix_.value_ = np.concatenate([np.empty(0), *coefficients])
    # products would be whole by themselves, but presolve of HiGHS 1.14 fixes singleton columns wrongly where continuous
    # and integer ones meet in a row, and calls what is left optimal
    lp.integrality_ = [highspy.HighsVarType.kInteger] * total
    return lp
