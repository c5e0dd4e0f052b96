"""The folder of a worker process's temporary files; what a killed one left is removed by the next that starts.

A lock says who lives: the kernel lets go of it however a process ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)


class ScratchFolder:
    """A folder of this process alone, below `parent`, until `close`.

    Args:
        parent: where; None: the system's folder for temporary files.

    Raises:
        PermissionError: somebody else owns the folder that all workers of this user share.
    """

    def __init__(self, parent: Path | None) -> None:
        parent_folder = (parent or Path(tempfile.gettempdir())) / f"mmaudio-workers-{os.getuid()}"
        parent_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        facts = parent_folder.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
            raise PermissionError(
                f"{parent_folder} is not a folder of this user; remove it, or set MMAUDIO_SCRATCH_DIR."
            )
        with _locked(parent_folder):  # nobody takes a folder for abandoned before its owner has locked it
            _remove_abandoned(parent_folder)
            self.path = Path(tempfile.mkdtemp(dir=parent_folder, prefix="worker-"))
            self._lock = _lock(self.path)

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = _lock(folder)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(folder: Path, how: int = fcntl.LOCK_EX) -> int:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, how)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _remove_abandoned(parent_folder: Path) -> None:
    for folder in parent_folder.glob("worker-*"):
        try:
            descriptor = _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, FileNotFoundError):  # it lives, or ends at this moment
            continue
        log.info("removing what a worker left that was killed: %s", folder)
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)
