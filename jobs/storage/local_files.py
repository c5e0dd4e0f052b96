"""The files of the folder store: their names, their errors, and how they are read."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from jobs.errors import DiskReserveError
from jobs.storage.errors import InvalidKeyError, StorageError, StorageFullError, StorageUnavailableError
from jobs.storage.protocol import CHUNK_BYTES, ObjectMetadata

BACKEND = "local"


def quoted(part: str) -> str:
    """Return a part of a key as a file name."""
    return quote(part, safe=" +=@,()!-_")


def sidecar_document(metadata: ObjectMetadata) -> dict[str, Any]:
    """Return the content of a sidecar file."""
    return {
        "content_type": metadata.content_type,
        "sha256": metadata.sha256,
        "user_metadata": dict(metadata.user_metadata),
    }


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def chunks_of(file: BinaryIO, start: int, end: int | None) -> Iterator[bytes]:
    with file:
        file.seek(start)
        remaining = sys.maxsize if end is None else end - start
        while remaining > 0 and (chunk := file.read(min(CHUNK_BYTES, remaining))):
            remaining -= len(chunk)
            yield chunk


def translated(exc: OSError, what: str, path: Path) -> StorageError:
    """Return our error for an `OSError`; `path` is the file or folder that was written to."""
    if exc.errno == errno.ENAMETOOLONG:
        return InvalidKeyError(f"{what}: a part of the key is too long for a file name.", BACKEND)
    if isinstance(exc, DiskReserveError):
        return StorageFullError(f"{what}: {exc}.", BACKEND)
    if exc.errno == errno.ENOSPC:
        return StorageFullError(f"{what}: disk full at {path}.", BACKEND)
    if exc.errno == errno.EDQUOT:
        return StorageFullError(f"{what}: disk quota exceeded at {path}.", BACKEND)
    return StorageUnavailableError(f"{what}: {exc.strerror} at {path}.", BACKEND)
