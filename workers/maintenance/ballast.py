"""A file beside the database that is given up when the disk is full.

SQLite needs some space to open a database and to record what retention deleted. On a disk that others have filled this
file is that space. It appears again when there is more free space than the reserve.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from jobs.disk_space import DiskReserve, local_path
from jobs.settings import Settings

log = logging.getLogger(__name__)

NAME = ".disk-reserve"
# Enough for the index of the write-ahead log, and for a thousand rows.
SIZE_BYTES = 2 * 1024**2


class Ballast:
    """The file of one database; none for a database server.

    Args:
        folder: where the file is; None: there is none.
        reserve_bytes: see `DiskReserve`.
    """

    def __init__(self, folder: Path | None, *, reserve_bytes: int | None) -> None:
        self._path = folder / NAME if folder is not None else None
        self._reserve = DiskReserve((folder,) if folder is not None else (), reserve_bytes)

    @classmethod
    def from_settings(cls, settings: Settings) -> Ballast:
        """Return the file beside the database that the settings name."""
        database = local_path(settings.database_url, "sqlite")
        return cls(database.parent if database is not None else None, reserve_bytes=settings.disk_reserve_bytes)

    def release(self) -> None:
        """Give the space up."""
        if self._path is None:
            return
        try:
            self._path.unlink()
        except FileNotFoundError:
            return
        except OSError as exc:
            log.warning("%s cannot be removed: %s", self._path, exc.strerror)
            return
        log.warning("removed %s: its %d bytes are for the database now", self._path, SIZE_BYTES)

    def keep(self) -> None:
        """Take the space, if there is none yet and enough is free; a failure is left for the next call."""
        if self._path is None or self._path.exists() or self._reserve.shortage(SIZE_BYTES) is not None:
            return
        draft = self._path.with_suffix(".draft")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, SIZE_BYTES)
            finally:
                os.close(descriptor)
            draft.rename(self._path)
        except OSError:
            draft.unlink(missing_ok=True)
