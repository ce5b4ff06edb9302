"""The statements of the ledger's hot path, made once per shape.

Here: SQL of moves and events. Not here: when they run (``ledger``), all other SQL (beside its use).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from resources.ledger_tables import EVENTS, JOBS, TRANSITIONS

#: From which states each state can be reached.
_BEFORE = {state: tuple(s for s in TRANSITIONS if state in TRANSITIONS[s]) for state in TRANSITIONS}


@lru_cache(maxsize=1024)
def change(
    expected: tuple[str, ...] | None, version: bool, steps: int, first: str, columns: tuple[str, ...]
) -> sa.Executable:
    """The update of a job by a move; it changes nothing and returns no row where the move does not fit.

    Parameters: ``job``, ``read`` (the version, where it counts), ``now``, and ``new_<column>`` for each of ``columns``.
    """
    # written out: a list as a parameter would be expanded at every call
    states: list[Any] = [sa.literal_column(f"'{s}'") for s in _BEFORE[first] if expected is None or s in expected]
    update = JOBS.update().where(JOBS.c.job_id == sa.bindparam("job"), JOBS.c.state.in_(states))
    if version:
        update = update.where(JOBS.c.version == sa.bindparam("read"))
    values: dict[str, Any] = {name: sa.bindparam(f"new_{name}", type_=JOBS.c[name].type) for name in columns}
    values["version"] = JOBS.c.version + steps
    if "look_at" not in values:
        values["look_at"] = sa.func.coalesce(JOBS.c.look_at, sa.bindparam("now", type_=JOBS.c.look_at.type))
    return update.values(values).returning(*JOBS.columns)


#: The insert of an event; its parameters are the columns.
RECORD = EVENTS.insert().values({column.name: sa.bindparam(column.name) for column in EVENTS.columns})
