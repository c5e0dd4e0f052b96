"""Which object an event means, and which version of it: what makes two events the same."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from jobs.storage.bucket_reader import BucketObject, BucketReader
from jobs.storage.errors import ObjectForbiddenError
from jobs.storage.protocol import ObjectPin
from jobs.triggers.event_parsers.event import ObjectCreated

MAX_OBJECT_VERSION = 255


@dataclass(frozen=True)
class Found:
    """The object is there and is the version that the event tells of."""

    seen: BucketObject
    object_version: str

    @property
    def pin(self) -> ObjectPin:
        return ObjectPin(self.seen.etag, self.seen.version_id)


@dataclass(frozen=True)
class Overwritten:
    """Another version lies there now; that one has its own event."""

    key: str


@dataclass(frozen=True)
class Missing:
    """Nothing lies there (yet, or any more)."""


@dataclass(frozen=True)
class Forbidden:
    """The store does not let this server look."""


Look = Found | Overwritten | Missing | Forbidden


def find_object(event: ObjectCreated, reader: BucketReader) -> Look:
    """Find the object of an event: at most one of the event's readings, the likeliest that fits.

    Raises:
        StorageUnavailableError: the store does not answer.
    """
    otherwise: Overwritten | Missing | Forbidden = Missing()
    for key in event.keys:
        try:
            seen = reader.head_object(event.bucket, key, event.version_id)
        except ObjectForbiddenError:
            otherwise = Forbidden()
            continue
        if seen is None:
            continue
        if event.plain_etag in {None, seen.etag}:
            return Found(seen, object_version_of(event, seen))
        if isinstance(otherwise, Missing):
            otherwise = Overwritten(key)
    return otherwise


def object_version_of(event: ObjectCreated, seen: BucketObject) -> str:
    """Name the version: its id; else ETag and sequencer; else, where copies of an event differ in that, ETag and time.

    Two copies of one event get the same name whatever way they came; two versions of one key get different ones.
    """
    version_id = event.version_id or seen.version_id
    if version_id is not None:
        return _short(f"version {version_id}")
    if event.etag is not None and event.sequencer is not None:
        return _short(f"etag {event.etag} sequencer {event.sequencer}")
    return _short(f"etag {seen.etag} modified {int(seen.last_modified.timestamp())}")


def _short(object_version: str) -> str:
    """An index row has little room; a long version id is named by its hash."""
    if len(object_version) <= MAX_OBJECT_VERSION:
        return object_version
    return f"sha256 {hashlib.sha256(object_version.encode()).hexdigest()}"
