"""The driver's connection to PostgreSQL: what needs no answer goes out with the next statement.

Here: ``BEGIN`` with a transaction's first statement, and statements that wait for the next one or for ``COMMIT``, each
time as one message to the server. Not here: what is said (``prepared``, ``audit``), when a transaction begins and ends
(``database``). Imported only where PostgreSQL is used.

A message fails as a whole: what follows a failed statement in it is not run, and a transaction that it began is rolled
back by ``rollback`` as ever.
"""

from __future__ import annotations

import select
from typing import Any

from psycopg2 import extensions
from psycopg2.errors import InFailedSqlTransaction, NotNullViolation


class Session(extensions.connection):
    """A connection of psycopg2's, and the driver's own transactions unless ``begin`` is called.

    Attributes:
        bundling: in a transaction of ``begin``'s.
    """

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self.cursor_factory = _Cursor
        self.bundling = False
        self._begun = False
        self._waiting: list[bytes] = []
        self._refusal: Exception | None = None

    def has_ended(self) -> bool:
        """Whether the server has ended this idle session: it says nothing else by itself (a rare notice costs no more
        than a new connection)."""
        if self.closed:
            return True
        waiting = select.poll()
        waiting.register(self.fileno(), select.POLLIN)
        return bool(waiting.poll(0))

    def begin(self) -> None:
        """A transaction from the next statement on, until ``commit`` or ``rollback``."""
        self.bundling, self._begun = True, False

    def later(self, text: bytes, refusal: Exception) -> None:
        """Run a statement before the transaction's next one, or before its end.

        Args:
            refusal: raised where the statement would write nothing into a column that must not be empty.
        """
        self._waiting.append(text)
        self._refusal = refusal

    def commit(self) -> None:
        """End the transaction; nothing is sent where nothing was to be done.

        Raises:
            InFailedSqlTransaction: a statement had failed, and somebody went on in spite of it: nothing was kept.
        """
        if not self.bundling:
            super().commit()
        elif (self._begun or self._waiting) and self._flush(b"COMMIT") != "COMMIT":
            # the server does not call that an error
            self._begun = False
            raise InFailedSqlTransaction("a statement of this transaction had failed: it was rolled back")
        self.bundling = False

    def rollback(self) -> None:
        """Undo the transaction."""
        if not self.bundling:
            super().rollback()
            return
        self._waiting.clear()
        self.bundling = False
        if self._begun:
            self._send(b"ROLLBACK")

    def introduced(self, text: bytes) -> bytes:
        """A statement with what goes before it."""
        if self._waiting:
            # by itself, so that what fails is known
            self._flush()
        if self.bundling and not self._begun:
            self._begun = True
            return b"BEGIN;" + text
        return text

    def _flush(self, *last: bytes) -> str | None:
        parts = [*self._waiting, *last]
        if not self._begun:
            parts.insert(0, b"BEGIN")
        self._begun = True
        self._waiting.clear()
        refusal, self._refusal = self._refusal, None
        try:
            return self._send(b";".join(parts))
        except NotNullViolation as error:
            raise refusal or error from error

    def _send(self, text: bytes) -> str | None:
        with extensions.cursor(self) as cursor:
            cursor.execute(text)
            said: str | None = cursor.statusmessage
            return said


class _Cursor(extensions.cursor):
    """A cursor whose statements are introduced."""

    __slots__ = ()

    def execute(self, query: Any, values: Any = None) -> None:
        session: Session = self.connection
        if session.bundling:
            super().execute(session.introduced(self.mogrify(query, values)))
        else:
            super().execute(query, values)

    def executemany(self, query: Any, values: Any) -> None:
        session: Session = self.connection
        if session.bundling and (first := session.introduced(b"")):
            super().execute(first)
        super().executemany(query, values)
