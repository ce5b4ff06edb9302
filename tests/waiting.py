"""Waiting in tests: as long as a slow machine may need, never longer than it takes."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Seconds after which something counts as never happening.
PATIENCE = 240.0


def until(happened: Callable[[], object], pause: float = 0.02) -> None:
    """Wait for something to happen.

    Raises:
        AssertionError: it did not.
    """
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, f"it did not happen within {PATIENCE:g} s"
        time.sleep(pause)
