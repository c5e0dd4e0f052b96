"""Keeps what the platform stores from other users of the machine, and shares what it puts into a shared folder."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from pathlib import Path

log = logging.getLogger(__name__)

_OF_OTHERS = 0o077
# What the platform makes in its data folder. A folder with other entries is not its own alone.
_DATABASE = "mmaudio.db"
_ENTRIES = frozenset(
    {
        "admin.key",
        "broker.url",
        "features",
        "inbox",
        "objects",
        "outbox",
        "secret.key",
        "spool",
        "up.lock",
        "valkey",
        _DATABASE,
    }
)
_PREFIXES = (f"{_DATABASE}-", ".admin-", ".secret-")


def keep_files_private() -> None:
    """Make every file and folder that this process and its children create readable by this user only."""
    os.umask(_OF_OTHERS)


def close_data_folder(folder: Path) -> None:
    """Take a data folder of an earlier release, which other users could read, away from them.

    A folder that has entries of other origin too, such as a home, keeps its permissions; the platform's own entries in
    it are closed. Nothing of another user is changed. What is changed is logged.
    """
    try:
        if not _open_to_others(folder):
            return
        names = [entry.name for entry in os.scandir(folder)]
        if all(map(_is_own, names)):
            _close(folder)
            return
        for name in filter(_is_own, names):
            if _open_to_others(folder / name):
                _close(folder / name)
    except OSError as exc:
        log.warning("could not take %s away from other users: %s", folder, exc.strerror)


def match_folder(path: Path) -> None:
    """Give a new file or folder the group and permissions of the folder that it is in, which people may share.

    A folder is opened as its parent is; a file may be read and written by those who may read and write the folder.
    """
    parent = path.parent.stat()
    with contextlib.suppress(OSError):  # this user need not be in the group
        os.chown(path, -1, parent.st_gid)
    mode = stat.S_IMODE(parent.st_mode)
    path.chmod(mode & 0o2777 if path.is_dir() else 0o600 | mode & 0o066)


def make_shared_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing, for the people who share the one that they are in."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        match_folder(folder)


def _is_own(name: str) -> bool:
    return name in _ENTRIES or name.startswith(_PREFIXES)


def _open_to_others(path: Path) -> bool:
    """Say whether other users may do anything with a file or folder that this user owns."""
    facts = path.lstat() if path.is_symlink() else path.stat()
    return facts.st_uid == os.geteuid() and not stat.S_ISLNK(facts.st_mode) and bool(facts.st_mode & _OF_OTHERS)


def _close(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    path.chmod(mode & ~_OF_OTHERS & 0o777)
    log.warning("%s could be read by other users (mode %04o); now only by this one", path, mode)
