"""MinIO: event names with `s3:`, keys fully encoded; webhooks like AWS, Redis lists with `Event` arrays.

MinIO also reports changes of tags or retention as `ObjectCreated`; such an event has no new content.
"""

from __future__ import annotations

from typing import Any

from jobs.triggers.event_parsers.aws import read_aws
from jobs.triggers.event_parsers.event import ObjectCreated, UnreadableEventError
from jobs.triggers.event_parsers.record import Record

SOURCE = "minio:s3"
NO_NEW_BYTES = frozenset({"PutRetention", "PutLegalHold", "PutTagging", "DeleteTagging"})


def read_minio(record: Record) -> ObjectCreated | None:
    """Parse a MinIO record; None when the object's content did not change."""
    return None if record.kind in NO_NEW_BYTES else read_aws(record)


def access_records(document: list[Any]) -> list[Any]:
    """Return the records of the Redis access format: `[{"Event": [record, ...], "EventTime": ...}, ...]`.

    Raises:
        UnreadableEventError: an entry has no `Event` array.
    """
    records: list[Any] = []
    for entry in document:
        inner = entry.get("Event") if isinstance(entry, dict) else None
        if not isinstance(inner, list):
            raise UnreadableEventError("Got a list; each entry must have an `Event` array (MinIO's access format).")
        records += inner
    return records
