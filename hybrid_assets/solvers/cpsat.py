"""Exact minimization of programs without constraints by CP-SAT (ortools), with a proven bound.

Here: products as Boolean variables, coefficients as integers, and what that does to the bound. Not here: constrained
programs, heuristics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask
from hybrid_assets.solvers.cpsat_run import run_cpsat
from hybrid_assets.solvers.search import Record, best_of, is_unconstrained, polynomial_of

if TYPE_CHECKING:
    import dimod
    from ortools.sat.python import cp_model

#: Decimal places that are turned into whole numbers without rounding.
DECIMALS = 6
#: Sum of absolute whole coefficients when they have to be rounded, and the largest allowed when not.
ROUNDED_SUM, EXACT_SUM = 2.0**46, 2.0**53
#: Relative gap below which solution and bound are the same number.
CLOSED = 1e-9


class CpSat(ClassicalSolver):
    """CP-SAT on the linearized polynomial, one worker.

    Each product x_i x_j with a positive coefficient is a Boolean that must be one when both are, with a negative one a
    Boolean that implies both (Fortet 1960); full linearization lets the solver add its RLT cuts, which decides between
    seconds and hours (measured). Where flipping all bits changes nothing, one bit is fixed. The search starts from a
    steepest descent.
    """

    name = "cpsat"

    def supports(self, family: str) -> bool:
        """Families without constraints."""
        return is_unconstrained(family)

    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Minimize within the budget.

        The bound is the best of CP-SAT's, corrected for rounding where coefficients are no decimals of at most six
        places, and the two sums of negative terms (over bits and over spins); there is none where the program is a
        proxy. Models that cannot be built in half the budget keep the start and that sum.
        """
        from ortools.sat.python import cp_model

        record = Record(task, budget_seconds)
        bqm = polynomial_of(task)
        start = _descent(bqm)
        record.offer(start, float(bqm.energy(start)))
        bound = _sum_of_negatives(bqm)
        model, bits, scale, error = _build(bqm, start, record)
        branches = 0
        if model is not None and not record.done:

            def keep(solution: cp_model.CpSolverSolutionCallback) -> float | None:
                found = np.fromiter((solution.boolean_value(b) for b in bits), dtype=np.int8, count=len(bits))
                record.offer(found, float(bqm.energy(found)))
                return record.objective

            solver, status = run_cpsat(model, task, record.left, seed, keep)
            branches = solver.num_branches
            # an unknown status may come with a bound of 0 that nobody proved
            if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
                proven = solver.best_objective_bound / scale - error + float(bqm.offset)
                bound = max(bound, proven) if np.isfinite(proven) else bound
        exact = task.family.exact_program
        closed = exact and record.energy - bound <= CLOSED * max(1.0, abs(record.energy))
        bound = min(bound, record.energy)
        if task.instance.sense == "max":
            bound = -bound
        return record.result(self.name, "ortools", seed, branches, bound=bound if exact else None, proven=closed)


def whole_coefficients(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Whole numbers in proportion to coefficients.

    Returns:
        int64 array, the scale, and the largest difference that rounding can make to a sum of any of the coefficients.
    """
    for places in range(DECIMALS + 1):
        scaled = np.rint(values * 10.0**places)
        if np.abs(scaled).sum() <= EXACT_SUM and np.array_equal(scaled / 10.0**places, values):
            return scaled.astype(np.int64), 10.0**places, 0.0
    scale = ROUNDED_SUM / float(np.abs(values).sum())
    scaled = np.rint(values * scale)
    return scaled.astype(np.int64), scale, float(np.abs(values - scaled / scale).sum())


def _build(
    bqm: dimod.BinaryQuadraticModel, start: np.ndarray, record: Record
) -> tuple[cp_model.CpModel | None, list[cp_model.IntVar], float, float]:
    """The model with its bits, scale and rounding error; no model when half the budget is gone before it stands."""
    from ortools.sat.python import cp_model

    if record.left < record.budget / 2:
        return None, [], 1.0, 0.0
    linear, (heads, tails, biases), _ = bqm.to_numpy_vectors()[:3]
    n = len(linear)
    whole, scale, error = whole_coefficients(np.concatenate([linear, biases]))
    model = cp_model.CpModel()
    bits = [model.new_bool_var("") for _ in range(n)]
    terms, coefficients = list(bits), whole[:n].tolist()
    values = start.tolist()
    for k, (i, j, c) in enumerate(zip(heads.tolist(), tails.tolist(), whole[n:].tolist(), strict=True)):
        if k % 1_000 == 0 and record.left < record.budget / 2:
            return None, bits, scale, error
        if c == 0:
            continue
        product = model.new_bool_var("")
        if c > 0:
            model.add_bool_or(~bits[i], ~bits[j], product)
        else:
            model.add_implication(product, bits[i])
            model.add_implication(product, bits[j])
        model.add_hint(product, values[i] * values[j])
        terms.append(product)
        coefficients.append(c)
    for bit, value in zip(bits, values, strict=True):
        model.add_hint(bit, value)
    if _flip_symmetric(linear, heads, tails, biases):
        busiest = int(np.argmax(np.bincount(heads, minlength=n) + np.bincount(tails, minlength=n)))
        model.add(bits[busiest] == values[busiest])
    model.minimize(cp_model.LinearExpr.weighted_sum(terms, coefficients))
    return model, bits, scale, error


def _flip_symmetric(linear: np.ndarray, heads: np.ndarray, tails: np.ndarray, biases: np.ndarray) -> bool:
    """Whether flipping all bits never changes the energy: every spin's field is exactly zero."""
    n = len(linear)
    return not np.any(2 * linear + np.bincount(heads, biases, n) + np.bincount(tails, biases, n))


def _sum_of_negatives(bqm: dimod.BinaryQuadraticModel) -> float:
    """The better of two bounds without search: all negative terms over bits, and over spins."""
    import dimod

    bounds = []
    for model, lowest in (
        (bqm, lambda c: np.minimum(c, 0)),
        (bqm.change_vartype(dimod.SPIN, False), lambda c: -abs(c)),
    ):
        linear, (_, _, biases), offset = model.to_numpy_vectors()[:3]
        bounds.append(float(offset + lowest(linear).sum() + lowest(biases).sum()))
    return max(bounds)


def _descent(bqm: dimod.BinaryQuadraticModel) -> np.ndarray:
    """The steepest descent from all zeros, int8 bits."""
    from dwave.samplers import SteepestDescentSampler

    n = bqm.num_variables
    zeros = np.zeros((1, n), dtype=np.int8)
    found = SteepestDescentSampler().sample(bqm, initial_states=(zeros, range(n)), num_reads=1, seed=0)
    return best_of(found)[0]
