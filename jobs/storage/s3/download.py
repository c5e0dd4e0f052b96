"""Copies an object to a file: ranged and in parallel, every range only of the object that was looked at first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from boto3.s3.transfer import TransferConfig, create_transfer_manager
from s3transfer.subscribers import BaseSubscriber

from jobs.storage.s3.upload import PART_BYTES

_TRANSFER = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=4)


class _Seen(BaseSubscriber):
    """Tells a transfer what a HEAD said. With size and ETag given, every GET carries If-Match."""

    def __init__(self, size_bytes: int, etag: str) -> None:
        self._size_bytes, self._etag = size_bytes, etag

    def on_queued(self, future: Any, **_: Any) -> None:
        future.meta.provide_transfer_size(self._size_bytes)
        future.meta.provide_object_etag(f'"{self._etag}"')


def download(
    client: Any, bucket: str, key: str, path: Path, *, size_bytes: int, etag: str, version: Mapping[str, str]
) -> None:
    """Copy an object as a HEAD saw it; raises what boto3 raises, a failed precondition when it was overwritten.

    Args:
        version: the argument `VersionId`, where one is meant.
    """
    with create_transfer_manager(client, _TRANSFER) as manager:
        manager.download(
            bucket, key, str(path), extra_args=dict(version), subscribers=[_Seen(size_bytes, etag)]
        ).result()
