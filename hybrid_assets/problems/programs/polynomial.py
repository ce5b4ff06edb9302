"""Polynomials over bounded whole numbers, and what they are over bits.

Here: terms, the bits of a whole number, the expansion, scaling of decimals. Not here: files (``program_files``), or the
family (``program``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd

import numpy as np

#: Variables of a term, ascending, repeated for powers → coefficient; the empty tuple is the constant.
Terms = dict[tuple[int, ...], float]

#: Decimal places that are turned into whole numbers without rounding.
DECIMALS = 6
#: Largest whole coefficient and sum of them: float64 still adds them up exactly.
MAX_SUM = 2.0**50


def degree(terms: Mapping[tuple[int, ...], float]) -> int:
    """The largest number of factors in a term."""
    return max(map(len, terms), default=0)


def digits(span: int) -> list[int]:
    """Weights 1, 2, 4, … with a shortened last one: their subsets sum to exactly the values ``0 … span``."""
    weights: list[int] = []
    while span > 0:
        weights.append(min(1 << len(weights), span))
        span -= weights[-1]
    return weights


def whole(coefficients: Sequence[float]) -> tuple[list[int], int, int] | None:
    """Coefficients as whole numbers without a common factor, and the fraction they were multiplied with.

    Returns:
        whole coefficients, numerator, denominator; ``None`` where a coefficient has more than six decimals.
    """
    values = np.asarray(coefficients, dtype=float)
    for places in range(DECIMALS + 1):
        scaled = np.rint(values * 10.0**places)
        if np.abs(scaled).sum() <= MAX_SUM and np.array_equal(scaled / 10.0**places, values):
            numbers = [int(c) for c in scaled]
            common = gcd(*numbers) or 1
            return [c // common for c in numbers], 10**places, common
    return None


@dataclass(frozen=True)
class Layout:
    """Which bits stand for which variable: ``x[i] = lower[i] + Σ weights[k] b[k]`` over the bits ``k`` it owns.

    Attributes:
        lower: int64, shape ``(n,)``.
        owner: int64, shape ``(bits,)``, ascending: the variable that a bit belongs to.
        weights: int64, shape ``(bits,)``.
    """

    lower: np.ndarray
    owner: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, lower: np.ndarray, upper: np.ndarray, step: np.ndarray) -> Layout:
        """Binary digits for the values ``lower, lower + step, … upper`` of each variable."""
        owner: list[int] = []
        weights: list[int] = []
        for i, (low, high, by) in enumerate(zip(lower.tolist(), upper.tolist(), step.tolist(), strict=True)):
            found = [by * weight for weight in digits((high - low) // by)]
            owner += [i] * len(found)
            weights += found
        return cls(lower, np.array(owner, dtype=np.int64), np.array(weights, dtype=np.int64))

    def values(self, bits: np.ndarray) -> np.ndarray:
        """Values, int64 of shape ``(n,)``, of bits of shape ``(number of bits,)``."""
        # float64 adds them up exactly: bounds are far below 2⁵³
        parts = np.asarray(bits).astype(np.int64) * self.weights
        return self.lower + np.rint(np.bincount(self.owner, parts, len(self.lower))).astype(np.int64)

    def bits(self, values: np.ndarray) -> np.ndarray:
        """Bits, int8, whose values these are, the largest weights first."""
        rest = np.asarray(values).astype(np.int64) - self.lower
        bits = np.zeros(len(self.owner), dtype=np.int8)
        order = np.lexsort((-self.weights, self.owner))
        for k in order:
            if self.weights[k] <= rest[self.owner[k]]:
                bits[k] = 1
                rest[self.owner[k]] -= self.weights[k]
        return bits

    def expanded(self, terms: Mapping[tuple[int, ...], float], limit: int) -> Terms | None:
        """The polynomial over bits: distinct ascending bits → coefficient, zeros left out; ``None`` above ``limit``
        terms."""
        first = np.searchsorted(self.owner, np.arange(len(self.lower) + 1)).tolist()
        weights, lower = self.weights.tolist(), self.lower.tolist()
        total: Terms = {}
        for variables, coefficient in terms.items():
            product: Terms = {(): coefficient}
            for i in variables:
                factor: list[tuple[tuple[int, ...], int]] = [((k,), weights[k]) for k in range(first[i], first[i + 1])]
                if lower[i]:
                    factor.append(((), lower[i]))
                grown: Terms = {}
                for bits, value in product.items():
                    for more, weight in factor:
                        key = tuple(sorted({*bits, *more}))
                        grown[key] = grown.get(key, 0.0) + value * weight
                product = grown
                if len(product) > limit:
                    return None
            for key, value in product.items():
                total[key] = total.get(key, 0.0) + value
            if len(total) > limit:
                return None
        return {key: value for key, value in total.items() if value or not key}
