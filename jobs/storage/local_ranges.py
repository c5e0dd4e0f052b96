"""Writes of the folder store whose bytes come in several ranges: each is one growing file among the drafts."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote

from jobs.disk_space import DiskReserve
from jobs.storage.errors import (
    ChecksumMismatchError,
    ObjectNotFoundError,
    ObjectTooLargeError,
    OffsetMismatchError,
    WriteBusyError,
)
from jobs.storage.local_files import BACKEND, translated
from jobs.storage.protocol import CHUNK_BYTES, ObjectMetadata

_PREFIX = "part-"

Publish = Callable[[Path, str, str, str], ObjectMetadata]
"""Makes an object of a file, given its key, media type and SHA-256; the file keeps its own name too."""


def range_drafts(folder: Path) -> Iterator[tuple[Path, str]]:
    """Return the files of such writes in a folder of drafts, and their keys."""
    return ((path, unquote(path.name[len(_PREFIX) :])) for path in folder.glob(f"{_PREFIX}*"))


class LocalRangeWrites:
    """See `jobs.storage.resuming.RangeWrites`. Several processes may share the folder.

    Args:
        folder: that of the drafts.
        check_change: raises when this key must not be changed.
    """

    def __init__(
        self, folder: Path, reserve: DiskReserve, check_change: Callable[[str], None], publish: Publish
    ) -> None:
        self._folder, self._reserve, self._check_change, self._publish = folder, reserve, check_change, publish

    def received_bytes(self, key: str) -> int:
        path = self._path(key)
        try:
            return path.stat().st_size
        except FileNotFoundError:
            return 0
        except OSError as exc:
            raise translated(exc, f"Could not read what is there of {key!r}", self._folder) from exc

    def append(self, key: str, stream: BinaryIO, *, offset: int, max_bytes: int) -> int:
        self._check_change(key)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._held(key, create=offset == 0) as file:
                present = os.fstat(file.fileno()).st_size if file is not None else 0
                if present != offset or file is None:
                    raise OffsetMismatchError(f"{present} bytes are there; got bytes from {offset}.", BACKEND, present)
                try:
                    self._copy(stream, file, max_bytes)
                finally:
                    os.fsync(file.fileno())  # what came before an error counts, too
                return os.fstat(file.fileno()).st_size
        except OSError as exc:
            raise translated(exc, f"Could not write a part of {key!r}", self._folder) from exc

    def _copy(self, stream: BinaryIO, file: FileIO, max_bytes: int) -> None:
        size = 0
        self._reserve.check()
        while chunk := stream.read(min(CHUNK_BYTES, max_bytes - size + 1)):
            size += len(chunk)
            if size > max_bytes:
                raise ObjectTooLargeError(f"Got more than the allowed {max_bytes} bytes.", BACKEND)
            self._reserve.check(len(chunk))
            rest = memoryview(chunk)
            while rest:
                rest = rest[file.write(rest) :]

    def finish(self, key: str, *, content_type: str, sha256: str | None) -> ObjectMetadata:
        self._check_change(key)
        try:
            with self._held(key, create=False) as file:
                if file is None:
                    raise ObjectNotFoundError(f"There is nothing of {key!r} yet.", BACKEND)
                file.seek(0)
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                if sha256 is not None and digest != sha256:
                    self.discard(key)
                    raise ChecksumMismatchError(f"Got bytes with SHA-256 {digest}, expected {sha256}.", BACKEND)
                return self._publish(self._path(key), key, content_type, digest)
        except OSError as exc:
            raise translated(exc, f"Could not write {key!r}", self._folder) from exc

    def discard(self, key: str) -> None:
        try:
            self._path(key).unlink(missing_ok=True)
        except OSError as exc:
            raise translated(exc, f"Could not discard the parts of {key!r}", self._folder) from exc

    @contextlib.contextmanager
    def _held(self, key: str, *, create: bool) -> Iterator[FileIO | None]:
        """Open the file of a write for nobody else; None: there is none.

        Raises:
            WriteBusyError: somebody else holds it.
        """
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        while True:
            try:
                file = FileIO(os.open(self._path(key), flags, 0o600), "r+")
            except FileNotFoundError:
                yield None
                return
            with file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released when the file is closed
                except BlockingIOError as exc:
                    raise WriteBusyError("Another call sends bytes of the same object.", BACKEND) from exc
                if os.fstat(file.fileno()).st_nlink == 0:  # discarded since it was opened
                    continue
                yield file
                return

    def _path(self, key: str) -> Path:
        return self._folder / f"{_PREFIX}{quote(key, safe='')}"
