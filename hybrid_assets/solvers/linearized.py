"""A program as a linear one: every product of binaries that occurs becomes a column of its own.

Here: columns, rows and the products with the sides that must be held to them (McCormick 1976; Fortet 1960 for binaries,
where this is exact), and a bound without search. Not here: any solver's model of it, or the run (``program_search``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from hybrid_assets.problems.base import Program

#: Floating-point solvers have absolute tolerances: objectives that are not whole numbers are scaled to this largest
#: coefficient.
LARGEST = 1024.0


@dataclass(frozen=True)
class Row:
    """``low ≤ Σ coefficients·x[columns] ≤ high``; infinite where there is no such side."""

    label: str
    columns: np.ndarray
    coefficients: np.ndarray
    low: float
    high: float


@dataclass(frozen=True)
class Linearized:
    """Minimize ``offset + cost·x`` over binaries; column ``binaries + k`` is the product of ``products[k]``.

    Attributes:
        binaries: number of the program's variables, columns ``0 … binaries-1``.
        products: ascending indices of two or more binaries.
        cost: float64, shape ``(binaries + len(products),)``.
        offset: the constant.
        rows: the program's constraints.
        from_below, from_above: bool, shape ``(len(products),)``: whether the column must be kept from being less
            (more) than its product; where the objective pulls the other way nothing needs to.
    """

    binaries: int
    products: tuple[tuple[int, ...], ...]
    cost: np.ndarray
    offset: float
    rows: tuple[Row, ...]
    from_below: np.ndarray
    from_above: np.ndarray

    @classmethod
    def of(cls, program: Program) -> Linearized:
        """The linearization of a whole program, ``higher`` included.

        Raises:
            ValueError: a soft constraint, whose meaning is a penalty.
        """
        cqm = program.cqm
        n = len(cqm.variables)
        columns: dict[tuple[int, ...], int] = {}
        cost = np.zeros(n)
        objective = cqm.objective
        for variable, bias in objective.iter_linear():
            cost[variable] = bias
        pulls = _columns(objective, n, columns)
        for indices, coefficient in program.higher.items():
            pulls.append((columns.setdefault(tuple(sorted(indices)), n + len(columns)), float(coefficient)))
        within: set[int] = set()
        rows = []
        for label, comparison in cqm.constraints.items():
            lhs = comparison.lhs
            if lhs.is_soft():
                raise ValueError("a program's constraints are hard")
            terms = [(int(v), float(bias)) for v, bias in lhs.iter_linear()]
            products = _columns(lhs, n, columns)
            within.update(column - n for column, _ in products)
            terms = [term for term in terms + products if term[1]]
            rhs, sense = float(comparison.rhs) - float(lhs.offset), str(comparison.sense.value)
            rows.append(
                Row(
                    str(label),
                    np.array([column for column, _ in terms], dtype=np.int64),
                    np.array([bias for _, bias in terms], dtype=float),
                    -np.inf if sense == "<=" else rhs,
                    np.inf if sense == ">=" else rhs,
                )
            )
        full = np.zeros(n + len(columns))
        full[:n] = cost
        for column, bias in pulls:
            full[column] += bias
        everywhere = np.zeros(len(columns), dtype=bool)
        everywhere[list(within)] = True
        return cls(
            n,
            tuple(columns),
            full,
            float(objective.offset),
            tuple(rows),
            (full[n:] > 0) | everywhere,
            (full[n:] < 0) | everywhere,
        )

    @property
    def integral(self) -> bool:
        """Whether every value of the objective is a whole number plus the offset."""
        return bool(np.all(self.cost == np.rint(self.cost)))

    @property
    def floor(self) -> float:
        """A lower bound on the objective without search: the sum of all negative terms."""
        return self.offset + float(np.minimum(self.cost, 0.0).sum())

    def lifted(self, bits: np.ndarray) -> np.ndarray:
        """The whole point behind the binaries: float64, shape ``(binaries + len(products),)``."""
        point = np.empty(len(self.cost))
        point[: self.binaries] = bits
        for k, indices in enumerate(self.products):
            point[self.binaries + k] = float(all(bits[i] for i in indices))
        return point


def scale_of(program: Linearized) -> float:
    """What a floating-point solver multiplies the objective with: a power of two, so that scaling rounds nothing."""
    largest = float(np.abs(program.cost).max(initial=0.0))
    return 1.0 if program.integral or largest == 0.0 else float(2.0 ** np.floor(np.log2(LARGEST / largest)))


def _columns(expression: Any, binaries: int, columns: dict[tuple[int, ...], int]) -> list[tuple[int, float]]:
    """Columns and coefficients of the products of a dimod expression; unseen products join ``columns``."""
    found = []
    for i, j, bias in expression.iter_quadratic():
        if bias:
            pair = (i, j) if i < j else (j, i)
            found.append((columns.setdefault(pair, binaries + len(columns)), float(bias)))
    return found
