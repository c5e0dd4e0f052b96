"""The look at other people's buckets, by S3's HEAD."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from jobs.settings import Settings
from jobs.storage.bucket_reader import BucketObject
from jobs.storage.errors import ObjectForbiddenError, StorageUnavailableError
from jobs.storage.protocol import JOB_ID_FIELD
from jobs.storage.s3.client import client_from_settings
from jobs.storage.s3.errors import BACKEND

_ABSENT = {"404", "NoSuchKey", "NotFound", "NoSuchBucket", "NoSuchVersion", "405", "MethodNotAllowed"}
_FORBIDDEN = {"403", "AccessDenied", "Forbidden"}


class S3BucketReader:
    """Looks by HEAD, with the credentials of boto3's own chain. Threads may share it."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @classmethod
    def from_settings(cls, settings: Settings) -> S3BucketReader:
        return cls(client_from_settings(settings))

    def head_object(self, bucket: str, key: str, version_id: str | None = None) -> BucketObject | None:
        version = {"VersionId": version_id} if version_id is not None else {}
        try:
            answer = self._client.head_object(Bucket=bucket, Key=key, **version)
        except ClientError as exc:
            code = str(exc.response.get("Error", {}).get("Code", ""))
            if code in _FORBIDDEN:
                raise ObjectForbiddenError(f"This server may not look at s3://{bucket}/{key}.", BACKEND) from exc
            if code in _ABSENT or (version and code in {"400", "InvalidArgument"}):
                return None
            raise StorageUnavailableError(f"Could not look at s3://{bucket}/{key}: {code}.", BACKEND) from exc
        except BotoCoreError as exc:
            raise StorageUnavailableError(f"Could not look at s3://{bucket}/{key}: {exc}", BACKEND) from exc
        given = answer.get("VersionId")
        return BucketObject(
            key=key,
            etag=str(answer["ETag"]).strip('"'),
            version_id=given if given not in {None, "", "null"} else None,
            size_bytes=int(answer["ContentLength"]),
            last_modified=answer["LastModified"],
            made_by_job=answer.get("Metadata", {}).get(JOB_ID_FIELD),
        )
