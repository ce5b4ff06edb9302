"""The ``mis`` family: nodes of a graph of which no two are neighbours, as many or as heavy as possible.

Here: its formats, the objective, the penalised program, how a set is drawn. Not here: line parsing (``coordinate``),
what it shares with other families (``graph_family``, ``unconstrained``), neighbourhoods (``mis_landscape``), solvers.

Formats: DIMACS (``p edge n m`` or ``p col n m``, then ``e i j`` from 1, with ``n i weight`` lines between the two where
nodes have weights; QOBLIB's ``.gph`` is the same), and a plain list (``n m``, then ``i j``). Content alone cannot tell
a graph's purpose: without node weights, or a comment that says ``independent set`` or ``mis``, DIMACS files are
``maxcut``'s as well and plain lists are taken for its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid_assets.problems.base import Evaluation, FamilyOptions, Instance, Solution
from hybrid_assets.problems.coordinate import MAX_COEFFICIENT, Lines
from hybrid_assets.problems.graphs.graph_family import GraphFamily, header
from hybrid_assets.problems.source import SourceFile
from hybrid_assets.problems.unconstrained import Quadratic
from resources.envelope import PostProcessing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hybrid_assets.problems.graphs.mis_landscape import MisLandscape

#: Sweeps of heat-bath steps behind a random independent set.
SWEEPS = 30


@dataclass(frozen=True)
class RawNodes:
    """A graph with node weights, float64 of shape ``(n,)``, and edges ``rows < cols``, int64, from 0."""

    file: str
    weights: np.ndarray
    rows: np.ndarray
    cols: np.ndarray


@dataclass(frozen=True)
class Neighbours:
    """Both directions of every edge: the neighbours of v are ``ends[starts[v]:starts[v + 1]]``, ascending, int64."""

    starts: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, instance: Instance) -> Neighbours:
        """The neighbours in an instance."""
        rows, cols = instance.arrays["rows"], instance.arrays["cols"]
        heads, tails = np.concatenate([rows, cols]), np.concatenate([cols, rows])
        order = np.lexsort((tails, heads))
        starts = np.concatenate([[0], np.cumsum(np.bincount(heads, minlength=instance.size))])
        return cls(starts.astype(np.int64), tails[order].astype(np.int64))

    def __getitem__(self, node: int) -> np.ndarray:
        return self.ends[self.starts[node] : self.starts[node + 1]]

    def inside(self, chosen: np.ndarray) -> np.ndarray:
        """Neighbours inside the set, of every node; int64."""
        through = np.concatenate([[0], np.cumsum(np.asarray(chosen)[self.ends] != 0)])
        return through[self.starts[1:]] - through[self.starts[:-1]]


class Mis(GraphFamily):
    """Maximum (weight) independent set: bit i says whether node i is in it.

    The program has no constraints: an edge inside the set costs twice its lighter node, so that leaving that one out
    always pays, and the minimum is an independent set of the largest weight.
    """

    name = "mis"
    version = "1"
    title = "maximum independent set of a graph (MIS)"
    measure, ones = "weight", "the set"
    form = "negated weight, edges inside penalised"

    def read(self, source: SourceFile) -> Sequence[RawNodes]:
        """Parse one graph."""
        lines = Lines.of(source)
        nodes, edges, dimacs = header(lines)
        first = 1
        while dimacs and first < len(lines.lines) and lines.lines[first].split()[0] == "n":
            first += 1
        weights = _weights(lines, first, nodes)
        stop = lines.counted(first, edges, "edges")
        width = 3 if dimacs else 2
        for k in range(first, stop):
            if len(lines.lines[k].split()) > width:
                raise lines.error(
                    k,
                    f"the edge {lines.lines[k][:60]!r} has a weight",
                    "weights belong to nodes, in lines 'n i weight'",
                )
        found = lines.entries(first, stop, nodes, loops=False, lower=True, unweighted=True, mark="e" if dimacs else "")
        return [RawNodes(lines.name, weights, found.rows, found.cols)]

    def normalize(self, raw: RawNodes, options: FamilyOptions, name: str) -> Instance:
        """Store the graph: arrays ``rows`` and ``cols`` (rows < cols, from 0) and ``weights``."""
        return Instance(
            family=self.name,
            name=name,
            size=len(raw.weights),
            sense="max",
            arrays={"rows": raw.rows, "cols": raw.cols, "weights": raw.weights},
            settings=options.model_dump(mode="json"),
            labels=tuple(str(v) for v in range(1, len(raw.weights) + 1)),
        )

    def minimized(self, instance: Instance) -> Quadratic:
        """−Σ w_i x_i + 2 Σ min(w_i, w_j) x_i x_j over the edges."""
        a = instance.arrays
        return Quadratic(-a["weights"], a["rows"], a["cols"], edge_costs(instance), 0.0)

    def evaluate(self, instance: Instance, values: np.ndarray) -> Evaluation:
        """Total weight of the set; violation ``edges inside the set`` (their number)."""
        a, inside = instance.arrays, np.asarray(values) > 0.5
        edges = int(np.count_nonzero(inside[a["rows"]] & inside[a["cols"]]))
        return Evaluation(float(a["weights"][inside].sum()), {"edges inside the set": float(edges)} if edges else {})

    def complete(self, instance: Instance, assignment: np.ndarray) -> Solution:
        """The set itself; as long as it holds an edge, the node leaves whose leaving gains most energy."""
        given = np.asarray(assignment, dtype=np.int8)
        values = independent(instance, given)
        changed = not np.array_equal(values, given)
        return Solution(
            values, self.evaluate(instance, values), PostProcessing.REPAIRED if changed else PostProcessing.RAW
        )

    def random_assignments(
        self, instance: Instance, count: int, seed: int, free: np.ndarray | None = None, base: np.ndarray | None = None
    ) -> np.ndarray:
        """Random independent sets by heat-bath sweeps, whose stationary distribution is uniform over all of them."""
        rng, neighbours = np.random.default_rng(seed), Neighbours.of(instance)
        if free is None:
            free, base = np.arange(instance.size), np.zeros(instance.size, dtype=np.int8)
        if base is None:
            raise ValueError("free variables need a base for the others")
        drawn = np.tile(np.asarray(base, dtype=np.int8), (count, 1)).T.copy()
        for _ in range(SWEEPS):
            for node in rng.permutation(free):
                drawn[node] = rng.integers(0, 2, count, dtype=np.int8)
                drawn[node][drawn[neighbours[node]].any(axis=0)] = 0
        return np.ascontiguousarray(drawn.T)

    def landscape(self, instance: Instance) -> MisLandscape:
        """Independent sets, a few nodes of the set against the nodes that they keep out."""
        from hybrid_assets.problems.graphs.mis_landscape import MisLandscape

        return MisLandscape(instance)

    def baselines(self, instance: Instance) -> Sequence[str]:
        """CP-SAT on cliques, which may prove the optimum, then tabu search over independent sets."""
        return ("mis-cliques", "mis-search")

    def constraints(self, instance: Instance) -> Mapping[str, Any]:
        """At most one end of every edge."""
        return {"edges with at most one end inside": len(instance.arrays["rows"])}

    def draw(self, axes: Axes, instance: Instance, bits: np.ndarray | None, places: np.ndarray) -> None:
        """The nodes of the set in a colour."""
        from matplotlib.collections import LineCollection

        a = instance.arrays
        ends = places[np.stack([a["rows"], a["cols"]], axis=1)]
        axes.add_collection(LineCollection(ends.tolist(), colors="0.8", linewidths=0.6, zorder=1))
        size = max(20.0, 220.0 - 2 * instance.size) * (0.4 + 0.6 * a["weights"] / a["weights"].max())
        colours = "#4c72b0" if bits is None else np.where(bits > 0.5, "#d95f02", "0.6").tolist()
        axes.scatter(places[:, 0], places[:, 1], s=size.tolist(), c=colours, edgecolors="white", zorder=2)


def edge_costs(instance: Instance) -> np.ndarray:
    """What each edge inside the set costs, float64: more than its lighter node, so that no optimum holds one."""
    a = instance.arrays
    return 2.0 * np.minimum(a["weights"][a["rows"]], a["weights"][a["cols"]])


def independent(instance: Instance, chosen: np.ndarray) -> np.ndarray:
    """An independent subset of ``chosen`` (int8, shape ``(n,)``), by steepest descent of the energy; a new array.

    There always is a node to leave: the lighter end of an edge inside gains more than it weighs.
    """
    values, a = np.array(chosen, dtype=np.int8), instance.arrays
    within = (values[a["rows"]] != 0) & (values[a["cols"]] != 0)
    if not within.any():
        return values
    rows, cols, costs = a["rows"][within], a["cols"][within], edge_costs(instance)[within]
    paid = np.bincount(rows, costs, instance.size) + np.bincount(cols, costs, instance.size)
    neighbours, weights = Neighbours.of(instance), a["weights"]
    while (paid > 0).any():
        leaving = int(np.argmax(np.where(paid > 0, paid - weights, -np.inf)))
        values[leaving], paid[leaving] = 0, 0.0
        others = neighbours[leaving]
        others = others[values[others] != 0]
        # sums of differences would leave rounding behind where there is no edge any more
        for other in others:
            beside = neighbours[int(other)]
            beside = beside[values[beside] != 0]
            paid[other] = 2.0 * np.minimum(weights[beside], weights[other]).sum()
    return values


def _weights(lines: Lines, stop: int, nodes: int) -> np.ndarray:
    """The weights in lines 1 to ``stop`` (exclusive), ``n i weight``; 1 for nodes without one."""
    weights, seen = np.ones(nodes), np.zeros(nodes, dtype=bool)
    for k in range(1, stop):
        words = lines.lines[k].split()
        try:
            node, weight = int(words[1]), float(words[2])
        except (ValueError, IndexError):
            node, weight = 0, np.nan
        if len(words) != 3 or not 1 <= node <= nodes:
            raise lines.error(k, f"it reads {lines.lines[k][:60]!r}", f"write 'n i weight' with i from 1 to {nodes}")
        if not 0 < weight <= MAX_COEFFICIENT:
            raise lines.error(k, f"the weight of node {node} is {words[2][:40]}", "give weights above 0")
        if seen[node - 1]:
            raise lines.error(k, f"node {node} has a weight already", "give each node one weight")
        weights[node - 1], seen[node - 1] = weight, True
    return weights
