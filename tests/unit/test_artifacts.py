"""The artefact store gives back what was put, or says why it cannot."""

from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resources.artifacts import ArtifactStore
from resources.failures import InvariantError


def files(root: Path) -> list[Path]:
    return [p for p in root.rglob("*") if p.is_file()]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=2000))
def test_get_returns_what_was_put(tmp_path: Path, content: bytes) -> None:
    store = ArtifactStore(tmp_path)
    ref = store.put(content)
    assert ref == hashlib.sha256(content).hexdigest()
    assert store.get(ref) == content
    assert store.path(ref).relative_to(tmp_path).parts == (ref[:2], ref)


def test_equal_content_is_one_file_even_when_raced(tmp_path: Path) -> None:
    content = os.urandom(200_000)
    with ThreadPoolExecutor(8) as pool:
        refs = set(pool.map(lambda _: ArtifactStore(tmp_path).put(content), range(32)))
    assert len(refs) == 1
    assert len(files(tmp_path)) == 1


def test_altered_missing_and_malformed_are_told_apart(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    ref = store.put(b"answer")
    store.path(ref).write_bytes(b"forged")
    with pytest.raises(InvariantError, match="was altered"):
        store.get(ref)
    assert store.get(store.put(b"answer")) == b"answer"
    store.path(ref).unlink()
    with pytest.raises(InvariantError, match="is missing"):
        store.get(ref)
    with pytest.raises(InvariantError, match="no artefact reference"):
        store.get("../../etc/passwd")


def test_a_put_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        ArtifactStore(tmp_path).put(b"content")
    assert files(tmp_path) == []


def test_sweep_keeps_the_named_and_the_young(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    kept, old, young, again = (store.put(c) for c in (b"kept", b"old", b"young", b"again"))
    leftover = store.path(old).with_name(".put-left")
    leftover.write_bytes(b"half")
    past = time.time() - 3600
    for path in (store.path(kept), store.path(old), store.path(again), leftover):
        os.utime(path, (past, past))
    store.put(b"again")
    assert store.sweep({kept}, older_than_seconds=600) == 2
    assert {p.name for p in files(tmp_path)} == {kept, young, again}
