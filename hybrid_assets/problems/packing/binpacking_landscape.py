"""Bin packing as the proposal engine walks it: packings that always fit.

The number of bins is flat almost everywhere, so blocks score Σ (load/capacity)², negated: it is a quadratic polynomial
of any set of moves, exactly, and falls as light bins empty into full ones (Falkenauer 1996 uses it as fitness). Two
moves that would overfill a bin together repel each other; what still does not fit is moved on by ``apply``. The cost
of a state remains its number of bins: blocks are models of it (``exact`` is false).

Here: ``BinPackingLandscape``. Not here: compiled loops (``binpacking_loops``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hybrid_assets.problems.base import Instance
from hybrid_assets.problems.landscape import Block, Landscape, State, Step
from hybrid_assets.problems.packing.binpacking import numbered

#: Pairs of items tried for an exchange, per binary.
TRIED = 40
#: Places offered to an item in one block, at most, apart from where it is.
PLACES = 3


@dataclass(frozen=True)
class Moves:
    """What the bits of a block do: ``items[k]`` go to ``bins[k]`` when bit k is 1; both arrays have two columns (an
    exchange moves two items, anything else one: the second entry is -1)."""

    items: np.ndarray
    bins: np.ndarray


class BinPackingLandscape(Landscape):
    """``State.data``: bins numbered by their first item, int64; ``cache``: their loads.

    Neighbourhoods: ``empty`` (the items of a light bin, each to stay or to go to one of a few bins), ``exchange``
    (pairs of items of different sizes that may change places), ``relocate`` (items of any bins).
    """

    kinds: ClassVar[tuple[str, ...]] = ("empty", "exchange", "relocate")

    def __init__(self, instance: Instance) -> None:
        self.sizes = instance.arrays["sizes"]
        self.order = np.argsort(-self.sizes, kind="stable")
        self.capacity = int(instance.arrays["capacity"][0])

    def start(self, seed: int) -> State:
        """Best fit in decreasing order of size times 1 ± 10 %."""
        from hybrid_assets.problems.packing.binpacking_loops import best_fit

        rng = np.random.default_rng(seed)
        order = np.argsort(-self.sizes * rng.uniform(0.9, 1.1, len(self.sizes)), kind="stable")
        bins = np.full(len(self.sizes), -1, dtype=np.int64)
        loads = np.zeros(2 * self.sizes.sum() // self.capacity + 2, dtype=np.int64)
        best_fit(self.sizes, bins, loads, self.capacity, order)
        return self._state(bins)

    def state_of(self, values: np.ndarray) -> State:
        """The state of these bins; the smallest items of overfull ones are moved on."""
        return self._fitted(np.asarray(values).astype(np.int64))[0]

    def values(self, state: State) -> np.ndarray:
        """The bins."""
        return state.data.copy()

    def block(self, state: State, kind: str, size: int, rng: np.random.Generator) -> Block | None:
        """Moves of this neighbourhood that fit one by one."""
        if kind == "exchange":
            return self._exchanges(state, size, rng)
        bins, loads = state.data, state.cache
        if kind == "empty":
            light = np.argsort(loads, kind="stable")
            source = light[min(int(rng.geometric(0.4)) - 1, len(light) - 1)]
            items = np.flatnonzero(bins == source)
        else:
            items = np.arange(len(bins))
        items = rng.permutation(items)[: max(1, size // 2)]
        return self._relocations(state, kind, items, size, rng)

    def _relocations(
        self, state: State, kind: str, items: np.ndarray, size: int, rng: np.random.Generator
    ) -> Block | None:
        """One group per item: to stay, or a bin with room, the fullest ones preferred at random."""
        bins, loads = state.data, state.cache
        chosen: list[int] = []
        targets: list[int] = []
        current: list[int] = []
        groups: list[tuple[int, ...]] = []
        for number, item in enumerate(items.tolist()):
            left = size - len(chosen)
            share = min(PLACES, left // (len(items) - number) - 1)
            room = np.flatnonzero(loads + self.sizes[item] <= self.capacity)
            room = room[room != bins[item]]
            if share < 1 or not len(room):
                continue
            places = room[np.argsort(-loads[room] * rng.uniform(0.7, 1.0, len(room)), kind="stable")[:share]]
            groups.append(tuple(range(len(chosen), len(chosen) + 1 + len(places))))
            chosen += [item] * (1 + len(places))
            targets += [int(bins[item]), *places.tolist()]
            current += [1] + [0] * len(places)
        if not groups:
            return None
        none = np.full(len(chosen), -1)
        moves = Moves(np.stack([chosen, none], axis=1), np.stack([targets, none], axis=1))
        return self._scored(state, kind, moves, np.array(current, dtype=np.int8), tuple(groups))

    def _exchanges(self, state: State, size: int, rng: np.random.Generator) -> Block | None:
        """Pairs of items, no item twice, those that raise Σ load² first with some noise."""
        bins, loads, sizes = state.data, state.cache, self.sizes
        pairs = rng.integers(0, len(bins), (TRIED * size, 2))
        i, k = pairs[sizes[pairs[:, 0]] > sizes[pairs[:, 1]]].T
        d, a, b = sizes[i] - sizes[k], bins[i], bins[k]
        fits = (a != b) & (loads[b] + d <= self.capacity)
        i, k, a, b, d = i[fits], k[fits], a[fits], b[fits], d[fits]
        gain = d * (loads[b] - loads[a] + d) / self.capacity**2
        noise = rng.normal(size=len(gain)) * np.std(gain) if len(gain) else 0.0
        taken: set[int] = set()
        kept: list[int] = []
        for pick in np.argsort(-gain + noise, kind="stable").tolist():
            if i[pick] not in taken and k[pick] not in taken and len(kept) < size:
                taken |= {i[pick], k[pick]}
                kept.append(pick)
        if len(kept) < 2:
            return None
        moves = Moves(np.stack([i[kept], k[kept]], axis=1), np.stack([b[kept], a[kept]], axis=1))
        return self._scored(state, "exchange", moves, np.zeros(len(kept), dtype=np.int8), ())

    def _scored(
        self, state: State, kind: str, moves: Moves, current: np.ndarray, groups: tuple[tuple[int, ...], ...]
    ) -> Block:
        """−Σ (load/capacity)² as a polynomial of the moves, with repulsion of pairs that overfill a bin."""
        touched, loads = np.unique(np.concatenate([moves.bins.ravel(), state.data[moves.items].ravel()])), state.cache
        touched = touched[touched >= 0]
        change = np.zeros((len(moves.items), len(loads)))
        rows = np.arange(len(moves.items))
        for items, bins in zip(moves.items.T, moves.bins.T, strict=True):
            real = items >= 0
            np.add.at(change, (rows[real], bins[real]), self.sizes[items[real]])
            np.add.at(change, (rows[real], state.data[items[real]]), -self.sizes[items[real]])
        change, level = change[:, touched] / self.capacity, loads[touched] / self.capacity
        linear = -(2 * change @ level + (change**2).sum(axis=1))
        couplings = -np.triu(2 * change @ change.T, 1)
        together = change[:, None, :] + change[None, :, :] + level
        clash = np.triu((together > 1 + 1e-12).any(axis=2), 1)
        couplings = couplings + clash * (2.0 * np.abs(linear).max() + np.abs(couplings).max())
        offset = state.cost - float(linear @ current + current @ couplings @ current)
        return Block(kind, linear, couplings, offset, current, groups, exact=False, move=moves)

    def apply(self, state: State, block: Block, bits: np.ndarray) -> Step:
        """Make the moves; the smallest items of overfull bins go where they fit best."""
        chosen = np.flatnonzero(bits)
        bins, moves = state.data.copy(), block.move
        for items, targets in zip(moves.items[chosen].T, moves.bins[chosen].T, strict=True):
            real = items >= 0
            bins[items[real]] = targets[real]
        if np.array_equal(bins, state.data):
            return Step(state, evaluations=0)
        new, moved = self._fitted(bins)
        return Step(new, moved > 0, 1 + moved)

    def polish(self, state: State, evaluations: int) -> Step:
        """Relocations and exchanges that raise Σ load²."""
        from hybrid_assets.problems.packing.binpacking_loops import descend

        bins, loads = state.data.copy(), state.cache.copy()
        spent = descend(self.sizes, bins, loads, self.capacity, evaluations)
        return Step(self._state(bins), False, int(spent))

    def _fitted(self, bins: np.ndarray) -> tuple[State, int]:
        from hybrid_assets.problems.packing.binpacking_loops import evict

        bins = numbered(bins)
        loads = np.bincount(bins, self.sizes).astype(np.int64)
        moved = 0
        if (loads > self.capacity).any():
            loads = np.append(loads, np.zeros(len(bins), dtype=np.int64))
            moved = int(evict(self.sizes, bins, loads, self.capacity, self.order))
        return self._state(bins), moved

    def _state(self, bins: np.ndarray) -> State:
        bins = numbered(bins)
        loads = np.bincount(bins, self.sizes).astype(np.int64)
        return State(bins, float(len(loads)), True, loads)
