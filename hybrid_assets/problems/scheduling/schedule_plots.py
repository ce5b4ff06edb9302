"""Pictures of schedules: Gantt charts, machine loads, precedences.

Here: drawing only. Not here: what a schedule is worth (``schedule``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hybrid_assets.plots import small_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hybrid_assets.problems.base import Instance
    from hybrid_assets.problems.scheduling.project import Project

#: Rows and activities up to which names are written.
_NAMED = 40


def _colours(count: int) -> np.ndarray:
    """One colour per group, shape ``(count, 4)``, neighbours well apart."""
    from matplotlib import colormaps

    # golden-section steps round the wheel
    return np.asarray(colormaps["hsv"](np.arange(count) * 0.618034 % 1.0)) * [0.85, 0.85, 0.85, 1.0]


def gantt(
    instance: Instance,
    solutions: Mapping[str, np.ndarray],
    rows: Sequence[np.ndarray],
    names: Sequence[str],
    groups: np.ndarray,
) -> Figure:
    """One chart per solution.

    Args:
        rows: the tasks that share each row, top to bottom.
        names: of the rows.
        groups: whole number per task: tasks of a group have one colour.
    """
    figure = small_figure(5.2 * max(1, len(solutions)), min(9.0, 1.4 + 0.25 * len(rows)))
    panels = np.atleast_1d(figure.subplots(1, max(1, len(solutions)), sharey=True))
    durations, colours = instance.arrays["durations"], _colours(int(groups.max()) + 1)
    for axes, (label, values) in zip(panels, solutions.items(), strict=False):
        starts = np.asarray(values, dtype=float)
        for row, tasks in enumerate(rows):
            spans = [(float(starts[i]), float(durations[i])) for i in tasks]
            axes.broken_barh(
                spans, (row - 0.4, 0.8), facecolors=colours[groups[tasks]].tolist(), edgecolor="white", linewidth=0.4
            )
        makespan = float((starts + durations[: len(starts)]).max())
        axes.axvline(makespan, color="#1b2a49", linewidth=1, linestyle="--")
        axes.set_title(f"{label}: makespan {makespan:g}", fontsize=10)
        axes.set_xlabel("time")
    if len(rows) <= _NAMED:
        panels[0].set_yticks(range(len(rows)), names, fontsize=7)
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    return figure


def machine_loads(instance: Instance) -> Figure:
    """Work per machine, stacked by job."""
    a = instance.arrays
    machines, jobs = int(a["machines"].max()) + 1, int(a["jobs"].max()) + 1
    work = np.zeros((jobs, machines))
    np.add.at(work, (a["jobs"], a["machines"]), a["durations"])
    figure = small_figure(6.4, min(9.0, 1.4 + 0.25 * machines))
    axes = figure.add_subplot()
    left = np.zeros(machines)
    for job, colour in enumerate(_colours(jobs).tolist()):
        axes.barh(np.arange(machines), work[job], 0.8, left, color=colour, edgecolor="white", linewidth=0.4)
        left += work[job]
    axes.invert_yaxis()
    axes.set_xlabel("work (one colour per job)")
    axes.set_ylabel("machine")
    axes.set_title(f"{instance.name}: {jobs} jobs, {machines} machines, {instance.size} operations", fontsize=10)
    return figure


def precedence_picture(instance: Instance, project: Project) -> Figure:
    """Activities at their earliest start by precedences alone, spread over rows, with an arrow per precedence."""
    heads = project.heads
    height = np.empty(project.size)
    for time in np.unique(heads):
        members = np.flatnonzero(heads == time)
        height[members] = np.arange(len(members)) - (len(members) - 1) / 2
    figure = small_figure(6.8, 4.6)
    axes = figure.add_subplot()
    from matplotlib.collections import LineCollection

    places = np.column_stack([heads, height])
    lines = np.stack([places[project.before], places[project.after]], axis=1)
    axes.add_collection(LineCollection(lines.tolist(), colors="0.75", linewidths=0.7, zorder=1))
    work = project.durations * project.demands.sum(axis=1)
    axes.scatter(heads, height, s=20 + 160 * work / max(1, work.max()), c="#4c72b0", edgecolors="white", zorder=2)
    if project.size <= _NAMED:
        for i, (x, y) in enumerate(places.tolist()):
            axes.annotate(str(i + 1), (x, y), fontsize=6, xytext=(3, 3), textcoords="offset points")
    axes.set_yticks([])
    axes.set_xlabel("earliest start by precedences alone (area: time × demand)")
    axes.set_title(f"{instance.name}: {project.size} activities, {len(project.before)} precedences", fontsize=10)
    return figure
