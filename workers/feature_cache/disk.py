"""Cached features as files in one folder of bounded size; the least recently used files are deleted first.

Several processes may share the folder. A file appears under its name only when it is complete. Nothing depends on a
file: what is missing or damaged is encoded again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from jobs.disk_space import DiskReserve
from workers.disk_full import DiskFullLog

log = logging.getLogger(__name__)

DRAFT = ".draft-"
DRAFT_KEPT_S = 3600.0
# How far below its bound a full folder is trimmed, and how much may be written before it is measured again.
TRIM_SHARE = 0.1


class DiskFeatureStore:
    """Files by key. Thread-safe.

    Args:
        max_bytes: bound of the folder; may be exceeded by a tenth before it is noticed. 0 stores nothing.
        disk_full: where a full disk is logged.
        reserve_bytes: free space that no file may use; see `jobs.disk_space.DiskReserve`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int,
        disk_full: DiskFullLog | None = None,
        reserve_bytes: int | None = 0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._folder, self._max_bytes, self._now = folder, max_bytes, now
        self._disk_full = disk_full or DiskFullLog()
        self._reserve = DiskReserve((folder,), reserve_bytes)
        self._unmeasured: float = max_bytes  # the size of what earlier processes left is unknown

    def read(self, key: str) -> bytes | None:
        """Return the content of a file and mark it as used; None if there is none."""
        path = self._path(key)
        try:
            content = path.read_bytes()
            os.utime(path, (self._now(), self._now()))
        except FileNotFoundError:
            return None
        except OSError as exc:
            log.warning("cached features cannot be read: %s", exc)
            return None
        return content

    def write(self, key: str, content: bytes) -> None:
        """Store a file; a failure is logged and otherwise ignored."""
        if len(content) > self._max_bytes:
            return
        path = self._path(key)
        try:
            self._reserve.check(len(content))
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
            if not self._disk_full.report(exc, self._folder):
                log.warning("features cannot be cached on disk: %s", exc)
            return
        self._unmeasured += len(content)
        if self._unmeasured > self._max_bytes * TRIM_SHARE:
            self._unmeasured = 0
            self._trim()

    def remove(self, key: str) -> None:
        """Delete a damaged file."""
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / key

    def _trim(self) -> None:
        """Delete drafts of killed processes, and the least recently used files of a folder above its bound."""
        files: list[tuple[float, int, Path]] = []
        for path in self._folder.glob("*/*"):
            with contextlib.suppress(OSError):  # another process deleted it
                status = path.stat()
                if not path.name.startswith(DRAFT):
                    files.append((status.st_mtime, status.st_size, path))
                elif status.st_mtime < self._now() - DRAFT_KEPT_S:
                    path.unlink()
        total = sum(size for _, size, _ in files)
        if total <= self._max_bytes:
            return
        for _, size, path in sorted(files):
            if total <= self._max_bytes * (1 - TRIM_SHARE):
                break
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size
