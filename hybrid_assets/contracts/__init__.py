"""Contracts of all tables: one pandera schema each, from which checks, lake types and column docs are derived.

Here: ``TABLES`` and what is done with a schema. Not here: storage (``resources.lake``) and rules that need more than
one table (``dbt_project/tests``). Schemas are strict, exact in their dtypes and coerce nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pandera.errors import SchemaErrors
from pandera.pandas import DataFrameSchema

from hybrid_assets.contracts import control, stages
from resources.failures import InvariantError

#: Table name → schema, in the order of the story.
TABLES: dict[str, DataFrameSchema] = {
    str(schema.name): schema
    for schema in (
        stages.normalized_inputs,
        stages.encoded_problems,
        stages.quantum_jobs,
        stages.quantum_samples,
        stages.scored_candidates,
        stages.baseline_runs,
        stages.baseline_comparisons,
        stages.decisions,
        control.control_jobs,
        control.control_job_events,
        control.control_values,
        control.control_materializations,
        control.control_audit,
    )
}

_ARROW: dict[str, pa.DataType] = {
    "str": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "datetime64[us, UTC]": pa.timestamp("us", "UTC"),
}
_SHOWN = 5


def frame_of(table: str, rows: Sequence[Mapping[str, Any]], *, file: str | None = None) -> pd.DataFrame:
    """Rows as a valid frame of ``table``: the one way to build one.

    ``None`` becomes the column's null, a Python int may stand in a float column and a datetime takes the column's
    unit; nothing else is converted.

    Raises:
        InvariantError: see ``validate``.
    """
    schema = TABLES[table]
    names = list(dict.fromkeys(key for row in rows for key in row)) if rows else list(schema.columns)
    columns = {
        name: _series([row.get(name) for row in rows], str(schema.columns[name].dtype))
        if name in schema.columns
        else pd.Series([row.get(name) for row in rows], dtype="object")
        for name in names
    }
    return validate(table, pd.DataFrame(columns), file=file)


def _series(cells: list[Any], dtype: str) -> pd.Series:
    if not cells:
        return pd.Series(cells, dtype="object" if dtype == "str" else dtype)
    if dtype == "str":
        return pd.Series(cells, dtype="object")
    if dtype == "float64":
        series = pd.Series([math.nan if cell is None else cell for cell in cells])
        return series.astype("float64") if series.dtype == "int64" else series
    if dtype.startswith("datetime64") and all(cell is None for cell in cells):
        return pd.Series(cells, dtype=dtype)
    series = pd.Series(cells)
    return series.dt.as_unit("us") if isinstance(series.dtype, pd.DatetimeTZDtype) else series


def validate(table: str, frame: pd.DataFrame, *, file: str | None = None) -> pd.DataFrame:
    """The frame with its columns in the contract's order, once it satisfies the contract of ``table``.

    Args:
        table: name of the table.
        frame: the rows.
        file: source file to name in the message; the table is named without it.

    Raises:
        InvariantError: one message with the file or table, every offending column, its rows and the fix.
    """
    schema = TABLES[table]
    subject = f"{file} (table {table})" if file else f"table {table}"
    try:
        schema.validate(frame, lazy=True)
    except SchemaErrors as errors:
        raise InvariantError(f"{subject}: {'; '.join(_sentences(errors.failure_cases))}.") from None
    if frame.empty and not may_be_empty(table):
        raise InvariantError(f"{subject}: there are no rows; an empty result must fail its step, not replace rows.")
    return frame[list(schema.columns)]


def _sentences(cases: pd.DataFrame) -> Iterable[str]:
    """One clause per broken rule of a column: what is wrong, where, and what to do."""
    rule_of_rows = (cases["schema_context"] == "DataFrameSchema") & cases["check_number"].notna()
    cases = cases.assign(column=cases["column"].mask(rule_of_rows, "*"))
    for (column, check), found in cases.groupby(["column", "check"], sort=False, dropna=False):
        value = found["failure_case"].iloc[0]
        value = value.item() if isinstance(value, np.generic) else value
        rows = sorted({int(row) for row in found["index"] if pd.notna(row)})
        where = f"column {column}" + (f", {_listed(rows)}" if rows else "")
        if check == "column_in_dataframe":
            yield f"{_columns(found)} missing; add what is missing"
        elif check == "column_in_schema":
            yield f"{_columns(found)} not part of the contract; drop what is not, or add it to the contract"
        elif check == "not_nullable":
            yield f"{where}: the value is missing; fill it"
        elif check == "multiple_fields_uniqueness":
            yield f"{where}: the key {value!r} is not unique; write each key once"
        elif str(check).startswith("dtype("):
            yield f"{where}: {value!r} is not of type {str(check)[7:-2]}; convert it where it is made"
        elif column == "*":
            yield f"{_listed(rows)}: {check}"
        else:
            yield f"{where}: {value!r} is refused, it {check}"


def _columns(found: pd.DataFrame) -> str:
    names = sorted(str(name) for name in found["failure_case"])
    return f"column {names[0]} is" if len(names) == 1 else f"columns {', '.join(names)} are"


def _listed(rows: list[int]) -> str:
    shown = ", ".join(map(str, rows[:_SHOWN]))
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    return f"{'row' if len(rows) == 1 else 'rows'} {shown}{more}"


def may_be_empty(table: str) -> bool:
    """Whether the contract declares that a frame without rows is legal."""
    return bool((TABLES[table].metadata or {}).get("may_be_empty"))


def arrow_schema(table: str) -> pa.Schema:
    """The table's type in the lake: the same columns with explicit types and null flags.

    Tables of stages are written instance by instance and say so in the schema's metadata; snapshots are not.
    """
    return pa.schema(
        [
            pa.field(str(name), _ARROW[str(column.dtype)], nullable=bool(column.nullable))
            for name, column in TABLES[table].columns.items()
        ],
        metadata=None if may_be_empty(table) else {"partition_by": "instance"},
    )


def column_docs(table: str) -> list[tuple[str, str, str]]:
    """(name, type, description) of every column, for Dagster's table schema and other catalogues."""
    return [
        (str(name), "string" if str(column.dtype) == "str" else str(column.dtype), str(column.description))
        for name, column in TABLES[table].columns.items()
    ]
