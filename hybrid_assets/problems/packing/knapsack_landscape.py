"""The knapsack as the proposal engine walks it: choices of items that always fit.

A block is a few items, free to be in or out, with the room that the others leave. Its energy is minus the value, exact
with its pair terms, plus an unbalanced penalty (Montañez-Barrera et al., Quantum Science and Technology 9, 2024) per
capacity that the block can exceed: price·h + price/w̄·h² for an excess h (negative: room), w̄ the block's mean weight
and the price that of the linear relaxation. Blocks are exact only where no capacity can be exceeded; ``apply`` drops
the block's items with the least gain per excess weight until all fit.

Here: ``KnapsackLandscape``. Not here: gains, prices and descents (``knapsack_bag``), compiled loops.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from hybrid_assets.problems.base import Instance
from hybrid_assets.problems.landscape import Block, Landscape, State, Step
from hybrid_assets.problems.packing.knapsack_bag import Bag, Items

#: A block of q items is drawn from this many times q candidates.
POOL = 3
#: Least price of a capacity as a share of mean gain over mean weight in the block, shared among the capacities.
LEAST_PRICE = 0.25


class KnapsackLandscape(Landscape):
    """``State.data``: int8 bits, always feasible; ``cache``: the ``Bag`` behind them, never changed.

    Neighbourhoods: ``border`` (items whose gain is closest to their priced weight, so that in or out is hard to tell),
    ``pairs`` (items with large pair values; quadratic only), ``random``.
    """

    kinds: ClassVar[tuple[str, ...]] = ("border", "pairs", "random")

    def __init__(self, instance: Instance) -> None:
        self.items = Items.of(instance)

    def start(self, seed: int) -> State:
        """Greedy by value per priced weight with 5 % of noise."""
        return self._state(Bag.greedy(self.items, np.random.default_rng(seed)))

    def state_of(self, values: np.ndarray) -> State:
        """The state of these bits; where they exceed a capacity, items are dropped."""
        bag = Bag.of(self.items, values)
        bag.shed()
        return self._state(bag)

    def values(self, state: State) -> np.ndarray:
        """The bits."""
        return state.data.copy()

    def block(self, state: State, kind: str, size: int, rng: np.random.Generator) -> Block | None:
        """Items by neighbourhood, with the room left by the others."""
        pool, bag = self.items.fitting, state.cache
        if kind == "border":
            margin = np.abs(bag.gains - self.items.weights @ bag.prices())[pool]
            nearest = min(POOL * size, len(pool))
            pool = pool[np.argpartition(margin, nearest - 1)[:nearest]]
        elif kind == "pairs":
            if not len(self.items.pairs):
                return None
            pull = np.abs(self.items.pairs[rng.choice(pool)][pool])
            pool = pool[np.argsort(-pull - rng.random(len(pool)) * pull.mean(), kind="stable")[:size]]
        picked = np.sort(rng.choice(pool, min(size, len(pool)), replace=False))
        return self._conditioned(state, kind, picked) if len(picked) >= 2 else None

    def _conditioned(self, state: State, kind: str, picked: np.ndarray) -> Block:
        bag, weights = state.cache, self.items.weights[picked].astype(np.float64)
        current = state.data[picked]
        linear, couplings = -bag.gains[picked], np.zeros((len(picked), len(picked)))
        if len(self.items.pairs):
            inside = self.items.pairs[np.ix_(picked, picked)]
            linear = linear + inside @ current
            couplings = -np.triu(inside, 1)
        # the constant is such that the current bits cost what the state does
        offset = state.cost - float(linear @ current + current @ couplings @ current)
        room = bag.room + current @ weights
        binding = np.flatnonzero(weights.sum(axis=0) > room)
        prices = bag.prices() if len(binding) else np.empty(0)
        for r in binding:
            w, mean = weights[:, r], weights[:, r].mean()
            price = max(prices[r], LEAST_PRICE * bag.gains[picked].mean() / (mean * len(binding)))
            linear = linear + price * (w + (w * w - 2 * room[r] * w) / mean)
            couplings = couplings + np.triu(2 * price / mean * np.outer(w, w), 1)
            offset += float(price * room[r] * (room[r] / mean - 1.0))
        return Block(kind, linear, couplings, offset, current.copy(), exact=not len(binding), move=picked)

    def apply(self, state: State, block: Block, bits: np.ndarray) -> Step:
        """Put the bits in; drop what does not fit."""
        bits = np.array(bits, dtype=np.int8)
        if np.array_equal(bits, block.current):
            return Step(state, evaluations=0)
        picked, bag = block.move, state.cache
        delta = (bits - block.current).astype(np.int64)
        weights = self.items.weights[picked]
        room = bag.room - delta @ weights
        gains, dropped = bag.gains[picked], 0
        if len(self.items.pairs):
            gains = gains + self.items.pairs[np.ix_(picked, picked)] @ delta
        while (room < 0).any():
            relief = np.minimum(weights, np.maximum(-room, 0)) @ (1.0 / np.maximum(-room, 1))
            candidates = np.flatnonzero((bits == 1) & (relief > 0))
            leaver = candidates[np.argmin(gains[candidates] / relief[candidates])]
            bits[leaver], room = 0, room + weights[leaver]
            dropped += 1
            if len(self.items.pairs):
                gains = gains - self.items.pairs[picked, picked[leaver]]
        return Step(self._after(bag, picked, bits, block.current, room), dropped > 0, 1 + dropped)

    def _after(self, bag: Bag, picked: np.ndarray, bits: np.ndarray, before: np.ndarray, room: np.ndarray) -> State:
        x, all_gains = bag.x.copy(), bag.gains
        x[picked] = bits
        changed = bits != before
        if len(self.items.pairs) and changed.any():
            step = (bits - before)[changed].astype(np.float64)
            all_gains = all_gains + self.items.pairs[:, picked[changed]] @ step
        return self._state(Bag(self.items, x, all_gains, room))

    def polish(self, state: State, evaluations: int) -> Step:
        """Add and swap descent."""
        old = state.cache
        bag = Bag(self.items, old.x.copy(), old.gains.copy(), old.room.copy())
        spent = bag.descend(evaluations)
        return Step(self._state(bag), False, spent)

    @staticmethod
    def _state(bag: Bag) -> State:
        return State(bag.x, -bag.value, True, bag)
