"""The ledger's schema through time: alembic's environment and one file per revision under ``versions``.

Here: bringing a database to the newest revision. Not here: the tables as they are now (``ledger_tables``; a test says
that both agree). A revision never changes once released and is written without this project's code, which moves on.
"""

from __future__ import annotations

import sqlalchemy as sa

from resources.failures import InputError

#: The newest revision; a test says that it is.
HEAD = "0003"
#: Not alembic's own name, which Dagster's storage uses where both share a database.
VERSION_TABLE = "ledger_version"


def is_current(tx: sa.Connection) -> bool:
    """Whether the database is at ``HEAD``, by one SELECT; ``False`` also where nobody can say."""
    try:
        return tx.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalars().all() == [HEAD]
    except (sa.exc.OperationalError, sa.exc.ProgrammingError):
        return False


def upgrade(tx: sa.Connection) -> None:
    """Bring the database to ``HEAD`` in a transaction that nobody else can be in.

    Raises:
        InputError: the database is of a later version of this software.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "resources:migrations")
    config.attributes["connection"] = tx
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    current = MigrationContext.configure(tx, opts={"version_table": VERSION_TABLE}).get_current_revision()
    if current is not None and current not in known:
        raise InputError(
            tx.engine.url.database or "ledger",
            "ledger",
            f"it was written by a later version of this software (revision {current}, known up to {HEAD})",
            "update the software, or use another ledger",
        )
    if current is None and sa.inspect(tx).has_table("jobs"):
        # from before revisions were recorded
        command.stamp(config, "0001")
    command.upgrade(config, "head")
