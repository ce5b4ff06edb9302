"""A project: tasks with durations, precedences and shared resources, what both scheduling families come down to.

Here: ``Project`` with its longest paths, start windows, lower bound, list schedules and violations. Not here: file
formats, machine sequences of job shops (``jobshop_kernels``), the time-indexed program (``time_indexed``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

#: Largest number of (period, resource) cells of a usage profile: what a list schedule allocates.
MAX_CELLS = 20_000_000
#: Differences of times below this are rounding.
_SLACK = 1e-9


@dataclass(frozen=True)
class Project:
    """Tasks ``0 … N-1``; the last one is the end: it takes no time and follows all others.

    Attributes:
        durations: int64, shape ``(N,)``, in whole time units.
        before, after: int64, shape ``(A,)``: task ``after[a]`` starts when ``before[a]`` is finished or later; no
            cycle.
        demands: int64, shape ``(N, K)``: units of each resource while the task runs.
        capacities: int64, shape ``(K,)``.
        resources: names of the resources.
    """

    durations: np.ndarray
    before: np.ndarray
    after: np.ndarray
    demands: np.ndarray
    capacities: np.ndarray
    resources: Sequence[str]

    @property
    def size(self) -> int:
        """Number of tasks, the end included."""
        return len(self.durations)

    @property
    def span(self) -> int:
        """A time by which any list schedule is finished: the sum of durations."""
        return int(self.durations.sum())

    @cached_property
    def predecessors(self) -> tuple[np.ndarray, np.ndarray]:
        """``(pointers, members)``: the predecessors of task i are ``members[pointers[i]:pointers[i + 1]]``."""
        return _grouped(self.after, self.before, self.size)

    @cached_property
    def successors(self) -> tuple[np.ndarray, np.ndarray]:
        """The same for successors."""
        return _grouped(self.before, self.after, self.size)

    @cached_property
    def topological(self) -> list[int]:
        """Tasks with every predecessor before its successors; shorter than ``size`` where precedences form a cycle."""
        waiting = np.bincount(self.after, minlength=self.size).tolist()
        ready = [i for i in range(self.size) if waiting[i] == 0]
        pointers, members = (part.tolist() for part in self.successors)
        for task in ready:
            for other in members[pointers[task] : pointers[task + 1]]:
                waiting[other] -= 1
                if waiting[other] == 0:
                    ready.append(other)
        return ready

    @cached_property
    def heads(self) -> np.ndarray:
        """Earliest start times by precedences alone, int64, shape ``(N,)``."""
        heads = [0] * self.size
        durations, (pointers, members) = self.durations.tolist(), (p.tolist() for p in self.successors)
        for task in self.topological:
            for other in members[pointers[task] : pointers[task + 1]]:
                heads[other] = max(heads[other], heads[task] + durations[task])
        return np.array(heads, dtype=np.int64)

    @cached_property
    def tails(self) -> np.ndarray:
        """Time from a task's start to the end of the project by precedences alone, its duration included."""
        durations, (pointers, members) = self.durations.tolist(), (p.tolist() for p in self.successors)
        tails = list(durations)
        for task in reversed(self.topological):
            for other in members[pointers[task] : pointers[task + 1]]:
                tails[task] = max(tails[task], durations[task] + tails[other])
        return np.array(tails, dtype=np.int64)

    @cached_property
    def lower_bound(self) -> int:
        """No schedule is shorter: longest path, and for each resource its work between its first and last task."""
        bound = int((self.heads + self.tails).max())
        for k, capacity in enumerate(self.capacities.tolist()):
            users = (self.demands[:, k] > 0) & (self.durations > 0)
            if users.any():
                work = -(-int(self.durations[users] @ self.demands[users, k]) // capacity)
                bound = max(
                    bound, int(self.heads[users].min()) + work + int((self.tails - self.durations)[users].min())
                )
        return bound

    def windows(self, horizon: int) -> tuple[np.ndarray, np.ndarray]:
        """Earliest and latest start times of every task in schedules of at most ``horizon``; int64 each."""
        earliest, latest = self.heads.copy(), horizon - self.tails
        earliest[-1] = max(earliest[-1], self.lower_bound)
        return earliest, latest

    def listed(self, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Serial schedule of a list of all tasks: start times, and the list with its precedences put right."""
        from hybrid_assets.problems.scheduling import project_kernels as kernels

        return kernels.serial(
            np.asarray(order, dtype=np.int64),
            self.durations,
            *self.predecessors,
            self.demands,
            self.capacities,
            self.span,
        )

    def justified(self, starts: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        """Forward-backward improvement: start times, their list, schedules generated."""
        from hybrid_assets.problems.scheduling import project_kernels as kernels

        return kernels.justified(
            starts,
            order,
            self.durations,
            *self.predecessors,
            *self.successors,
            self.demands,
            self.capacities,
            self.span,
        )

    def by_start(self, starts: np.ndarray) -> np.ndarray:
        """Tasks by start time, equal ones in topological order; int64."""
        order = np.array(self.topological, dtype=np.int64)
        return order[np.argsort(np.asarray(starts)[order], kind="stable")]

    def violations(self, starts: np.ndarray) -> dict[str, float]:
        """What a schedule breaks, in time units (for resources: units of excess times time); empty if nothing.

        Args:
            starts: start times of the first ``len(starts)`` tasks; the end may be left out.
        """
        count = len(starts)
        ends = starts + self.durations[:count]
        broken: dict[str, float] = {}
        early = float(np.maximum(0.0, -starts).sum())
        if early > _SLACK:
            broken["negative start"] = early
        inside = (self.before < count) & (self.after < count)
        overlap = float(np.maximum(0.0, ends[self.before[inside]] - starts[self.after[inside]]).sum())
        if overlap > _SLACK:
            broken["precedence"] = overlap
        for k, name in enumerate(self.resources):
            users = np.flatnonzero((self.demands[:count, k] > 0) & (self.durations[:count] > 0))
            units = self.demands[users, k]
            times = np.concatenate([starts[users], ends[users]])
            order = np.argsort(times, kind="stable")
            load = np.cumsum(np.concatenate([units, -units])[order])[:-1]
            excess = float(np.maximum(0, load - self.capacities[k]) @ np.diff(times[order])) if len(load) else 0.0
            if excess > _SLACK:
                broken[name] = excess
        return broken


def _grouped(keys: np.ndarray, members: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(keys, kind="stable")
    pointers = np.concatenate([[0], np.cumsum(np.bincount(keys, minlength=size))]).astype(np.int64)
    return pointers, members[order].astype(np.int64)
