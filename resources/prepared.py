"""Statements of the hot path: compiled once, run on the driver's own cursor.

Here: text, parameters and values of a statement, in a transaction of SQLAlchemy's. Not here: the statements
(``ledger_statements``, ``audit``) or transactions (``database``). SQLAlchemy's own way from a statement to its rows
takes longer than the statement itself on either database.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sa

T = TypeVar("T")
Values = Mapping[str, Any]
Row = tuple[Any, ...]
_Convert = Callable[[Any], Any] | None


@dataclass(frozen=True)
class _Compiled:
    """A statement in one database's words.

    Attributes:
        text: what the driver runs.
        plan: PostgreSQL: what each connection says once, so that the server parses and plans no more; its name.
        takes: its parameters in order, each with the conversion of its type.
        gives: conversions of the columns that have one, by position.
    """

    text: str
    plan: tuple[str, str] | None
    takes: tuple[tuple[str, _Convert], ...]
    gives: tuple[tuple[int, Callable[[Any], Any]], ...]

    def bound(self, values: Values) -> list[Any]:
        """The values as the driver wants them."""
        return [values[name] if convert is None else convert(values[name]) for name, convert in self.takes]

    def read(self, row: Sequence[Any]) -> Row:
        """A row of the driver's with the columns' types."""
        found = list(row)
        for position, convert in self.gives:
            found[position] = convert(found[position])
        return tuple(found)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A statement whose parameters are all bound by name.

    Attributes:
        statement: of SQLAlchemy's core; no lists as parameters, no values in it, no defaults of columns.
        columns: what its rows hold.

    Raises:
        DBAPIError: as SQLAlchemy's own ``execute`` would, ``OperationalError`` among them.
    """

    statement: sa.Executable
    columns: Iterable[sa.Column[Any]] = ()
    _compiled: dict[str, _Compiled] = field(default_factory=dict, init=False, repr=False)

    def rows(self, tx: sa.Connection, values: Values) -> list[Row]:
        """Run it once; the rows it gives."""

        def work(cursor: Any, text: str, bound: list[list[Any]]) -> list[Sequence[Any]]:
            cursor.execute(text, bound[0])
            found: list[Sequence[Any]] = cursor.fetchall()
            return found

        compiled = self._for(tx.dialect)
        return [compiled.read(row) for row in _run(tx, compiled, [values], work)]

    def once(self, tx: sa.Connection, values: Values) -> None:
        """Run it once; it gives no rows."""
        _run(tx, self._for(tx.dialect), [values], lambda cursor, text, bound: cursor.execute(text, bound[0]))

    def many(self, tx: sa.Connection, values: Sequence[Values]) -> None:
        """Run it for each of the values, in their order; PostgreSQL is asked once per hundred."""
        if values:
            _run(tx, self._for(tx.dialect), values, _each)

    def later(self, tx: sa.Connection, values: Values, refusal: Exception) -> None:
        """PostgreSQL: run it when this transaction of ``Database.transaction`` ends, in the message that ends it.

        It goes out before, if another statement follows. So the rows that it locks are never locked while this process
        waits to be scheduled. In any other transaction it is run now.

        Args:
            refusal: raised where it would write nothing into a column that must not be empty.
        """

        def work(cursor: Any, text: str, bound: list[list[Any]]) -> None:
            if cursor.connection.bundling:
                cursor.connection.later(cursor.mogrify(text, bound[0]), refusal)
            else:
                cursor.execute(text, bound[0])

        _run(tx, self._for(tx.dialect), [values], work)

    def _for(self, dialect: sa.Dialect) -> _Compiled:
        if (known := self._compiled.get(dialect.name)) is not None:
            return known
        made: Any = self.statement.compile(dialect=dialect)  # type: ignore[attr-defined]
        names = tuple(made.positiontup) if made.positional else tuple(made.binds)
        types = [made.binds[name].type.dialect_impl(dialect) for name in names]
        takes = tuple((name, kind.bind_processor(dialect)) for name, kind in zip(names, types, strict=True))
        if made.positional:
            conversions = (column.type.dialect_impl(dialect).result_processor(dialect, None) for column in self.columns)
            gives = tuple((position, convert) for position, convert in enumerate(conversions) if convert is not None)
            compiled = _Compiled(str(made), None, takes, gives)
        else:
            # psycopg2 gives Python's types by itself
            numbered = str(made) % {name: f"${number}" for number, name in enumerate(names, start=1)}
            kinds = ", ".join(kind.compile(dialect) for kind in types)
            name = f"hybrid_{hashlib.sha256(numbered.encode()).hexdigest()[:20]}"
            plan = name, f"PREPARE {name}{f' ({kinds})' if kinds else ''} AS {numbered}"
            marks = f" ({', '.join(['%s'] * len(names))})" if names else ""
            compiled = _Compiled(f"EXECUTE {name}{marks}", plan, takes, ())
        self._compiled[dialect.name] = compiled
        return compiled


def _each(cursor: Any, text: str, bound: list[list[Any]]) -> None:
    if isinstance(cursor, sqlite3.Cursor):
        cursor.executemany(text, bound)
    elif len(bound) == 1:
        cursor.execute(text, bound[0])
    else:
        from psycopg2.extras import execute_batch

        execute_batch(cursor, text, bound)


def _tell(tx: sa.Connection, cursor: Any, name: str, plan: str) -> None:
    """Say a plan to the server, once per connection."""
    try:
        cursor.execute(plan)
        tx.connection.info[name] = True
    except Exception:
        raise
    except BaseException:
        # interrupted: whether the server has the plan is not known any more
        tx.invalidate()
        raise


def _run(
    tx: sa.Connection,
    compiled: _Compiled,
    values: Sequence[Values],
    work: Callable[[Any, str, list[list[Any]]], T],
) -> T:
    """Work on a cursor of this connection; the driver's errors become SQLAlchemy's."""
    bound = [compiled.bound(each) for each in values]
    connection, driver = tx.connection, tx.dialect.loaded_dbapi
    session: Any = connection.dbapi_connection
    # a PostgreSQL statement that commits by itself
    alone = getattr(session, "autocommit", False) is True and not session.bundling
    if not alone and not tx.in_transaction():
        # so that its commit and its rollback reach the driver
        tx.begin()
    cursor = connection.cursor()
    try:
        if compiled.plan is not None and compiled.plan[0] not in connection.info:
            _tell(tx, cursor, *compiled.plan)
        return work(cursor, compiled.text, bound)
    except driver.Error as error:
        lost = tx.dialect.is_disconnect(error, connection, cursor)
        wrapped = sa.exc.DBAPIError.instance(
            # alone, it is like a commit: where the connection is lost, nobody knows what it did
            None if lost and alone else compiled.text,
            None,
            error,
            driver.Error,
            connection_invalidated=lost,
            dialect=tx.dialect,
        )
        if lost:
            tx.invalidate(error)
        raise wrapped from error
    finally:
        cursor.close()
