"""What the scheduling families share: start times as values, the makespan as objective, the time-indexed program.

Here: the abstract family. Not here: formats and pictures of one family, landscapes, solvers.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from hybrid_assets.problems.base import (
    PROGRAM_VARIABLES,
    Evaluation,
    FamilyOptions,
    Instance,
    ProblemFamily,
    Program,
    Reference,
    Solution,
)
from hybrid_assets.problems.scheduling.project import MAX_CELLS, Project
from hybrid_assets.problems.scheduling.time_indexed import TimeIndexed
from resources.envelope import PostProcessing
from resources.failures import InputError


class ScheduleOptions(FamilyOptions):
    """Options of the scheduling families."""

    #: The program's horizon is a heuristic's makespan and this share of it more.
    horizon_slack: float = Field(default=0.1, ge=0.0, le=10.0)


class ScheduleFamily(ProblemFamily):
    """Start times, int64, shape ``(size,)``; minimize the makespan.

    An instance's arrays hold ``earliest`` and ``latest``, the start windows of all tasks of its project within the
    program's horizon. The program minimizes the start of the project's end, which is the makespan; in the job shop,
    whose values do not name the end, an assignment may place it later than needed, and its energy is then an upper
    bound.
    """

    options = ScheduleOptions

    @abstractmethod
    def project(self, instance: Instance) -> Project:
        """The tasks: the instance's own in order, and the end behind them where the instance does not name it."""

    @abstractmethod
    def heuristic(self, project: Project, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """Start times of all tasks by priority rules, the same at every call."""

    def indexed(self, instance: Instance) -> TimeIndexed:
        """The layout of the program."""
        return TimeIndexed(self.project(instance), instance.arrays["earliest"], instance.arrays["latest"])

    def program_size(self, instance: Instance) -> int:
        """Number of start times in all windows."""
        return int((instance.arrays["latest"] - instance.arrays["earliest"] + 1).sum())

    def model(self, instance: Instance) -> Program:
        """The time-indexed program.

        Raises:
            InputError: more than ``PROGRAM_VARIABLES`` binaries.
        """
        size, project = self.program_size(instance), self.project(instance)
        if size > PROGRAM_VARIABLES or project.span * max(1, len(project.capacities)) > MAX_CELLS:
            raise InputError(
                instance.name,
                "program",
                f"its time-indexed program has {size} variables, the limit is {PROGRAM_VARIABLES}",
                "measure durations in a larger unit, lower horizon_slack, or solve it through its landscape",
            )
        return Program(self.indexed(instance).cqm(), "makespan, time-indexed")

    def evaluate(self, instance: Instance, values: np.ndarray) -> Evaluation:
        """The makespan; violations are times (for resources: excess units times time)."""
        project, starts = self.project(instance), np.asarray(values, dtype=float)
        makespan = float((starts + project.durations[: instance.size]).max())
        return Evaluation(makespan, project.violations(starts))

    def complete(self, instance: Instance, assignment: np.ndarray) -> Solution:
        """The start times that the bits choose, as they are; else a list schedule in the order of the times wished."""
        indexed = self.indexed(instance)
        starts = indexed.starts(np.asarray(assignment))
        if starts is not None:
            if not indexed.project.violations(starts):
                values = starts[: instance.size]
                return Solution(values, self.evaluate(instance, values))
            wishes: np.ndarray = starts
        else:
            wishes = indexed.wishes(np.asarray(assignment))
        values = indexed.project.listed(indexed.project.by_start(wishes))[0][: instance.size]
        return Solution(values, self.evaluate(instance, values), PostProcessing.REPAIRED)

    def assignment(self, instance: Instance, values: np.ndarray) -> np.ndarray:
        """The bits of the schedule; one that is broken or longer than the horizon is first put into a list schedule,
        and where that does not fit either, the heuristic's schedule, which is shorter, stands for it."""
        indexed = self.indexed(instance)
        project, starts = indexed.project, np.asarray(values)
        whole = np.rint(starts).astype(np.int64)
        if len(whole) < project.size:
            whole = np.append(whole, (whole + project.durations[: len(whole)]).max())
        if not project.violations(whole) and np.array_equal(whole[: len(starts)], starts):
            bits = indexed.assignment(whole)
            if bits is not None:
                return bits
        bits = indexed.assignment(project.listed(project.by_start(whole))[0])
        return self._heuristic_bits(instance, indexed) if bits is None else bits

    def _heuristic_bits(self, instance: Instance, indexed: TimeIndexed) -> np.ndarray:
        bits = indexed.assignment(self.heuristic(indexed.project, instance.arrays))
        if bits is None:
            raise ValueError("the horizon is that of the heuristic, whose schedule fits it")
        return bits

    def reference(self, instance: Instance, program: Program, seed: int) -> Reference:
        """The best schedule by priority rules; start times near its own come first, those of tasks without slack before
        others."""
        indexed = self.indexed(instance)
        starts = self.heuristic(indexed.project, instance.arrays)
        slack = (starts[-1] - starts) - indexed.project.tails
        distance = np.abs(indexed.times - starts[indexed.tasks])
        fixed = np.diff(indexed.offsets)[indexed.tasks] == 1
        priority = 1.0 / (1.0 + distance) + 1.0 / (1.0 + np.maximum(0, slack[indexed.tasks]))
        return Reference(
            self._heuristic_bits(instance, indexed),
            # a task with a single start time decides nothing
            np.where(fixed, 0.0, priority),
            "best schedule by priority rules; start times near it, tasks with little slack first",
        )

    def random_assignments(
        self, instance: Instance, count: int, seed: int, free: np.ndarray | None = None, base: np.ndarray | None = None
    ) -> np.ndarray:
        """Random feasible schedules within the horizon: random list schedules, then Gibbs sweeps, which are uniform
        among the schedules that moving one task at a time can reach (see ``TimeIndexed.draws``).

        Raises:
            ValueError: free variables without a feasible base.
        """
        indexed = self.indexed(instance)
        if free is None:
            return indexed.draws(self.heuristic(indexed.project, instance.arrays), count, seed, None)
        start = None if base is None else indexed.starts(np.asarray(base))
        if start is None or indexed.project.violations(start):
            raise ValueError("free variables need a feasible base")
        return indexed.draws(start, count, seed, np.asarray(free))

    def constraints(self, instance: Instance) -> Mapping[str, Any]:
        """Precedences, resources with their capacities, the program's horizon and the length that nothing beats."""
        project = self.project(instance)
        return {
            "precedences": len(project.before),
            "capacities": dict(zip(project.resources, project.capacities.tolist(), strict=True)),
            "horizon": int(instance.arrays["latest"][-1]),
            "lower bound": project.lower_bound,
        }

    def windows(
        self, project: Project, arrays: Mapping[str, np.ndarray], options: ScheduleOptions
    ) -> tuple[dict[str, np.ndarray], str]:
        """Arrays ``earliest`` and ``latest`` for a new instance, and the note about the horizon."""
        reached = int(self.heuristic(project, arrays)[-1])
        horizon = reached + int(np.ceil(options.horizon_slack * reached))
        earliest, latest = project.windows(horizon)
        note = f"the program's horizon is {horizon}: {reached} by priority rules, and {horizon - reached} more"
        return {"earliest": earliest, "latest": latest}, note
