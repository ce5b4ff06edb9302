"""Presolve of unconstrained programs: variables whose value in some optimum is known without a search.

Here: roof duality, independent parts, and what of it is recorded. Not here: narrowing, which fixes by guess what is
left above the qubit budget.

Roof duality: Hammer, Hansen, Simeone, "Roof duality, complementation and persistency in quadratic 0-1 optimization",
1984. Only strong persistencies are used: every optimum has these values. The library's weak ones contradict each other
where coefficients tie (about 2 % of small random integer models lost their optimum). Parts that are enumerated get one
of their optima.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hybrid_assets.encodings.arrays import QuadraticForm, states
from hybrid_assets.problems.base import Reference

#: Independent parts of at most this many variables are solved by enumeration.
ENUMERATED = 12


@dataclass(frozen=True)
class Presolved:
    """What is known of an optimum.

    Attributes:
        values: int8, shape ``(n,)``: the value in some optimum, −1 where it is open.
        record: counts, JSON-able: ``roof_duality``, ``enumerated_parts``, ``open_parts``, ``persistency``.
    """

    values: np.ndarray
    record: dict[str, Any]

    @property
    def open(self) -> np.ndarray:
        """Variables that are left to decide, int64, ascending."""
        return np.flatnonzero(self.values < 0)

    def applied(self, reference: Reference) -> Reference:
        """The reference with the known values in it, and the open variables more worth deciding than any other."""
        known = self.values >= 0
        return Reference(
            np.where(known, self.values, reference.assignment).astype(np.int8),
            np.where(known, -np.inf, reference.priority),
            f"{reference.method}; {int(known.sum())} of {len(known)} variables known from presolve",
        )


def presolve(form: QuadraticForm) -> Presolved:
    """Fix what roof duality fixes in every optimum, then solve the independent parts that are small.

    Args:
        form: an unconstrained objective, to be minimized.
    """
    from dwave.preprocessing.lower_bounds import roof_duality
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    n = len(form.linear)
    values = np.full(n, -1, dtype=np.int8)
    if n:
        _, known = roof_duality(form.bqm(), strict=True)
        values[list(known)] = list(known.values())
    fixed = int((values >= 0).sum())
    rest = conditioned(form, values)
    where = np.flatnonzero(values < 0)
    q = len(where)
    graph = csr_array((np.ones(len(rest.rows)), (rest.rows, rest.cols)), shape=(q, q))
    parts, part_of = connected_components(graph, directed=False) if q else (0, np.zeros(0, dtype=np.int32))
    sizes = np.bincount(part_of, minlength=parts)
    enumerated = 0
    for part in np.flatnonzero(sizes <= ENUMERATED):
        members = np.flatnonzero(part_of == part)
        inside = part_of[rest.rows] == part
        small = QuadraticForm.build(
            rest.linear[members],
            np.searchsorted(members, rest.rows[inside]),
            np.searchsorted(members, rest.cols[inside]),
            rest.values[inside],
            0.0,
        )
        best = int(np.argmin(small.all_values()))
        values[where[members]] = states(np.array([best]), len(members))[0]
        enumerated += 1
    return Presolved(
        values,
        {
            "roof_duality": fixed,
            "persistency": "strong",
            "enumerated_parts": enumerated,
            "open_parts": int(parts) - enumerated,
            "open": int((values < 0).sum()),
            "of": n,
        },
    )


def conditioned(form: QuadraticForm, values: np.ndarray) -> QuadraticForm:
    """The form over the variables whose value is −1, in order, with the others at theirs (int8, shape ``(n,)``)."""
    n = len(form.linear)
    is_open = values < 0
    at = np.where(is_open, 0, values).astype(float)
    new = np.cumsum(is_open) - 1
    both = is_open[form.rows] & is_open[form.cols]
    linear = form.linear + np.bincount(form.rows, form.values * at[form.cols], n)
    linear += np.bincount(form.cols, form.values * at[form.rows], n)
    offset = form.offset + float(form.linear @ at) + float((form.values * at[form.rows] * at[form.cols]).sum())
    return QuadraticForm.build(linear[is_open], new[form.rows[both]], new[form.cols[both]], form.values[both], offset)
