"""Every reader's file: what cannot be read is one sentence, what can be is the same bytes."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_assets.problems import source
from hybrid_assets.problems.source import SourceFile
from resources.failures import InputError


def write(folder: Path, content: bytes, name: str = "data.txt") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def refused(path: Path, said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        SourceFile.open(path)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


@settings(max_examples=30, deadline=None)
@given(
    content=st.binary(min_size=1, max_size=500).filter(lambda b: not b.startswith((b"\x1f\x8b", b"\xfd7zXZ\x00"))),
    level=st.integers(0, 9),
)
def test_compressed_and_plain_content_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, level: int
) -> None:
    folder = tmp_path_factory.mktemp("source")
    compressed = gzip.compress(content, level)
    plain, packed = SourceFile.open(write(folder, content)), SourceFile.open(write(folder, compressed, "data.gz"))
    assert plain.content == packed.content == content
    assert packed.digest == hashlib.sha256(compressed).hexdigest() != plain.digest
    # no suffix is needed, and several members are one content
    assert SourceFile.open(write(folder, compressed + gzip.compress(b"!"))).content == content + b"!"


def test_what_is_no_file_with_data(tmp_path: Path) -> None:
    refused(tmp_path / "missing.txt", "missing.txt: file: it cannot be read .no such file")
    refused(tmp_path, "it is not a regular file")
    refused(Path(), "it is not a regular file")
    refused(write(tmp_path, b""), "data.txt: file: it is empty")
    refused(write(tmp_path, gzip.compress(b"")), "it is empty")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "it is not a regular file")
    refused(write(tmp_path, b"x") / "below", "it cannot be read")
    refused(tmp_path / ("x" * 300), "it cannot be read")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, b"1 2 3")
    path.chmod(0)
    if os.access(path, os.R_OK):
        # the super-user may read everything, so the system's answer has to be made up
        def denied(*_: object, **__: object) -> io.BytesIO:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", denied)
    refused(path, r"data.txt: file: it cannot be read \(permission denied\); give the path of a file that you may read")


def test_too_much_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_BYTES", 1_000_000)
    SourceFile.open(write(tmp_path, b"x" * 1_000_000))
    SourceFile.open(write(tmp_path, gzip.compress(b"x" * 1_000_000)))
    refused(write(tmp_path, b"x" * 1_000_001), "size: it has 1 MB, the limit is 1 MB; split it")
    refused(write(tmp_path, gzip.compress(b"x" * 1_000_001)), "it unpacks to more than 1 MB")
    # the bomb may sit in a second member
    refused(write(tmp_path, gzip.compress(b"x") + gzip.compress(bytes(50_000_000))), "it unpacks to more than 1 MB")


def test_a_large_file_is_not_read_at_all(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    with path.open("wb") as stream:
        stream.truncate(100 * 1024 * 1024)
    refused(path, "large.txt: size: it has 105 MB, the limit is 67 MB")


def test_damaged_compression(tmp_path: Path) -> None:
    whole = gzip.compress(os.urandom(1000))
    flipped = bytearray(whole)
    flipped[-6] ^= 1
    for broken in (whole[:-9], whole[:5], bytes(flipped), whole + b"garbage", b"\x1f\x8bno gzip at all"):
        refused(write(tmp_path, broken), "gzip: the compressed data is damaged; compress the file again")


@pytest.mark.parametrize("content", [b"1 2\0 3", "Köln".encode("latin-1"), "1 2 3".encode("utf-16")])
def test_content_that_is_no_text(tmp_path: Path, content: bytes) -> None:
    opened = SourceFile.open(write(tmp_path, content))
    assert opened.is_binary
    assert opened.head == ""
    with pytest.raises(InputError, match="it is binary, not UTF-8 text"):
        _ = opened.text


def test_text_loses_its_byte_order_mark_and_nothing_else(tmp_path: Path) -> None:
    opened = SourceFile.open(write(tmp_path, "\ufeffdate,Köln\r\n".encode()))
    assert opened.text == "date,Köln\r\n"
    long = SourceFile.open(write(tmp_path, ("ä" * 5000).encode()))
    assert (len(long.head), long.text) == (4096, "ä" * 5000)


def test_a_name_that_no_table_can_hold(tmp_path: Path) -> None:
    for name in (b"caf\xe9.txt", b"two\nlines.txt"):
        path = os.path.join(os.fsencode(tmp_path), name)
        try:
            with open(path, "wb") as stream:
                stream.write(b"1")
        except OSError:
            continue  # a file system that takes only UTF-8
        refused(Path(os.fsdecode(path)), "path: it holds control characters or is not UTF-8")
    assert SourceFile.open(write(tmp_path, b"1", "Über uns 👍.txt")).name == "Über uns 👍.txt"
