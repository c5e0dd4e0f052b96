"""Writes of an object that go on after they broke off: what a store offers for them, one of two ways.

`PartWrites`: callers send numbered parts directly to the store. `RangeWrites`: bytes come in order through this
process. Each write is known by its key; it is no object until it is finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from jobs.storage.protocol import ObjectMetadata


@dataclass(frozen=True)
class StoredPart:
    """A part that the store has; numbers begin at 1."""

    number: int
    size_bytes: int
    etag: str


class PartWrites(Protocol):
    """Writes in parts that callers send directly to the store.

    Raises (all methods):
        WriteUnknownError: the write was finished or discarded, or never begun.
        StorageUnavailableError: the store does not answer.
    """

    def begin(self, key: str, *, content_type: str, sha256: str | None) -> str:
        """Begin a write; return its id.

        Args:
            sha256: recorded with the object and not compared, which is for the caller to do.
        """
        ...

    def part_url(self, key: str, write_id: str, number: int, *, size_bytes: int, expires_s: int) -> str:
        """Return the signed URL to which a caller sends (`PUT`) the bytes of a part, `size_bytes` long."""
        ...

    def stored_parts(self, key: str, write_id: str) -> list[StoredPart]:
        """Return the parts that the store has, in order."""
        ...

    def finish(self, key: str, write_id: str, parts: Sequence[StoredPart]) -> ObjectMetadata:
        """Make an object of the parts, at once."""
        ...

    def discard(self, key: str, write_id: str) -> None:
        """Delete the parts of a write; nothing happens when there is none."""
        ...


class RangeWrites(Protocol):
    """Writes whose bytes come in order, through this process.

    Raises (all methods):
        StorageUnavailableError, StorageFullError: the disk is in trouble.
    """

    def received_bytes(self, key: str) -> int:
        """Return how many bytes of a write are there; 0 when there is none."""
        ...

    def append(self, key: str, stream: BinaryIO, *, offset: int, max_bytes: int) -> int:
        """Add the bytes of a stream; return how many are there then. What came before an error stays.

        Args:
            offset: how many bytes must be there before.
            max_bytes: of the stream.

        Raises:
            OffsetMismatchError: not as many are there.
            WriteBusyError: somebody else adds bytes to this write now.
            ObjectTooLargeError: the stream has more than `max_bytes`.
        """
        ...

    def finish(self, key: str, *, content_type: str, sha256: str | None) -> ObjectMetadata:
        """Make an object of what is there; the write stays until it is discarded.

        Raises:
            ChecksumMismatchError: the bytes do not hash to `sha256`; the write is discarded.
            ObjectNotFoundError: there is no such write.
            WriteBusyError: somebody adds bytes to it now.
        """
        ...

    def discard(self, key: str) -> None:
        """Delete what is there of a write; nothing happens when there is none."""
        ...
