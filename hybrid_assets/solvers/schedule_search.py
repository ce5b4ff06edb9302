"""What the scheduling solvers share: the project of a task, and the best schedule so far within a budget.

Here: the record, its proof by the combinatorial lower bound, and priority-rule starts. Not here: any single search.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybrid_assets import registry
from hybrid_assets.problems.scheduling.project import Project
from hybrid_assets.problems.scheduling.schedule import ScheduleFamily
from hybrid_assets.solvers.base import Progress, SolverResult, SolveTask


def is_scheduling(family: str) -> bool:
    """Whether a registered family schedules projects, so that these solvers take it."""
    return family in registry.names("families") and isinstance(registry.family(family), ScheduleFamily)


def project_of(task: SolveTask) -> Project:
    """The project behind a task.

    Raises:
        TypeError: its family schedules no projects.
    """
    if not isinstance(task.family, ScheduleFamily):
        raise TypeError(f"{task.family.name} is no scheduling family")
    return task.family.project(task.instance)


def heuristic_start(task: SolveTask, project: Project) -> np.ndarray:
    """The family's schedule by priority rules: start times of all tasks of the project."""
    if not isinstance(task.family, ScheduleFamily):
        raise TypeError(f"{task.family.name} is no scheduling family")
    return task.family.heuristic(project, task.instance.arrays)


@dataclass
class ScheduleRecord(Progress):
    """Progress on a schedule, with a proven bound of its makespan."""

    makespan: float = np.inf
    bound: int = 0

    @property
    def done(self) -> bool:
        """Whether the budget is spent, the proven target reached, or the lower bound."""
        reached = self.values is not None and (self.makespan <= self.bound or self.task.reached(self.makespan))
        return reached or self.left <= 0

    def offer(self, starts: np.ndarray) -> bool:
        """Keep a schedule (start times, with or without the project's end) if it is the shortest so far."""
        values = np.asarray(starts, dtype=np.int64)[: self.task.instance.size]
        makespan = float((values + self.task.instance.arrays["durations"]).max())
        if not makespan < self.makespan:
            return False
        self.makespan, self.values = makespan, values.copy()
        self.trajectory.append((self.elapsed, makespan))
        return True

    def result(self, solver: str, version: str, seed: int, evaluations: int) -> SolverResult:
        """The result; ``optimal`` where the best schedule is as long as the proven bound."""
        found = self.values is not None
        return SolverResult(
            solver=solver,
            version=version,
            status="no solution" if not found else "optimal" if self.makespan <= self.bound else "feasible",
            values=self.values,
            objective=self.makespan if found else None,
            bound=float(self.bound),
            seconds=self.elapsed,
            trajectory=tuple(self.trajectory),
            seed=seed,
            evaluations=evaluations,
        )
