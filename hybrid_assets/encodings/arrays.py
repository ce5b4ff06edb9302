"""A program as arrays: what the encodings compute on.

Here: the objective as a sparse quadratic form, linear constraints in one canonical form (integers), all values of a
small program. Not here: penalties, slack or anything else an encoding adds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import dimod

#: Largest sum of absolute constraint coefficients: its square times a weight must stay exact in double precision.
MAX_ACTIVITY = 2**20


@dataclass(frozen=True)
class QuadraticForm:
    """``offset + Σ linear[i]·x[i] + Σ values[k]·x[rows[k]]·x[cols[k]]`` over binaries, with ``rows < cols``, each pair
    once, in lexicographic order and without zeros."""

    linear: np.ndarray
    rows: np.ndarray
    cols: np.ndarray
    values: np.ndarray
    offset: float

    @classmethod
    def of(cls, cqm: dimod.ConstrainedQuadraticModel) -> QuadraticForm:
        """The objective of a model whose variables are the binaries ``0 … n-1``."""
        objective = cqm.objective
        names = np.fromiter(objective.variables, dtype=np.int64, count=objective.num_variables)
        linear = np.zeros(len(cqm.variables))
        for index, bias in objective.iter_linear():
            linear[index] = bias
        # the arrays that dimod's own file format is written from: iterating over millions of pairs takes seconds
        terms = objective._iquadratic()
        return cls.build(linear, names[terms["u"]], names[terms["v"]], terms["bias"], float(objective.offset))

    @classmethod
    def build(
        cls, linear: np.ndarray, i: np.ndarray, j: np.ndarray, values: np.ndarray, offset: float
    ) -> QuadraticForm:
        """Canonical form of terms in any order; repeated pairs add up."""
        n = max(len(linear), 1)
        keys = np.minimum(i, j) * n + np.maximum(i, j)
        order = np.argsort(keys, kind="stable")
        keys, merged = keys[order], np.asarray(values, float)[order]
        new = np.ones(len(keys), dtype=bool)
        new[1:] = keys[1:] != keys[:-1]
        if not new.all():
            keys, merged = keys[new], np.add.reduceat(merged, np.flatnonzero(new))
        if not merged.all():
            keys, merged = keys[merged != 0], merged[merged != 0]
        return cls(np.asarray(linear, float), keys // n, keys % n, merged, float(offset))

    def dense(self) -> np.ndarray:
        """The couplings as a symmetric ``(n, n)`` matrix with zero diagonal (each pair appears twice)."""
        matrix = np.zeros((len(self.linear), len(self.linear)))
        matrix[self.rows, self.cols] = matrix[self.cols, self.rows] = self.values
        return matrix

    def range(self) -> tuple[float, float]:
        """A lower and an upper bound over all states, each variable with half of its couplings at their worst."""
        n = len(self.linear)
        bounds = []
        for clip in (np.minimum, np.maximum):
            half = 0.5 * clip(self.values, 0.0)
            reach = np.bincount(self.rows, half, n) + np.bincount(self.cols, half, n)
            bounds.append(self.offset + float(clip(self.linear + reach, 0.0).sum()))
        return bounds[0], bounds[1]

    def all_values(self) -> np.ndarray:
        """Values of all ``2^n`` states, float64; bit ``k`` of the index is variable ``k``. For n up to about 20."""
        couplings = self.dense()
        values = np.full(1, self.offset)
        for k in range(len(self.linear)):
            values = np.concatenate([values, values + subset_sums(couplings[k, :k], float(self.linear[k]))])
        return values

    def bqm(self) -> dimod.BinaryQuadraticModel:
        """The same form as a BINARY model with variables ``0 … n-1`` in order."""
        import dimod

        return dimod.BinaryQuadraticModel.from_numpy_vectors(
            self.linear, (self.rows, self.cols, self.values), self.offset, dimod.BINARY
        )


def subset_sums(weights: np.ndarray, start: float = 0.0) -> np.ndarray:
    """``start`` + the weights of every subset, shape ``(2^n,)``; bit ``k`` of the index chooses weight ``k``."""
    sums = np.full(1, start)
    for weight in weights:
        sums = np.concatenate([sums, sums + weight])
    return sums


def states(indices: np.ndarray, n: int) -> np.ndarray:
    """State numbers as bits: int8 array of shape ``(len(indices), n)``, variable 0 in the lowest bit."""
    return ((np.asarray(indices)[:, None] >> np.arange(n)) & 1).astype(np.int8)


@dataclass(frozen=True)
class LinearConstraint:
    """``Σ coefficients·x[indices]`` equal to (``eq``) or at most (``le``) ``rhs``, all of them integers.

    Attributes:
        label: name of the constraint in the program.
        indices, coefficients: int64 arrays of one shape, indices ascending.
        sense, rhs: the comparison.
        scale: what the program's coefficients were multiplied by (and turned round where they said ≥).
        error: what rounding may take from the constraint, in the program's own units: every state with at least that
            much room is still allowed, and none that was forbidden. 0 where the integers say exactly the same.
    """

    label: str
    indices: np.ndarray
    coefficients: np.ndarray
    sense: Literal["eq", "le"]
    rhs: int
    scale: float = 1.0
    error: float = 0.0

    @property
    def range(self) -> tuple[int, int]:
        """Smallest and largest activity of any state."""
        a = self.coefficients
        return int(a[a < 0].sum()), int(a[a > 0].sum())

    @property
    def possible(self) -> bool:
        """Whether range and common divisor of the activity leave room for the constraint (necessary only)."""
        low, high = self.range
        if self.sense == "eq" and self.rhs % (gcd(*self.coefficients.tolist()) or 1):
            return False
        return low <= self.rhs and (self.sense == "le" or self.rhs <= high)

    @property
    def redundant(self) -> bool:
        """Whether every state satisfies it."""
        low, high = self.range
        return high <= self.rhs if self.sense == "le" else low == high == self.rhs

    def excess(self, activity: np.ndarray) -> np.ndarray:
        """Distance to the constraint, 0 where it holds."""
        distance = activity - self.rhs
        return np.abs(distance) if self.sense == "eq" else np.maximum(distance, 0)

    def violation(self, assignments: np.ndarray) -> np.ndarray:
        """Distance to the constraint for assignments of shape ``(m, n)``: int64, shape ``(m,)``."""
        return self.excess(assignments[:, self.indices].astype(np.int64) @ self.coefficients)


def linear_constraint(label: str, comparison: Any, steps: int | None = None) -> LinearConstraint | None:
    """The canonical form of one hard linear constraint, ``None`` where it has none.

    Decimal coefficients are scaled to integers that say exactly the same; ``≥`` is turned round; the right-hand side of
    an inequality is rounded to the integer that means the same.

    Args:
        steps: what else becomes of an inequality whose coefficients are no short decimals: they are rounded to a grid
            with this many steps in their absolute sum, away from feasibility, and ``error`` says by how much.
    """
    lhs = comparison.lhs
    if not lhs.is_linear() or lhs.is_soft():
        return None
    terms = sorted((int(v), float(bias)) for v, bias in lhs.iter_linear() if bias != 0)
    values = np.array([bias for _, bias in terms], dtype=float)
    rhs = float(comparison.rhs) - float(lhs.offset)
    if not np.isfinite(rhs) or not np.isfinite(values).all():
        return None
    kind = str(comparison.sense.value)
    turned = -1 if kind == ">=" else 1
    values, rhs = turned * values, turned * rhs
    scale: float | None = _denominator(values.tolist())
    error = 0.0
    if scale is not None:
        coefficients, goal = np.rint(values * scale), rhs * scale
    elif steps is None or kind == "==":
        return None
    else:
        scale = steps / float(np.abs(values).sum())
        coefficients, goal = np.ceil(values * scale - 1e-9), rhs * scale
        error = float(np.maximum(coefficients - values * scale, 0.0).sum() + goal - np.floor(goal)) / scale
    # right-hand sides shifted by a fixed part carry rounding errors
    nearest = round(goal)
    exact = abs(goal - nearest) <= 1e-9 * max(1.0, abs(goal))
    if kind == "==" and not exact:
        return None
    return LinearConstraint(
        label=label,
        indices=np.array([v for v, _ in terms], dtype=np.int64),
        coefficients=coefficients.astype(np.int64),
        sense="eq" if kind == "==" else "le",
        rhs=nearest if exact else int(np.floor(goal)),
        scale=turned * scale,
        error=error,
    )


def _denominator(values: list[float]) -> int | None:
    """The least factor that makes all values integers, read as the decimals they are written as; ``None`` where the
    integers' absolute sum would pass ``MAX_ACTIVITY``."""
    factor = 1
    for value in values:
        factor = factor if value.is_integer() else lcm(factor, Fraction(repr(value)).denominator)
        if factor > MAX_ACTIVITY:
            return None
    return factor if factor * sum(map(abs, values)) <= MAX_ACTIVITY else None


def linear_constraints(cqm: dimod.ConstrainedQuadraticModel, steps: int | None = None) -> list[LinearConstraint] | None:
    """All constraints in canonical form, in the model's order; ``None`` when one has none. ``steps``: see above."""
    found = [linear_constraint(str(label), comparison, steps) for label, comparison in cqm.constraints.items()]
    return None if any(c is None for c in found) else [c for c in found if c is not None]


def exactly_one(
    constraints: Iterable[LinearConstraint],
) -> tuple[list[LinearConstraint], list[LinearConstraint]]:
    """Constraints that ask for exactly one 1 among variables of their own, and the others, each in the given order."""
    groups: list[LinearConstraint] = []
    others: list[LinearConstraint] = []
    taken: set[int] = set()
    for c in constraints:
        members = set(c.indices.tolist())
        alike = set(c.coefficients.tolist()) == {c.rhs} and abs(c.rhs) == 1
        if c.sense == "eq" and alike and not members & taken:
            groups.append(c)
            taken |= members
        else:
            others.append(c)
    return groups, others


def higher_values(higher: Mapping[tuple[int, ...], float], n: int) -> np.ndarray:
    """Sum of products (indices → coefficient) in all ``2^n`` states, float64; bit ``k`` of the index is variable ``k``.

    Each state collects the coefficients of all products that it contains, one variable after the other.
    """
    values = np.zeros(2**n)
    for indices, coefficient in higher.items():
        values[sum(1 << k for k in indices)] += coefficient
    for k in range(n):
        halves = values.reshape(-1, 2, 2**k)
        halves[:, 1] += halves[:, 0]
    return values
