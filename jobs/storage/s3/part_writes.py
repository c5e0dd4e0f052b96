"""Objects of a bucket whose parts callers send directly, by signed URLs (multipart upload)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError

from jobs.storage.errors import WriteUnknownError
from jobs.storage.protocol import ObjectMetadata
from jobs.storage.resuming import StoredPart
from jobs.storage.s3.errors import BACKEND, Operation, error_code, translated

# A bucket takes no smaller part except the last, and no more parts.
MIN_PART_BYTES = 5 * 1024**2
MAX_PARTS = 10_000


class S3PartWrites:
    """See `jobs.storage.resuming.PartWrites`.

    Args:
        client: makes calls; `public_client` signs; `finishing_client` waits longer, while the server joins parts.
        full: returns the key in the bucket.
        properties: returns boto3's arguments for a new object, given its media type and SHA-256.
    """

    def __init__(
        self,
        bucket: str,
        *,
        client: Callable[[], Any],
        public_client: Callable[[], Any],
        finishing_client: Callable[[], Any],
        full: Callable[[str], str],
        head: Callable[[str], ObjectMetadata],
        properties: Callable[[str, str | None], dict[str, Any]],
    ) -> None:
        self._bucket, self._client, self._public_client = bucket, client, public_client
        self._finishing_client, self._full, self._head, self._properties = finishing_client, full, head, properties

    def begin(self, key: str, *, content_type: str, sha256: str | None) -> str:
        with _translated(f"Could not begin to write {key!r}"):
            answer = self._client().create_multipart_upload(
                Bucket=self._bucket, Key=self._full(key), **self._properties(content_type, sha256)
            )
        return str(answer["UploadId"])

    def part_url(self, key: str, write_id: str, number: int, *, size_bytes: int, expires_s: int) -> str:
        return str(
            self._public_client().generate_presigned_url(
                "upload_part",
                # With its length signed, the URL takes no part of another size.
                Params={**self._named(key, write_id), "PartNumber": number, "ContentLength": size_bytes},
                ExpiresIn=expires_s,
            )
        )

    def stored_parts(self, key: str, write_id: str) -> list[StoredPart]:
        with _translated(f"Could not list the parts of {key!r}", Operation.READ):
            pages = self._client().get_paginator("list_parts").paginate(**self._named(key, write_id))
            found = [
                StoredPart(int(part["PartNumber"]), int(part["Size"]), str(part["ETag"]))
                for page in pages
                for part in page.get("Parts", [])
            ]
        return sorted(found, key=lambda part: part.number)

    def finish(self, key: str, write_id: str, parts: Sequence[StoredPart]) -> ObjectMetadata:
        listed = [{"PartNumber": part.number, "ETag": part.etag} for part in parts]
        with _translated(f"Could not write {key!r}"):
            self._finishing_client().complete_multipart_upload(
                **self._named(key, write_id), MultipartUpload={"Parts": listed}
            )
        return self._head(key)

    def discard(self, key: str, write_id: str) -> None:
        try:
            with _translated(f"Could not discard the parts of {key!r}"):
                self._client().abort_multipart_upload(**self._named(key, write_id))
        except WriteUnknownError:
            return

    def _named(self, key: str, write_id: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._full(key), "UploadId": write_id}


@contextmanager
def _translated(what: str, operation: Operation = Operation.WRITE) -> Iterator[None]:
    try:
        with translated(what, operation):
            yield
    except Exception as exc:
        cause = exc.__cause__
        if isinstance(cause, ClientError) and error_code(cause) == "NoSuchUpload":
            raise WriteUnknownError(f"{what}: it was finished or discarded.", BACKEND) from cause
        raise
