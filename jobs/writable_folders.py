"""Checks, before anything starts, that the folders of the settings can be written."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from jobs.private_files import close_data_folder
from jobs.settings import Settings
from jobs.settings_errors import SettingsError, variable

Role = Literal["up", "api", "control", "worker", "migrate"]
# A full disk and a server that does not answer pass; these do not.
_LASTING = frozenset(
    {
        errno.EACCES,
        errno.EEXIST,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)


def check_folders(settings: Settings, role: Role) -> None:
    """Make the folders that a command writes to, and write to each; take the data folder away from other users.

    Raises:
        SettingsError: one is a file, or cannot be made or written.
    """
    for name, folder in _folders(settings, role):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as exc:
            if exc.errno in _LASTING:
                is_file = exc.errno in {errno.EEXIST, errno.ENOTDIR}
                reason = "is not a folder" if is_file else f"cannot be written ({exc.strerror})"
                raise SettingsError(
                    f"{variable(name)} names {folder}, which {reason}; give a folder that this user can write."
                ) from exc
    if settings.data_dir.is_dir():
        close_data_folder(settings.data_dir)


def _folders(settings: Settings, role: Role) -> Iterator[tuple[str, Path]]:
    """Yield each folder with the setting that chooses it; a folder inside another comes after it."""
    in_data_dir = {"up": True, "worker": settings.feature_cache_dir is None}.get(role, False)
    if in_data_dir or (role == "api" and not settings.secret_keys):
        yield "data_dir", settings.data_dir
    database = _sqlite_folder(settings.database_url)
    if database is not None:
        yield _chosen_by(settings, "database_url", database), database
    if role == "migrate":
        return
    storage = urlsplit(settings.storage_url)
    if storage.scheme == "file":
        yield _chosen_by(settings, "storage_url", Path(unquote(storage.path))), Path(unquote(storage.path))
    if role in {"up", "worker"}:
        if settings.scratch_dir is not None:
            yield "scratch_dir", settings.scratch_dir
        if settings.feature_cache_dir is not None:
            yield "feature_cache_dir", settings.feature_cache_dir
    if role in {"up", "control"} and settings.watched_folder is not None:
        yield _chosen_by(settings, "inbox_dir", settings.watched_folder), settings.watched_folder
        if settings.outbox is not None:
            yield "outbox", settings.outbox


def _chosen_by(settings: Settings, name: str, folder: Path) -> str:
    """Return the setting to name: the data folder's where the folder is a default inside it that cannot be made."""
    inside = folder.is_relative_to(settings.data_dir)
    return "data_dir" if inside and not settings.data_dir.is_dir() else name


def _sqlite_folder(database_url: str) -> Path | None:
    scheme, _, path = database_url.partition(":///")
    return Path(path).absolute().parent if scheme.startswith("sqlite") and path else None
