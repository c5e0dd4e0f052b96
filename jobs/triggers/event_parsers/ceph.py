"""Ceph RGW: keys not encoded, sizes possibly strings, version ids possibly empty, an event at the start of multiparts.

Ceph stamps each copy of an event anew (one per topic), so its `sequencer` does not distinguish copies from rewrites.
"""

from __future__ import annotations

from jobs.triggers.event_parsers.event import ObjectCreated
from jobs.triggers.event_parsers.record import Record, decoded, possible_keys

SOURCE = "ceph:s3"


def read_ceph(record: Record) -> ObjectCreated | None:
    """Parse a Ceph record; None for the start of a multipart upload (`Post` without an ETag)."""
    created = record.s3.object
    if record.kind == "Post" and record.etag is None:
        return None  # the object exists after `CompleteMultipartUpload`, which has its own event
    return ObjectCreated(
        source=record.source,
        bucket=record.s3.bucket.name,
        keys=possible_keys(created.key, decoded(created.key)),
        version_id=record.version_id,
        etag=record.etag,
        sequencer=None,
        size_bytes=created.size,
        name=record.plain_name,
    )
