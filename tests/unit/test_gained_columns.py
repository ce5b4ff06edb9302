"""A lake from before a column was gained: it opens, its rows have none, new rows have it, and it opens again."""

from pathlib import Path

import pyarrow as pa
import pytest

from hybrid_assets.contracts import arrow_schema, frame_of
from resources.lake import Lake
from tests.rows import rows

GAINED = {
    "encoded_problems": ["discretisation_error", "auxiliary_variables", "native_terms", "preparation_depth"],
    "quantum_jobs": [
        "coupling_map",
        "estimated_logical_two_qubit_gates",
        "estimated_logical_depth",
        "estimated_two_qubit_gates",
        "estimated_depth",
        "device_seconds",
        "device_cost",
        "device_priced_as",
    ],
    "scored_candidates": ["feasible_mass", "leakage"],
}


@pytest.mark.parametrize("table", GAINED)
def test_a_lake_from_before_is_extended(table: str, tmp_path: Path) -> None:
    now, names = arrow_schema(table), GAINED[table]
    before = pa.schema([field for field in now if field.name not in names], metadata=now.metadata)
    frame = frame_of(table, rows(table))
    old = Lake(tmp_path, {table: before})
    old.ensure_tables()
    old.write(table, frame.drop(columns=names), ["maxcut.tiny"], {})
    lake = Lake(tmp_path, {table: now})
    lake.ensure_tables()
    assert lake.read(table)[names].isna().all(axis=None)
    other = frame_of(table, rows(table, "maxcut.other"))
    lake.write(table, other, ["maxcut.other"], {})
    again = Lake(tmp_path, {table: now})
    again.ensure_tables()
    found = again.read(table, ["maxcut.other"])
    assert found[names].equals(other[names].reset_index(drop=True))
    assert len(again.read(table)) == len(frame) + len(other)
