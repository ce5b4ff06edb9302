"""Conformance suite of the ``ClassicalSolver`` seam, to be run by anybody on a solver of their own.

Subclass ``SolverConformance`` in a test module and implement ``solver`` and ``tasks``; any test runner that collects
``test_*`` methods does the rest (nothing here needs one)::

    class TestMySolver(SolverConformance):
        exact = True

        def solver(self):
            return MySolver()

        def tasks(self):
            return [SolveTask(family, instance)]

Here: what every solver must do, whatever its method. Not here: how good it is (``benchmarks``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from hybrid_assets.problems.base import Instance
from hybrid_assets.solvers.base import ClassicalSolver, SolverResult, SolveTask

#: Largest program that is enumerated.
MAX_VARIABLES = 12


def enumerated(task: SolveTask) -> float:
    """The best objective over all feasible assignments of the program, each completed by the family.

    Raises:
        ValueError: more than 12 variables.
    """
    count = len(task.program.cqm.variables)
    if count > MAX_VARIABLES:
        raise ValueError(f"{count} variables are too many to enumerate")
    bits = ((np.arange(2**count)[:, None] >> np.arange(count)) & 1).astype(np.int8)
    feasible = [b for b in bits if task.program.cqm.check_feasible(dict(enumerate(b.tolist())))]
    found = [task.family.complete(task.instance, b).evaluation for b in feasible]
    return min(_signed(task.instance, e.objective) for e in found if e.feasible) * _signed(task.instance, 1.0)


def _signed(instance: Instance, objective: float) -> float:
    return -objective if instance.sense == "max" else objective


def _slack(value: float) -> float:
    return 1e-7 * max(1e-9, abs(value))


class SolverConformance:
    """The suite; a run takes a few ``budget`` per task."""

    #: Whether the solver proves optimality on the small tasks within ``budget``.
    exact: bool = False
    #: Seconds per solve, and how much longer a busy machine may take.
    budget: float = 2.0
    patience: float = 20.0

    def solver(self) -> ClassicalSolver:
        """A new solver."""
        raise NotImplementedError("implement solver() so that it returns a new solver")

    def tasks(self) -> Sequence[SolveTask]:
        """Small tasks that it supports: programs of at most 12 variables, without a target."""
        raise NotImplementedError("implement tasks() so that it returns small tasks")

    def _checked(self, task: SolveTask, budget: float, seed: int) -> SolverResult:
        """One solve, with everything that must hold for any result."""
        solver = self.solver()
        before = task.instance.digest
        started = time.perf_counter()
        result = solver.solve(task, budget, seed)
        wall = time.perf_counter() - started
        # arrays are hashed anew: a solver that scales them in place would change every later comparison
        assert replace(task.instance).digest == before, "the solver changed the instance"
        assert result.solver == solver.name
        assert result.version
        assert result.seed == seed
        assert result.threads == 1
        assert 0 <= result.seconds <= wall + 0.01
        assert wall <= budget + self.patience
        if result.values is None:
            assert result.status in ("infeasible", "no solution")
            assert result.objective is None
            return result
        assert result.status in ("optimal", "feasible")
        assert result.objective is not None
        assert result.values.shape == (task.instance.size,)
        evaluation = task.family.evaluate(task.instance, result.values)
        assert evaluation.feasible, evaluation.violations
        assert math.isclose(evaluation.objective, result.objective, rel_tol=1e-9, abs_tol=1e-12)
        signed = _signed(task.instance, result.objective)
        if result.bound is not None:
            assert math.isfinite(result.bound)
            assert _signed(task.instance, result.bound) <= signed + _slack(signed)
        if result.status == "optimal":
            assert result.bound is not None, "optimal needs a proven bound"
            assert abs(result.bound - result.objective) <= 1e-6 * max(1e-6, abs(result.objective))
        assert result.trajectory, "a solution was found at some time"
        times, objectives = zip(*result.trajectory, strict=True)
        improving = [_signed(task.instance, o) for o in objectives]
        assert all(a <= b for a, b in pairwise(times))
        assert all(a > b for a, b in pairwise(improving)), "each entry is an improvement"
        assert 0 <= times[-1] <= result.seconds + 0.01
        assert math.isclose(objectives[-1], result.objective, rel_tol=1e-7, abs_tol=1e-12)
        return result

    def test_is_described(self) -> None:
        """It has a name, supports the families of its tasks and not everything."""
        solver = self.solver()
        assert solver.name
        assert all(solver.supports(task.family.name) for task in self.tasks())
        assert not solver.supports("no such family")

    def test_results_hold_against_enumeration(self) -> None:
        """Nothing beats the enumerated optimum; bounds never cut it off; exact solvers reach and prove it."""
        for task in self.tasks():
            best = enumerated(task)
            # an exact solver is to prove it, not to stop at a proof by others
            result = self._checked(task if self.exact else replace(task, target=best), self.budget, 1)
            assert result.objective is not None
            signed, optimum = _signed(task.instance, result.objective), _signed(task.instance, best)
            assert signed >= optimum - _slack(optimum), "better than the optimum: the objective is not that of the task"
            if result.bound is not None:
                assert _signed(task.instance, result.bound) <= optimum + _slack(optimum)
            if result.status == "optimal":
                assert signed <= optimum + _slack(optimum)
            if self.exact:
                assert result.status == "optimal"

    def test_target_ends_the_search(self) -> None:
        """With a target that anything reaches, a solver does not use up a long budget."""
        for task in self.tasks():
            easy = math.inf if task.instance.sense == "min" else -math.inf
            result = self._checked(replace(task, target=easy), 60.0, 2)
            assert result.seconds <= self.patience

    def test_same_seed_same_answer(self) -> None:
        """Two runs with one seed that both end at the optimum's proof or target give the same objective."""
        task = replace(self.tasks()[0], target=enumerated(self.tasks()[0]))
        one, two = (self._checked(task, self.budget, 3).objective for _ in range(2))
        assert one == two

    def test_hardly_any_time(self) -> None:
        """A millisecond gives a correct result, with or without a solution."""
        for task in self.tasks():
            self._checked(task, 0.001, 4)
