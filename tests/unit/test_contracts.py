"""The contracts accept what the story writes and refuse everything else with one readable message."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_assets.contracts import TABLES, arrow_schema, column_docs, frame_of, may_be_empty, validate
from resources.failures import InvariantError
from tests.rows import rows


@pytest.mark.parametrize("table", TABLES)
def test_valid_rows_pass_and_come_back_in_the_contracts_order(table: str) -> None:
    frame = frame_of(table, rows(table))
    assert list(frame) == list(TABLES[table].columns)
    assert len(frame) == len(rows(table))
    shuffled = frame[list(reversed(list(frame)))]
    pd.testing.assert_frame_equal(validate(table, shuffled), frame)


@pytest.mark.parametrize("table", TABLES)
def test_arrow_schema_agrees_with_the_frame(table: str) -> None:
    frame = frame_of(table, rows(table))
    schema = arrow_schema(table)
    stored = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
    stored.validate(full=True)
    back = stored.to_pandas()
    pd.testing.assert_frame_equal(back, frame)
    for field in schema:
        assert field.nullable == TABLES[table].columns[field.name].nullable


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_described(table: str) -> None:
    assert TABLES[table].description
    docs = column_docs(table)
    assert [name for name, _, _ in docs] == list(TABLES[table].columns)
    assert all(len(description) > 3 and description.endswith(".") for _, _, description in docs)
    assert {kind for _, kind, _ in docs} <= {"string", "int64", "float64", "bool", "datetime64[us, UTC]"}


@pytest.mark.parametrize("table", TABLES)
def test_an_empty_frame_needs_a_declaration(table: str) -> None:
    if may_be_empty(table):
        frame = frame_of(table, [])
        assert list(frame) == list(TABLES[table].columns)
        assert pa.Table.from_pandas(frame, schema=arrow_schema(table), preserve_index=False).num_rows == 0
    else:
        with pytest.raises(InvariantError, match="no rows"):
            frame_of(table, [])
    assert may_be_empty(table) == table.startswith("control_")


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_guarded(table: str) -> None:
    good = frame_of(table, rows(table))
    columns = TABLES[table].columns
    kinds = {name: str(column.dtype) for name, column in columns.items()}

    with pytest.raises(InvariantError) as caught:
        validate(table, good[[]].assign(surplus=1))
    assert "column surplus is not part of the contract" in str(caught.value)
    assert f"columns {', '.join(sorted(columns))} are missing" in str(caught.value)

    with pytest.raises(InvariantError) as caught:
        validate(table, good.assign(**{n: [9.5 if kind == "int64" else 7] * len(good) for n, kind in kinds.items()}))
    for name, kind in kinds.items():
        assert re.search(rf"column {name}\b[^;]* is not of type {re.escape(kind)};", str(caught.value)), name

    required = [n for n, column in columns.items() if not column.nullable and kinds[n] not in ("int64", "bool")]
    with pytest.raises(InvariantError) as caught:
        validate(table, good.assign(**{name: good[name].where([False] * len(good)) for name in required}))
    for name in required:
        assert re.search(rf"column {name}, rows? 0[^:]*: the value is missing", str(caught.value)), name


@pytest.mark.parametrize(
    ("table", "changed", "words"),
    [
        ("quantum_samples", {"energy": math.inf}, "column energy, rows 0, 1: inf is refused, it must be a finite"),
        ("quantum_samples", {"evidence_class": "magic"}, "must be one of hardware, emulator"),
        ("quantum_samples", {"rank": 1}, "the key .* is not unique"),
        ("quantum_samples", {"count": 101}, "count must not exceed shots"),
        ("scored_candidates", {"values": "[NaN]"}, "column values.* must be a JSON document"),
        ("scored_candidates", {"p": 1.5}, "column p,.* of at most 1"),
        ("scored_candidates", {"p_low": 0.65}, "p must lie between p_low and p_high"),
        ("scored_candidates", {"evidence_class": "surrogate"}, "evidence_class must agree with arm"),
        ("baseline_runs", {"evidence_class": "simulator"}, "must be one of classical"),
        ("baseline_comparisons", {"quantum_evidence_class": "surrogate"}, "must be one of hardware, emulator"),
        ("baseline_comparisons", {"quantum_evidence_class": None}, "must be given together"),
        ("decisions", {"source": "surrogate"}, "evidence_class must agree with source"),
        ("decisions", {"feasible": False}, "must be feasible"),
        ("normalized_inputs", {"sense": "up"}, "column sense, row 0: 'up' is refused, it must be one of min, max"),
    ],
)
def test_rules_of_the_story(table: str, changed: dict[str, object], words: str) -> None:
    with pytest.raises(InvariantError, match=words):
        frame_of(table, rows(table, **changed))


def test_the_key_is_a_slug() -> None:
    row = {**rows("quantum_jobs")[0], "instance": "no slug"}
    with pytest.raises(InvariantError, match="must be a slug"):
        frame_of("quantum_jobs", [row])


def test_one_message_names_everything() -> None:
    good = frame_of("quantum_samples", rows("quantum_samples"))
    bad = pd.concat([good] * 5, ignore_index=True).assign(rank=range(1, 11), energy=np.nan, backend=3)
    with pytest.raises(InvariantError) as caught:
        validate("quantum_samples", bad, file="g1.txt")
    message = str(caught.value)
    assert message.startswith("g1.txt (table quantum_samples): ")
    assert "column energy, rows 0, 1, 2, 3, 4 and 5 more: the value is missing; fill it" in message
    assert "column backend" in message
    assert "\n" not in message


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "energy": st.floats(allow_nan=False, allow_infinity=False),
                "count": st.integers(1, 100),
                "bits": st.text("01", min_size=1, max_size=8),
            }
        ),
        min_size=1,
        max_size=20,
    )
)
def test_samples_survive_arrow_exactly(samples: list[dict[str, object]]) -> None:
    base = rows("quantum_samples")[0]
    frame = frame_of("quantum_samples", [{**base, **s, "rank": k + 1} for k, s in enumerate(samples)])
    stored = pa.Table.from_pandas(frame, schema=arrow_schema("quantum_samples"), preserve_index=False)
    pd.testing.assert_frame_equal(stored.to_pandas(), frame, check_exact=True)


def test_json_columns_take_what_json_dumps_writes() -> None:
    row = rows("decisions", path=json.dumps([{"step": "é", "n": 1.5}]))
    assert frame_of("decisions", row)["path"].iloc[0].startswith("[{")
