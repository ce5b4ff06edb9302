"""Named locks inside a transaction, for what has no row yet that could be locked.

Here: the one lock. Not here: leases on jobs (``ledger``), which outlive a transaction.
"""

from __future__ import annotations

import sqlalchemy as sa


def hold(tx: sa.Connection, name: str) -> None:
    """Wait for the lock of this name and keep it to the end of the transaction; a holder may ask again.

    SQLite locks the whole database when a write transaction begins, so nothing is left to do there. On PostgreSQL a
    transaction that takes several names in another order than its neighbour can be chosen to start again.
    """
    if tx.dialect.name == "postgresql":
        tx.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(name, 0))))
