"""Reads what is uploaded to a bucket: up to a limit, with its hash, in parts of the size that S3 wants."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import BinaryIO, Protocol

from jobs.storage.errors import ChecksumMismatchError, ObjectTooLargeError
from jobs.storage.protocol import CHUNK_BYTES
from jobs.storage.s3.errors import BACKEND
from jobs.storage.s3.upload import PART_BYTES


class BoundedReader:
    """Reads a stream up to a limit and compares its hash at the end with the announced one."""

    def __init__(self, stream: BinaryIO, max_bytes: int, sha256: str | None) -> None:
        self._stream, self._max_bytes, self._sha256 = stream, max_bytes, sha256
        self._size, self._digest = 0, hashlib.sha256()

    def read(self, amount: int) -> bytes:
        chunk = self._stream.read(amount)
        self._size += len(chunk)
        if self._size > self._max_bytes:
            raise ObjectTooLargeError(f"Got more than the allowed {self._max_bytes} bytes.", BACKEND)
        self._digest.update(chunk)
        if not chunk and self._sha256 is not None and self._digest.hexdigest() != self._sha256:
            found = self._digest.hexdigest()
            raise ChecksumMismatchError(f"Got bytes with SHA-256 {found}, expected {self._sha256}.", BACKEND)
        return chunk


class _Readable(Protocol):
    def read(self, amount: int, /) -> bytes: ...


def parts_of(stream: _Readable) -> Iterator[bytes]:
    """Split a stream into parts of the size that S3 wants, whatever its reads return."""
    while True:
        part = bytearray()
        while len(part) < PART_BYTES and (chunk := stream.read(min(CHUNK_BYTES, PART_BYTES - len(part)))):
            part += chunk
        if not part:
            return
        yield bytes(part)
        if len(part) < PART_BYTES:
            return
