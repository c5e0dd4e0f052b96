"""The outbox: copies of results under names that people know. A file appears whole, once, and replaces no other."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Collection
from pathlib import Path
from typing import Protocol
from urllib.parse import quote_from_bytes, unquote_to_bytes

from jobs.db.tables import Artifact
from jobs.private_files import make_shared_folder, match_folder
from jobs.storage.errors import StorageFullError
from jobs.storage.protocol import CHUNK_BYTES, ObjectStore
from workers.event_sources.inbox_folder import bounded_name, free_path

# The folder of the same relative path cannot be made.
_NO_FOLDER = frozenset({errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR})
# File systems without hard links.
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class Record(Protocol):
    """Records the name of an artifact in the outbox (percent-encoded bytes), and whether the file is there."""

    def __call__(self, name: str, *, placed: bool) -> None: ...


class Outbox:
    """A folder that results are copied to."""

    def __init__(self, folder: Path, store: ObjectStore) -> None:
        self._folder, self._store = folder, store

    def inodes(self) -> Collection[tuple[int, int]]:
        """Return device and inode of the folder."""
        with contextlib.suppress(OSError):
            status = self._folder.stat()
            return ((status.st_dev, status.st_ino),)
        return ()

    def place(self, artifact: Artifact, wanted: str, recorded: str | None, record: Record) -> str:
        """Copy an artifact into the outbox unless it is there; return its path there.

        The name is recorded before the file appears: after a crash the file is found by it and not copied again.

        Args:
            wanted: relative path; a number is added where the name is taken.
            recorded: name that an earlier, interrupted call recorded.

        Raises:
            OSError: the outbox cannot be written.
            StorageError: the store fails, or has no such object.
        """
        if recorded is not None:
            path = self._folder / os.fsdecode(unquote_to_bytes(recorded))
            if _has_content(path, artifact):
                _draft(path.parent, artifact).unlink(missing_ok=True)
                record(recorded, placed=True)
                return str(path.relative_to(self._folder))
        parent = self._parent_of(wanted)
        draft = _draft(parent, artifact)
        try:
            self._download(artifact, draft)
            while True:
                path = free_path(parent, wanted.rpartition("/")[2])
                name = quote_from_bytes(os.fsencode(path.relative_to(self._folder)))
                record(name, placed=False)
                try:
                    _publish(draft, path)
                except FileExistsError:
                    continue  # somebody took the name meanwhile
                record(name, placed=True)
                return str(path.relative_to(self._folder))
        finally:
            draft.unlink(missing_ok=True)

    def _parent_of(self, wanted: str) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        parent = self._folder / wanted.rpartition("/")[0]
        try:
            make_shared_folder(parent)
        except OSError as exc:
            if exc.errno not in _NO_FOLDER:
                raise
            return self._folder
        return parent

    def _download(self, artifact: Artifact, draft: Path) -> None:
        draft.unlink(missing_ok=True)
        try:
            self._store.download_to(artifact.storage_key, draft)
        except StorageFullError as exc:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(draft)) from exc
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        match_folder(draft)


def _draft(parent: Path, artifact: Artifact) -> Path:
    return parent / bounded_name(f".mmaudio-{artifact.job_id}-{artifact.name}.part")


def _publish(draft: Path, path: Path) -> None:
    """Give the draft its name unless that is taken.

    Raises:
        FileExistsError: it is taken.
    """
    try:
        path.hardlink_to(draft)
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from exc
        draft.rename(path)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)  # so that the name survives a power cut too
    finally:
        os.close(descriptor)


def _has_content(path: Path, artifact: Artifact) -> bool:
    """Return whether a regular file holds the artifact's bytes."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    with os.fdopen(descriptor, "rb") as file:
        if os.fstat(descriptor).st_size != artifact.size_bytes:
            return False
        digest = hashlib.sha256()
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest() == artifact.sha256
