"""Copies an object within a bucket. The server copies; large objects in parts, as S3 demands."""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from jobs.storage.s3.errors import is_not_implemented

# S3 copies at most this much in one call.
MAX_COPY_BYTES = 5 * 1024**3
PART_BYTES = 1024**3
PARTS_AT_ONCE = 4


@dataclass(frozen=True)
class Copy:
    """Source and destination of a copy, and the properties of the new object.

    Attributes:
        etag: the version of the source.
        properties: boto3's arguments for a new object (`ContentType`, `Metadata`, encryption).
    """

    bucket: str
    source: str
    target: str
    etag: str
    size_bytes: int
    properties: dict[str, Any]

    @property
    def from_source(self) -> dict[str, Any]:
        """The arguments that name the source and its version."""
        return {"CopySource": {"Bucket": self.bucket, "Key": self.source}, "CopySourceIfMatch": self.etag}

    @property
    def to_target(self) -> dict[str, Any]:
        """The arguments that name the destination."""
        return {"Bucket": self.bucket, "Key": self.target}


def copy_object(client: Any, copy: Copy) -> str | None:
    """Copy an object; return the SHA-256 that the server computed from its bytes, or None where it does not.

    Raises:
        ClientError, BotoCoreError: the server refused, or did not answer; `PreconditionFailed`: another version.
    """
    if copy.size_bytes > MAX_COPY_BYTES:
        _copy_in_parts(client, copy)
        return None
    try:
        answer = _copy_whole(client, copy, {"ChecksumAlgorithm": "SHA256"})
    except ClientError as exc:
        if not is_not_implemented(exc):
            raise
        answer = _copy_whole(client, copy, {})
    return _hexadecimal(answer.get("CopyObjectResult", {}).get("ChecksumSHA256"))


def _copy_whole(client: Any, copy: Copy, checksum: dict[str, str]) -> Any:
    return client.copy_object(
        **copy.to_target, **copy.from_source, MetadataDirective="REPLACE", **copy.properties, **checksum
    )


def _copy_in_parts(client: Any, copy: Copy) -> None:
    upload_id = client.create_multipart_upload(**copy.to_target, **copy.properties)["UploadId"]

    def copy_part(part: tuple[int, str]) -> dict[str, Any]:
        number, window = part
        answer = client.upload_part_copy(
            **copy.to_target, **copy.from_source, UploadId=upload_id, PartNumber=number, CopySourceRange=window
        )
        return {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}

    try:
        with ThreadPoolExecutor(PARTS_AT_ONCE, thread_name_prefix="s3-copy") as pool:
            done = list(pool.map(copy_part, _windows(copy.size_bytes)))
        client.complete_multipart_upload(**copy.to_target, UploadId=upload_id, MultipartUpload={"Parts": done})
    except BaseException:
        with contextlib.suppress(ClientError, BotoCoreError):
            client.abort_multipart_upload(**copy.to_target, UploadId=upload_id)
        raise


def _windows(size_bytes: int) -> Iterator[tuple[int, str]]:
    """Yield the number of each part and its range of bytes."""
    for number, start in enumerate(range(0, size_bytes, PART_BYTES), start=1):
        yield number, f"bytes={start}-{min(start + PART_BYTES, size_bytes) - 1}"


def _hexadecimal(checksum: str | None) -> str | None:
    """Return a checksum of S3 as hexadecimal; None for one of parts (`BASE64-3`), which is not the object's."""
    try:
        digest = base64.b64decode(checksum or "", validate=True)
    except binascii.Error:
        return None
    return digest.hex() if len(digest) == 32 else None
