"""The folder of a worker process's temporary files. Each process removes what killed ones left.

A lock marks a folder in use: the kernel releases it however the process exits.
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

from jobs.settings_errors import SettingsError

log = logging.getLogger(__name__)


class ScratchFolder:
    """A folder for this process alone, below `parent`, until `close`.

    Args:
        parent: its location; None: the system's folder for temporary files.

    Raises:
        SettingsError: another user owns the folder that the workers of this user share.
    """

    def __init__(self, parent: Path | None) -> None:
        parent_folder = (parent or Path(tempfile.gettempdir())) / f"mmaudio-workers-{os.getuid()}"
        parent_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        facts = parent_folder.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
            raise SettingsError(
                f"{parent_folder} is not a folder that this user owns; remove it, or set MMAUDIO_SCRATCH_DIR."
            )
        parent_folder.chmod(0o700)  # an earlier release, or `mkdir` with another umask, may have made it wider
        with _locked(parent_folder):  # a new folder must not look abandoned before its owner has locked it
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
        except (BlockingIOError, FileNotFoundError):  # in use, or removed at this moment
            continue
        log.info("removing the temporary files of a killed worker: %s", folder)
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)
