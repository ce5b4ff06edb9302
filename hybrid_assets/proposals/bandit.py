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
        self._mean: list[float | None] = [None] * len(self.choices)
        self._empty = [0] * len(self.choices)
        self._cost = [cost(size, metered) for _, size in self.choices]

    def choose(self, rng: np.random.Generator) -> int | None:
        """The index of a choice; ``None`` when none of them has a block to offer."""
        alive = [k for k, misses in enumerate(self._empty) if misses < TRIES]
        if not alive:
            return None
        new = [k for k in alive if self._mean[k] is None]
        if new:
            return new[rng.integers(len(new))]
        worth = [(self._mean[k] or 0.0) / self._cost[k] for k in alive]
        total, left = sum(worth), float(rng.random())
        for k, value in zip(alive, worth, strict=True):
            share = EVEN if total > 0 else 1.0
            left -= share / len(alive) + (1 - share) * (value / total if total > 0 else 0.0)
            if left < 0:
                return k
        return alive[-1]

    def empty(self, choice: int) -> None:
        """The choice had no block."""
        if self._mean[choice] is None:
            self._empty[choice] += 1

    def learn(self, choice: int, reward: float) -> None:
        """Take a reward (not negative) into account."""
        known = self._mean[choice]
        self._mean[choice] = reward if known is None else known + NEWEST * (reward - known)
        self._empty[choice] = 0


def cost(size: int, metered: Metered) -> float:
    """What a block costs in relative terms: on metered hardware every block of a trip the same; in simulated seconds a
    constant for the loop and ``2^q`` for the statevector, equal at about 10 bits."""
    return 1.0 if metered == "trips" else 1.0 + 2.0 ** (size - 10)
