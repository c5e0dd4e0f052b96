"""AWS S3: names without `s3:`, keys encoded as form fields."""

from __future__ import annotations

from jobs.triggers.event_parsers.event import ObjectCreated
from jobs.triggers.event_parsers.record import Record, decoded, readings

SOURCE = "aws:s3"


def read_aws(record: Record) -> ObjectCreated:
    """Return what an AWS record (or one of a store that calls itself so) tells."""
    told = record.s3.object
    return ObjectCreated(
        source=record.source,
        bucket=record.s3.bucket.name,
        # Some stores that call themselves AWS do not encode: the key as it came is the second reading.
        keys=readings(decoded(told.key), told.key),
        version_id=record.version_id,
        etag=record.etag,
        sequencer=told.sequencer or None,
        size_bytes=told.size,
        name=record.plain_name,
    )
