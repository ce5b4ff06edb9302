"""What one process must leave for the next: above all what a submission has to remember for whoever reads its answer.

A remote job is sent by one process and reconciled by another. The note of a submission (payload terms, layout, angles,
envelope digest …), where the provider cannot carry it, is on disk before the provider is called, one JSON file per
provider key. Not here: states of jobs (``ledger``) or what is in a note. A note holds no secret.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from resources.envelope import canonical_json
from resources.home import Home


def write(key: str, document: dict[str, Any]) -> None:
    """Keep ``document`` (JSON-able, finite numbers) under ``key``, durably; a note that is there is replaced whole.

    Raises:
        ValueError: it holds NaN or an infinity.
    """
    text, target = canonical_json(document), _path(key)
    target.parent.mkdir(parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(dir=target.parent, suffix=".part")
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read(key: str) -> dict[str, Any] | None:
    """The document under ``key``; ``None`` when there is none."""
    try:
        text = _path(key).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    document: dict[str, Any] = json.loads(text)
    return document


def remove(key: str) -> None:
    """Forget the note: the job's result is stored, or the job will never be asked for again."""
    _path(key).unlink(missing_ok=True)


def sweep(hours: float) -> int:
    """Remove notes that nobody has written for so long: of jobs that ended without a result. How many there were."""
    oldest, removed = time.time() - 3600 * hours, 0
    for path in _path("").parent.glob("*"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                path.unlink()
                removed += 1
    return removed


def _path(key: str) -> Path:
    # a digest is a safe file name, whatever the key looks like
    name = hashlib.sha256(key.encode()).hexdigest()
    return Home.from_environment().root / "submissions" / f"{name}.json"
