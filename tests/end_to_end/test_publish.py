"""What analysts open: built aside from frozen versions, tested, swapped in whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from hybrid_assets.contracts import TABLES, arrow_schema, frame_of
from resources import warehouse
from resources.failures import InputError, InvariantError
from resources.lake import Lake
from tests.rows import NOW, rows

MARTS = {
    "leaderboard", "decisions", "samples", "candidates", "baselines", "comparisons", "jobs", "lineage", "audit_log",
    "trajectories", "measurements",
}  # fmt: skip
#: They hide nothing: blocked instances are in them too.
WHOLE = {"jobs", "audit_log", "measurements"}
LEADERBOARD = [
    "instance",
    "family",
    "size",
    "sense",
    "best_quantum",
    "quantum_backend",
    "evidence_class",
    "best_classical",
    "best_classical_solver",
    "best_known",
    "bound",
    "quantum_gap",
    "classical_gap",
    "confidence",
    "confidence_low",
    "confidence_high",
    "decision",
    "source",
    "reason",
    "objective",
    "winner",
    "narrowed",
    "seconds",
    "is_current",
]
INSTANCES = ["maxcut.fresh", "maxcut.stale", "maxcut.pending", "maxcut.blocked"]

READER = """
import duckdb, json, sys
with duckdb.connect(sys.argv[1], read_only=True) as connection:
    found = connection.sql(
        "select table_schema, table_name from information_schema.tables order by all").fetchall()
    print(json.dumps({f"{s}.{t}": connection.sql(f'select * from "{s}"."{t}"').df().shape for s, t in found}))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("publish")


@pytest.fixture(scope="module")
def lake(place: Path) -> Lake:
    """Four instances: answered; answered before its input changed; with a newer job running; with a failed check."""
    lake = Lake(place / "lake", {table: arrow_schema(table) for table in TABLES})
    lake.ensure_tables()
    for table in TABLES:
        found: list[dict[str, Any]] = []
        for instance in INSTANCES:
            found += rows(table, instance, **CHANGES.get((table, instance.split(".")[1]), {}))
        whole = None if table.startswith("control_") else INSTANCES
        lake.write(table, frame_of(table, found), whole, {"run_id": "test"})
    return lake


#: The first backend took too long, the second broke.
HOPS = [
    {"backend": "emulator", "failure_class": "saturation", "reason": "the queue is long", "next_backend": "aer"},
    {"backend": "aer", "failure_class": "backend", "reason": "it broke", "next_backend": None},
]
CHANGES: dict[tuple[str, str], dict[str, Any]] = {
    ("control_jobs", "stale"): {
        "hop": 1,
        "fallback_path": json.dumps(HOPS),
        "success_probability": 0.01,
        "noise_dominated": True,
        "replay_of": "envelope-fresh",
        "calibration": '{"time": "2026-01-02T03:04:05+00:00"}',
    },
    ("quantum_samples", "pending"): {"cached": True},
    # a walk whose last trip built on what another backend had answered
    ("quantum_samples", "fresh"): {"backend": "statevector"},
    **{
        ("control_audit", instance.split(".")[1]): {
            "sequence": number,
            "previous": f"digest-{number - 1}" if number > 1 else "0" * 64,
            "digest": f"digest-{number}",
        }
        for number, instance in enumerate(INSTANCES, start=1)
    },
    ("normalized_inputs", "stale"): {"input_digest": "changed"},
    ("quantum_jobs", "pending"): {"envelope_digest": "newer", "job_id": "job-newer"},
    ("control_materializations", "blocked"): {
        "event": "check",
        "check_name": "c",
        "passed": "false",
        "blocking": "true",
    },
}


def verdicts(place: Path) -> dict[str, str]:
    """How dbt's newest build answered each model and test."""
    results = json.loads((place / "dbt" / "run_results.json").read_text())["results"]
    return {result["unique_id"].split(".")[2]: result["status"] for result in results}


def publish(lake: Lake, place: Path, run_id: str) -> str:
    build = warehouse.begin(place / "warehouse.duckdb", lake, run_id, place / "dbt")
    try:
        warehouse.dbt_build(build)
        # Dagster's steps hand a build on by its run
        resumed = warehouse.resume(build.warehouse, lake, run_id, build.dbt)
        assert resumed == build
        return warehouse.finish(resumed)
    except BaseException:
        warehouse.abandon(build)
        raise


@pytest.fixture(scope="module")
def published(lake: Lake, place: Path) -> Callable[[str], list[tuple[Any, ...]]]:
    publication = publish(lake, place, "run-1")

    def query(sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(place / "warehouse.duckdb"), read_only=True) as connection:
            return connection.sql(sql).fetchall()

    assert query("select distinct publication_id from publication") == [(publication,)]
    return query


def test_trajectories_keep_a_candidate_that_has_an_earlier_answers_backend(
    published: Callable[[str], list[tuple[Any, ...]]],
) -> None:
    found = published(
        "select distinct proposer, seconds from trajectories where instance = 'maxcut.fresh' and step = 1"
    )
    assert "aer" in dict(found)


def test_a_fresh_process_selects_from_every_relation(
    published: Callable[[str], list[tuple[Any, ...]]], place: Path
) -> None:
    copy = place / "elsewhere.duckdb"
    copy.write_bytes((place / "warehouse.duckdb").read_bytes())
    done = subprocess.run([sys.executable, "-c", READER, str(copy)], capture_output=True, text=True, check=True)
    shapes = json.loads(done.stdout)
    assert {name.removeprefix("main.") for name in shapes if name.startswith("main.")} == MARTS | {"publication"}
    assert {name for name in shapes if name.startswith("staging.")} == {f"staging.stg_{table}" for table in TABLES}
    assert not [name for name in shapes if name.startswith("lake.")]
    assert all(count > 0 for name, (count, _) in shapes.items()), shapes


def test_the_file_says_what_it_was_built_from(published: Callable[[str], list[tuple[Any, ...]]], lake: Lake) -> None:
    found = published("select table_name, version, run_id from publication")
    assert {(table, version) for table, version, _ in found} == set(lake.versions().items())
    assert {run for _, _, run in found} == {"run-1"}


def test_the_published_file_can_be_queried_and_compared_with_the_lake(
    published: Callable[[str], list[tuple[Any, ...]]], lake: Lake, place: Path
) -> None:
    file = place / "warehouse.duckdb"
    assert warehouse.published_versions(file) == lake.versions()
    assert warehouse.query(file, "select count(*) as n from leaderboard")["n"].tolist() == [3]
    assert warehouse.published_versions(place / "none.duckdb") == {}
    with pytest.raises(InputError, match="nothing has been published"):
        warehouse.query(place / "none.duckdb", "select 1")


def test_leaderboard_has_the_promised_columns_and_tells_states_apart(
    published: Callable[[str], list[tuple[Any, ...]]],
) -> None:
    assert [name for name, *_ in published("describe leaderboard")][: len(LEADERBOARD)] == LEADERBOARD
    found = published(
        "select instance, is_current, pending, best_quantum, evidence_class from leaderboard order by all"
    )
    assert found == [
        ("maxcut.fresh", True, False, 4.0, "simulator"),
        ("maxcut.pending", False, True, 4.0, "simulator"),
        ("maxcut.stale", False, False, 4.0, "simulator"),
    ]


def test_a_blocked_instance_is_left_out_but_of_jobs_and_audit_log(
    published: Callable[[str], list[tuple[Any, ...]]],
) -> None:
    for mart in MARTS - WHOLE:
        assert published(f"select count(*) from {mart} where instance = 'maxcut.blocked'") == [(0,)], mart
    assert published("select job_id, blocked_by from jobs where blocked_by is not null") == [
        ("job-blocked", "decisions: c")
    ]
    assert published("select job_id, is_current, pending from jobs where instance = 'maxcut.pending' order by all") == [
        ("job-newer", True, True),
        ("job-pending", False, False),
    ]
    assert published("select count(*) from audit_log where instance = 'maxcut.blocked'") == [(1,)]


def test_jobs_say_what_a_device_would_take(published: Callable[[str], list[tuple[Any, ...]]]) -> None:
    assert published(
        "select distinct coupling_map, estimated_logical_two_qubit_gates, estimated_logical_depth, "
        "estimated_two_qubit_gates, estimated_depth, device_seconds, device_cost, device_priced_as from jobs "
        "where coupling_map is not null"
    ) == [("heavy-hex", 30.0, 15.0, 90.0, 63.0, 2.3, 3.6, "ibm, USD")]


def test_jobs_and_lineage_say_which_way_a_job_took(published: Callable[[str], list[tuple[Any, ...]]]) -> None:
    reason = "emulator to aer: the queue is long (saturation); aer, and no further: it broke (backend)"
    assert published(
        "select instance, hop, fallback_reason, noise_dominated, cached, owner from jobs where owner is not null "
        "order by all"
    ) == [
        ("maxcut.blocked", 0, None, False, False, "team"),
        ("maxcut.fresh", 0, None, False, False, "team"),
        ("maxcut.pending", 0, None, False, False, "team"),
        ("maxcut.stale", 1, reason, True, False, "team"),
    ]
    assert published(
        "select instance, policy_version, attempts, fallback_reason, success_probability, noise_dominated, cached, "
        "replay_of, epoch(calibrated_at) from lineage order by all"
    ) == [
        ("maxcut.fresh", "dev-1", 1, None, 0.5, False, False, None, None),
        # the newer job is another one: the lineage is that of the job that answered, whose read-outs were cached
        ("maxcut.pending", "dev-1", 1, None, 0.5, False, True, None, None),
        ("maxcut.stale", "dev-1", 1, reason, 0.01, True, False, "envelope-fresh", 1767323045.0),
    ]


def test_the_audit_log_is_published_in_order(published: Callable[[str], list[tuple[Any, ...]]], place: Path) -> None:
    found = published("select sequence, instance, happened_at, digest, verified from audit_log order by sequence")
    assert [(number, instance, digest) for number, instance, _, digest, _ in found] == [
        (number, instance, f"digest-{number}") for number, instance in enumerate(INSTANCES, start=1)
    ]
    assert all(at == NOW and verified for _, _, at, _, verified in found)
    assert verdicts(place)["audit_log_is_a_chain"] == "pass"


def test_lineage_leads_from_the_file_to_the_decision(published: Callable[[str], list[tuple[Any, ...]]]) -> None:
    assert published(
        "select source_file, source_digest, input_digest, encoding_digest, envelope_digest, job_id, backend, shots, "
        "calibration, code_version, run_id, is_current from lineage where instance = 'maxcut.fresh'"
    ) == [
        ("tiny.txt", "source", "input-fresh", "encoding-fresh", "envelope-fresh", "job-fresh", "aer", 100.0, "null",
         "1", "run", True)
    ]  # fmt: skip
    # the input has changed since this decision: what it was made from is not shown as if it were known
    assert published("select source_digest, is_current from lineage where instance = 'maxcut.stale'") == [(None, False)]


def test_every_mart_column_is_described(place: Path, published: Callable[[str], list[tuple[Any, ...]]]) -> None:
    manifest = json.loads((place / "dbt" / "manifest.json").read_text())
    models = {n["name"]: n for n in manifest["nodes"].values() if n["resource_type"] == "model"}
    for mart in MARTS:
        assert models[mart]["contract"]["enforced"]
        assert models[mart]["description"]
        assert [c for c in models[mart]["columns"].values() if not c["description"]] == []
        assert models[mart]["meta"]["dagster"]["asset_key"] == ["marts", mart]
    assert {s["name"]: s["meta"]["dagster"]["asset_key"] for s in manifest["sources"].values()} == {
        table: ["control_snapshot" if table.startswith("control_") else table] for table in TABLES
    }


def test_a_failing_test_leaves_the_published_file(
    lake: Lake, place: Path, published: Callable[[str], list[tuple[Any, ...]]]
) -> None:
    before = (place / "warehouse.duckdb").read_bytes()
    wrong = INSTANCES[0]
    # the comparison claims more than any candidate of the quantum arm has, the job was a simulation and its rows
    # claim a device
    for table, changed in {
        "baseline_comparisons": {"best_quantum": 5.0},
        "quantum_samples": {"evidence_class": "hardware"},
    }.items():
        lake.write(table, frame_of(table, rows(table, wrong, **changed)), [wrong], {})
    # a job has left its backend without a word, and a row of the audit log is gone
    lake.write("control_jobs", frame_of("control_jobs", rows("control_jobs", wrong, hop=1)), None, {})
    lake.write("control_audit", frame_of("control_audit", rows("control_audit", wrong, sequence=2)), None, {})
    with pytest.raises(InvariantError) as caught:
        publish(lake, place, "run-2")
    assert "best_quantum_comes_from_quantum" in str(caught.value)
    assert "evidence_is_never_raised" in str(caught.value)
    assert "every_fallback_has_its_reason" in str(caught.value)
    # which cannot be mended by publishing nothing
    assert verdicts(place)["audit_log_is_a_chain"] == "warn"
    assert (place / "warehouse.duckdb").read_bytes() == before
    assert {p.name for p in place.iterdir()} <= {"lake", "dbt", "warehouse.duckdb", "elsewhere.duckdb"}


def test_a_fresh_platform_can_be_published(tmp_path: Path) -> None:
    empty = Lake(tmp_path / "lake", {table: arrow_schema(table) for table in TABLES})
    empty.ensure_tables()
    publish(empty, tmp_path, "run-1")
    file = tmp_path / "warehouse.duckdb"
    with pytest.raises(InvariantError, match="no build to publish"):
        warehouse.resume(file, empty, "run-1", tmp_path / "dbt")
    assert [warehouse.query(file, f"select * from {mart}").shape[0] for mart in MARTS] == [0] * len(MARTS)


def test_an_unpinned_table_is_refused(tmp_path: Path) -> None:
    from deltalake import DeltaTable

    schema = arrow_schema("quantum_jobs")
    DeltaTable.create(tmp_path / "quantum_jobs", schema)
    with pytest.raises(InvariantError, match="version 0"):
        warehouse.begin(tmp_path / "w.duckdb", Lake(tmp_path, {"quantum_jobs": schema}), "run", tmp_path / "dbt")


def test_the_set_up_parses_the_project(tmp_path: Path) -> None:
    manifest = json.loads(warehouse.parse_manifest(tmp_path).read_text())
    assert {n["name"] for n in manifest["nodes"].values()} >= MARTS
