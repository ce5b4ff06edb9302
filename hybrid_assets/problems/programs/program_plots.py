"""Pictures of the ``program`` family.

Here: which variables meet in which constraints; values and slack of solutions. Not here: what they mean (``program``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from hybrid_assets.plots import small_figure
from hybrid_assets.problems.base import Evaluation, Instance

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Rows of the variable table, and bars of the slack chart.
TABLE, BARS = 24, 30


def incidence(instance: Instance) -> Figure:
    """A dot for every variable of every constraint, and on top for the objective."""
    a = instance.arrays
    figure = small_figure(5.5, 4.5)
    axes = figure.subplots()
    factors = np.diff(a["row_start"])
    axes.scatter(a["row_member"], np.repeat(a["row_of"], factors) + 1, s=6, marker="s", color="#4c72b0")
    used = np.unique(a["objective_member"])
    axes.scatter(used, np.zeros(len(used)), s=6, marker="s", color="#d95f02")
    axes.invert_yaxis()
    axes.set_xlabel("variable")
    axes.set_ylabel("constraint (0: objective)")
    axes.set_title(f"{instance.name}: {instance.size} variables, {len(a['row_rhs'])} constraints")
    return figure


def solutions(instance: Instance, found: Mapping[str, tuple[np.ndarray, Evaluation]]) -> Figure:
    """The table of variables (those that are not zero first) and the slack of every constraint, by solution."""
    figure = small_figure(9.0, 5.0)
    left, right = figure.subplots(1, 2)
    left.set_axis_off()
    values = np.array([np.asarray(v, dtype=float) for v, _ in found.values()]).reshape(-1, instance.size)
    order = np.argsort(-(values != 0).any(axis=0).astype(int), kind="stable")[:TABLE]
    cells = [[instance.labels[i][:16], *(f"{v[i]:g}" for v in values)] for i in order.tolist()]
    table = left.table(cells, colLabels=["variable", *found], loc="upper center", cellLoc="right")
    table.auto_set_font_size(False)
    table.set_fontsize(7)
    if instance.size > TABLE:
        left.set_title(f"{TABLE} of {instance.size} variables", fontsize=8)
    slacks = {label: _slack(instance, np.asarray(v, dtype=float)) for label, (v, _) in found.items()}
    names = instance.settings["rows"][:BARS]
    width = 0.8 / max(1, len(slacks))
    for k, (label, slack) in enumerate(slacks.items()):
        objective = found[label][1].objective
        places = np.arange(len(names)) + k * width
        right.barh(places, slack[:BARS], height=width, label=f"{label}: {objective:g}")
    right.axvline(0.0, color="0.4", linewidth=0.8)
    right.set_yticks(np.arange(len(names)), [name[:14] for name in names], fontsize=7)
    right.invert_yaxis()
    right.set_xlabel("slack (below 0: violated)")
    right.legend(fontsize=7)
    return figure


def _slack(instance: Instance, values: np.ndarray) -> np.ndarray:
    """Room that every constraint leaves, in the file's units; below 0 where it is violated, shape ``(rows,)``."""
    a = instance.arrays
    terms = np.zeros(0)
    if len(a["row_value"]):
        terms = a["row_value"] * np.multiply.reduceat(values[a["row_member"]], a["row_start"][:-1])
    activity = np.bincount(a["row_of"], terms, len(a["row_rhs"])) / a["row_scale"]
    beyond = activity - a["row_side"]
    return np.where(a["row_sense"] == 0, -np.abs(beyond), np.where(a["row_sense"] < 0, -beyond, beyond))
