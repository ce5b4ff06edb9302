"""The ``mis`` family as the proposal engine walks it.

Here: blocks of some nodes of the set and the nodes that they keep out, local search. Not here: compiled moves
(``mis_moves``), the family itself (``mis``).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from hybrid_assets.problems.base import Instance
from hybrid_assets.problems.graphs.mis import Neighbours, edge_costs, independent
from hybrid_assets.problems.landscape import Block, Landscape, State, Step


class MisLandscape(Landscape):
    """Independent sets; a state's data are the bits.

    A block holds nodes outside the set together with all their neighbours inside, so that every one of them can be
    chosen: the program conditioned on the other nodes, exact. ``near`` grows around one node, always taking what needs
    the fewest further nodes of the set; ``random`` takes nodes from anywhere. Edges chosen all the same are repaired
    as the family repairs them.
    """

    kinds: ClassVar[tuple[str, ...]] = ("near", "random")

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.weights = instance.arrays["weights"]
        self.neighbours = Neighbours.of(instance)
        rows, cols, costs = instance.arrays["rows"], instance.arrays["cols"], edge_costs(instance)
        order = np.lexsort((np.concatenate([cols, rows]), np.concatenate([rows, cols])))
        # the cost of the edge to each of ``neighbours.ends``
        self._costs = np.tile(costs, 2)[order]

    def start(self, seed: int) -> State:
        """Greedy: nodes join by weight over degree + 1, ties at random."""
        tie = np.random.default_rng(seed).random(self.instance.size)
        degree = np.diff(self.neighbours.starts)
        bits, out = np.zeros(self.instance.size, dtype=np.int8), np.zeros(self.instance.size, dtype=bool)
        for node in np.lexsort((tie, -self.weights / (degree + 1))):
            if not out[node]:
                bits[node], out[self.neighbours[node]] = 1, True
        return self._state(bits)

    def state_of(self, values: np.ndarray) -> State:
        """The set itself."""
        return self._state(independent(self.instance, np.asarray(values) > 0.5))

    def values(self, state: State) -> np.ndarray:
        """The set itself."""
        return state.data

    def _state(self, bits: np.ndarray) -> State:
        return State(bits, -float(self.weights[bits != 0].sum()))

    def block(self, state: State, kind: str, size: int, rng: np.random.Generator) -> Block | None:
        """The program on chosen nodes, given the others."""
        nodes = self._chosen(state, kind == "near", size, rng)
        q = len(nodes)
        if q < 2:
            return None
        spot = np.full(self.instance.size, -1)
        spot[nodes] = np.arange(q)
        couplings = np.zeros((q, q))
        for i, node in enumerate(nodes):
            part = slice(self.neighbours.starts[node], self.neighbours.starts[node + 1])
            j = spot[self.neighbours.ends[part]]
            couplings[i, j[j > i]] = self._costs[part][j > i]
        current = state.data[nodes].copy()
        return Block(
            kind=kind,
            linear=-self.weights[nodes],
            couplings=couplings,
            offset=state.cost + float(self.weights[nodes] @ current),
            current=current,
            move=nodes,
            evaluations=q,
        )

    def _chosen(self, state: State, near: bool, size: int, rng: np.random.Generator) -> np.ndarray:
        """At most ``size`` nodes, ascending: none outside the set without all of its neighbours inside."""
        inside = state.data != 0
        tight = self.neighbours.inside(state.data)
        # neighbours inside that are not chosen yet
        needed, chosen = tight.copy(), np.zeros(len(tight), dtype=bool)
        tie, left = rng.random(len(tight)), size
        while left > 0:
            fits = ~inside & ~chosen & (needed + 1 <= left)
            if not fits.any():
                break
            if near and chosen.any():
                touching = fits & (needed < tight)
                fits = touching if touching.any() else fits
                node = int(np.argmin(np.where(fits, needed + tie, np.inf)))
            else:
                node = int(np.argmin(np.where(fits, tie, np.inf)))
            beside = self.neighbours[node]
            joining = beside[inside[beside] & ~chosen[beside]]
            chosen[joining] = chosen[node] = True
            for other in joining:
                needed[self.neighbours[int(other)]] -= 1
            left -= 1 + len(joining)
        return np.flatnonzero(chosen)

    def apply(self, state: State, block: Block, bits: np.ndarray) -> Step:
        """Put the bits in; nodes of edges inside leave."""
        data = state.data.copy()
        data[block.move] = bits
        given = np.asarray(bits, dtype=np.float64)
        if not np.any(np.triu(block.couplings) * np.outer(given, given)):
            return Step(self._state(data))
        return Step(self._state(independent(self.instance, data)), True)

    def polish(self, state: State, evaluations: int) -> Step:
        """Nodes join, and one or two take the place of one, while that adds weight."""
        from hybrid_assets.problems.graphs.mis_moves import climb

        data = state.data.copy()
        spent = climb(self.neighbours.starts, self.neighbours.ends, self.weights, data, evaluations)
        return Step(self._state(data), evaluations=int(spent))
