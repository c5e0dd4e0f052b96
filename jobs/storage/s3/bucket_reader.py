"""Inspects objects in buckets that are not the platform's own, by S3's HEAD."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from jobs.settings import Settings
from jobs.storage.bucket_reader import BucketObject, ListedObject, ObjectPage
from jobs.storage.errors import BucketMissingError, ObjectNotFoundError
from jobs.storage.protocol import JOB_ID_FIELD, CallLimits
from jobs.storage.s3.client import DEFAULT_LIMITS, ClientOptions, s3_client
from jobs.storage.s3.errors import Operation, is_invalid_version, translated
from jobs.storage.s3.head import head_object


class S3BucketReader:
    """A `BucketReader` over S3, with the credentials of boto3's own chain. Threads may share it."""

    def __init__(self, options: ClientOptions) -> None:
        self._options = options

    @classmethod
    def from_settings(cls, settings: Settings, limits: CallLimits = DEFAULT_LIMITS) -> S3BucketReader:
        """Return the reader for the endpoint that the settings name."""
        return cls(ClientOptions.from_settings(settings, limits))

    def head_object(self, bucket: str, key: str, version_id: str | None = None) -> BucketObject | None:
        """Return what a HEAD says of the object; raises as the protocol says."""
        version = {"VersionId": version_id} if version_id is not None else {}
        try:
            with translated(f"Could not read s3://{bucket}/{key}", Operation.READ):
                answer = self._head(bucket, key, version)
        except (ObjectNotFoundError, BucketMissingError):
            return None
        if answer is None:
            return None
        given = answer.get("VersionId")
        return BucketObject(
            key=key,
            etag=str(answer["ETag"]).strip('"'),
            version_id=given if given not in {None, "", "null"} else None,
            size_bytes=int(answer["ContentLength"]),
            last_modified=answer["LastModified"],
            made_by_job=answer.get("Metadata", {}).get(JOB_ID_FIELD),
        )

    def list_objects(self, bucket: str, prefix: str, *, after: str, limit: int) -> ObjectPage:
        """Return a page of a listing; raises as the protocol says."""
        start = {"StartAfter": after} if after else {}
        with translated(f"Could not list s3://{bucket}/{prefix}", Operation.READ):
            answer = s3_client(self._options).list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=limit, **start)
        objects = [
            ListedObject(one["Key"], str(one.get("ETag", "")).strip('"'), int(one.get("Size", 0)))
            for one in answer.get("Contents", [])
        ]
        return ObjectPage(objects, more=bool(answer.get("IsTruncated")) and bool(objects))

    def _head(self, bucket: str, key: str, version: dict[str, str]) -> dict[str, Any] | None:
        try:
            return head_object(s3_client(self._options), bucket, key, version)
        except ClientError as exc:
            if version and is_invalid_version(exc):
                return None
            raise
