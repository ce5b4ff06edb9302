"""Fixtures for all tests: ledgers on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.servers import postgresql_server

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[sa.URL]:
    """URL of a PostgreSQL server of this test session, started when first asked for."""
    with postgresql_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    server: sa.URL = request.getfixturevalue("postgresql")
    schema = f"ledger_{next(_NUMBERS)}"
    engine = sa.create_engine(server)
    with engine.begin() as tx:
        tx.execute(sa.schema.CreateSchema(schema))
    engine.dispose()
    url = server.update_query_dict({"options": f"-csearch_path={schema}"})
    return url.render_as_string(hide_password=False)
