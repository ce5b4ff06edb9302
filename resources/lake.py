"""The lake: one Delta table per stage, written one commit per step, readable at any version within retention.

Here: ``Lake``, which is Dagster's IO manager and, outside Dagster, the way to read the tables. Not here: what the
columns mean (the schemas are handed in) and the analysts' file (``warehouse``).

Delta stores 9.5 as 9 in an integer column and takes an empty frame as a deletion; both are refused before the write.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import dagster as dg
import pandas as pd
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema, write_deltalake
from deltalake.exceptions import CommitFailedError, TableNotFoundError
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from resources.failures import HybridError, InputError, InvariantError

#: How long removed files and log entries stay, so that older versions can be read.
_PROPERTIES = {
    # a reader replays the log since the last checkpoint
    "delta.checkpointInterval": "20",
    "delta.logRetentionDuration": "interval 30 days",
    "delta.deletedFileRetentionDuration": "interval 7 days",
}

# delta-rs rebases commits that do not touch the same rows; what it refuses is done again on the new version
_on_conflict = retry(
    retry=retry_if_exception_type(CommitFailedError),
    wait=wait_random_exponential(multiplier=0.02, max=1.0),
    stop=stop_after_attempt(20),
    reraise=True,
)


class Lake(dg.IOManager):
    """Delta tables under one folder; where a schema's metadata names ``partition_by``, with files per value of it.

    Tables with an ``instance`` column hold partitions and are written through ``write`` for a set of instances; the
    others are snapshots and are written whole.

    Args:
        root: folder of the tables.
        schemas: table name → exact schema with null flags.
    """

    def __init__(self, root: Path, schemas: Mapping[str, pa.Schema]) -> None:
        self.root = Path(root)
        self.schemas = dict(schemas)
        self._newest: dict[str, DeltaTable] = {}
        self._recent: dict[tuple[str, str, int], pd.DataFrame] = {}

    # --- tables -----------------------------------------------------------------------------------------------------

    def ensure_tables(self) -> None:
        """Create the missing tables and add nullable columns that the schemas have gained.

        A table is made aside and moved into place whole, so that processes that race each other, or die, leave
        either no table or a complete one. Tables start at version 1, because readers of pinned versions take 0 for
        "not pinned".

        Raises:
            InvariantError: a table exists with another schema.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        for table, schema in self.schemas.items():
            if not (self.root / table / "_delta_log").is_dir():
                self._create(table, schema)
            self._extend(table, schema)

    def _create(self, table: str, schema: pa.Schema) -> None:
        aside = self.root / f".{table}-{uuid.uuid4().hex}"
        try:
            made = DeltaTable.create(
                aside, schema.remove_metadata(), mode="error", name=table, partition_by=_partition_by(schema)
            )
            made.alter.set_table_properties(_PROPERTIES)
            os.rename(aside, self.root / table)
        except OSError:
            if not (self.root / table / "_delta_log").is_dir():
                raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    @_on_conflict
    def _extend(self, table: str, schema: pa.Schema) -> None:
        stored = self._open(table)
        found = pa.schema(stored.schema())
        if found.equals(schema):
            return
        gained = [field for field in schema if field.name not in found.names]
        if [f for f in schema if f.name in found.names] != list(found) or not all(f.nullable for f in gained):
            theirs, ours = set(found), set(schema)
            differences = ", ".join(sorted({f.name for f in theirs ^ ours})) or "the order of columns"
            raise InvariantError(
                f"table {table} in {self.root} has another schema than the code ({differences}); "
                "move the lake away and run the stages again, or migrate the table."
            )
        stored.alter.add_columns(Schema.from_arrow(pa.schema(gained)).fields)

    def _open(self, table: str, version: int | None = None) -> DeltaTable:
        if table not in self.schemas:
            raise InvariantError(f"the lake knows no table {table!r}; it has {', '.join(self.schemas)}.")
        try:
            if version is None:
                # what is known already needs only the log's new entries
                if table in self._newest:
                    self._newest[table].update_incremental()
                else:
                    self._newest[table] = DeltaTable(self.root / table)
                return self._newest[table]
            return DeltaTable(self.root / table, version=version)
        except TableNotFoundError:
            raise InvariantError(f"table {table} does not exist in {self.root}; create the tables first.") from None
        except Exception as error:
            raise InputError(
                str(self.root / table),
                "version",
                f"version {version} cannot be read ({str(error).splitlines()[0]})",
                "ask for a version within the retention period",
            ) from error

    def versions(self) -> dict[str, int]:
        """The newest version of every table: frozen together by a publish."""
        return {table: self._open(table).version() for table in self.schemas}

    # --- rows -------------------------------------------------------------------------------------------------------

    def read(self, table: str, instances: Collection[str] | None = None, version: int | None = None) -> pd.DataFrame:
        """Rows of a table, of some instances or all, now or at an earlier version; instances without rows are absent.

        Raises:
            InvariantError: no such table. InputError: no such version.
        """
        stored = self._open(table, version)
        if instances is None:
            return stored.to_pandas()
        wanted = [("instance", "in", sorted(instances) or [""])]
        if _partition_by(self.schemas[table]):
            # only these instances' files are looked at, however many there are
            return stored.to_pandas(partitions=wanted)
        return stored.to_pandas(filters=wanted)

    def write(
        self, table: str, frame: pd.DataFrame, instances: Sequence[str] | None, metadata: Mapping[str, str]
    ) -> int:
        """Replace the rows of ``instances``, and no others, in one commit; ``None`` replaces the whole snapshot.

        Args:
            table: name of the table.
            frame: the new rows, in the exact schema; each instance must have some.
            instances: the step's partition keys.
            metadata: kept with the commit (run id, code version).

        Returns:
            The version that holds the rows.

        Raises:
            InvariantError: the frame does not fit the schema, has rows of other instances or lacks some.
        """
        rows = self._exact(table, frame)
        predicate = None
        if instances is not None:
            present = set(frame["instance"])
            foreign, missing = sorted(present - set(instances)), sorted(set(instances) - present)
            if foreign:
                raise InvariantError(f"table {table}: rows of other instances ({_few(foreign)}) are refused.")
            if missing or not instances:
                raise InvariantError(
                    f"table {table}: no rows for {_few(missing) or 'any instance'}; an empty result would delete what "
                    "is stored, so the step must fail or yield nothing."
                )
            quoted = ", ".join("'" + key.replace("'", "''") + "'" for key in sorted(instances))
            predicate = f"instance IN ({quoted})"
        return self._commit(table, rows, predicate, dict(metadata))

    @_on_conflict
    def _commit(self, table: str, rows: pa.Table, predicate: str | None, metadata: dict[str, str]) -> int:
        stored = self._open(table)
        write_deltalake(
            stored,
            rows,
            mode="overwrite",
            predicate=predicate,
            commit_properties=CommitProperties(custom_metadata=metadata, max_commit_retries=20),
        )
        return stored.version()

    def _exact(self, table: str, frame: pd.DataFrame) -> pa.Table:
        """The frame as Arrow, refused unless columns, types and null flags agree with the schema."""
        self._open(table)
        schema = self.schemas[table]
        differing = sorted(set(frame.columns) ^ set(schema.names))
        if differing:
            raise InvariantError(f"table {table}: columns {_few(differing)} differ from the schema.")
        try:
            found = pa.Table.from_pandas(frame[schema.names], preserve_index=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InvariantError(f"table {table}: mixed types in a column ({error}).") from None
        for field, column in zip(schema, found.columns, strict=True):
            if column.null_count and not field.nullable:
                raise InvariantError(f"table {table}: column {field.name} has {column.null_count} missing values.")
            if column.type != field.type and column.null_count < len(column):
                raise InvariantError(
                    f"table {table}: column {field.name} holds {column.type}, the schema says {field.type}; "
                    "convert it where it is made."
                )
        return found.cast(schema)

    # --- Dagster ----------------------------------------------------------------------------------------------------

    def handle_output(self, context: dg.OutputContext, obj: pd.DataFrame) -> None:
        """Store a step's frame under its asset's name; a refused frame fails the step without retries."""
        table = context.asset_key.path[-1]
        instances = list(context.asset_partition_keys) if context.has_asset_partitions else None
        metadata = {"run_id": context.run_id, "code_version": str(context.asset_spec.code_version)}
        try:
            if not isinstance(obj, pd.DataFrame):
                raise InvariantError(f"table {table}: a step gave {type(obj).__name__} instead of a DataFrame.")
            version = self.write(table, obj, instances, metadata)
        except HybridError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        context.add_output_metadata({"lake_version": version})

    def partition(self, table: str, instance: str) -> pd.DataFrame:
        """The rows of one instance.

        Raises:
            dg.Failure: there are none; says what to materialize.
        """
        version = self._open(table).version()
        key = (table, instance, version)
        if key not in self._recent:
            frame = self.read(table, [instance])
            if frame.empty:
                raise dg.Failure(
                    f"table {table} has no rows of {instance}; materialize {table} for it first.", allow_retries=False
                )
            # the stages of one line read the same rows again and again
            self._recent[key] = frame
            if len(self._recent) > len(self.schemas):
                self._recent.pop(next(iter(self._recent)))
        return self._recent[key].copy()

    def load_input(self, context: dg.InputContext) -> pd.DataFrame:
        """The rows of the partitions a step depends on; a partition without rows is an error."""
        table = context.asset_key.path[-1]
        if not context.has_asset_partitions:
            return self.read(table)
        instances = list(context.asset_partition_keys)
        frame = self.read(table, instances)
        missing = sorted(set(instances) - set(frame["instance"]))
        if missing:
            raise dg.Failure(
                f"table {table} has no rows of {_few(missing)}; materialize {context.asset_key.to_user_string()} for "
                "them first.",
                allow_retries=False,
            )
        return frame

    # --- maintenance ------------------------------------------------------------------------------------------------

    def compact_and_vacuum(self, retention_hours: int = 168) -> dict[str, int]:
        """Merge small files and delete those no version within the retention period needs.

        Args:
            retention_hours: versions younger than this stay readable; at least 1, so that neither a running write
                nor a publish loses its files.

        Returns:
            Files deleted per table.

        Raises:
            InputError: the retention is too short.
        """
        if retention_hours < 1:
            raise InputError(
                "maintenance", "retention_hours", f"{retention_hours} would delete files in use", "use at least 1"
            )
        return {table: self._maintain(table, retention_hours) for table in self.schemas}

    @_on_conflict
    def _maintain(self, table: str, retention_hours: int) -> int:
        stored = self._open(table)
        stored.optimize.compact()
        deleted = stored.vacuum(retention_hours, dry_run=False, enforce_retention_duration=False, full=True)
        stored.create_checkpoint()
        stored.cleanup_metadata()
        return len(deleted)


def _partition_by(schema: pa.Schema) -> list[str]:
    """The column whose values have files of their own, as the schema's metadata says."""
    column = (schema.metadata or {}).get(b"partition_by")
    return [column.decode()] if column else []


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
