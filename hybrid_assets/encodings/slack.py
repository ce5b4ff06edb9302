"""Squared penalties of linear constraints with binary slack: the quadratic terms, and the slack's own bits.

Here: how a constraint becomes terms, and where its slack lies. Not here: how large the weight must be (``weights``), or
any encoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hybrid_assets.encodings.arrays import LinearConstraint, QuadraticForm


def slack_coefficients(span: int) -> list[int]:
    """Binary digits 1, 2, 4, … with a shortened last one: their subsets sum to exactly the values ``0 … span``."""
    coefficients: list[int] = []
    while span > 0:
        digit = min(1 << len(coefficients), span)
        coefficients.append(digit)
        span -= digit
    return coefficients


def slack_bits(value: int, coefficients: list[int]) -> list[int]:
    """Bits whose coefficients add up to ``value``, largest first."""
    bits = [0] * len(coefficients)
    for k in sorted(range(len(coefficients)), key=lambda k: -coefficients[k]):
        if coefficients[k] <= value:
            bits[k], value = 1, value - coefficients[k]
    return bits


def slack_of(c: LinearConstraint) -> list[int]:
    """The coefficients of a constraint's slack; none for an equation."""
    return slack_coefficients(c.rhs - c.range[0]) if c.sense == "le" else []


def penalised(
    objective: QuadraticForm, constraints: Sequence[LinearConstraint], weight: float
) -> tuple[QuadraticForm, list[dict[str, Any]]]:
    """Objective + ``weight``·Σ(activity + slack − rhs)², slack behind the objective's variables.

    Returns:
        the form, and per constraint its layout, JSON-able: what ``fill_slack`` reads.
    """
    if not constraints:
        return objective, []
    q = len(objective.linear)
    linear, offset = [objective.linear], objective.offset
    rows, cols, values = [objective.rows], [objective.cols], [objective.values]
    layout = []
    for c in constraints:
        slack = slack_of(c)
        layout.append(
            {
                "label": c.label,
                "sense": c.sense,
                "indices": c.indices.tolist(),
                "coefficients": c.coefficients.tolist(),
                "rhs": c.rhs,
                "slack_start": q,
                "slack_coefficients": slack,
            }
        )
        where = np.concatenate([c.indices, np.arange(q, q + len(slack))])
        a = np.concatenate([c.coefficients, slack]).astype(float)
        q += len(slack)
        i, j = np.triu_indices(len(a), 1)
        rows.append(where[i])
        cols.append(where[j])
        values.append(2.0 * weight * a[i] * a[j])
        linear.append(np.bincount(where, weight * (a * a - 2.0 * c.rhs * a), q))
        offset += weight * c.rhs**2
    total = np.zeros(q)
    for part in linear:
        total[: len(part)] += part
    form = QuadraticForm.build(total, np.concatenate(rows), np.concatenate(cols), np.concatenate(values), offset)
    return form, layout


def fill_slack(bits: np.ndarray, layout: list[dict[str, Any]]) -> None:
    """Set every slack in ``bits`` (int8, shape ``(q,)``, in place) as close to its constraint as it gets."""
    for c in layout:
        coefficients = c["slack_coefficients"]
        activity = int(np.dot(bits[c["indices"]].astype(np.int64), c["coefficients"]))
        start = c["slack_start"]
        bits[start : start + len(coefficients)] = slack_bits(c["rhs"] - activity, coefficients)
