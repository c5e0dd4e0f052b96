"""Inspects objects in buckets that are not the platform's own, without reading their bytes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Protocol

from jobs.settings import Settings
from jobs.storage.protocol import CallLimits

DEFAULT_LIMITS = CallLimits()


@dataclass(frozen=True)
class BucketObject:
    """What a HEAD returns."""

    key: str
    etag: str
    version_id: str | None
    size_bytes: int
    last_modified: datetime
    made_by_job: str | None
    """The id of the platform's job that wrote the object as its output."""


@dataclass(frozen=True)
class ListedObject:
    """An object in a listing."""

    key: str
    etag: str
    size_bytes: int


@dataclass(frozen=True)
class ObjectPage:
    """Objects in the order of their keys, and whether more follow."""

    objects: list[ListedObject]
    more: bool


class BucketReader(Protocol):
    """Inspects objects.

    Raises (all methods):
        StorageUnavailableError: the store does not answer.
    """

    def head_object(self, bucket: str, key: str, version_id: str | None = None) -> BucketObject | None:
        """Return what is known of an object; None when there is none.

        Raises:
            ObjectForbiddenError: this server may not read it.
        """
        ...

    def list_objects(self, bucket: str, prefix: str, *, after: str, limit: int) -> ObjectPage:
        """Return the first objects whose keys begin with `prefix` and come after `after`.

        Raises:
            ObjectForbiddenError: this server may not list the bucket.
            BucketMissingError: there is no such bucket.
        """
        ...


class LazyBucketReader:
    """Builds the S3 reader on first use: most servers read no bucket, and boto3 is slow to import.

    Args:
        limits: how long a call may take.
    """

    def __init__(self, settings: Settings, limits: CallLimits = DEFAULT_LIMITS) -> None:
        self._settings, self._limits = settings, limits

    @cached_property
    def _reader(self) -> BucketReader:
        from jobs.storage.s3.bucket_reader import S3BucketReader

        return S3BucketReader.from_settings(self._settings, self._limits)

    def head_object(self, bucket: str, key: str, version_id: str | None = None) -> BucketObject | None:
        return self._reader.head_object(bucket, key, version_id)

    def list_objects(self, bucket: str, prefix: str, *, after: str, limit: int) -> ObjectPage:
        return self._reader.list_objects(bucket, prefix, after=after, limit=limit)
