"""AWS S3: event names without `s3:`, keys encoded as form fields."""

from __future__ import annotations

from jobs.triggers.event_parsers.event import ObjectCreated
from jobs.triggers.event_parsers.record import Record, decoded, possible_keys

SOURCE = "aws:s3"


def read_aws(record: Record) -> ObjectCreated:
    """Parse a record of AWS, or of a store that uses AWS's source name."""
    created = record.s3.object
    return ObjectCreated(
        source=record.source,
        bucket=record.s3.bucket.name,
        # Some stores that use AWS's source name do not encode keys: the raw key is the second candidate.
        keys=possible_keys(decoded(created.key), created.key),
        version_id=record.version_id,
        etag=record.etag,
        sequencer=created.sequencer or None,
        size_bytes=created.size,
        name=record.plain_name,
    )
