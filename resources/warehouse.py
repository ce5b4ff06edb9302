"""Publishing: the analysts' DuckDB file is built aside from frozen table versions and swapped in whole.

Here: what surrounds a dbt build: freezing versions, the environment dbt runs in, the swap and the clean-up. Not here:
the models (``dbt_project``) or when to publish (the stage-10 job). A reader sees the old file or the new one, never
something between; one that keeps a connection open keeps the old one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from resources.failures import InputError, InvariantError
from resources.home import PROJECT

if TYPE_CHECKING:
    import pandas as pd
    from dagster_dbt import DbtCliResource

    from resources.lake import Lake

DBT_PROJECT = PROJECT / "dbt_project"
#: dbt's parsed project, made at set-up (``python -m resources.warehouse``) and read when Dagster loads.
MANIFEST = DBT_PROJECT / "target" / "manifest.json"


@dataclass(frozen=True)
class Build:
    """One publish in the making.

    Attributes:
        warehouse: the published file.
        path: the file that is built, beside it.
        run_id: names the build and, once published, the publication.
        versions: table → version of the lake that is published.
        dbt: folder of dbt's target and logs.
        env: environment variables that pin dbt to all of this.
    """

    warehouse: Path
    path: Path
    run_id: str
    versions: dict[str, int]
    dbt: Path
    env: dict[str, str]


def begin(warehouse: Path, lake: Lake, run_id: str, dbt: Path) -> Build:
    """Freeze the versions of all tables and make room for the file to build.

    Args:
        warehouse: the published file (need not exist yet).
        lake: where the tables are.
        run_id: the run that publishes.
        dbt: folder for dbt's target and logs; its parsed project is kept there for the next build.

    Raises:
        InvariantError: a table is still at version 0, which the reader would take for "newest".
    """
    versions = lake.versions()
    unpinned = [table for table, version in versions.items() if version < 1]
    if unpinned:
        raise InvariantError(f"tables {', '.join(unpinned)} are at version 0; create them with ensure_tables.")
    _remove_leftovers(warehouse)
    folder = warehouse.parent / f".{warehouse.name}-{run_id}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "versions.json").write_text(json.dumps(versions), encoding="utf-8")
    return _build(warehouse, lake, run_id, dbt, versions)


def resume(warehouse: Path, lake: Lake, run_id: str, dbt: Path) -> Build:
    """The build that ``begin`` started for this run, in another step of it.

    Raises:
        InvariantError: there is none (it was published, abandoned, or never begun).
    """
    kept = warehouse.parent / f".{warehouse.name}-{run_id}" / "versions.json"
    if not kept.exists():
        raise InvariantError(f"run {run_id} has no build to publish; run the whole publication job again.")
    return _build(warehouse, lake, run_id, dbt, json.loads(kept.read_text(encoding="utf-8")))


def _build(warehouse: Path, lake: Lake, run_id: str, dbt: Path, versions: dict[str, int]) -> Build:
    path = warehouse.parent / f".{warehouse.name}-{run_id}" / "build.duckdb"
    pins = {f"V_{table.upper()}": str(version) for table, version in versions.items()}
    env = {**_dbt_env(dbt), **pins, "HYBRID_WAREHOUSE_BUILD": str(path), "HYBRID_LAKE": str(lake.root)}
    return Build(warehouse, path, run_id, versions, dbt, env)


def finish(build: Build) -> str:
    """Record what was built, close the file and swap it in; returns the publication's id.

    Raises:
        InvariantError: the file could not be closed cleanly; nothing is published.
    """
    import duckdb

    published_at = datetime.now(UTC)
    publication = f"{published_at:%Y%m%dT%H%M%S%f}-{build.run_id[:8]}"
    with duckdb.connect(str(build.path)) as connection:
        # what dbt loaded stands in the staging tables; the loads themselves are nobody's interface
        connection.execute("DROP SCHEMA IF EXISTS lake CASCADE")
        connection.execute(
            "CREATE OR REPLACE TABLE publication (publication_id VARCHAR NOT NULL, published_at TIMESTAMPTZ NOT NULL, "
            "table_name VARCHAR NOT NULL, version BIGINT NOT NULL, run_id VARCHAR NOT NULL)"
        )
        connection.execute(
            "COMMENT ON TABLE publication IS 'The version of each lake table that this file was built from'"
        )
        connection.executemany(
            "INSERT INTO publication VALUES (?, ?, ?, ?, ?)",
            [(publication, published_at, table, version, build.run_id) for table, version in build.versions.items()],
        )
        connection.execute("CHECKPOINT")
    if build.path.with_name(build.path.name + ".wal").exists():
        raise InvariantError(f"{build.path} was not closed cleanly (a .wal file is left); build it again.")
    os.replace(build.path, build.warehouse)
    abandon(build)
    return publication


def abandon(build: Build) -> None:
    """Remove whatever the build has left; the published file stays as it is."""
    shutil.rmtree(build.path.parent, ignore_errors=True)


def query(warehouse: Path, sql: str) -> pd.DataFrame:
    """Rows of the published file; the connection is closed before they are returned.

    Raises:
        InputError: nothing has been published yet.
    """
    import duckdb

    if not warehouse.exists():
        raise InputError(warehouse.name, "file", "nothing has been published yet", "run the line once")
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        return connection.execute(sql).df()


def published_versions(warehouse: Path) -> dict[str, int]:
    """Table → version the published file was built from; empty before the first publish."""
    if not warehouse.exists():
        return {}
    rows = query(warehouse, "SELECT table_name, version FROM publication")
    return {str(table): int(version) for table, version in rows.itertuples(index=False)}


def _remove_leftovers(warehouse: Path) -> None:
    """Builds of publishes that were killed more than an hour ago."""
    for folder in warehouse.parent.glob(f".{warehouse.name}-*"):
        if time.time() - folder.stat().st_mtime > 3600:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def applied(build: Build) -> Iterator[None]:
    """The build's variables in this process's environment, for a dbt that is started by somebody else."""
    before = {key: os.environ.get(key) for key in build.env}
    os.environ.update(build.env)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


# --- dbt ------------------------------------------------------------------------------------------------------------


def dbt_executable() -> str:
    """dbt beside the running Python: an environment that is not activated has none on its PATH."""
    return str(Path(sys.executable).with_name("dbt"))


def dbt_resource() -> DbtCliResource:
    """dbt as Dagster's resource."""
    from dagster_dbt import DbtCliResource

    return DbtCliResource(project_dir=str(DBT_PROJECT), profiles_dir=str(DBT_PROJECT), dbt_executable=dbt_executable())


def dbt_build(build: Build) -> None:
    """Build and test all models, outside Dagster.

    Raises:
        InvariantError: a model or a test failed; names it.
    """
    _dbt("build", build.env)


def parse_manifest(target: Path = MANIFEST.parent) -> Path:
    """Parse the project at set-up; returns the manifest, which Dagster needs before it can load.

    Raises:
        InvariantError: the project is broken; says where.
    """
    _dbt("parse", _dbt_env(target))
    return target / "manifest.json"


def _dbt_env(target: Path) -> dict[str, str]:
    return {
        "DBT_TARGET_PATH": str(target),
        "DBT_LOG_PATH": str(target),
        "DBT_PROFILES_DIR": str(DBT_PROJECT),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }


def _dbt(command: str, env: dict[str, str]) -> None:
    done = subprocess.run(
        [dbt_executable(), "--no-use-colors", "--quiet", command, "--project-dir", str(DBT_PROJECT)],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = " ".join((done.stdout or done.stderr).split())
        raise InvariantError(f"dbt {command} failed: {said}")


def manifest_is_current() -> bool:
    """Whether the manifest is newer than everything it was parsed from."""
    sources = [p for p in DBT_PROJECT.rglob("*") if p.suffix in (".sql", ".yml") and "target" not in p.parts]
    return MANIFEST.exists() and MANIFEST.stat().st_mtime > max(p.stat().st_mtime for p in sources)


if __name__ == "__main__" and not manifest_is_current():
    parse_manifest()
