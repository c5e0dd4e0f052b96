"""A look at objects in other people's buckets: what lies under a key, without reading it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Protocol

from jobs.settings import Settings


@dataclass(frozen=True)
class BucketObject:
    """What a HEAD said."""

    key: str
    etag: str
    version_id: str | None
    size_bytes: int
    last_modified: datetime
    made_by_job: str | None
    """The job of ours whose output it is."""


class BucketReader(Protocol):
    """Looks at objects.

    Raises (all methods):
        StorageUnavailableError: the store does not answer.
    """

    def head_object(self, bucket: str, key: str, version_id: str | None = None) -> BucketObject | None:
        """Return what lies there; None when nothing does.

        Raises:
            ObjectForbiddenError: this server may not look.
        """
        ...


class LazyBucketReader:
    """A reader that is made when it is first needed: most servers never see a bucket, and boto3 loads slowly."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def _reader(self) -> BucketReader:
        from jobs.storage.s3.bucket_reader import S3BucketReader

        return S3BucketReader.from_settings(self._settings)

    def head_object(self, bucket: str, key: str, version_id: str | None = None) -> BucketObject | None:
        return self._reader.head_object(bucket, key, version_id)
