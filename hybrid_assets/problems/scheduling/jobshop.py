"""The ``jobshop`` family: jobs of operations on machines, scheduled with the smallest makespan.

Here: the family, its project, priority rules. Not here: formats (``jobshop_files``), the program and what is common
with ``rcpsp`` (``schedule``), moves (``jobshop_landscape``), solvers.

Formats, recognised by content: the standard text (``jobs machines``, then per job pairs ``machine duration``; several
instances in a file with lines of words between them, as in the OR-Library), Taillard's layout (times, then machines)
and the JSON of job-shop-lib (``duration_matrix``, ``machines_matrix``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hybrid_assets.problems.base import FamilyOptions, Instance
from hybrid_assets.problems.scheduling.jobshop_files import MAX_DURATION, RawShop, is_job_shop, read_job_shops
from hybrid_assets.problems.scheduling.project import Project
from hybrid_assets.problems.scheduling.schedule import ScheduleFamily, ScheduleOptions
from hybrid_assets.problems.source import SourceFile
from resources.failures import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hybrid_assets.problems.landscape import Landscape


#: Largest table of operations and machines.
_MAX_TABLE = 10_000_000
#: Schedules computed in the descent after each priority rule.
DESCENT = 2_000


class JobShop(ScheduleFamily):
    """Job shop: each job's operations in their order, each machine one operation at a time.

    Values: start times of the operations, numbered job by job.
    """

    name = "jobshop"
    version = "1"
    title = "job-shop scheduling with the smallest makespan"

    def recognises(self, source: SourceFile) -> bool:
        """Whether the content is one of the formats above."""
        return is_job_shop(source)

    def read(self, source: SourceFile) -> Sequence[RawShop]:
        """Parse all instances of a file."""
        return read_job_shops(source)

    def normalize(self, raw: RawShop, options: FamilyOptions, name: str) -> Instance:
        """Number machines from 0 and operations job by job.

        Arrays: ``jobs``, ``machines``, ``durations`` per operation; ``earliest`` and ``latest`` per task of the project
        (operations, then the end).

        Raises:
            InputError: a machine that does not exist, durations out of range, nothing to do.
        """
        assert isinstance(options, ScheduleOptions)
        if sum(map(len, raw.machines)) * raw.kinds > _MAX_TABLE:
            raise InputError(
                raw.file,
                "machines",
                f"there are {raw.kinds} for {sum(map(len, raw.machines))} operations",
                f"operations times machines may be at most {_MAX_TABLE}",
            )
        jobs = np.repeat(np.arange(len(raw.machines)), [len(row) for row in raw.machines])
        for place, machines, durations in zip(raw.places, raw.machines, raw.durations, strict=True):
            for machine, duration in zip(machines, durations, strict=True):
                if not raw.base <= machine < raw.base + raw.kinds:
                    raise InputError(
                        raw.file,
                        place,
                        f"it names machine {machine}",
                        f"number the machines from {raw.base} to {raw.base + raw.kinds - 1}",
                    )
                if duration > MAX_DURATION:
                    raise InputError(
                        raw.file,
                        place,
                        f"the duration {duration} is larger than {MAX_DURATION}",
                        "measure durations in a larger unit",
                    )
        arrays = {
            "jobs": jobs.astype(np.int64),
            "machines": np.array([k - raw.base for row in raw.machines for k in row], dtype=np.int64),
            "durations": np.array([d for row in raw.durations for d in row], dtype=np.int64),
        }
        if not arrays["durations"].any():
            raise InputError(raw.file, "durations", "all of them are zero", "give at least one that is not")
        windows, note = self.windows(_project(arrays), arrays, options)
        labels = tuple(f"job {j} operation {k}" for j, row in enumerate(raw.machines) for k in range(len(row)))
        return Instance(
            family=self.name,
            name=name,
            size=len(jobs),
            sense="min",
            arrays={**arrays, **windows},
            settings=options.model_dump(mode="json"),
            labels=labels,
            notes=(note,),
        )

    def project(self, instance: Instance) -> Project:
        """One task per operation, one resource of capacity 1 per machine, and the end."""
        return _project(instance.arrays)

    def heuristic(self, project: Project, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """The best active schedule of four rules (most work remaining, least, shortest and longest operation), each
        after a descent over N6 moves."""
        from hybrid_assets.problems.scheduling import jobshop_kernels as kernels

        jobs, durations = arrays["jobs"], arrays["durations"]
        (machines, offsets), best = lanes(arrays), (-1, np.empty(0, dtype=np.int64))
        for priority in priority_rules(project):
            sequence = kernels.dispatched(priority[:-1], jobs, machines, durations, offsets)
            sequence = kernels.descent(sequence, offsets, jobs, machines, durations, DESCENT)[0]
            makespan, heads = kernels.paths(sequence, offsets, jobs, durations)[:2]
            if best[0] < 0 or makespan < best[0]:
                best = makespan, heads
        return np.append(best[1], best[0])

    def landscape(self, instance: Instance) -> Landscape:
        """Moves of operations within the machine sequences."""
        from hybrid_assets.problems.scheduling.jobshop_landscape import JobShopLandscape

        return JobShopLandscape(self, instance)

    def baselines(self, instance: Instance) -> Sequence[str]:
        """CP-SAT, tabu search, priority rules."""
        return ("cpsat-schedule", "schedule-tabu", "dispatching")

    def plot_instance(self, instance: Instance) -> Figure:
        """The load of the machines, job by job."""
        from hybrid_assets.problems.scheduling.schedule_plots import machine_loads

        return machine_loads(instance)

    def plot_solution(self, instance: Instance, solutions: Mapping[str, np.ndarray]) -> Figure:
        """A Gantt chart per solution: machines down, time across, one colour per job."""
        from hybrid_assets.problems.scheduling.schedule_plots import gantt

        a = instance.arrays
        rows = [np.flatnonzero(a["machines"] == k) for k in range(int(a["machines"].max()) + 1)]
        names = [f"machine {k}" for k in range(len(rows))]
        return gantt(instance, solutions, rows, names, a["jobs"])


def lanes(arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """What sequences are made of: the machine of each operation, and where each one's operations begin (and the total).

    An operation of no time occupies no machine, so it has one of its own behind the real ones.
    """
    machines = arrays["machines"].copy()
    idle = np.flatnonzero(arrays["durations"] == 0)
    machines[idle] = machines.max() + 1 + np.arange(len(idle))
    return machines, np.concatenate([[0], np.cumsum(np.bincount(machines))]).astype(np.int64)


def priority_rules(project: Project) -> list[np.ndarray]:
    """Static priorities of all tasks, float64, higher is sooner: the rules of ``JobShop.heuristic`` in that order."""
    tails, durations = project.tails.astype(float), project.durations.astype(float)
    return [tails, -tails, -durations, durations]


def _project(arrays: Mapping[str, np.ndarray]) -> Project:
    jobs, machines, count = arrays["jobs"], arrays["machines"], len(arrays["jobs"])
    inside = np.flatnonzero(jobs[1:] == jobs[:-1])
    last = np.append(np.flatnonzero(jobs[1:] != jobs[:-1]), count - 1)
    kinds = int(machines.max()) + 1
    demands = np.zeros((count + 1, kinds), dtype=np.int64)
    demands[np.arange(count), machines] = 1
    return Project(
        durations=np.append(arrays["durations"], 0),
        before=np.concatenate([inside, last]).astype(np.int64),
        after=np.concatenate([inside + 1, np.full(len(last), count)]).astype(np.int64),
        demands=demands,
        capacities=np.ones(kinds, dtype=np.int64),
        resources=tuple(f"machine {k}" for k in range(kinds)),
    )
