"""Where state lives: one folder, ``var/`` by default, moved by ``HYBRID_HOME``.

Here: the paths and the check that the folder can be written. Not here: what the files in it mean.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from resources.failures import InputError

if TYPE_CHECKING:
    from sqlalchemy import URL

#: The checkout this code runs from; holds ``data/``, ``dbt_project/`` and ``dagster.yaml``.
PROJECT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Home:
    """Paths of all state."""

    root: Path

    @classmethod
    def from_environment(cls) -> Home:
        """The folder named by ``HYBRID_HOME``, else ``var/`` in the checkout."""
        return cls(_folder("HYBRID_HOME", PROJECT / "var"))

    @property
    def lake(self) -> Path:
        """Delta tables."""
        return self.root / "lake"

    @property
    def artifacts(self) -> Path:
        """Content-addressed payload blobs."""
        return self.root / "artifacts"

    @property
    def ledger(self) -> Path:
        """The SQLite file of job states and landed files, unless ``HYBRID_LEDGER`` names another database."""
        return self.root / "ledger.db"

    @property
    def ledger_url(self) -> str | URL:
        """Where job states and landed files are: the database URL in ``HYBRID_LEDGER``, else the file ``ledger``."""
        from sqlalchemy import URL

        return os.environ.get("HYBRID_LEDGER", "").strip() or URL.create("sqlite", database=str(self.ledger))

    @property
    def warehouse(self) -> Path:
        """The published DuckDB file."""
        return self.root / "warehouse.duckdb"

    @property
    def report(self) -> Path:
        """The report's page."""
        return self.root / "report" / "index.html"

    @property
    def dagster(self) -> Path:
        """Dagster's own storage."""
        return self.root / "dagster"

    @property
    def dbt(self) -> Path:
        """Target and log folder of dbt."""
        return self.root / "dbt"

    def prepare(self) -> Home:
        """Make the folders.

        Raises:
            InputError: the place cannot be written.
        """
        try:
            for folder in (self.lake, self.artifacts, self.report.parent, self.dagster, self.dbt):
                folder.mkdir(parents=True, exist_ok=True)
            probe = self.root / f".writable-{os.getpid()}"
            probe.touch()
            # another thread may have removed it
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(
                str(self.root),
                "HYBRID_HOME",
                f"state cannot be written there ({error.strerror})",
                "set HYBRID_HOME to a folder you may write to",
            ) from None
        return self


def inbox() -> Path:
    """The folder that is watched for input files: ``HYBRID_INBOX``, else ``data/inbox`` in the checkout."""
    return _folder("HYBRID_INBOX", PROJECT / "data" / "inbox")


def _folder(variable: str, default: Path) -> Path:
    try:
        return Path(os.environ.get(variable) or default).expanduser().resolve()
    except (RuntimeError, OSError) as error:
        raise InputError(
            variable, "value", f"{os.environ.get(variable)!r} is no folder ({error})", "give the path of a folder"
        ) from None
