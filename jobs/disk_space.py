"""The reserve: space that stays free on the disks of the platform, for the database and for retention.

Below it new work is refused: uploads, jobs and results. What a disk that is really full does is not told here:
`jobs.db.faults` and `workers.disk_full` recognise its errors.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from jobs.errors import DiskReserveError

if TYPE_CHECKING:  # media processes import the object folder's errors, and must not pay for pydantic
    from jobs.settings import Settings

DEFAULT_RESERVE_BYTES = 1024**3
# The default is at most this share of a disk, so that a small one can be used.
DEFAULT_RESERVE_SHARE = 0.05


@dataclass(frozen=True)
class Shortage:
    """A disk with less free space than its reserve."""

    folder: Path
    free_bytes: int
    reserve_bytes: int

    def __str__(self) -> str:
        return (
            f"the disk of {self.folder} has {self.free_bytes} bytes free, and {self.reserve_bytes} bytes are its "
            "reserve (MMAUDIO_DISK_RESERVE_BYTES)"
        )


@dataclass(frozen=True)
class DiskReserve:
    """The disks of some folders, and how much stays free on each.

    Attributes:
        reserve_bytes: None: `DEFAULT_RESERVE_BYTES`, at most `DEFAULT_RESERVE_SHARE` of the disk. 0: nothing.
    """

    folders: tuple[Path, ...] = ()
    reserve_bytes: int | None = None

    @classmethod
    def of_platform(cls, settings: Settings) -> DiskReserve:
        """Return the reserve of the disks that hold the database's file and the object folder, as far as there are."""
        places = (local_path(settings.database_url, "sqlite"), local_path(settings.storage_url, "file"))
        return cls(tuple(place for place in places if place is not None), settings.disk_reserve_bytes)

    @classmethod
    def of_worker(cls, settings: Settings) -> DiskReserve:
        """Return the same with the disk of temporary files."""
        platform = cls.of_platform(settings)
        scratch = settings.scratch_dir or Path(tempfile.gettempdir())
        return cls((scratch, *platform.folders), platform.reserve_bytes)

    def shortage(self, needed_bytes: int = 0) -> Shortage | None:
        """Return the first disk that has no more than its reserve, or would not after writing `needed_bytes`."""
        for folder in self.folders:
            try:
                usage = shutil.disk_usage(existing(folder))
            except OSError:
                continue  # the write itself tells
            reserve = self._reserve_of(usage.total)
            if reserve and usage.free - needed_bytes < reserve:
                return Shortage(folder, usage.free, reserve)
        return None

    def check(self, needed_bytes: int = 0) -> None:
        """Check that `needed_bytes` may be written.

        Raises:
            DiskReserveError: no, or the reserve would be used.
        """
        found = self.shortage(needed_bytes)
        if found is not None:
            raise DiskReserveError(str(found), str(found.folder))

    def _reserve_of(self, total_bytes: int) -> int:
        if self.reserve_bytes is not None:
            return self.reserve_bytes
        return min(DEFAULT_RESERVE_BYTES, int(total_bytes * DEFAULT_RESERVE_SHARE))


NO_RESERVE = DiskReserve()


def disk_problem(settings: Settings) -> str | None:
    """Return why a worker should take no job now: a disk that it writes to is below its reserve; None: none is."""
    found = DiskReserve.of_worker(settings).shortage()
    return str(found) if found is not None else None


def local_path(url: str, scheme: str) -> Path | None:
    """Return the path of a `sqlite:` or `file:` URL; None for one of another scheme."""
    parts = urlsplit(url)
    if parts.scheme != scheme:
        return None
    # sqlite:////absolute and sqlite:///relative: the first slash belongs to the URL.
    text = unquote(parts.path)
    return Path(text[1:] if scheme == "sqlite" else text)


def existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that exists."""
    return next((one for one in (path, *path.parents) if one.exists()), Path("/"))
