"""What every store can do. Keys are text with `/` between parts; sizes are bytes, hashes lower-case hex SHA-256."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

CHUNK_BYTES = 1024 * 1024
# What every output carries in its metadata: which job of ours made it. A trigger must not take it for an input.
JOB_ID_FIELD = "mmaudio-job-id"


@dataclass(frozen=True)
class ObjectMetadata:
    """What a store knows of an object without reading it."""

    key: str
    size_bytes: int
    etag: str
    sha256: str | None
    content_type: str
    last_modified: datetime
    user_metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ObjectPin:
    """One version of an object: by its version id where the bucket keeps versions, by its ETag elsewhere."""

    etag: str
    version_id: str | None = None


@dataclass(frozen=True)
class UploadTarget:
    """How a caller sends bytes straight to the store: a form (`POST`, `fields` first) or a plain `PUT`."""

    method: str
    url: str
    headers: Mapping[str, str]
    fields: Mapping[str, str]
    expires_at: datetime


@dataclass(frozen=True)
class UnfinishedWrite:
    """What is left of a write that died; `discard` takes it back."""

    name: str
    begun_at: datetime
    discard: Callable[[], None] = field(repr=False)


class ObjectStore(Protocol):
    """A place for files. Writes are atomic: an object is whole or not there.

    Raises (all methods):
        StorageUnavailableError: the store does not answer.
        InvalidKeyError: the key is not allowed.
    """

    backend: str

    def put_file(
        self,
        key: str,
        path: Path,
        *,
        content_type: str,
        user_metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
    ) -> ObjectMetadata:
        """Store a file; its SHA-256 goes with it.

        Raises:
            ObjectExistsError: `if_absent` and the key is taken.
            StorageFullError: there is no room.
        """
        ...

    def put_stream(
        self, key: str, stream: BinaryIO, *, content_type: str, max_bytes: int, sha256: str | None = None
    ) -> ObjectMetadata:
        """Store what a stream gives, never whole in memory.

        Raises:
            ObjectTooLargeError: more than `max_bytes` come.
            ChecksumMismatchError: the bytes do not hash to `sha256`.
            StorageFullError: there is no room.
        """
        ...

    def open_read(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Return the bytes from `start` to before `end`, in chunks.

        Raises:
            ObjectNotFoundError: there is none (at the call, not at the first chunk).
        """
        ...

    def download_to(self, key: str, path: Path, *, max_bytes: int | None = None) -> ObjectMetadata:
        """Copy an object to a file, checked against its stored SHA-256 where there is one.

        Raises:
            ObjectNotFoundError, ObjectTooLargeError, ChecksumMismatchError.
        """
        ...

    def head(self, key: str) -> ObjectMetadata:
        """Return what is known of an object.

        Raises:
            ObjectNotFoundError: there is none.
        """
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; one that is not there is no error."""
        ...

    def list_keys(self, prefix: str) -> Iterator[str]:
        """Return the keys that begin with `prefix`, in order."""
        ...

    def presigned_get(
        self, key: str, *, expires_s: int, filename: str, content_type: str, inline: bool = False
    ) -> str | None:
        """Return a link straight to the bytes, or None when the store has no address of its own."""
        ...

    def upload_target(
        self, key: str, *, size_bytes: int, content_type: str, sha256: str | None, expires_s: int, now: datetime
    ) -> UploadTarget | None:
        """Return how to send exactly `size_bytes` straight to the store, or None when it has no address of its own."""
        ...

    def unfinished_writes(self, *, older_than_s: float) -> Iterator[UnfinishedWrite]:
        """Return what writes that died so long ago have left; none of it can be seen as an object."""
        ...

    def check(self) -> None:
        """Raise `StorageUnavailableError` unless the store can be used now."""
        ...
