"""Notices that a folder is not the store any more that it was: its disk was unmounted, or it was moved or deleted.

What is left is an empty folder, or none. To make it anew would put results where nobody finds them once the disk is
back, and to say that an object is missing would fail its job.
"""

from __future__ import annotations

import os
from pathlib import Path

from jobs.storage.errors import StorageUnavailableError
from jobs.storage.protocol import MARKER_KEY

# For the whole process: a store that was opened later must know it too.
_seen: set[Path] = set()


class FolderMarker:
    """The file that marks a folder as the store of a platform; a new folder has none yet.

    Args:
        folder: the store's folder, for messages.
        path: the marker's file.
        backend: the store's, for errors.
    """

    def __init__(self, folder: Path, path: Path, backend: str) -> None:
        self._folder, self._path, self._backend = folder, path, backend
        self._look()

    def check(self) -> None:
        """Look for the marker.

        Raises:
            StorageUnavailableError: this process has seen it, and it is gone.
        """
        if not self._look() and self._path in _seen:
            raise StorageUnavailableError(
                f"The folder {self._folder} has no {self._path.name} any more, which marked it as the object store; "
                "is its disk mounted?",
                self._backend,
            )

    def check_change(self, key: str) -> None:
        """Look for the marker before an object is written or deleted, unless the object is the marker itself."""
        if key == MARKER_KEY:
            _seen.discard(self._path)
        else:
            self.check()

    def _look(self) -> bool:
        found = os.path.exists(self._path)  # noqa: PTH110 - Path.exists raises where a folder above is not readable
        if found:
            _seen.add(self._path)
        return found
