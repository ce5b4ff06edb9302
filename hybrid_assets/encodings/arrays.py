"""A program as arrays: what the encodings compute on.

Here: the objective as a sparse quadratic form, integer linear constraints in one canonical form, all values of a small
program. Not here: penalties, slack or anything else an encoding adds.
"""

from __future__ import annotations

from dataclasses import dataclass
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
        n = len(cqm.variables)
        objective = cqm.objective
        linear = np.zeros(n)
        for index, bias in objective.iter_linear():
            linear[index] = bias
        terms = np.fromiter(
            objective.iter_quadratic(),
            dtype=[("i", np.int64), ("j", np.int64), ("bias", np.float64)],
            count=objective.num_interactions,
        )
        return cls.build(linear, terms["i"], terms["j"], terms["bias"], float(objective.offset))

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
    """``Σ coefficients·x[indices]`` equal to (``eq``) or at most (``le``) ``rhs``, all of them integers."""

    label: str
    indices: np.ndarray
    coefficients: np.ndarray
    sense: Literal["eq", "le"]
    rhs: int

    @property
    def range(self) -> tuple[int, int]:
        """Smallest and largest activity of any state."""
        a = self.coefficients
        return int(a[a < 0].sum()), int(a[a > 0].sum())

    @property
    def possible(self) -> bool:
        """Whether the activity's range leaves room for the constraint (necessary, not sufficient)."""
        low, high = self.range
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


def linear_constraint(label: str, comparison: Any) -> LinearConstraint | None:
    """The canonical form of one hard linear constraint with integer coefficients, ``None`` for any other.

    ``≥`` is turned round; a fractional right-hand side of an inequality is rounded to the integer that means the same.
    """
    lhs = comparison.lhs
    if not lhs.is_linear() or lhs.is_soft():
        return None
    terms = sorted((int(v), float(bias)) for v, bias in lhs.iter_linear() if bias != 0)
    values = np.array([bias for _, bias in terms], dtype=float)
    rhs = float(comparison.rhs) - float(lhs.offset)
    if not np.isfinite(rhs) or np.any(values != np.rint(values)) or np.abs(values).sum() > MAX_ACTIVITY:
        return None
    kind = str(comparison.sense.value)
    if kind == ">=":
        values, rhs = -values, -rhs
    # right-hand sides shifted by a fixed part carry rounding errors
    nearest = round(rhs)
    exact = abs(rhs - nearest) <= 1e-9 * max(1.0, abs(rhs))
    if kind == "==" and not exact:
        return None
    return LinearConstraint(
        label=label,
        indices=np.array([v for v, _ in terms], dtype=np.int64),
        coefficients=np.rint(values).astype(np.int64),
        sense="eq" if kind == "==" else "le",
        rhs=nearest if exact else int(np.floor(rhs)),
    )


def linear_constraints(cqm: dimod.ConstrainedQuadraticModel) -> list[LinearConstraint] | None:
    """All constraints in canonical form, in the model's order; ``None`` when one has none."""
    found = [linear_constraint(str(label), comparison) for label, comparison in cqm.constraints.items()]
    return None if any(c is None for c in found) else [c for c in found if c is not None]
