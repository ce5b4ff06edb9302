"""What may restrict a portfolio beyond cardinality and bounds: sector limits, turnover, lots.

Here: ``Rules`` and their violations. Not here: weights under them (``portfolio_ruled``), the options (``portfolio``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hybrid_assets.problems.base import Instance

#: Violations up to this are rounding.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Rules:
    """The restrictions in force on the weights of an instance.

    Attributes:
        cardinality, low, high: K and the bounds of a weight that is held; with lots, multiples of them.
        names, limits: sectors and their largest share, shape ``(s,)``.
        sector: index of every asset's sector, int64 of shape ``(n,)``; -1 without a limit.
        previous: weights before, shape ``(n,)``.
        turnover: the most that Σ|w − previous| may be; infinite without a limit.
        lots: weights are multiples of this; 0 without.
    """

    cardinality: int
    low: float
    high: float
    names: tuple[str, ...]
    limits: np.ndarray
    sector: np.ndarray
    previous: np.ndarray
    turnover: float
    lots: float

    @classmethod
    def of(cls, instance: Instance) -> Rules:
        """The rules in an instance's settings and arrays."""
        settings, arrays, size = instance.settings, instance.arrays, instance.size
        limits, lots = settings.get("sector_limits", {}), float(settings.get("lots", 0.0))
        low, high = float(settings["min_weight"]), float(settings["max_weight"])
        if lots:
            low, high = lots * np.ceil(low / lots - 1e-9), lots * np.floor(high / lots + 1e-9)
        return cls(
            int(settings["cardinality"]),
            low,
            high,
            tuple(sorted(limits)),
            np.array([limits[name] for name in sorted(limits)], dtype=np.float64),
            arrays.get("sector", np.full(size, -1)),
            arrays.get("previous", np.zeros(size)),
            float(settings.get("turnover", np.inf)),
            lots,
        )

    @property
    def plain(self) -> bool:
        """Whether there is nothing beyond cardinality and bounds."""
        return not (self.names or self.lots) and self.turnover == np.inf

    @cached_property
    def members(self) -> np.ndarray:
        """Which asset is in which sector, float64 of shape ``(s, n)``."""
        return np.array([self.sector == k for k in range(len(self.names))], dtype=np.float64).reshape(
            -1, len(self.sector)
        )

    def violations(self, weights: np.ndarray) -> dict[str, float]:
        """Amounts by name: ``sector NAME``, ``turnover``, ``lots``; those up to rounding included."""
        found = {
            f"sector {name}": float(share - limit)
            for name, share, limit in zip(self.names, self.members @ weights, self.limits, strict=True)
        }
        if self.turnover < np.inf:
            found["turnover"] = float(np.abs(weights - self.previous).sum() - self.turnover)
        if self.lots:
            found["lots"] = float(np.abs(weights - self.lots * np.round(weights / self.lots)).max())
        return found

    def hold(self, weights: np.ndarray) -> bool:
        """Whether weights violate none of them."""
        return all(amount <= TOLERANCE for amount in self.violations(weights).values())
