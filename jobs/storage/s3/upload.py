"""Uploads bytes to a bucket, in one call or in parts, each part verified, optionally under a condition.

boto3's transfer manager neither passes `If-None-Match` on nor returns the server's answer, so uploads do without it
(docs/adr/0009). Each call is retried by botocore.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from jobs.storage.errors import ChecksumMismatchError
from jobs.storage.s3.errors import BACKEND

PART_BYTES = 8 * 1024**2
PARTS_AT_ONCE = 4
CORRUPTION_TRIES = 3


@dataclass(frozen=True)
class Upload:
    """Destination and properties of an object.

    Attributes:
        properties: boto3's arguments for a new object (`ContentType`, `Metadata`, encryption).
        condition: `{}`, `{"IfNoneMatch": "*"}` or `{"IfMatch": etag}`; checked by the server when the object appears.
    """

    bucket: str
    key: str
    properties: dict[str, Any]
    condition: dict[str, str]

    @property
    def location(self) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self.key}


def send(client: Any, upload: Upload, parts: Iterator[bytes]) -> None:
    """Upload an object of `parts` (each `PART_BYTES` long except the last).

    Raises:
        ClientError, BotoCoreError: the server refused, or did not answer.
        ChecksumMismatchError: the bytes were corrupted in transit, in every try.
        Anything that `parts` raises; the parts sent so far are then discarded.
    """
    first = next(parts, b"")
    second = next(parts, None)
    if second is None:
        _send_whole(client, upload, first)
    else:
        _send_in_parts(client, upload, chain((first, second), parts))


def _send_whole(client: Any, upload: Upload, data: bytes) -> None:
    condition = dict(upload.condition)

    def put() -> Any:
        answer = client.put_object(
            **upload.location, Body=data, ContentMD5=_md5(data), **upload.properties, **condition
        )
        if not _is_intact(answer, data):
            # The corrupted object exists now: the next try replaces exactly that one.
            condition.clear()
            condition["IfMatch"] = answer["ETag"]
        return answer

    _verified(put, data)


def _send_in_parts(client: Any, upload: Upload, parts: Iterator[bytes]) -> None:
    upload_id = client.create_multipart_upload(**upload.location, **upload.properties)["UploadId"]

    def put_part(number: int, data: bytes) -> dict[str, Any]:
        answer = _verified(
            lambda: client.upload_part(
                **upload.location, UploadId=upload_id, PartNumber=number, Body=data, ContentMD5=_md5(data)
            ),
            data,
        )
        return {"PartNumber": number, "ETag": answer["ETag"]}

    try:
        done = []
        with ThreadPoolExecutor(PARTS_AT_ONCE, thread_name_prefix="s3-part") as pool:
            pending = []
            for number, data in enumerate(parts, start=1):
                pending.append(pool.submit(put_part, number, data))
                if len(pending) == PARTS_AT_ONCE:  # bounds the memory of a long stream
                    done.append(pending.pop(0).result())
            done += [part.result() for part in pending]
        client.complete_multipart_upload(
            **upload.location, UploadId=upload_id, MultipartUpload={"Parts": done}, **upload.condition
        )
    except BaseException:
        # Parts cost money until they are discarded; `mmaudio doctor` finds those of a process that died before this.
        with contextlib.suppress(ClientError, BotoCoreError):
            client.abort_multipart_upload(**upload.location, UploadId=upload_id)
        raise


def _verified(put: Callable[[], Any], data: bytes) -> Any:
    for _ in range(CORRUPTION_TRIES):
        answer = put()
        if _is_intact(answer, data):
            return answer
    raise ChecksumMismatchError("The bytes that arrived are not those that were sent.", BACKEND)


def _is_intact(answer: Any, data: bytes) -> bool:
    """Compare the ETag with the MD5 of what was sent; with KMS keys and in directory buckets the ETag is no MD5."""
    if answer.get("ServerSideEncryption") in {"aws:kms", "aws:kms:dsse"}:
        return True
    etag = str(answer.get("ETag", "")).strip('"')
    is_md5 = len(etag) == 32 and not set(etag) - set("0123456789abcdef")
    return not is_md5 or etag == hashlib.md5(data, usedforsecurity=False).hexdigest()


def _md5(data: bytes) -> str:
    """Return Content-MD5, the one checksum that every S3-compatible server knows."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
