"""Dagster's SQLite event log with its connections kept open.

The stock class makes a new engine and connection for every single event (about 15 ms; a line of eight stages writes
some hundred). Here: the methods that differ, and the part of ``dagster.yaml`` that names it.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dagster
import sqlalchemy as sa
import yaml
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS

#: Shards (one database a run, and the index) whose connections stay open.
OPEN_SHARDS = 8


class PooledSqliteEventLogStorage(SqliteEventLogStorage):
    """``SqliteEventLogStorage`` that keeps the newest shards' connections."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._engines: OrderedDict[str, sa.Engine] = OrderedDict()
        self._tables: set[str] = set()
        super().__init__(*args, **kwargs)
        # what asks about pools looks for tables while it holds a connection
        self._db_lock = threading.RLock()  # type: ignore[assignment]

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> PooledSqliteEventLogStorage:
        """As Dagster makes it from ``dagster.yaml``."""
        return cls(inst_data=inst_data, **config_value)

    def _engine(self, shard: str) -> sa.Engine:
        if shard not in self._engines:
            engine = sa.create_engine(
                self.conn_string_for_shard(shard),
                poolclass=sa.pool.QueuePool,
                pool_size=1,
                max_overflow=4,
                connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
            )
            sa.event.listen(engine, "connect", _pragmas)
            self._engines[shard] = engine
            while len(self._engines) > OPEN_SHARDS:
                self._engines.popitem(last=False)[1].dispose()
        self._engines.move_to_end(shard)
        return self._engines[shard]

    @contextmanager
    def _connect(self, shard: str) -> Iterator[sa.Connection]:
        with self._db_lock:
            engine = self._engine(shard)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.connect() as connection, connection.begin():
                yield connection

    def _initdb(self, engine: sa.Engine, for_index_shard: bool = False) -> None:
        """A new run's database is a copy of a blank one: making it by migrations takes 0.1 s a run."""
        shard, blank = Path(str(engine.url.database)), Path(self._base_dir) / f"blank-{dagster.__version__}"
        if for_index_shard or shard.exists() or not blank.exists():
            super()._initdb(engine, for_index_shard)
            if not for_index_shard and not blank.exists():
                with engine.connect() as connection:
                    connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
                _copy(shard, blank)
        else:
            _copy(blank, shard)

    def has_table(self, table_name: str) -> bool:
        """Whether the index has this table; a table that was there once stays."""
        if table_name not in self._tables:
            with self.index_connection() as connection:
                self._tables |= set(sa.inspect(connection).get_table_names())
        return table_name in self._tables

    def dispose(self) -> None:
        """Close all connections."""
        for engine in self._engines.values():
            engine.dispose()
        self._engines.clear()
        super().dispose()


def _copy(source: Path, target: Path) -> None:
    """Copy a file so that it appears whole; one that another process made meanwhile stays."""
    aside = target.with_name(f".{target.name}-{os.getpid()}")
    shutil.copyfile(source, aside)
    with suppress(FileExistsError):
        os.link(aside, target)
    aside.unlink()


def _pragmas(connection: Any, _: Any) -> None:
    # with a write-ahead log, NORMAL loses nothing when a process is killed, only maybe the last events in a power cut
    connection.execute("PRAGMA synchronous=NORMAL")


def storage_yaml(dagster_home: Path) -> str:
    """The storage part of ``dagster.yaml`` for this home; naming one storage means naming all three."""
    classes = {
        "run_storage": ("dagster._core.storage.runs", "SqliteRunStorage"),
        "schedule_storage": ("dagster._core.storage.schedules", "SqliteScheduleStorage"),
        "event_log_storage": (__name__, PooledSqliteEventLogStorage.__name__),
    }
    return yaml.safe_dump(
        {
            name: {"module": module, "class": class_, "config": {"base_dir": str(dagster_home / "history" / name)}}
            for name, (module, class_) in classes.items()
        }
    )
