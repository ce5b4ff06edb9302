"""A choice of items with its gains and its room: what the knapsack's landscape, repair and solvers share.

Here: ``Bag`` and the prices of the capacities. Not here: the family, the loops themselves (``knapsack_loops``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hybrid_assets.problems.base import Instance

#: Relative noise of the efficiencies in a greedy start.
NOISE = 0.05


@dataclass
class Items:
    """An instance's arrays as the loops want them; shared by all bags of one instance.

    Attributes:
        values: float64, shape ``(n,)``.
        weights: int64, shape ``(n, m)``, contiguous.
        capacities: int64, shape ``(m,)``.
        pairs: float64 symmetric, shape ``(n, n)``, or ``(0, 0)``.
        fitting: indices of the items that fit on their own.
    """

    values: np.ndarray
    weights: np.ndarray
    capacities: np.ndarray
    pairs: np.ndarray
    fitting: np.ndarray

    @classmethod
    def of(cls, instance: Instance) -> Items:
        """The arrays of an instance."""
        a, n = instance.arrays, instance.size
        pairs = np.zeros((0, 0))
        if len(a["pairs"]):
            pairs = np.zeros((n, n))
            pairs[a["rows"], a["cols"]] = pairs[a["cols"], a["rows"]] = a["pairs"]
        weights = np.ascontiguousarray(a["weights"].T)
        fitting = np.flatnonzero((weights <= a["capacities"]).all(axis=1))
        return cls(a["values"], weights, a["capacities"], pairs, fitting)

    @cached_property
    def typical(self) -> np.ndarray:
        """What an item is worth beside an average choice: its value and its share of the pair values."""
        if not len(self.pairs):
            return self.values
        filled = np.clip(self.capacities / np.maximum(self.weights.sum(axis=0), 1), 0.0, 1.0).min()
        return self.values + filled * self.pairs.sum(axis=1)

    @cached_property
    def prices(self) -> np.ndarray:
        """Price per weight of every capacity at the typical gains; float64, shape ``(m,)``."""
        return prices(self.typical[self.fitting], self.weights[self.fitting], self.capacities)


def prices(gains: np.ndarray, weights: np.ndarray, capacities: np.ndarray) -> np.ndarray:
    """Dual prices of the linear relaxation, float64, shape ``(m,)``: the efficiency at which one capacity is full
    (Dantzig 1957), or the dual of HiGHS for several."""
    if weights.shape[1] > 1:
        from scipy.optimize import linprog

        found = linprog(-gains, weights.T.astype(np.float64), capacities.astype(np.float64), bounds=(0, 1))
        return np.maximum(-found.ineqlin.marginals, 0.0)
    heavy = weights[:, 0] > 0
    load, worth = weights[heavy, 0], gains[heavy]
    order = np.argsort(-worth / load, kind="stable")
    past = int(np.searchsorted(np.cumsum(load[order]), capacities[0], side="right"))
    return np.array([max(worth[order[past]] / load[order[past]], 0.0) if past < len(order) else 0.0])


@dataclass
class Bag:
    """A choice that changes in place.

    Attributes:
        items: the instance's arrays.
        x: int8, shape ``(n,)``.
        gains: float64, shape ``(n,)``: values + pairs·x.
        room: int64, shape ``(m,)``: what is left of the capacities.
    """

    items: Items
    x: np.ndarray
    gains: np.ndarray
    room: np.ndarray

    @classmethod
    def of(cls, instance: Instance | Items, x: np.ndarray) -> Bag:
        """The bag of some bits (copied), feasible or not."""
        items = instance if isinstance(instance, Items) else Items.of(instance)
        bits = np.array(x, dtype=np.int8)
        gains = items.values + (items.pairs @ bits.astype(np.float64) if len(items.pairs) else 0.0)
        return cls(items, bits, gains, items.capacities - bits.astype(np.int64) @ items.weights)

    @classmethod
    def greedy(cls, instance: Instance | Items, rng: np.random.Generator | None) -> Bag:
        """Items by value per priced weight as long as they fit; with a generator the order is slightly random."""
        bag = cls.empty(instance)
        efficiency = bag.items.typical / bag.priced(bag.items.prices)
        if rng is not None:
            efficiency = efficiency * np.exp(NOISE * rng.normal(size=len(efficiency)))
        bag.fill(np.argsort(-efficiency, kind="stable"))
        return bag

    @classmethod
    def empty(cls, instance: Instance | Items) -> Bag:
        """Nothing chosen."""
        items = instance if isinstance(instance, Items) else Items.of(instance)
        return cls.of(items, np.zeros(len(items.values), dtype=np.int8))

    @property
    def value(self) -> float:
        """Σ v_i x_i + Σ_{i<j} p_ij x_i x_j."""
        # no dot product: above ten thousand items a threaded one waits for busy cores
        return float((0.5 * (self.items.values + self.gains) * self.x).sum())

    def prices(self) -> np.ndarray:
        """Price per weight of every capacity at the present gains."""
        if not len(self.items.pairs):
            return self.items.prices
        k = self.items.fitting
        return prices(self.gains[k], self.items.weights[k], self.items.capacities)

    def priced(self, prices: np.ndarray) -> np.ndarray:
        """Weight of every item at these prices, above zero; float64, shape ``(n,)``."""
        per_capacity = 1.0 / np.maximum(self.items.capacities, 1)
        # where nothing has a price all capacities count alike
        weighed = self.items.weights @ (prices if prices.any() else per_capacity)
        return weighed + 1e-9 * max(float(weighed.max()), 1e-300)

    def fill(self, order: np.ndarray) -> None:
        """Add the items of ``order`` that fit."""
        from hybrid_assets.problems.packing.knapsack_loops import fill

        fill(self.x, self.gains, self.items.weights, self.room, self.items.pairs, order)

    def shed(self) -> int:
        """Drop items until all fit; how many."""
        from hybrid_assets.problems.packing.knapsack_loops import shed

        return int(shed(self.x, self.gains, self.items.weights, self.room, self.items.pairs))

    def descend(self, evaluations: int) -> int:
        """Add and swap until nothing improves; evaluations spent."""
        from hybrid_assets.problems.packing.knapsack_loops import descend

        return int(descend(self.x, self.gains, self.items.weights, self.room, self.items.pairs, evaluations))

    def anneal(self, steps: int, hot: float, cold: float, rng: np.random.Generator) -> None:
        """Metropolis steps from temperature ``hot`` to ``cold``."""
        from hybrid_assets.problems.packing.knapsack_loops import anneal

        i = self.items
        anneal(self.x, self.gains, i.weights, self.room, i.pairs, i.fitting, steps, hot, cold, rng)
