"""Bounds and constraints of a raw program as the platform holds them.

Here: finite whole bounds (given or inferred), rows scaled to whole numbers, rows that no point satisfies. Not here:
readers (``program_files``), bits (``program_bits``), the family (``program``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hybrid_assets.problems.base import Instance
from hybrid_assets.problems.programs.polynomial import Terms, degree, whole
from hybrid_assets.problems.programs.program_files import RawProgram, RawRow
from resources.failures import InfeasibleError, InputError

#: Widest range of an integer: 2⁴⁰ values are 40 bits.
MAX_SPAN = 2**40
#: Passes over the constraints that infer missing bounds.
PASSES = 10
#: A side this close to a whole number, relatively, carries a rounding error only.
NEAR = 1e-9


@dataclass(frozen=True)
class Table:
    """The arrays of objective and rows (see ``MathematicalProgram.normalize``), the rows' names, and notes."""

    arrays: Mapping[str, np.ndarray]
    names: tuple[str, ...]
    notes: tuple[str, ...]


def bounded(raw: RawProgram) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Whole bounds and steps (2 for spins), int64 of shape ``(n,)``, and notes.

    Raises:
        InputError: continuous, unbounded or too wide variables.
        InfeasibleError: bounds that contradict each other.
    """
    for name, kind in zip(raw.names, raw.kinds, strict=True):
        if kind == "continuous":
            raise InputError(
                raw.file,
                f"variable {name[:60]}",
                "it is continuous, and only whole numbers become bits",
                "declare it integer or binary, or discretise it yourself",
            )
    lower = [math.ceil(v - NEAR) if math.isfinite(v) else v for v in raw.lower]
    upper = [math.floor(v + NEAR) if math.isfinite(v) else v for v in raw.upper]
    inferred = _infer(raw, lower, upper)
    notes = [f"bounds of {inferred} integers inferred from the constraints"] if inferred else []
    for name, low, high in zip(raw.names, lower, upper, strict=True):
        if not (math.isfinite(low) and math.isfinite(high)):
            side = "lower" if not math.isfinite(low) else "upper"
            raise InputError(
                raw.file,
                f"variable {name[:60]}",
                f"it has no {side} bound, and none follows from the constraints",
                "give it bounds",
            )
        if low > high:
            raise InfeasibleError(
                raw.file,
                f"variable {name[:60]}",
                f"no whole number lies between its bounds {low} and {high}",
                "correct them",
            )
        if high - low > MAX_SPAN:
            raise InputError(raw.file, f"variable {name[:60]}", "its bounds are more than 2^40 apart", "narrow them")
    step = [2 if kind == "spin" and low < high else 1 for kind, low, high in zip(raw.kinds, lower, upper, strict=True)]
    return np.array(lower, dtype=np.int64), np.array(upper, dtype=np.int64), np.array(step, dtype=np.int64), notes


def _infer(raw: RawProgram, lower: list[float], upper: list[float]) -> int:
    """Finite bounds in place of infinite ones where a linear constraint implies them, in place; how many variables."""
    open_ = {i for i in range(len(lower)) if not (math.isfinite(lower[i]) and math.isfinite(upper[i]))}
    rows = [row for row in raw.rows if degree(row.terms) == 1 and any(key[0] in open_ for key in row.terms)]
    closed: set[int] = set()
    for _ in range(PASSES):
        before = len(closed)
        for row in rows:
            for sign, side in ((1.0, row.high), (-1.0, -row.low)):
                if not math.isfinite(side):
                    continue
                # least contributions to sign·row ≤ side
                least = {}
                for (i,), value in row.terms.items():
                    a = sign * value
                    if a:
                        least[i] = (a, a * (lower[i] if a > 0 else upper[i]))
                endless = [i for i, (_, part) in least.items() if not math.isfinite(part)]
                total = sum(part for _, part in least.values() if math.isfinite(part))
                for i, (a, part) in least.items():
                    if [j for j in endless if j != i] or i not in open_:
                        continue
                    limit = (side - total + (part if math.isfinite(part) else 0.0)) / a
                    if a > 0 and not math.isfinite(upper[i]):
                        upper[i] = math.floor(limit + NEAR * max(1.0, abs(limit)))
                        closed.add(i)
                    elif a < 0 and not math.isfinite(lower[i]):
                        lower[i] = math.ceil(limit - NEAR * max(1.0, abs(limit)))
                        closed.add(i)
        if len(closed) == before:
            break
    return len(closed)


def table_of(raw: RawProgram, lower: np.ndarray, upper: np.ndarray, step: np.ndarray) -> Table:
    """The objective and every constraint as one-sided rows.

    Raises:
        InputError: a constraint of degree three, or coefficients too large.
        InfeasibleError: a constraint that no point within the bounds satisfies.
    """
    names: list[str] = []
    rows: list[Terms] = []
    sides: list[tuple[int, float, float, float, bool]] = []
    empty, rounded = 0, 0
    for row in raw.rows:
        if degree(row.terms) > 2:
            raise InputError(raw.file, row.place, f"constraint {row.name[:40]!r} has a term of degree three",
                             "constraints are linear or quadratic")  # fmt: skip
        _check_possible(raw, row, lower, upper)
        terms = {key: value for key, value in row.terms.items() if value}
        both = row.low == row.high
        wanted = [(0, row.low)] if both else [(-1, row.high), (1, row.low)]
        wanted = [(sense, side) for sense, side in wanted if math.isfinite(side)]
        if not terms or not wanted:
            empty += 1
            continue
        scaled = whole(list(terms.values()))
        for number, (sense, side) in enumerate(wanted):
            name, new, rhs, scale = row.name, terms, side, 1.0
            if scaled is not None:
                new = dict(zip(terms, map(float, scaled[0]), strict=True))
                scale = scaled[1] / scaled[2]
                rhs = _whole_side(raw, row, sense, side * scale)
            rounded += scaled is None
            while name in names or (number and name == row.name):
                name += " (lower side)"
            names.append(name)
            rows.append(new)
            sides.append((sense, rhs, side, scale, scaled is not None))
    notes = [f"{empty} constraints without coefficients or sides dropped"] if empty else []
    if rounded:
        notes.append(
            f"{rounded} constraints have coefficients of more than six decimals: slack bits can meet them only to a "
            "discretisation error"
        )
    objective = {key: value for key, value in raw.objective.items() if value and key}
    columns = np.array(sides, dtype=float).reshape(-1, 5).T
    arrays = {
        "offset": np.array([raw.objective.get((), 0.0)]),
        **_sparse("objective", [objective]),
        **_sparse("row", rows),
        "row_of": np.repeat(np.arange(len(rows)), [len(terms) for terms in rows]).astype(np.int64),
        "row_sense": columns[0].astype(np.int64),
        "row_rhs": columns[1],
        "row_side": columns[2],
        "row_scale": columns[3],
        "row_whole": columns[4].astype(np.int64),
    }
    return Table(arrays, tuple(names), tuple(notes))


def _whole_side(raw: RawProgram, row: RawRow, sense: int, side: float) -> float:
    """The side of a row of whole numbers that means the same."""
    nearest = float(round(side))
    if abs(side - nearest) <= NEAR * max(1.0, abs(side)):
        return nearest
    if sense == 0:
        raise InfeasibleError(
            raw.file,
            row.place,
            f"constraint {row.name[:40]!r} asks for {row.low:g}, which its coefficients never add up to",
            "correct it",
        )
    return float(math.floor(side) if sense < 0 else math.ceil(side))


def _check_possible(raw: RawProgram, row: RawRow, lower: np.ndarray, upper: np.ndarray) -> None:
    least = most = 0.0
    for key, value in row.terms.items():
        low = high = 1.0
        for i in key:
            corners = [a * b for a in (low, high) for b in (float(lower[i]), float(upper[i]))]
            low, high = min(corners), max(corners)
        least += min(value * low, value * high)
        most += max(value * low, value * high)
    slack = NEAR * max(1.0, abs(least), abs(most))
    if row.low > row.high or least > row.high + slack or most < row.low - slack:
        wanted = f"at least {row.low:g}" if math.isfinite(row.low) else f"at most {row.high:g}"
        if math.isfinite(row.low) and math.isfinite(row.high):
            wanted = f"{row.low:g}" if row.low == row.high else f"between {row.low:g} and {row.high:g}"
        raise InfeasibleError(
            raw.file,
            row.place,
            f"constraint {row.name[:40]!r} asks for {wanted}, within the bounds its left side is between {least:g} and "
            f"{most:g}",
            "correct it or the bounds",
        )


def _sparse(kind: str, rows: list[Terms]) -> dict[str, np.ndarray]:
    terms = [(key, value) for row in rows for key, value in sorted(row.items())]
    return {
        f"{kind}_start": np.concatenate([[0], np.cumsum([len(key) for key, _ in terms])]).astype(np.int64),
        f"{kind}_member": np.array([i for key, _ in terms for i in key], dtype=np.int64),
        f"{kind}_value": np.array([value for _, value in terms], dtype=float),
    }


def row_text(instance: Instance, row: int) -> str:
    """A constraint as one line of text in the file's units, at most eight terms."""
    a = instance.arrays
    parts = []
    for t in np.flatnonzero(a["row_of"] == row)[:9].tolist():
        names = "*".join(instance.labels[i] for i in a["row_member"][a["row_start"][t] : a["row_start"][t + 1]])
        parts.append(f"{a['row_value'][t] / a['row_scale'][row]:+g} {names}")
    relation = {-1: "<=", 0: "=", 1: ">="}[int(a["row_sense"][row])]
    text = " ".join(parts[:8]) + (" …" if len(parts) > 8 else "")
    return f"{text} {relation} {a['row_side'][row]:g}"
