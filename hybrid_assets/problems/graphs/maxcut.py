"""The ``maxcut`` family: two sides of a graph with the largest total weight of edges between them.

Here: its formats, the objective, how a cut is drawn. Not here: line parsing (``coordinate``), what it shares with other
families (``graph_family``, ``unconstrained``), solvers.

Formats, recognised by content: rudy, Gset and Biq Mac ``.mc`` (``n m``, then ``i j w`` from 1; without weights every
edge weighs 1; Helmberg and Rendl 2000), and DIMACS (``p edge n m``, then ``e i j`` with an optional weight). An edge is
listed once, in either direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hybrid_assets.problems.base import Evaluation, FamilyOptions, Instance, no_bits
from hybrid_assets.problems.coordinate import Lines, Triplets
from hybrid_assets.problems.graphs.graph_family import GraphFamily, header
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.problems.unconstrained import Quadratic
from resources.failures import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class RawGraph:
    """A weighted graph as its file gives it: name of the file, number of nodes, edges."""

    file: str
    nodes: int
    edges: Triplets


class MaxCut(GraphFamily):
    """Maximum cut: bit i is the side of node i."""

    name = "maxcut"
    version = "1"
    title = "maximum cut of a weighted graph (MaxCut)"
    measure, ones = "cut", "side 1"
    form = "negated cut weight"

    def read(self, source: SourceFile) -> Sequence[RawGraph]:
        """Parse one graph."""
        lines = Lines.of(source)
        nodes, edges, dimacs = header(lines)
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

    def draw(self, axes: Axes, instance: Instance, bits: np.ndarray | None, places: np.ndarray) -> None:
        """The sides in two colours and the cut edges."""
        from matplotlib.collections import LineCollection

        a, side = instance.arrays, bits
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
