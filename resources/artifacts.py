"""Content-addressed store of payload blobs: instances, encoded models, results.

Here: put, get and sweep by SHA-256. Not here: what a blob means, or which blobs are still referred to.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from resources.failures import InvariantError

_REFERENCE = re.compile(r"[0-9a-f]{64}")


class ArtifactStore:
    """Blobs under ``root``, each in a file named by the SHA-256 of its content, in 256 folders.

    Args:
        root: folder of the store; made when first written to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, ref: str) -> Path:
        """Where the blob with this reference lies.

        Raises:
            InvariantError: ``ref`` is not a SHA-256 in hexadecimal.
        """
        if not _REFERENCE.fullmatch(ref):
            raise InvariantError(f"{ref!r} is no artefact reference: it must be 64 hexadecimal digits.")
        return self.root / ref[:2] / ref

    def put(self, content: bytes) -> str:
        """Store a blob and return its reference; the same content is stored once.

        The file appears whole or not at all, however many processes put it at the same time.
        """
        ref = hashlib.sha256(content).hexdigest()
        path = self.path(ref)
        # a damaged file is replaced; the new time protects the blob from a sweep
        if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == ref:
            os.utime(path)
            return ref
        path.parent.mkdir(parents=True, exist_ok=True)
        # whoever puts the same blob at this moment has a file of its own
        temporary = path.with_name(f".put-{os.uname().nodename}-{os.getpid()}-{threading.get_ident()}-{ref[:16]}")
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return ref

    def get(self, ref: str) -> bytes:
        """The blob with this reference.

        Raises:
            InvariantError: it is missing, or its content no longer has this digest.
        """
        path = self.path(ref)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise InvariantError(f"artefact {ref} is missing from {self.root}; run its stage again.") from None
        if hashlib.sha256(content).hexdigest() != ref:
            raise InvariantError(
                f"artefact {ref} was altered in {self.root}; delete {path.name} and run its stage again."
            )
        return content

    def sweep(self, keep: Collection[str], older_than_seconds: float) -> int:
        """Delete blobs (and leftovers of killed writers) not in ``keep`` and older than so many seconds.

        The age protects blobs whose row is still being written. Returns the number of files deleted.
        """
        horizon = time.time() - older_than_seconds
        deleted = 0
        for path in self._files():
            if path.name not in keep and path.stat().st_mtime < horizon:
                path.unlink(missing_ok=True)
                deleted += 1
        return deleted

    def _files(self) -> Iterator[Path]:
        return (path for path in self.root.glob("??/*") if path.is_file())
