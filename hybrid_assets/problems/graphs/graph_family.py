"""What families on graphs without constraints share: recognition, the header, pictures.

Here: the abstract family, the panels, the places of the nodes. Not here: what marks a solution in a picture, formats,
objectives, which belong to the families.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from hybrid_assets.plots import small_figure
from hybrid_assets.problems.base import Instance
from hybrid_assets.problems.coordinate import Lines, families_of
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.problems.unconstrained import Quadratic, UnconstrainedFamily, draw_matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Largest graph that is drawn as nodes and edges; above it the adjacency matrix is shown.
DRAWN_NODES = 120


class GraphFamily(UnconstrainedFamily):
    """A family with a bit per node and the edges in ``rows`` and ``cols``, their weights if any in ``values``."""

    #: What the objective measures and what the ones are, in pictures.
    measure: ClassVar[str]
    ones: ClassVar[str]

    def recognises(self, source: SourceFile) -> bool:
        """Whether the content can be one of the family's formats."""
        return self.name in families_of(source)

    @abstractmethod
    def draw(self, axes: Axes, instance: Instance, bits: np.ndarray | None, places: np.ndarray) -> None:
        """The graph with its nodes at these places, shape ``(n, 2)``; with ``bits`` a solution in it."""

    def plot_instance(self, instance: Instance) -> Figure:
        """The graph, or above 120 nodes its adjacency matrix."""
        figure = small_figure(5.5, 4.8)
        axes = figure.subplots()
        self._panel(axes, instance, None, layout(instance))
        axes.set_title(f"{instance.name}: {instance.size} nodes, {len(instance.arrays['rows'])} edges")
        return figure

    def plot_solution(self, instance: Instance, solutions: Mapping[str, np.ndarray]) -> Figure:
        """For every solution the graph with the solution in it, or the matrix with the ones first."""
        figure = small_figure(4.8 * max(1, len(solutions)), 4.5)
        panels = np.atleast_1d(figure.subplots(1, max(1, len(solutions))))
        places = layout(instance)
        for axes, (label, values) in zip(panels, solutions.items(), strict=False):
            self._panel(axes, instance, np.asarray(values), places)
            axes.set_title(f"{label}: {self.measure} {self.evaluate(instance, values).objective:g}")
        return figure

    def _panel(self, axes: Axes, instance: Instance, bits: np.ndarray | None, places: np.ndarray | None) -> None:
        if places is None:
            a = instance.arrays
            weights = a.get("values", np.ones(len(a["rows"])))
            draw_matrix(axes, Quadratic(np.zeros(instance.size), a["rows"], a["cols"], 2 * weights, 0.0), bits)
            axes.set_xlabel("node" if bits is None else f"nodes, {self.ones} first")
            return
        self.draw(axes, instance, bits, places)
        axes.set_axis_off()
        axes.margins(0.08)


def header(lines: Lines) -> tuple[int, int, bool]:
    """Nodes and edges as the first line gives them, and whether it is one of DIMACS (``p edge n m``, ``p col n m``).

    Raises:
        InputError: it is no such line.
    """
    words = lines.lines[0].split()
    dimacs = words[0] == "p"
    if dimacs and words[1:2] not in (["edge"], ["col"]):
        raise lines.error(0, f"the header is {lines.lines[0][:60]!r}", "write 'p edge n m' there")
    nodes, edges = lines.integers(0, "n m", " ".join(words[:2]) if dimacs else "")
    return nodes, edges, dimacs


def layout(instance: Instance) -> np.ndarray | None:
    """Places of the nodes, shape ``(n, 2)``, the same at every call; ``None`` for graphs too large to draw."""
    if instance.size > DRAWN_NODES:
        return None
    import networkx

    graph = networkx.Graph()
    graph.add_nodes_from(range(instance.size))
    graph.add_edges_from(zip(instance.arrays["rows"].tolist(), instance.arrays["cols"].tolist(), strict=True))
    places = networkx.spring_layout(graph, seed=0)
    return np.array([places[node] for node in range(instance.size)])
