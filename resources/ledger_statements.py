"""The statements of the ledger's hot path, made once per shape.

Here: SQL of intents, moves and events. Not here: when they run (``ledger``), how (``prepared``), all other SQL (beside
its use).

PostgreSQL writes a job and its events with one statement, which is a transaction of its own where nothing else belongs
to it: one round trip in place of four or five. SQLite has no such statement and no round trips.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from resources.ledger_tables import ENVELOPES, EVENTS, JOBS, TRANSITIONS
from resources.prepared import Prepared

#: From which states each state can be reached.
_BEFORE = {state: tuple(s for s in TRANSITIONS if state in TRANSITIONS[s]) for state in TRANSITIONS}
_NOW = sa.bindparam("now", type_=EVENTS.c.at.type)


@lru_cache(maxsize=1024)
def change(
    expected: tuple[str, ...] | None,
    version: bool,
    through: bool,
    first: str,
    columns: tuple[str, ...],
    recording: bool,
) -> Prepared:
    """The update of a job by a move; it changes nothing and gives no row where the move does not fit.

    Parameters: ``job``, ``read`` (the version, where it counts), ``now``, and ``new_<column>`` for each of ``columns``.

    Args:
        expected: states that the job may be in; ``None``: any from which the ``first`` state can be reached.
        through: two events, the first of the state passed on the way.
        recording: the events are written as well (PostgreSQL); parameters ``through`` and ``detail``.
    """
    # written out: a list as a parameter would be expanded at every call
    states: list[Any] = [sa.literal_column(f"'{s}'") for s in _BEFORE[first] if expected is None or s in expected]
    update = JOBS.update().where(JOBS.c.job_id == sa.bindparam("job"), JOBS.c.state.in_(states))
    if version:
        update = update.where(JOBS.c.version == sa.bindparam("read"))
    values = _values(columns) | {"version": JOBS.c.version + sa.literal_column("2" if through else "1")}
    if "look_at" not in values:
        values["look_at"] = sa.func.coalesce(JOBS.c.look_at, _NOW)
    changed = update.values(values).returning(*JOBS.columns)
    if not recording:
        return Prepared(changed, JOBS.columns)
    moved = changed.cte("moved")
    events = sa.select(moved.c.job_id, moved.c.version, moved.c.state, _NOW, sa.bindparam("detail", type_=sa.String))
    both: sa.Select[Any] | sa.CompoundSelect[Any] = events
    if through:
        passed = sa.bindparam("through", type_=sa.String)
        both = sa.union_all(
            sa.select(moved.c.job_id, moved.c.version - sa.literal_column("1"), passed, _NOW, sa.literal_column("''")),
            events,
        )
    return Prepared(sa.select(moved).add_cte(EVENTS.insert().from_select(_EVENT, both).cte("recorded")), JOBS.columns)


@lru_cache(maxsize=256)
def overwrite(columns: tuple[str, ...]) -> Prepared:
    """The update of a job that is locked and was checked; parameters ``job`` and ``new_<column>``."""
    return Prepared(JOBS.update().where(JOBS.c.job_id == sa.bindparam("job")).values(_values(columns)))


def _values(columns: tuple[str, ...]) -> dict[str, Any]:
    return {name: sa.bindparam(f"new_{name}", type_=JOBS.c[name].type) for name in columns}


def _given(table: sa.Table, prefix: str = "") -> dict[str, Any]:
    """Every column from a parameter of its name."""
    return {column.name: sa.bindparam(f"{prefix}{column.name}", type_=column.type) for column in table.columns}


_EVENT = [column.name for column in EVENTS.columns]
#: The insert of an event; its parameters are the columns.
RECORD = Prepared(EVENTS.insert().values(_given(EVENTS)))
#: What a new job's row holds where nothing else is said.
UNSAID = {column.name: getattr(column.default, "arg", None) for column in JOBS.columns}
#: What an intent says; the rest is unsaid.
SAID = (
    *("job_id", "idempotency_key", "envelope_digest", "instance", "family", "correlation_id", "backend", "state"),
    *("created_at", "updated_at", "owner", "priority", "provider_key", "policy_version", "replay_of"),
    *("look_at", "claimed_by", "claimed_until"),
)

#: An envelope and a job's intent, unless they are there (``INTENT`` gives the id of a job that is new); parameters
#: ``paper_<column>`` and ``job_<column>``.
PAPER = Prepared(sqlite.insert(ENVELOPES).values(_given(ENVELOPES, "paper_")).on_conflict_do_nothing())
NEW = Prepared(JOBS.insert().values(_given(JOBS, "job_")))
INTENT = Prepared(
    sqlite.insert(JOBS).values(_given(JOBS, "job_")).on_conflict_do_nothing().returning(JOBS.c.job_id), (JOBS.c.job_id,)
)


def _written_out(value: str | float | None) -> sa.ColumnElement[Any]:
    if value is None:
        return sa.null()
    return sa.literal_column(str(sa.literal(value).compile(compile_kwargs={"literal_binds": True})))


def _whole_intent() -> Prepared:
    papers = postgresql.insert(ENVELOPES).values(_given(ENVELOPES, "paper_")).on_conflict_do_nothing()
    # what is the same for every new job is written out: the server reads a parameter anew each time
    same = {name: _written_out(UNSAID[name]) for name in UNSAID if name not in SAID}
    jobs = postgresql.insert(JOBS).values(_given(JOBS, "job_") | same).on_conflict_do_nothing()
    made = jobs.returning(JOBS.c.job_id, JOBS.c.version, JOBS.c.state).cte("made")
    event = sa.select(made.c.job_id, made.c.version, made.c.state, _NOW, sa.bindparam("detail", type_=sa.String))
    recorded = EVENTS.insert().from_select(_EVENT, event)
    answer = sa.select(made.c.job_id).add_cte(papers.cte("papers"), recorded.cte("recorded"))
    return Prepared(answer, (JOBS.c.job_id,))


#: PostgreSQL: both, and the event; the job's id where it is new. More parameters: ``now``, ``detail``.
WHOLE_INTENT = _whole_intent()
