"""Recognises a full disk behind an error and logs it at most once a minute.

Every part of a worker or control process that writes (scratch files, feature cache, object folder, inbox, SQLite)
reports here. How a job ends because of it does not belong here: that is `workers.runner.executor`.
"""

from __future__ import annotations

import errno
import logging
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.disk_space import existing, local_path
from jobs.storage.errors import StorageFullError

if TYPE_CHECKING:  # media processes import this module, and must not pay for pydantic
    from jobs.settings import Settings

log = logging.getLogger(__name__)

INTERVAL_S = 60.0
# SQLSTATE `disk_full` of a PostgreSQL server.
POSTGRES_DISK_FULL = "53100"


def is_disk_full(exc: BaseException) -> bool:
    """Return whether an error, or one that caused it, says that a disk or a quota is full."""
    return any(_is_full_error(link) for link in _chain(exc))


class DiskFullLog:
    """Logs `disk full: PATH, N bytes free`, once per file system and minute. Thread-safe.

    Args:
        scratch: folder of temporary files; used when an error names no other path.
        objects: folder of the object store; None for a bucket.
        database: file of the database; None for a server.
        monotonic: clock of the limit.
    """

    def __init__(
        self,
        *,
        scratch: Path | None = None,
        objects: Path | None = None,
        database: Path | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scratch, self._objects, self._database = scratch, objects, database
        self._monotonic = monotonic
        self._logged_at: dict[object, float] = {}
        self._lock = threading.Lock()

    @classmethod
    def from_settings(cls, settings: Settings) -> DiskFullLog:
        """Return the log for the folders that the settings name."""
        return cls(
            scratch=settings.scratch_dir,
            objects=local_path(settings.storage_url, "file"),
            database=local_path(settings.database_url, "sqlite"),
        )

    def report(self, exc: BaseException, folder: Path | None = None) -> bool:
        """Log a full disk if that is what an error means; return whether it is.

        Args:
            folder: where the failed write went; without it the path comes from the error.
        """
        if not is_disk_full(exc):
            return False
        path = folder or self._place(exc)
        if self._is_due(path):
            log.error("disk full: %s, %s bytes free", path or "the database server", _free_bytes(path))
        return True

    def _place(self, exc: BaseException) -> Path | None:
        for link in _chain(exc):
            if isinstance(link, StorageFullError) and self._objects is not None:
                return self._objects
            if isinstance(link, sqlite3.Error):
                return self._database
            if getattr(link, "sqlstate", None) == POSTGRES_DISK_FULL:
                return None
            if isinstance(link, OSError) and isinstance(link.filename, str):
                return Path(link.filename)
        # The error names no path: it is the fullest of the disks that this process writes to.
        written = [self._scratch or Path(tempfile.gettempdir()), self._objects, self._database]
        # One measurement for each disk: what others write between two must not decide for a folder of the same one.
        disks = {_file_system(path): path for path in reversed(written) if path is not None}
        return min(reversed(disks.values()), key=_free_or_most)

    def _is_due(self, path: Path | None) -> bool:
        """Return whether a line is due, and record that it is logged now."""
        key, now = _file_system(path), self._monotonic()
        with self._lock:
            last = self._logged_at.get(key)
            if last is not None and now - last < INTERVAL_S:
                return False
            self._logged_at[key] = now
            return True


def _chain(exc: BaseException) -> Iterator[BaseException]:
    """Give an error, the driver's error inside it, and what caused it, outermost first."""
    visited: set[int] = set()
    waiting: list[object] = [exc]
    while waiting:
        link = waiting.pop(0)
        if not isinstance(link, BaseException) or id(link) in visited:
            continue
        visited.add(id(link))
        yield link
        waiting += [getattr(link, "orig", None), link.__cause__, link.__context__]


def _is_full_error(link: BaseException) -> bool:
    if isinstance(link, StorageFullError):
        return True
    if isinstance(link, sqlite3.Error):
        code = getattr(link, "sqlite_errorcode", 0)
        # The extended codes keep the primary one in their low byte. The index of the write-ahead log has its own code.
        return code & 0xFF == sqlite3.SQLITE_FULL or code == sqlite3.SQLITE_IOERR_SHMSIZE
    if isinstance(link, OSError):
        return link.errno in {errno.ENOSPC, errno.EDQUOT}
    return getattr(link, "sqlstate", None) == POSTGRES_DISK_FULL


def _file_system(path: Path | None) -> object:
    if path is None:
        return None
    try:
        return existing(path).stat().st_dev
    except OSError:
        return path


def _free_or_most(path: Path) -> float:
    try:
        return shutil.disk_usage(existing(path)).free
    except OSError:
        return float("inf")


def _free_bytes(path: Path | None) -> int | str:
    try:
        return "unknown" if path is None else shutil.disk_usage(existing(path)).free
    except OSError:
        return "unknown"
