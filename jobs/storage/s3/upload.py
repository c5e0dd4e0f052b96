"""Puts bytes into a bucket: in one call or in parts, every part checked, under a condition where one is given.

boto3's transfer manager does not pass `If-None-Match` on and does not say what the server answered, so the little of
it that uploads need is here (docs/adr/0009). Retries of each call are botocore's.
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
DAMAGED_TRIES = 3


@dataclass(frozen=True)
class Upload:
    """Where bytes go and what goes with them.

    Attributes:
        properties: boto3's arguments for a new object (`ContentType`, `Metadata`, encryption).
        condition: `{}`, `{"IfNoneMatch": "*"}` or `{"IfMatch": etag}`; judged by the server when the object appears.
    """

    bucket: str
    key: str
    properties: dict[str, Any]
    condition: dict[str, str]

    @property
    def place(self) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self.key}


def send(client: Any, upload: Upload, parts: Iterator[bytes]) -> None:
    """Send an object of `parts` (each `PART_BYTES` long but the last).

    Raises:
        ClientError, BotoCoreError: as the server answered, or did not.
        ChecksumMismatchError: again and again, other bytes arrived than were sent.
        Anything that `parts` raises; what was sent so far is then taken back.
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
        answer = client.put_object(**upload.place, Body=data, ContentMD5=_md5(data), **upload.properties, **condition)
        if not _arrived(answer, data):
            # What arrived is an object of its own now; the next try replaces just that one.
            condition.clear()
            condition["IfMatch"] = answer["ETag"]
        return answer

    _checked(put, data)


def _send_in_parts(client: Any, upload: Upload, parts: Iterator[bytes]) -> None:
    upload_id = client.create_multipart_upload(**upload.place, **upload.properties)["UploadId"]

    def put_part(number: int, data: bytes) -> dict[str, Any]:
        answer = _checked(
            lambda: client.upload_part(
                **upload.place, UploadId=upload_id, PartNumber=number, Body=data, ContentMD5=_md5(data)
            ),
            data,
        )
        return {"PartNumber": number, "ETag": answer["ETag"]}

    try:
        done = []
        with ThreadPoolExecutor(PARTS_AT_ONCE, thread_name_prefix="s3-part") as pool:
            waiting = []
            for number, data in enumerate(parts, start=1):
                waiting.append(pool.submit(put_part, number, data))
                if len(waiting) == PARTS_AT_ONCE:  # so that a long stream is never whole in memory
                    done.append(waiting.pop(0).result())
            done += [part.result() for part in waiting]
        client.complete_multipart_upload(
            **upload.place, UploadId=upload_id, MultipartUpload={"Parts": done}, **upload.condition
        )
    except BaseException:
        # Parts cost money until somebody takes them back; what dies before this line, `mmaudio doctor` finds.
        with contextlib.suppress(ClientError, BotoCoreError):
            client.abort_multipart_upload(**upload.place, UploadId=upload_id)
        raise


def _checked(put: Callable[[], Any], data: bytes) -> Any:
    for _ in range(DAMAGED_TRIES):
        answer = put()
        if _arrived(answer, data):
            return answer
    raise ChecksumMismatchError("The bytes that arrived are not those that were sent.", BACKEND)


def _arrived(answer: Any, data: bytes) -> bool:
    """Compare the ETag with what was sent, where it is an MD5: not with KMS keys, not in directory buckets."""
    if answer.get("ServerSideEncryption") in {"aws:kms", "aws:kms:dsse"}:
        return True
    etag = str(answer.get("ETag", "")).strip('"')
    is_md5 = len(etag) == 32 and not set(etag) - set("0123456789abcdef")
    return not is_md5 or etag == hashlib.md5(data, usedforsecurity=False).hexdigest()


def _md5(data: bytes) -> str:
    """The checksum that every server knows; newer ones break older S3-compatible servers."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
