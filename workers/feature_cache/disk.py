"""Entries as files of one folder with a bound on its size; the least recently used ones go first.

Several processes share the folder. A file has its name only when it is whole, and nothing here is needed to be right:
whatever is missing or damaged is encoded again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)

DRAFT = ".draft-"
DRAFT_KEPT_S = 3600.0
# What a full folder is brought down to, and how much may be written before it is measured again.
ROOM_SHARE = 0.1


class DiskFeatureStore:
    """Files by key.

    Args:
        max_bytes: the folder's bound; it may be passed by a tenth before it is noticed. 0 keeps nothing.
    """

    def __init__(self, folder: Path, *, max_bytes: int, now: Callable[[], float] = time.time) -> None:
        self._folder, self._max_bytes, self._now = folder, max_bytes, now
        self._unmeasured: float = max_bytes  # what others left there is not known yet

    def read(self, key: str) -> bytes | None:
        """Return a file's content and note that it was used; None if there is none."""
        path = self._path(key)
        try:
            content = path.read_bytes()
            os.utime(path, (self._now(), self._now()))
        except FileNotFoundError:
            return None
        except OSError as exc:
            log.warning("kept features cannot be read: %s", exc)
            return None
        return content

    def write(self, key: str, content: bytes) -> None:
        """Keep a file; a disk that does not take it is only logged."""
        if len(content) > self._max_bytes:
            return
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=DRAFT)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                os.utime(name, (self._now(), self._now()))
                Path(name).replace(path)
            finally:
                Path(name).unlink(missing_ok=True)
        except OSError as exc:
            log.warning("features cannot be kept on disk: %s", exc)
            return
        self._unmeasured += len(content)
        if self._unmeasured > self._max_bytes * ROOM_SHARE:
            self._unmeasured = 0
            self._make_room()

    def remove(self, key: str) -> None:
        """Remove a damaged file."""
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / key

    def _make_room(self) -> None:
        files: list[tuple[float, int, Path]] = []
        for path in self._folder.glob("*/*"):
            with contextlib.suppress(OSError):  # another process removed it
                status = path.stat()
                if not path.name.startswith(DRAFT):
                    files.append((status.st_mtime, status.st_size, path))
                elif status.st_mtime < self._now() - DRAFT_KEPT_S:
                    path.unlink()  # its writer was killed
        total = sum(size for _, size, _ in files)
        if total <= self._max_bytes:
            return
        for _, size, path in sorted(files):
            if total <= self._max_bytes * (1 - ROOM_SHARE):
                break
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size
