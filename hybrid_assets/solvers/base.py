"""The ``ClassicalSolver`` seam: a baseline gets an instance, a budget in wall-clock seconds and a seed.

Here: the task, the clock, the result and the abstract solver. Not here: any single solver, or how results are compared
(``evidence``).
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

if TYPE_CHECKING:
    from hybrid_assets.problems.base import Instance, ProblemFamily, Program

Status = Literal["optimal", "feasible", "infeasible", "no solution"]


@dataclass(eq=False)
class SolveTask:
    """What a solver may look at. A best known value is never part of it.

    Attributes:
        family: the family, for ``evaluate`` and ``complete``.
        instance: the normalized instance, whole (never narrowed).
        target: objective at which a heuristic may stop because an exact solver has already proven it optimal in
            this very comparison; ``None`` otherwise.
    """

    family: ProblemFamily
    instance: Instance
    target: float | None = None

    @cached_property
    def program(self) -> Program:
        """``family.model(instance)``, for solvers that work on the program; built when first asked for.

        Raises:
            InputError: the program would be too large to hold.
        """
        return self.family.model(self.instance)

    def reached(self, objective: float) -> bool:
        """Whether ``objective`` is as good as the proven target."""
        if self.target is None:
            return False
        slack = 1e-9 * max(1.0, abs(self.target))
        better = self.target - objective if self.instance.sense == "max" else objective - self.target
        return better <= slack


@dataclass(frozen=True)
class SolverResult:
    """What a baseline found.

    Attributes:
        solver, version: registered name, version of the package that did the work.
        status: ``optimal`` only with a proof.
        values: solution array of shape ``(instance.size,)`` or ``None``.
        objective: objective in the family's sense or ``None``.
        bound: proven bound on the optimum in the family's sense (lower for min, upper for max) or ``None``.
        seconds: wall-clock seconds spent, including building the solver's model.
        trajectory: (seconds, objective) at every improvement, first to last.
        seed, threads, evaluations: as used; evaluations counts objective or sweep evaluations where known.
    """

    solver: str
    version: str
    status: Status
    values: np.ndarray | None
    objective: float | None
    bound: float | None
    seconds: float
    trajectory: tuple[tuple[float, float], ...] = ()
    seed: int = 0
    threads: int = 1
    evaluations: int = 0


@dataclass
class Progress:
    """The best solution so far (``values``) within a budget in seconds; the clock runs from construction."""

    task: SolveTask
    budget: float
    started: float = field(default_factory=time.perf_counter, init=False)
    values: np.ndarray | None = field(default=None, init=False)
    trajectory: list[tuple[float, float]] = field(default_factory=list, init=False)

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    @property
    def left(self) -> float:
        """Seconds of the budget that are left; negative when it is overdrawn."""
        return self.budget - self.elapsed


class ClassicalSolver(ABC):
    """One classical baseline. Stateless; imports its package when it solves."""

    name: ClassVar[str]

    @abstractmethod
    def supports(self, family: str) -> bool:
        """Whether it can solve instances of this family."""

    @abstractmethod
    def solve(self, task: SolveTask, budget_seconds: float, seed: int) -> SolverResult:
        """Solve within the budget (wall clock, one thread); the objective is ``family.evaluate`` of the values."""
