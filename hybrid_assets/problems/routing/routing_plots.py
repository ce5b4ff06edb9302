"""Route maps: tours of the ``tsp`` family and routes of the ``cvrp`` family.

Here: places and lines between them. Not here: objectives, titles, which places make a route.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hybrid_assets.plots import small_figure
from hybrid_assets.problems.base import Instance

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(instance: Instance, panels: Mapping[str, Sequence[np.ndarray]], *, depot: bool) -> Figure:
    """One map for each panel: title → closed routes, each an array of places.

    Args:
        depot: whether place 0 is a depot, drawn as a square.
    """
    figure = small_figure(4.6 * max(1, len(panels)), 4.4)
    places = _places(instance)
    row = np.atleast_1d(figure.subplots(1, max(1, len(panels))))
    for axes, (title, routes) in zip(row, panels.items(), strict=False):
        for number, route in enumerate(routes):
            line = places[np.append(route, route[0])]
            axes.plot(line[:, 0], line[:, 1], color=f"C{number % 10}", linewidth=1.1, zorder=1)
        if depot and "demands" in instance.arrays:
            demands = instance.arrays["demands"]
            sizes = 6.0 + 40.0 * demands / max(1, demands.max())
        else:
            sizes = np.full(len(places), 14.0)
        first = 1 if depot else 0
        axes.scatter(places[first:, 0], places[first:, 1], s=sizes[first:], color="#1b2a49", zorder=2)
        if depot:
            axes.scatter(*places[0], s=70, marker="s", color="#d95f02", edgecolor="white", zorder=3)
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
        axes.margins(0.05)
        if "places" in instance.arrays:
            axes.set_aspect("equal", adjustable="datalim")
    return figure


def _places(instance: Instance) -> np.ndarray:
    """Places of shape ``(n, 2)``: the file's, or a circle in the file's order (distances alone fit no plane)."""
    if "places" in instance.arrays:
        return np.asarray(instance.arrays["places"], dtype=np.float64)
    n = len(instance.arrays["distance"])
    angle = 2 * np.pi * np.arange(n) / n
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)
