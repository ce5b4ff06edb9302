"""Which neighbourhood to ask next, learned from what the last ones brought.

Here: the bandit over kinds and block sizes, and what a block costs by the budget's kind. Not here: neighbourhoods
(``problems.landscape``), the walk (``walk``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

#: Weight of the newest reward in a choice's running mean, and the share of tries that are spread evenly.
NEWEST, EVEN = 0.02, 0.2
#: A choice that never had a block in this many tries is given up.
TRIES = 10

Metered = Literal["seconds", "trips"]


class Bandit:
    """Chooses (kind, size) with a probability in proportion to its running reward per cost.

    Matching probabilities rather than picking the best: a walk needs several neighbourhoods, and what pays changes as
    it cools.
    """

    def __init__(self, kinds: Sequence[str], sizes: Sequence[int], metered: Metered) -> None:
        self.choices = [(kind, size) for kind in kinds for size in sizes]
        self._mean = np.full(len(self.choices), np.nan)
        self._empty = np.zeros(len(self.choices), dtype=np.int64)
        self._cost = np.array([cost(size, metered) for _, size in self.choices])

    def choose(self, rng: np.random.Generator) -> int | None:
        """The index of a choice; ``None`` when none of them has a block to offer."""
        alive = np.flatnonzero(self._empty < TRIES)
        if not len(alive):
            return None
        new = alive[np.isnan(self._mean[alive])]
        if len(new):
            return int(new[rng.integers(len(new))])
        value = self._mean[alive] / self._cost[alive]
        total = float(value.sum())
        even = 1.0 / len(alive)
        chances = np.cumsum((1 - EVEN) * value / total + EVEN * even if total > 0 else np.full(len(alive), even))
        return int(alive[min(np.searchsorted(chances, rng.random() * chances[-1], side="right"), len(alive) - 1)])

    def empty(self, choice: int) -> None:
        """The choice had no block."""
        if np.isnan(self._mean[choice]):
            self._empty[choice] += 1

    def learn(self, choice: int, reward: float) -> None:
        """Take a reward (not negative) into account."""
        known = self._mean[choice]
        self._mean[choice] = reward if np.isnan(known) else known + NEWEST * (reward - known)
        self._empty[choice] = 0


def cost(size: int, metered: Metered) -> float:
    """What a block costs in relative terms: on metered hardware every block of a trip the same; in simulated seconds a
    constant for the loop and ``2^q`` for the statevector, equal at about 10 bits."""
    return 1.0 if metered == "trips" else 1.0 + 2.0 ** (size - 10)
