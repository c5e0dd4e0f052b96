"""Ceph RGW: keys as they are, sizes maybe as text, version ids maybe empty, a notice when a multipart upload begins.

Ceph stamps each copy of an event anew (one a topic), so its `sequencer` does not tell copies from rewrites.
"""

from __future__ import annotations

from jobs.triggers.event_parsers.event import ObjectCreated
from jobs.triggers.event_parsers.record import Record, decoded, readings

SOURCE = "ceph:s3"


def read_ceph(record: Record) -> ObjectCreated | None:
    """Return what a Ceph record tells; None for the begin of a multipart upload (`Post` of nothing)."""
    told = record.s3.object
    if record.kind == "Post" and record.etag is None:
        return None  # the object comes with `CompleteMultipartUpload`, which has an event of its own
    return ObjectCreated(
        source=record.source,
        bucket=record.s3.bucket.name,
        keys=readings(told.key, decoded(told.key)),
        version_id=record.version_id,
        etag=record.etag,
        sequencer=None,
        size_bytes=told.size,
        name=record.plain_name,
    )
