"""The time-indexed program of a project: one binary per task and start time within its window (Pritsker et al. 1969).

Here: layout, program, decoding, assignments of schedules, feasible draws. Not here: where windows come from
(``project``), what a family makes of a schedule (``schedule``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from hybrid_assets.problems.scheduling.project import Project

if TYPE_CHECKING:
    import dimod

#: Gibbs sweeps before every draw.
_SWEEPS = 12


@dataclass(frozen=True)
class TimeIndexed:
    """Variable ``offsets[i] + t - earliest[i]`` is one when task i starts at t.

    Attributes:
        project: the tasks.
        earliest, latest: windows of start times, int64, shape ``(N,)``.
    """

    project: Project
    earliest: np.ndarray
    latest: np.ndarray

    @cached_property
    def offsets(self) -> np.ndarray:
        """Number of each task's first variable, and behind them the number of variables; shape ``(N + 1,)``."""
        return np.concatenate([[0], np.cumsum(self.latest - self.earliest + 1)]).astype(np.int64)

    @property
    def count(self) -> int:
        """Number of variables."""
        return int(self.offsets[-1])

    @cached_property
    def tasks(self) -> np.ndarray:
        """Task of each variable."""
        return np.repeat(np.arange(self.project.size), np.diff(self.offsets))

    @cached_property
    def times(self) -> np.ndarray:
        """Start time of each variable."""
        return np.arange(self.count) - self.offsets[self.tasks] + self.earliest[self.tasks]

    def _variables(self, task: int, first: int, last: int) -> range:
        """Variables of a task's start times from ``first`` to ``last``, both included."""
        low, high = max(first, int(self.earliest[task])), min(last, int(self.latest[task]))
        base = int(self.offsets[task] - self.earliest[task])
        return range(base + low, base + high + 1)

    def cqm(self) -> dimod.ConstrainedQuadraticModel:
        """Minimize the start of the last task.

        Exactly one start per task; for every precedence and time t, i still running after t excludes j started by t
        (the disaggregated form of Christofides et al. 1987, at most one of a set); for every resource and period, the
        units in use. Constraints that cannot bind are left out.
        """
        import dimod

        cqm = dimod.ConstrainedQuadraticModel()
        cqm.add_variables(dimod.BINARY, range(self.count))
        end = self._variables(self.project.size - 1, 0, int(self.latest[-1]))
        objective = dimod.BinaryQuadraticModel("BINARY")
        for variable in end:
            objective.set_linear(variable, float(self.times[variable]))
        cqm.set_objective(objective)
        for task in range(self.project.size):
            terms = [(v, 1.0) for v in range(int(self.offsets[task]), int(self.offsets[task + 1]))]
            cqm.add_constraint_from_iterable(terms, "==", 1, label=f"start of {task}")
        for label, terms, capacity in (*self._precedences(), *self._resources()):
            cqm.add_constraint_from_iterable(terms, "<=", capacity, label=label)
        return cqm

    def _precedences(self) -> Iterator[tuple[str, list[tuple[int, float]], int]]:
        durations = self.project.durations
        for i, j in zip(self.project.before.tolist(), self.project.after.tolist(), strict=True):
            for time in range(int(self.earliest[j]), int(self.latest[j]) + 1):
                running = self._variables(i, time - int(durations[i]) + 1, int(self.latest[i]))
                if running:
                    begun = self._variables(j, 0, time)
                    yield f"{i} before {j} at {time}", [(v, 1.0) for v in (*running, *begun)], 1

    def _resources(self) -> Iterator[tuple[str, list[tuple[int, float]], int]]:
        project = self.project
        last = int((self.latest + project.durations).max())
        for k, name in enumerate(project.resources):
            users = np.flatnonzero((project.demands[:, k] > 0) & (project.durations > 0)).tolist()
            capacity = int(project.capacities[k])
            for time in range(last):
                terms: list[tuple[int, float]] = []
                most = 0
                for task in users:
                    running = self._variables(task, time - int(project.durations[task]) + 1, time)
                    if running:
                        units = int(project.demands[task, k])
                        most += units
                        terms += [(v, float(units)) for v in running]
                if most > capacity:
                    yield f"{name} at {time}", terms, capacity

    def starts(self, assignment: np.ndarray) -> np.ndarray | None:
        """Start times, int64, shape ``(N,)``, of an assignment with exactly one start per task, else ``None``."""
        chosen = np.flatnonzero(assignment)
        if not np.array_equal(self.tasks[chosen], np.arange(self.project.size)):
            return None
        return self.times[chosen]

    def wishes(self, assignment: np.ndarray) -> np.ndarray:
        """For any bits the mean of each task's chosen start times (its earliest where there is none); float64."""
        chosen = np.flatnonzero(assignment)
        votes = np.bincount(self.tasks[chosen], minlength=self.project.size)
        total = np.bincount(self.tasks[chosen], self.times[chosen].astype(float), self.project.size)
        return np.where(votes > 0, total / np.maximum(votes, 1), self.earliest)

    def assignment(self, starts: np.ndarray) -> np.ndarray | None:
        """The bits of whole start times, int8, or ``None`` where one lies outside its window."""
        if ((starts < self.earliest) | (starts > self.latest)).any():
            return None
        bits = np.zeros(self.count, dtype=np.int8)
        bits[self.offsets[:-1] + starts - self.earliest] = 1
        return bits

    def draws(self, start: np.ndarray, count: int, seed: int, free: np.ndarray | None) -> np.ndarray:
        """Random feasible assignments, int8, shape ``(count, n)``.

        Gibbs sweeps over the free start times make them uniform among the schedules that moving one task at a time can
        reach. Where they cannot pass each other in the windows, that is one order: without ``free`` every draw begins
        at the list schedule of a random order where that fits, otherwise at the draw before it.

        Args:
            start: a feasible schedule within the windows.
            free: numbers of the variables that may vary, ``None`` for all.
        """
        from hybrid_assets.problems.scheduling import project_kernels as kernels

        rng = np.random.default_rng(seed)
        project, at = self.project, start.astype(np.int64)
        mask = np.ones(self.count, dtype=bool)
        if free is not None:
            mask[:] = False
            mask[free] = True
        drawn = np.zeros((count, self.count), dtype=np.int8)
        for row in drawn:
            if free is None:
                fresh, _ = project.listed(rng.permutation(project.size))
                if (fresh <= self.latest).all():
                    at = fresh
            kernels.resample(
                at,
                self.earliest,
                self.latest,
                self.offsets,
                mask,
                project.durations,
                *project.predecessors,
                *project.successors,
                project.demands,
                project.capacities,
                _SWEEPS,
                int(rng.integers(2**31)),
            )
            row[self.offsets[:-1] + at - self.earliest] = 1
        return drawn
