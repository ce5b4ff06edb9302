"""Bin packing as a flow through the capacity, solved by HiGHS: the exact baseline, with a proven bound.

Here: the graph, the mixed-integer program and the way back from a flow to bins. Not here: assignment models (the
family's program), heuristics.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from hybrid_assets.problems.base import Instance
from hybrid_assets.problems.packing.binpacking import fewest_bins, packed
from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask
from hybrid_assets.solvers.highs import one_thread

#: Largest graph; above it the bound L2 and best fit are all there is.
MAX_ARCS = 200_000


class ArcFlow(ClassicalSolver):
    """Arcs from level d to d + s for every size s, in falling size, and arcs of waste; a bin is a path from 0 to the
    capacity (Valério de Carvalho, Annals of Operations Research 86, 1999). The relaxation is as strong as that of
    column generation. It starts from best fit decreasing; one thread."""

    name = "arc-flow"

    def supports(self, family: str) -> bool:
        """Bin packing."""
        return family == "binpacking"

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Solve within the budget."""
        import highspy

        started = time.perf_counter()
        instance = task.instance
        best, bound = packed(instance), float(fewest_bins(instance))
        objective, nodes = float(len(np.unique(best))), 0
        trajectory = [(time.perf_counter() - started, objective)]
        arcs = _arcs(instance) if objective > bound and not task.reached(objective) else None
        left = budget_seconds - (time.perf_counter() - started)
        if arcs is not None and left > 0:
            solver = _loaded(instance, arcs, objective, seed)

            def stop(event: Any) -> None:
                if time.perf_counter() - started > budget_seconds:
                    event.interrupt()

            solver.cbMipInterrupt += stop
            solver.setOptionValue("time_limit", left)
            solver.solve()
            info = solver.getInfo()
            nodes = max(0, int(info.mip_node_count))
            if solver.getModelStatus() == highspy.HighsModelStatus.kObjectiveBound:
                # nothing below the start's number of bins exists
                bound = objective
            elif np.isfinite(info.mip_dual_bound):
                bound = max(bound, min(float(np.ceil(info.mip_dual_bound - 1e-6)), objective))
            if info.primal_solution_status == 2:
                found = _bins(instance, arcs, np.rint(np.asarray(solver.getSolution().col_value)).astype(np.int64))
                count = float(len(np.unique(found)))
                if count < objective:
                    best, objective = found, count
                    trajectory.append((time.perf_counter() - started, count))
        return SolverResult(
            solver=self.name,
            version=f"HiGHS {highspy.Highs().version()}",
            status="optimal" if bound >= objective else "feasible",
            values=best,
            objective=objective,
            bound=min(bound, objective),
            seconds=time.perf_counter() - started,
            trajectory=tuple(trajectory),
            seed=seed,
            evaluations=nodes,
        )


def _arcs(instance: Instance) -> np.ndarray | None:
    """Arcs as rows (from, to, index of the size, -1 for waste); int64, shape ``(a, 3)``; ``None`` if too many.

    A size is offered only at levels that larger or equal sizes reach, at most as often as there are such items.
    """
    capacity = int(instance.arrays["capacity"][0])
    sizes, counts = np.unique(instance.arrays["sizes"], return_counts=True)
    if capacity > MAX_ARCS:
        return None
    reached = np.zeros(capacity + 1, dtype=bool)
    reached[0] = True
    found: list[np.ndarray] = []
    for index in range(len(sizes) - 1, -1, -1):
        size, fresh, starts = int(sizes[index]), reached.copy(), np.zeros(capacity + 1, dtype=bool)
        for _ in range(int(counts[index])):
            starts[: capacity + 1 - size] |= fresh[: capacity + 1 - size]
            following = np.zeros_like(fresh)
            following[size:] = fresh[: capacity + 1 - size]
            if not (following & ~reached).any():
                break
            fresh = following
            reached |= following
        tails = np.flatnonzero(starts)
        found.append(np.stack([tails, tails + size, np.full(len(tails), index)], axis=1))
        if sum(map(len, found)) > MAX_ARCS:
            return None
    levels = np.flatnonzero(reached[1:]) + 1
    waste = levels[levels < capacity]
    found.append(np.stack([waste, np.append(waste[1:], capacity), np.full(len(waste), -1)], axis=1))
    return np.concatenate(found)


def _loaded(instance: Instance, arcs: np.ndarray, upper: float, seed: int) -> Any:
    """HiGHS with the flow: columns are arcs and the number of bins; rows conserve every level and meet demands."""
    import highspy
    from scipy.sparse import coo_array

    capacity, infinity = int(instance.arrays["capacity"][0]), float(highspy.kHighsInf)
    _, counts = np.unique(instance.arrays["sizes"], return_counts=True)
    levels = np.unique(np.append(arcs[:, :2].ravel(), [0, capacity]))
    tails, heads = np.searchsorted(levels, arcs[:, 0]), np.searchsorted(levels, arcs[:, 1])
    total, column = len(arcs), np.arange(len(arcs))
    sized = arcs[:, 2] >= 0
    rows = np.concatenate([tails, heads, len(levels) + arcs[sized, 2], [0, len(levels) - 1]])
    columns = np.concatenate([column, column, column[sized], [total, total]])
    values = np.concatenate([-np.ones(total), np.ones(total), np.ones(int(sized.sum())), [1.0, -1.0]])
    matrix = coo_array((values, (rows, columns)), shape=(len(levels) + len(counts), total + 1)).tocsr()
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = total + 1, matrix.shape[0]
    lp.col_cost_ = np.append(np.zeros(total), 1.0)
    lp.col_lower_ = np.zeros(total + 1)
    lp.col_upper_ = np.append(np.where(sized, counts[arcs[:, 2]], upper), upper)
    zero = np.zeros(len(levels))
    lp.row_lower_ = np.append(zero, counts.astype(np.float64))
    lp.row_upper_ = np.append(zero, np.full(len(counts), infinity))
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_, lp.a_matrix_.index_ = matrix.indptr.astype(np.int32), matrix.indices.astype(np.int32)
    lp.a_matrix_.value_ = matrix.data
    lp.integrality_ = [highspy.HighsVarType.kInteger] * (total + 1)
    # numbers of bins are whole: a gap below one closes
    return one_thread(lp, seed, mip_abs_gap=0.99, mip_rel_gap=0.0)


def _bins(instance: Instance, arcs: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Bins from a flow: paths from level 0, items of a path's sizes as long as there are any left."""
    capacity = int(instance.arrays["capacity"][0])
    sizes, index = np.unique(instance.arrays["sizes"], return_inverse=True)
    left = {k: np.flatnonzero(index == k).tolist() for k in range(len(sizes))}
    leaving: dict[int, list[int]] = {}
    amount = flow[: len(arcs)].copy()
    for arc in np.flatnonzero(amount).tolist():
        leaving.setdefault(int(arcs[arc, 0]), []).append(arc)
    bins, number = np.full(instance.size, -1, dtype=np.int64), 0
    while any(left.values()):
        level = 0
        while level < capacity:
            while not amount[leaving[level][-1]]:
                leaving[level].pop()
            arc = leaving[level][-1]
            amount[arc] -= 1
            if arcs[arc, 2] >= 0 and left[int(arcs[arc, 2])]:
                bins[left[int(arcs[arc, 2])].pop()] = number
            level = int(arcs[arc, 1])
        number += 1
    return bins
