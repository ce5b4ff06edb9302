"""The lake keeps what it was not asked to change: partitions, crashes, races, versions."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest

from resources.failures import InputError, InvariantError
from resources.lake import Lake
from tests.waiting import PATIENCE

SCHEMA = pa.schema(
    [
        pa.field("instance", pa.string(), nullable=False),
        pa.field("generation", pa.int64(), nullable=False),
        pa.field("score", pa.float64()),
        pa.field("note", pa.string()),
        pa.field("at", pa.timestamp("us", "UTC"), nullable=False),
    ]
)
KEYS = ["maxcut.a", "maxcut.b", "qubo.c", "qubo.it's"]
partitions = dg.DynamicPartitionsDefinition(name="instances")


def frame(*keys: str, generation: int = 1, copies: int = 2) -> pd.DataFrame:
    instances = [key for key in keys for _ in range(copies)]
    return pd.DataFrame(
        {
            "instance": pd.Series(instances, dtype="object"),
            "generation": pd.Series([generation] * len(instances), dtype="int64"),
            "score": pd.Series([None] * len(instances), dtype="float64"),
            "note": pd.Series([None] * len(instances), dtype="object"),
            "at": pd.to_datetime(["2026-01-02T03:04:05.678901Z"] * len(instances)).as_unit("us"),
        }
    )


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path / "lake", {"scores": SCHEMA, "snapshot": SCHEMA})
    lake.ensure_tables()
    return lake


def write(lake: Lake, *keys: str, generation: int = 1) -> int:
    return lake.write("scores", frame(*keys, generation=generation), keys, {"run_id": "r"})


# --- writing --------------------------------------------------------------------------------------------------------


def test_two_of_four_partitions_leave_the_others_untouched(lake: Lake) -> None:
    before = write(lake, *KEYS)
    after = write(lake, KEYS[1], KEYS[3], generation=2)
    assert after == before + 1
    rows = lake.read("scores").groupby("instance")["generation"].agg(["count", "min", "max"])
    assert rows.to_dict("index") == {
        key: {"count": 2, "min": g, "max": g} for key, g in zip(KEYS, [1, 2, 1, 2], strict=True)
    }
    pd.testing.assert_frame_equal(
        lake.read("scores", [KEYS[0], KEYS[2]]).sort_values("instance", ignore_index=True), frame(KEYS[0], KEYS[2])
    )


def test_types_survive_exactly_and_older_versions_stay_readable(lake: Lake) -> None:
    first = write(lake, KEYS[0])
    write(lake, KEYS[0], generation=2)
    pd.testing.assert_frame_equal(lake.read("scores", version=first), frame(KEYS[0]))
    pd.testing.assert_frame_equal(lake.read("scores"), frame(KEYS[0], generation=2))
    assert lake.versions() == {"scores": first + 1, "snapshot": 1}
    with pytest.raises(InputError, match="version 99 cannot be read"):
        lake.read("scores", version=99)


def as_column(column: str, values: list[object]) -> pd.DataFrame:
    return frame(KEYS[0]).assign(**{column: values})


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (as_column("generation", [9.5, 1]), "generation holds double, the schema says int64"),
        (as_column("generation", [9.0, 1.0]), "generation holds double"),
        (as_column("score", [1, 2]), "score holds int64"),
        (as_column("note", [1, "a"]), "mixed types"),
        (as_column("at", ["2026", "2027"]), "at holds string"),
        (as_column("generation", [1, None]), "generation has 1 missing"),
        (frame(KEYS[0]).drop(columns="note"), "columns note differ"),
        (frame(KEYS[0]).assign(more=1), "columns more differ"),
        (frame(), "no rows for maxcut.a"),
        (frame(KEYS[0], KEYS[1]), r"rows of other instances \(maxcut.b\)"),
    ],
)
def test_a_wrong_frame_stores_nothing(lake: Lake, bad: pd.DataFrame, words: str) -> None:
    version = write(lake, KEYS[0])
    with pytest.raises(InvariantError, match=words):
        lake.write("scores", bad, [KEYS[0]], {})
    assert lake.versions()["scores"] == version
    pd.testing.assert_frame_equal(lake.read("scores"), frame(KEYS[0]))


def test_a_partition_without_rows_is_refused_among_others(lake: Lake) -> None:
    write(lake, *KEYS)
    with pytest.raises(InvariantError, match=r"no rows for maxcut\.b"):
        lake.write("scores", frame(KEYS[0]), KEYS[:2], {})
    assert set(lake.read("scores")["instance"]) == set(KEYS)


def test_a_snapshot_is_replaced_whole_and_may_be_empty(lake: Lake) -> None:
    lake.write("snapshot", frame(*KEYS), None, {})
    lake.write("snapshot", frame(KEYS[0]), None, {})
    assert set(lake.read("snapshot")["instance"]) == {KEYS[0]}
    lake.write("snapshot", frame(), None, {})
    assert lake.read("snapshot").empty


def test_unknown_tables_are_named(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(InvariantError, match="knows no table 'other'"):
        lake.read("other")
    with pytest.raises(InvariantError, match="create the tables first"):
        Lake(tmp_path / "elsewhere", {"scores": SCHEMA}).read("scores")


def test_a_new_nullable_column_is_added_and_other_changes_are_refused(lake: Lake) -> None:
    write(lake, KEYS[0])
    wider = Lake(lake.root, {"scores": SCHEMA.append(pa.field("extra", pa.float64()))})
    wider.ensure_tables()
    assert wider.read("scores")["extra"].isna().all()
    retyped = Lake(lake.root, {"snapshot": SCHEMA.set(1, pa.field("generation", pa.string(), nullable=False))})
    with pytest.raises(InvariantError, match=r"another schema than the code \(generation\)"):
        retyped.ensure_tables()


# --- crashes and races ----------------------------------------------------------------------------------------------

WRITER = """
import sys
import numpy as np
from pathlib import Path
from resources.lake import Lake
from tests.dagster.test_lake import SCHEMA, KEYS, frame
lake = Lake(Path(sys.argv[1]), {"scores": SCHEMA})
big = frame(KEYS[0], generation=2, copies=1_000_000)
big["score"] = np.random.default_rng(1).random(len(big))
print("ready", flush=True)
lake.write("scores", big, [KEYS[0]], {})
print("written", flush=True)
"""


def test_a_writer_killed_half_way_changes_nothing(lake: Lake) -> None:
    write(lake, *KEYS)
    # many small files, so that the first one appears long before the commit
    lake._open("scores").alter.set_table_properties({"delta.targetFileSize": "100000"})
    before = lake.versions()["scores"]
    folder = lake.root / "scores"
    known = set(folder.glob("*.parquet"))
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(lake.root)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    while writer.poll() is None and not set(folder.glob("*.parquet*")) - known:
        time.sleep(0.001)
    os.kill(writer.pid, signal.SIGKILL)
    assert writer.wait() == -signal.SIGKILL
    assert writer.stdout.read() == "", "the writer was too fast for this test to mean anything"
    writer.stdout.close()

    orphans = set(folder.glob("*.parquet*")) - known
    assert orphans, "the writer had begun"
    assert lake.versions()["scores"] == before
    assert set(lake.read("scores")["generation"]) == {1}
    write(lake, KEYS[0], generation=3)
    assert set(lake.read("scores", [KEYS[0]])["generation"]) == {3}
    assert set(lake.read("scores", KEYS[1:])["generation"]) == {1}

    week = time.time() - 8 * 24 * 3600
    for orphan in orphans:
        os.utime(orphan, (week, week))
    deleted = lake.compact_and_vacuum()
    assert deleted["scores"] == len(orphans)
    assert not set(folder.glob("*.parquet*")) & orphans


def create_and_write(root: Path, key: str, barrier: Any) -> None:
    lake = Lake(root, {"scores": SCHEMA, "snapshot": SCHEMA})
    barrier.wait()
    lake.ensure_tables()
    lake.write("scores", frame(key), [key], {})
    barrier.wait()
    if key == "qubo.0":
        # now all instances lie in one file, so that every overwrite touches what the others touch
        lake.compact_and_vacuum()
    barrier.wait()
    for generation in range(2, 7):
        lake.write("scores", frame(key, generation=generation), [key], {})


def test_raced_creation_and_overwrites_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    keys = [f"qubo.{n}" for n in range(4)]
    barrier = context.Barrier(len(keys))
    racers = [context.Process(target=create_and_write, args=(tmp_path / "lake", key, barrier)) for key in keys]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(PATIENCE)
    assert [racer.exitcode for racer in racers] == [0] * len(keys)
    lake = Lake(tmp_path / "lake", {"scores": SCHEMA, "snapshot": SCHEMA})
    stored = lake.read("scores")
    assert sorted(stored["instance"]) == sorted(keys * 2)
    assert set(stored["generation"]) == {6}
    commits = lake._open("scores").history()
    assert sum(commit["operation"] == "WRITE" for commit in commits) == 6 * len(keys)
    assert lake.versions()["snapshot"] == 1
    assert {p.name for p in lake.root.iterdir()} == {"scores", "snapshot"}


# --- maintenance ----------------------------------------------------------------------------------------------------


def test_maintenance_merges_files_and_keeps_every_row_and_version(lake: Lake) -> None:
    versions = [write(lake, key, generation=g) for g in (1, 2, 3) for key in KEYS]
    before = lake.read("scores").sort_values("instance", ignore_index=True)
    lake.compact_and_vacuum()
    pd.testing.assert_frame_equal(lake.read("scores").sort_values("instance", ignore_index=True), before)
    assert set(lake.read("scores", version=versions[3])["generation"]) == {1}
    write(lake, KEYS[0], generation=4)
    assert dict(lake.read("scores").groupby("instance")["generation"].max()) == dict(
        zip(KEYS, [4, 3, 3, 3], strict=True)
    )
    with pytest.raises(InputError, match="retention_hours"):
        lake.compact_and_vacuum(0)


# --- Dagster --------------------------------------------------------------------------------------------------------


@dg.asset(partitions_def=partitions, io_manager_key="lake", code_version="7")
def scores(context: dg.AssetExecutionContext) -> pd.DataFrame:
    return frame(*context.partition_keys)


@dg.asset(partitions_def=partitions, io_manager_key="lake")
def foreign(context: dg.AssetExecutionContext) -> pd.DataFrame:
    return frame("qubo.other")


@dg.asset(partitions_def=partitions)
def reader(scores: pd.DataFrame) -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"rows": len(scores), "instances": sorted(set(scores["instance"]))})


@dg.asset(io_manager_key="lake")
def snapshot() -> pd.DataFrame:
    return frame()


def test_assets_write_and_read_their_own_partitions(tmp_path: Path) -> None:
    lake = Lake(tmp_path, {"scores": SCHEMA, "foreign": SCHEMA, "snapshot": SCHEMA})
    lake.ensure_tables()
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions("instances", KEYS)

        def run(asset: dg.AssetsDefinition, key: str | None = None) -> dg.ExecuteInProcessResult:
            return dg.materialize(
                [asset, *([scores] if asset is reader else [])],
                selection=[asset],
                partition_key=key,
                instance=instance,
                resources={"lake": lake, "io_manager": dg.mem_io_manager},
                raise_on_error=False,
            )

        for key in KEYS[:2]:
            stored = run(scores, key)
            assert stored.success
        output = stored.asset_materializations_for_node("scores")[0].metadata
        assert output["lake_version"].value == lake.versions()["scores"]
        commit = lake._open("scores").history(1)[0]
        assert (commit["run_id"], commit["code_version"]) == (stored.run_id, "7")

        read = run(reader, KEYS[1])
        assert read.asset_materializations_for_node("reader")[0].metadata["instances"].value == [KEYS[1]]
        assert "has no rows of qubo.c" in failure(run(reader, KEYS[2]))
        assert "rows of other instances (qubo.other)" in failure(run(foreign, KEYS[0]))
        assert lake.read("foreign").empty
        assert run(snapshot).success


def failure(result: dg.ExecuteInProcessResult) -> str:
    assert not result.success
    event = next(e for e in result.all_events if e.is_step_failure)
    text = []
    error = event.step_failure_data.error
    while error is not None:
        text.append(error.message)
        error = error.cause
    return " ".join(text)


def test_an_instance_is_read_as_it_is_now(lake: Lake) -> None:
    write(lake, KEYS[0], generation=1)
    first = lake.partition("scores", KEYS[0])
    first["generation"] = 99
    assert set(lake.partition("scores", KEYS[0])["generation"]) == {1}
    write(lake, KEYS[0], generation=2)
    assert set(lake.partition("scores", KEYS[0])["generation"]) == {2}
    other = Lake(lake.root, lake.schemas)
    write(other, KEYS[0], generation=3)
    assert set(lake.partition("scores", KEYS[0])["generation"]) == {3}
    with pytest.raises(dg.Failure, match="materialize scores for it first"):
        lake.partition("scores", "nobody")
