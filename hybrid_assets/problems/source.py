"""A source file as every reader sees it: opened once, size-limited, decompressed, digested.

Here: what is common to all readers (size, binary, empty, encoding, gzip). Not here: formats, which belong to the
families.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from resources.failures import InputError

#: Largest file (and largest decompressed content) accepted, in bytes.
MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class SourceFile:
    """An input file's name and content (decompressed when it was gzipped).

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
            InputError: missing, a folder, empty, too large, or broken gzip.
        """
        name = path.name
        try:
            size = path.stat().st_size
        except OSError as error:
            raise InputError(name, "file", "it cannot be read: " + (error.strerror or "unknown error"),
                             "give the path of an existing file") from None
        if not path.is_file():
            raise InputError(name, "file", "it is not a regular file", "give the path of a data file")
        if size == 0:
            raise InputError(name, "file", "it is empty", "give a file with data in it")
        if size > MAX_BYTES:
            raise InputError(name, "size", f"it has {size / 1e6:.0f} MB, the limit is {MAX_BYTES / 1e6:.0f} MB",
                             "split it or reduce the instance")
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise InputError(name, "file", "it cannot be read: " + (error.strerror or "unknown error"),
                             "check its permissions") from None
        return cls(name, cls._inflate(name, raw), hashlib.sha256(raw).hexdigest())

    @staticmethod
    def _inflate(name: str, raw: bytes) -> bytes:
        if raw[:2] != b"\x1f\x8b":
            return raw
        try:
            inflated = zlib.decompressobj(wbits=31)
            content = inflated.decompress(raw, MAX_BYTES + 1)
            if len(content) > MAX_BYTES:
                raise InputError(name, "size", f"it unpacks to more than {MAX_BYTES / 1e6:.0f} MB",
                                 "split it or reduce the instance")
            return content if inflated.eof and not inflated.unused_data else gzip.decompress(raw)
        except (OSError, EOFError, zlib.error):
            raise InputError(name, "gzip", "the compressed data is damaged", "compress the file again") from None

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
