"""Large texts and pictures, each once, in a file named by the sha256 of its bytes."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from orchestrator.errors import NeedsPersonError
from orchestrator.store import atomic

SHA = re.compile(r"[0-9a-f]{64}")


class Blobs:
    """The blobs of one exploration.

    Args:
        folder: made with the first blob.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, data: bytes) -> str:
        """Return the sha256 of `data` after making sure that its blob is there, whole and durable."""
        sha256 = hashlib.sha256(data).hexdigest()
        if self.find(sha256) is None:
            if not self._folder.is_dir():
                self._folder.mkdir(parents=True)
                atomic.sync_folder(self._folder.parent)
            atomic.write_bytes(self._folder / sha256, data)
        return sha256

    def find(self, sha256: str) -> bytes | None:
        """Return a blob's bytes, or None when it is not there or not what its name says."""
        if SHA.fullmatch(sha256) is None:
            return None
        try:
            data = (self._folder / sha256).read_bytes()
        except OSError:
            return None
        return data if hashlib.sha256(data).hexdigest() == sha256 else None

    def read(self, sha256: str) -> bytes:
        """Return a blob's bytes.

        Raises:
            NeedsPersonError: it is not there, or was changed; names the file.
        """
        data = self.find(sha256)
        if data is None:
            raise NeedsPersonError(
                f"{self._folder / sha256[:80]}: expected a file whose sha256 is its name, found "
                f"{'another content' if self._there(sha256) else 'none'}. Put it back from a copy of the output folder"
            )
        return data

    def _there(self, sha256: str) -> bool:
        return SHA.fullmatch(sha256) is not None and (self._folder / sha256).exists()
