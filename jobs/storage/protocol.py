"""The interface of every object store. Keys are text with `/` between parts; hashes are lower-case hex SHA-256."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from jobs.storage.resuming import PartWrites, RangeWrites

CHUNK_BYTES = 1024 * 1024
# Names the platform whose store this is; see jobs/storage/identity.py.
MARKER_KEY = "platform.json"
# Metadata field of every output: the job that made it, so that a trigger does not take it for an input.
JOB_ID_FIELD = "mmaudio-job-id"
# Metadata field of every output: the attempt that made it.
ATTEMPT_FIELD = "mmaudio-attempt"


@dataclass(frozen=True)
class CallLimits:
    """How long one call to a store behind a network may take; a folder has none.

    Attributes:
        connect_s: seconds to connect.
        read_s: seconds without a byte of the answer.
        tries: in all; None: as the settings say.
    """

    connect_s: float = 3.0
    read_s: float = 30.0
    tries: int | None = None


@dataclass(frozen=True)
class ObjectMetadata:
    """What a store knows about an object without reading its bytes."""

    key: str
    size_bytes: int
    etag: str
    sha256: str | None
    content_type: str
    last_modified: datetime
    user_metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ObjectPin:
    """One version of an object: its version id where the bucket keeps versions, otherwise its ETag."""

    etag: str
    version_id: str | None = None


@dataclass(frozen=True)
class UploadTarget:
    """How a caller uploads directly to the store: a form (`POST`, `fields` first) or a plain `PUT`."""

    method: str
    url: str
    headers: Mapping[str, str]
    fields: Mapping[str, str]
    expires_at: datetime


@dataclass(frozen=True)
class UnfinishedWrite:
    """Leftovers of a write that never finished; `discard` removes them and raises `StorageError` when it cannot."""

    name: str
    begun_at: datetime
    discard: Callable[[], None] = field(repr=False)
    key: str | None = None
    """The key that was to be written; None for a draft in the store's own folder, which has no key yet."""


class ObjectStore(Protocol):
    """Stores files under keys. Writes are atomic: an object is complete or does not exist.

    Raises (all methods):
        StorageUnavailableError: the store does not answer.
        InvalidKeyError: the key is not allowed.
    """

    backend: str
    location: str
    """The folder, or the bucket with its prefix and endpoint, for messages to operators."""

    @property
    def part_writes(self) -> PartWrites | None:
        """Writes in parts that callers send directly to the store; None where they cannot reach it."""
        ...

    @property
    def range_writes(self) -> RangeWrites | None:
        """Writes whose bytes come in order through this process; None where there are `part_writes`."""
        ...

    def put_file(
        self,
        key: str,
        path: Path,
        *,
        content_type: str,
        user_metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
    ) -> ObjectMetadata:
        """Store a file together with its SHA-256.

        Raises:
            ObjectExistsError: `if_absent` and the key is taken.
            StorageFullError: the disk or bucket is full.
        """
        ...

    def put_stream(
        self, key: str, stream: BinaryIO, *, content_type: str, max_bytes: int, sha256: str | None = None
    ) -> ObjectMetadata:
        """Store the bytes of a stream, without holding all of them in memory.

        Raises:
            ObjectTooLargeError: the stream has more than `max_bytes`.
            ChecksumMismatchError: the bytes do not hash to `sha256`.
            StorageFullError: the disk or bucket is full.
        """
        ...

    def open_read(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Return the bytes from `start` to before `end`, in chunks.

        Raises:
            ObjectNotFoundError: no such object (raised by the call, not by the first chunk).
        """
        ...

    def download_to(self, key: str, path: Path, *, max_bytes: int | None = None) -> ObjectMetadata:
        """Copy an object to a file and verify its stored SHA-256, where it has one.

        Raises:
            ObjectNotFoundError: no such object.
            ObjectTooLargeError: the object has more than `max_bytes`.
            ChecksumMismatchError: the stored bytes are damaged.
            StorageFullError: the disk of `path` is full.
        """
        ...

    def head(self, key: str) -> ObjectMetadata:
        """Return an object's metadata.

        Raises:
            ObjectNotFoundError: no such object.
        """
        ...

    def copy(
        self, source: str, target: str, *, etag: str, content_type: str, sha256: str | None = None
    ) -> ObjectMetadata:
        """Copy one version of an object within the store; the bytes do not pass through this process.

        Args:
            etag: the version of `source`.
            sha256: recorded with the copy and not compared, which is for the caller to do.

        Returns:
            The metadata of the copy. Its `sha256` is what the store computed from the bytes, None where it does not.

        Raises:
            ObjectNotFoundError: `source` does not exist.
            ObjectChangedError: `source` is another version by now; nothing is stored.
            StorageFullError: the disk or bucket is full.
        """
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; missing ones are ignored."""
        ...

    def list_keys(self, prefix: str) -> Iterator[str]:
        """Return the keys that begin with `prefix`, sorted."""
        ...

    def presigned_get(
        self, key: str, *, expires_s: int, filename: str, content_type: str, inline: bool = False
    ) -> str | None:
        """Return a signed URL of the object, or None when the store cannot be reached by callers."""
        ...

    def upload_target(
        self, key: str, *, size_bytes: int, content_type: str, sha256: str | None, expires_s: int, now: datetime
    ) -> UploadTarget | None:
        """Return how to upload exactly `size_bytes` directly, or None when the store cannot be reached by callers."""
        ...

    def unfinished_writes(self, *, older_than_s: float) -> Iterator[UnfinishedWrite]:
        """Return the leftovers of writes that began so long ago and never finished; none is visible as an object.

        Of all keys: those of other programs too, where they use the same bucket and prefix.
        """
        ...

    def check(self) -> None:
        """Raise `StorageError` unless the store can be used now."""
        ...
