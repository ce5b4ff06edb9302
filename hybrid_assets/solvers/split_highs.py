"""HiGHS on the slack form of market split: min Σ (s⁺ + s⁻), Ax + s⁻ − s⁺ = b.

Here: the mixed-integer program and its run. Not here: general programs (``highs``), since the family's program is a
proxy.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from hybrid_assets.problems.base import Instance
from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask
from hybrid_assets.solvers.highs import one_thread


class SplitHighs(ClassicalSolver):
    """HiGHS, one thread; all columns are whole numbers, since the data is."""

    name = "split-highs"

    def supports(self, family: str) -> bool:
        """Market split."""
        return family == "marketsplit"

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Solve within the budget."""
        import highspy

        started = time.perf_counter()
        instance, family = task.instance, task.family
        values = np.zeros(instance.size, dtype=np.int8)
        objective = family.evaluate(instance, values).objective
        trajectory = [(0.0, objective)]

        def offer(point: np.ndarray) -> None:
            nonlocal values, objective
            bits = np.rint(point[: instance.size]).astype(np.int8)
            value = family.evaluate(instance, bits).objective
            if value < objective:
                values, objective = bits, value
                trajectory.append((time.perf_counter() - started, value))

        def improved(event: Any) -> None:
            offer(np.asarray(event.data_out.mip_solution))

        def stop(event: Any) -> None:
            if time.perf_counter() - started > budget_seconds or task.reached(objective):
                event.interrupt()

        solver = _loaded(instance, seed)
        solver.cbMipImprovingSolution += improved
        solver.cbMipInterrupt += stop
        bound, nodes = 0.0, 0
        left = budget_seconds - (time.perf_counter() - started)
        if left > 0 and not task.reached(objective):
            solver.setOptionValue("time_limit", left)
            solver.solve()
            info = solver.getInfo()
            nodes = max(0, int(info.mip_node_count))
            if info.primal_solution_status == 2:
                offer(np.asarray(solver.getSolution().col_value))
            if np.isfinite(info.mip_dual_bound):
                bound = min(max(0.0, float(np.ceil(info.mip_dual_bound - 1e-6))), objective)
        return SolverResult(
            solver=self.name,
            version=f"HiGHS {highspy.Highs().version()}",
            status="optimal" if objective <= bound else "feasible",
            values=values,
            objective=objective,
            bound=bound,
            seconds=time.perf_counter() - started,
            trajectory=tuple(trajectory),
            seed=seed,
            evaluations=nodes,
        )


def _loaded(instance: Instance, seed: int) -> Any:
    """HiGHS with the slack form; columns: bits, s⁺, s⁻."""
    import highspy

    matrix, targets = (instance.arrays[key].astype(np.float64) for key in ("matrix", "targets"))
    m, n = matrix.shape
    table = np.hstack([matrix, -np.eye(m), np.eye(m)])
    rows, columns = np.nonzero(table)
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = n + 2 * m, m
    lp.col_cost_ = np.append(np.zeros(n), np.ones(2 * m))
    lp.col_lower_ = np.zeros(n + 2 * m)
    lp.col_upper_ = np.concatenate([np.ones(n), matrix.sum(axis=1), targets])
    lp.row_lower_ = lp.row_upper_ = targets
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.searchsorted(rows, np.arange(m + 1)).astype(np.int32)
    lp.a_matrix_.index_, lp.a_matrix_.value_ = columns.astype(np.int32), table[rows, columns]
    lp.integrality_ = [highspy.HighsVarType.kInteger] * (n + 2 * m)
    # residuals are whole numbers: a gap below one closes
    return one_thread(lp, seed, mip_abs_gap=0.99, mip_rel_gap=0.0)
