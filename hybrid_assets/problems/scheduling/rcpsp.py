"""The ``rcpsp`` family: a project's activities under precedences and limited renewable resources, smallest makespan.

Here: the family, its project, priority rules. Not here: formats (``rcpsp_files``), the program and what is common with
``jobshop`` (``schedule``), moves (``rcpsp_landscape``), solvers.

Formats, recognised by content: PSPLIB single mode (``.sm``, Kolisch & Sprecher 1997; several modes are refused) and
Patterson's (``.rcp``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hybrid_assets.problems.base import FamilyOptions, Instance
from hybrid_assets.problems.scheduling.project import MAX_CELLS, Project
from hybrid_assets.problems.scheduling.rcpsp_files import RawProject, is_project, read_project
from hybrid_assets.problems.scheduling.schedule import ScheduleFamily, ScheduleOptions
from hybrid_assets.problems.source import SourceFile
from resources.failures import InfeasibleError, InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hybrid_assets.problems.landscape import Landscape


class Rcpsp(ScheduleFamily):
    """Resource-constrained project scheduling.

    Values: start times of all activities in the file's order, the dummies at both ends included; the last one's is the
    makespan.
    """

    name = "rcpsp"
    version = "1"
    title = "resource-constrained project scheduling with the smallest makespan"

    def recognises(self, source: SourceFile) -> bool:
        """Whether the content is one of the formats above."""
        return is_project(source)

    def read(self, source: SourceFile) -> Sequence[RawProject]:
        """Parse one project."""
        return [read_project(source)]

    def normalize(self, raw: RawProject, options: FamilyOptions, name: str) -> Instance:
        """Check precedences and demands.

        Arrays: ``durations``, ``demands`` (activities × resources), ``capacities``, ``before`` and ``after`` (one
        precedence each), ``earliest`` and ``latest``.

        Raises:
            InputError: precedences in a circle, a last activity that is not the end of all, too long a
                project for list schedules.
            InfeasibleError: an activity needs more of a resource than there is.
        """
        assert isinstance(options, ScheduleOptions)
        count = len(raw.durations)
        before = np.repeat(np.arange(count), [len(row) for row in raw.successors])
        project = Project(
            durations=np.array(raw.durations, dtype=np.int64),
            before=before.astype(np.int64),
            after=np.array([j for row in raw.successors for j in row], dtype=np.int64),
            demands=np.array(raw.demands, dtype=np.int64).reshape(count, len(raw.capacities)),
            capacities=np.array(raw.capacities, dtype=np.int64),
            resources=tuple(raw.resources),
        )
        _check(raw, project)
        arrays = {k: getattr(project, k) for k in ("durations", "demands", "capacities", "before", "after")}
        windows, note = self.windows(project, arrays, options)
        # a start without time and demand delays nobody at time 0
        idle = (project.heads == 0) & (project.durations == 0) & ~project.demands.any(axis=1)
        windows["latest"] = np.where(idle, 0, windows["latest"])
        return Instance(
            family=self.name,
            name=name,
            size=count,
            sense="min",
            arrays={**arrays, **windows},
            settings={**options.model_dump(mode="json"), "resources": list(raw.resources)},
            labels=tuple(f"activity {i}" for i in range(1, count + 1)),
            notes=(note,),
        )

    def project(self, instance: Instance) -> Project:
        """One task per activity; the last one is the end."""
        a = instance.arrays
        return Project(
            a["durations"], a["before"], a["after"], a["demands"], a["capacities"], instance.settings["resources"]
        )

    def heuristic(self, project: Project, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """The best of four rules' serial schedules after forward-backward improvement."""
        best: np.ndarray | None = None
        for priority in priority_rules(project):
            starts, order = project.listed(np.argsort(-priority, kind="stable"))
            starts = project.justified(starts, order)[0]
            if best is None or starts[-1] < best[-1]:
                best = starts
        assert best is not None
        return best

    def landscape(self, instance: Instance) -> Landscape:
        """Moves of activities within the list that a serial schedule follows."""
        from hybrid_assets.problems.scheduling.rcpsp_landscape import RcpspLandscape

        return RcpspLandscape(self, instance)

    def baselines(self, instance: Instance) -> Sequence[str]:
        """CP-SAT; priority rules and sampling with forward-backward improvement."""
        return ("cpsat-schedule", "dispatching")

    def plot_instance(self, instance: Instance) -> Figure:
        """The precedences, activities by their earliest start."""
        from hybrid_assets.problems.scheduling.schedule_plots import precedence_picture

        return precedence_picture(instance, self.project(instance))

    def plot_solution(self, instance: Instance, solutions: Mapping[str, np.ndarray]) -> Figure:
        """A Gantt chart per solution: activities down in order of the first solution, time across."""
        from hybrid_assets.problems.scheduling.schedule_plots import gantt

        first = next(iter(solutions.values()), np.zeros(instance.size))
        order = [i for i in np.argsort(first, kind="stable") if instance.arrays["durations"][i] > 0]
        main = np.argmax(np.column_stack([np.zeros(instance.size), instance.arrays["demands"]]), axis=1)
        return gantt(instance, solutions, [np.array([i]) for i in order], [str(i + 1) for i in order], main)


def priority_rules(project: Project) -> list[np.ndarray]:
    """Priorities of all tasks, float64, higher is sooner: latest start, latest finish, most successors' time, and
    demand weighted by time (after Kolisch 1996)."""
    tails, durations = project.tails.astype(float), project.durations.astype(float)
    pointers, members = project.successors
    following = np.array(
        [durations[members[pointers[i] : pointers[i + 1]]].sum() for i in range(project.size)], dtype=float
    )
    load = durations * (project.demands / np.maximum(1, project.capacities)).sum(axis=1)
    return [tails, tails - durations, durations + following, load]


def _check(raw: RawProject, project: Project) -> None:
    count = project.size
    loose = np.flatnonzero(np.bincount(project.before, minlength=count)[:-1] == 0)
    if len(loose):
        raise InputError(
            raw.file,
            raw.places[loose[0]],
            f"activity {loose[0] + 1} has no successor",
            f"let every activity lead to the last one, {count}",
        )
    # numbers of activities that no order can reach
    stuck = sorted(set(range(count)) - set(project.topological))
    if stuck:
        raise InputError(
            raw.file,
            raw.places[stuck[0]],
            f"activity {stuck[0] + 1} lies on or behind a circle of precedences",
            "remove one precedence of the circle",
        )
    if project.durations[-1]:
        raise InputError(
            raw.file, raw.demand_places[-1], "the last activity takes time", "end with a dummy of duration 0"
        )
    if not project.durations.any():
        raise InputError(raw.file, "durations", "all of them are zero", "give at least one that is not")
    for i, k in np.argwhere(project.demands > project.capacities).tolist():
        if project.durations[i]:
            raise InfeasibleError(
                raw.file,
                raw.demand_places[i],
                f"activity {i + 1} needs {project.demands[i, k]} of {raw.resources[k]}, there are "
                f"{project.capacities[k]}",
                "raise the capacity or lower the demand",
            )
    if project.span * max(1, len(project.capacities)) > MAX_CELLS:
        raise InputError(raw.file, "durations", f"they add up to {project.span}", "measure durations in a larger unit")
