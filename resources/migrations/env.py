"""Alembic's environment: migrations run in the transaction that ``upgrade`` holds, which commits it."""

from alembic import context

from resources.ledger_tables import METADATA
from resources.migrations import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"], target_metadata=METADATA, version_table=VERSION_TABLE
)
context.run_migrations()
