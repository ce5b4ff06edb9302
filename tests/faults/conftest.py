"""Fixtures for the tests of faults: both kinds of ledger; jobs that are out are looked at when the test says so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from resources import sending


@pytest.fixture
def either(ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every system of the test, in other processes too, is on this ledger: once SQLite, once PostgreSQL."""
    monkeypatch.setenv("HYBRID_LEDGER", ledger_url)
    return ledger_url


@pytest.fixture(autouse=True)
def _no_look_before_the_test_says_so() -> Iterator[None]:
    """However slow the machine is: ``System.hurry`` makes jobs due."""
    # of its own, because a test may undo its patches half-way
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sending, "FIRST_LOOK", 3600.0)
        yield
