"""Finds the object of an event, and names its version: equal names mean the same object version."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from jobs.storage.bucket_reader import BucketObject, BucketReader
from jobs.storage.errors import ObjectForbiddenError
from jobs.storage.protocol import ObjectPin
from jobs.triggers.event_parsers.event import ObjectCreated

MAX_OBJECT_VERSION = 255
# `ObjectCreated.source` of an object that was found by listing its bucket.
BACKFILL = "backfill"


@dataclass(frozen=True)
class Found:
    """The object exists in the event's version."""

    object: BucketObject
    object_version: str

    @property
    def pin(self) -> ObjectPin:
        """The version that a job must fetch."""
        return ObjectPin(self.object.etag, self.object.version_id)


@dataclass(frozen=True)
class Overwritten:
    """The object exists in another version, which has its own event."""

    key: str


@dataclass(frozen=True)
class Missing:
    """The object does not exist (yet, or any more)."""


@dataclass(frozen=True)
class Forbidden:
    """The store does not let this server read the object."""


LookupResult = Found | Overwritten | Missing | Forbidden


def find_object(event: ObjectCreated, reader: BucketReader) -> LookupResult:
    """Find the object of an event: the first of the event's possible keys that fits.

    Raises:
        StorageError: the store does not answer, or answers with an error.
    """
    otherwise: Overwritten | Missing | Forbidden = Missing()
    for key in event.keys:
        try:
            found = reader.head_object(event.bucket, key, event.version_id)
        except ObjectForbiddenError:
            otherwise = Forbidden()
            continue
        if found is None:
            continue
        if event.plain_etag in {None, found.etag}:
            return Found(found, object_version_of(event, found))
        if isinstance(otherwise, Missing):
            otherwise = Overwritten(key)
    return otherwise


def object_version_of(event: ObjectCreated, found: BucketObject) -> str:
    """Name a version: by its id, else by ETag and sequencer, else by ETag and time of the object.

    Copies of one event get equal names from every source; two versions of one key get different names.
    """
    version_id = event.version_id or found.version_id
    if version_id is not None:
        return _bounded(f"version {version_id}")
    if event.etag is not None and event.sequencer is not None:
        return _bounded(f"etag {event.etag} sequencer {event.sequencer}")
    return version_by_head(found)


def version_by_head(found: BucketObject) -> str:
    """Name the version of an object without a version id from a HEAD alone."""
    return _bounded(f"etag {found.etag} modified {int(found.last_modified.timestamp())}")


def _bounded(object_version: str) -> str:
    """Return the name, or its hash if it is too long for the index."""
    if len(object_version) <= MAX_OBJECT_VERSION:
        return object_version
    return f"sha256 {hashlib.sha256(object_version.encode()).hexdigest()}"
