"""The catalogue of landed files: what was found where, and what was asked of it.

Here: the ``landings`` table. Not here: reading files (``hybrid_assets.landing``), jobs (``ledger``).
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from resources.database import Conflict, Database, patient
from resources.failures import InvariantError
from resources.ledger_tables import LANDINGS, Landing


class Catalogue(Database):
    """Landed files by instance key."""

    @patient
    def land(self, landing: Landing) -> None:
        """Record a landed file (insert or replace by instance key).

        Raises:
            Conflict: the key belongs to a file at another path.
        """
        values = {
            **landing.__dict__,
            "options": json.dumps(landing.options, sort_keys=True, allow_nan=False),
            "updated_at": datetime.now(UTC),
        }
        with self.transaction() as tx:
            path = tx.execute(sa.select(LANDINGS.c.path).filter_by(instance=landing.instance)).scalar()
            if path is None:
                tx.execute(LANDINGS.insert().values(**values))
            elif path == landing.path:
                tx.execute(LANDINGS.update().where(LANDINGS.c.instance == landing.instance).values(**values))
            else:
                raise Conflict(f"{landing.instance} is the file {path}, not {landing.path}")

    @patient
    def landing(self, instance: str) -> Landing | None:
        """The landed file behind an instance key."""
        with self.engine.connect() as tx:
            row = tx.execute(sa.select(LANDINGS).filter_by(instance=instance)).first()
        return _landing(row) if row else None

    @patient
    def landings(self, *, path: str | None = None) -> list[Landing]:
        """Landed files, by key; all, or those found at ``path``."""
        query = sa.select(LANDINGS).order_by(LANDINGS.c.instance)
        if path is not None:
            query = query.filter_by(path=path)
        with self.engine.connect() as tx:
            return [_landing(r) for r in tx.execute(query)]

    @patient
    def mark_landing(self, instance: str, state: str) -> None:
        """Set a landing's state (``present``, ``deleted``, ``retired``).

        Raises:
            InvariantError: there is no such landing or state.
        """
        if state not in ("present", "deleted", "retired"):
            raise InvariantError(f"a landing cannot be {state!r}")
        with self.transaction() as tx:
            changed = tx.execute(
                LANDINGS.update()
                .where(LANDINGS.c.instance == instance)
                .values(state=state, updated_at=datetime.now(UTC))
            )
            if changed.rowcount == 0:
                raise InvariantError(f"the ledger has no landed file {instance}")


def _landing(row: Any) -> Landing:
    values = dict(row._mapping)
    values.pop("updated_at")
    values["options"] = json.loads(values["options"])
    return Landing(**values)
