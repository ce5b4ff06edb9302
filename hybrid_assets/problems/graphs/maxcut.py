"""The ``maxcut`` family: two sides of a graph with the largest total weight of edges between them.

Here: its formats, the objective, the pictures. Not here: line parsing (``coordinate``), what it shares with other
families without constraints (``unconstrained``), solvers.

Formats, recognised by content: rudy, Gset and Biq Mac ``.mc`` (``n m``, then ``i j w`` from 1; without weights every
edge weighs 1; Helmberg and Rendl 2000), and DIMACS (``p edge n m``, then ``e i j`` with an optional weight). An edge is
listed once, in either direction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hybrid_assets.plots import small_figure
from hybrid_assets.problems.base import Evaluation, FamilyOptions, Instance, no_bits
from hybrid_assets.problems.coordinate import Lines, Triplets, families_of
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.problems.unconstrained import Quadratic, UnconstrainedFamily, draw_matrix
from resources.failures import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Largest graph that is drawn as nodes and edges; above it the adjacency matrix is shown.
DRAWN_NODES = 120


@dataclass(frozen=True)
class RawGraph:
    """A weighted graph as its file gives it: name of the file, number of nodes, edges."""

    file: str
    nodes: int
    edges: Triplets


class MaxCut(UnconstrainedFamily):
    """Maximum cut: bit i is the side of node i."""

    name = "maxcut"
    version = "1"
    title = "maximum cut of a weighted graph (MaxCut)"
    form = "negated cut weight"

    def recognises(self, source: SourceFile) -> bool:
        """Whether the content is one of the formats above."""
        return self.name in families_of(source)

    def read(self, source: SourceFile) -> Sequence[RawGraph]:
        """Parse one graph."""
        lines = Lines.of(source)
        dimacs = lines.lines[0].startswith("p")
        prefix = "p col" if lines.lines[0].split()[:2] == ["p", "col"] else "p edge"
        nodes, edges = lines.integers(0, "n m", prefix if dimacs else "")
        if dimacs and lines.lines[0].split()[1] not in ("edge", "col"):
            raise lines.error(0, f"the header is {lines.lines[0][:60]!r}", "write 'p edge n m' there")
        stop = lines.counted(1, edges, "edges")
        return [
            RawGraph(
                lines.name,
                nodes,
                lines.entries(1, stop, nodes, loops=False, lower=True, unweighted=True, mark="e" if dimacs else ""),
            )
        ]

    def normalize(self, raw: RawGraph, options: FamilyOptions, name: str) -> Instance:
        """Drop edges of weight zero and store the graph.

        Arrays: ``rows`` and ``cols`` (rows < cols, from 0), ``values`` (weights).

        Raises:
            InputError: no edge is left.
        """
        kept = raw.edges.values != 0
        if not kept.any():
            raise InputError(
                raw.file,
                "edges",
                "no edge has a weight, so there is nothing to decide",
                "give at least one edge with a weight that is not zero",
            )
        dropped = int(np.sum(~kept))
        return Instance(
            family=self.name,
            name=name,
            size=raw.nodes,
            sense="max",
            arrays={"rows": raw.edges.rows[kept], "cols": raw.edges.cols[kept], "values": raw.edges.values[kept]},
            settings=options.model_dump(mode="json"),
            labels=tuple(str(v) for v in range(1, raw.nodes + 1)),
            notes=(f"{dropped} edges of weight zero dropped",) if dropped else (),
        )

    def minimized(self, instance: Instance) -> Quadratic:
        """Minus the cut: an edge is cut where x_i + x_j − 2 x_i x_j = 1."""
        a = instance.arrays
        degree = np.bincount(a["rows"], a["values"], instance.size) + np.bincount(a["cols"], a["values"], instance.size)
        return Quadratic(-degree, a["rows"], a["cols"], 2 * a["values"], 0.0)

    def evaluate(self, instance: Instance, values: np.ndarray) -> Evaluation:
        """Total weight of the edges between the sides; violation ``values that are no bits``."""
        a, side = instance.arrays, np.asarray(values)
        return Evaluation(float(a["values"][side[a["rows"]] != side[a["cols"]]].sum()), no_bits(side))

    def plot_instance(self, instance: Instance) -> Figure:
        """The graph, or above 120 nodes its adjacency matrix."""
        figure = small_figure(5.5, 4.8)
        axes = figure.subplots()
        self._draw(axes, instance, None, layout(instance))
        axes.set_title(f"{instance.name}: {instance.size} nodes, {len(instance.arrays['values'])} edges")
        return figure

    def plot_solution(self, instance: Instance, solutions: Mapping[str, np.ndarray]) -> Figure:
        """For every solution the sides in two colours and the cut edges, or the matrix sorted by side."""
        figure = small_figure(4.8 * max(1, len(solutions)), 4.5)
        panels = np.atleast_1d(figure.subplots(1, max(1, len(solutions))))
        places = layout(instance)
        for axes, (label, values) in zip(panels, solutions.items(), strict=False):
            self._draw(axes, instance, np.asarray(values), places)
            axes.set_title(f"{label}: cut {self.evaluate(instance, values).objective:g}")
        return figure

    def _draw(self, axes: Axes, instance: Instance, side: np.ndarray | None, places: np.ndarray | None) -> None:
        a = instance.arrays
        if places is None:
            draw_matrix(axes, Quadratic(np.zeros(instance.size), a["rows"], a["cols"], 2 * a["values"], 0.0), side)
            axes.set_xlabel("node" if side is None else "nodes, side 1 first")
            return
        from matplotlib.collections import LineCollection

        cut = np.zeros(len(a["rows"]), dtype=bool) if side is None else side[a["rows"]] != side[a["cols"]]
        width = 0.4 + 1.6 * np.abs(a["values"]) / np.abs(a["values"]).max()
        ends = places[np.stack([a["rows"], a["cols"]], axis=1)]
        for chosen, colour, style in ((~cut, "0.75", "solid"), (cut, "#d95f02", "dashed")):
            axes.add_collection(
                LineCollection(
                    ends[chosen].tolist(), colors=colour, linewidths=width[chosen].tolist(), linestyles=style, zorder=1
                )
            )
        colours = "#4c72b0" if side is None else np.where(side == 1, "#1b9e77", "#7570b3").tolist()
        axes.scatter(
            places[:, 0], places[:, 1], s=max(20.0, 220.0 - 2 * instance.size), c=colours, edgecolors="white", zorder=2
        )
        axes.set_axis_off()
        axes.margins(0.08)


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
