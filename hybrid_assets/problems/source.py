"""A source file as every reader sees it: opened once, size-limited, decompressed, digested.

Here: what is common to all readers (size, binary, empty, encoding, gzip and xz). Not here: formats, which belong to the
families.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import unicodedata
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from resources.failures import InputError

#: Largest file (and largest decompressed content) accepted, in bytes.
MAX_BYTES = 64 * 1024 * 1024
#: How compressed files begin.
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\x00": "xz"}
_OPENED: dict[str, Callable[[io.BytesIO], gzip.GzipFile | lzma.LZMAFile]] = {
    "gzip": lambda raw: gzip.GzipFile(fileobj=raw),
    "xz": lzma.LZMAFile,
}


@dataclass(frozen=True)
class SourceFile:
    """An input file's name and content (decompressed when it was compressed).

    Attributes:
        name: file name for messages, without folders.
        content: the bytes after decompression.
        digest: SHA-256 of the file as it lies on disk.
    """

    name: str
    content: bytes
    digest: str

    @classmethod
    def open(cls, path: Path) -> SourceFile:
        """Read a file whole.

        Raises:
            InputError: missing, a folder, empty, too large, broken gzip, or a name that is not UTF-8.
        """
        name = path.name or str(path)
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in str(path.absolute())):
            # bytes of a name that are no UTF-8 arrive as lone surrogates, which no table can store
            raise InputError(
                ascii(name), "path", "it holds control characters or is not UTF-8", "rename the file or its folder"
            )
        try:
            size = path.stat().st_size
            if not path.is_file():
                raise InputError(name, "file", "it is not a regular file", "give the path of a data file")
            if size > MAX_BYTES:
                raise _too_large(name, f"it has {size / 1e6:.0f} MB")
            with path.open("rb") as stream:
                # it may have grown meanwhile
                raw = stream.read(MAX_BYTES + 1)
        except OSError as error:
            raise InputError(
                name,
                "file",
                f"it cannot be read ({(error.strerror or 'unknown error').lower()})",
                "give the path of a file that you may read",
            ) from None
        if len(raw) > MAX_BYTES:
            raise _too_large(name, f"it has more than {MAX_BYTES / 1e6:.0f} MB")
        content = _inflated(name, raw)
        if not content:
            raise InputError(name, "file", "it is empty", "give a file with data in it")
        return cls(name, content, hashlib.sha256(raw).hexdigest())

    @cached_property
    def is_binary(self) -> bool:
        """Whether the content holds NUL bytes or is not UTF-8."""
        return b"\0" in self.content or self._decoded is None

    @cached_property
    def _decoded(self) -> str | None:
        try:
            return self.content.decode("utf-8-sig")
        except UnicodeDecodeError:
            return None

    @property
    def text(self) -> str:
        """The content as text.

        Raises:
            InputError: the file is binary or not UTF-8.
        """
        if self.is_binary or self._decoded is None:
            raise InputError(self.name, "file", "it is binary, not UTF-8 text", "give one of the text formats")
        return self._decoded

    @cached_property
    def head(self) -> str:
        """The first 4,096 characters, or an empty string for a binary file: what ``recognises`` looks at."""
        return "" if self.is_binary else (self._decoded or "")[:4096]


def _inflated(name: str, raw: bytes) -> bytes:
    """The bytes inside a gzip or xz file (of one or several members), never more than the limit; others as they are."""
    kind = next((kind for start, kind in _COMPRESSED.items() if raw.startswith(start)), None)
    if kind is None:
        return raw
    try:
        with _OPENED[kind](io.BytesIO(raw)) as stream:
            content = stream.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        raise InputError(name, kind, "the compressed data is damaged", "compress the file again") from None
    if len(content) > MAX_BYTES:
        raise _too_large(name, f"it unpacks to more than {MAX_BYTES / 1e6:.0f} MB")
    return content


def _too_large(name: str, problem: str) -> InputError:
    return InputError(
        name, "size", f"{problem}, the limit is {MAX_BYTES / 1e6:.0f} MB", "split it or reduce the instance"
    )
