"""Parses a message of any known form into the objects that were created."""

from __future__ import annotations

import json
from typing import Any

from jobs.triggers.event_parsers.aws import read_aws
from jobs.triggers.event_parsers.ceph import SOURCE as CEPH
from jobs.triggers.event_parsers.ceph import read_ceph
from jobs.triggers.event_parsers.event import ObjectCreated, UnreadableEventError
from jobs.triggers.event_parsers.eventbridge import is_eventbridge, read_eventbridge
from jobs.triggers.event_parsers.minio import SOURCE as MINIO
from jobs.triggers.event_parsers.minio import access_records, read_minio
from jobs.triggers.event_parsers.record import read_record
from jobs.triggers.event_parsers.sns import inner_text, is_sns

TEST_EVENT = "s3:TestEvent"
# An SQS body may hold an SNS envelope; deeper nesting does not occur in practice.
MAX_ENVELOPES = 3


def read_text(text: str | bytes, *, envelopes: int = 0) -> list[ObjectCreated]:
    """Return the objects created according to a message; empty for messages about other things.

    Raises:
        UnreadableEventError: it is not JSON, or of no known form.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise UnreadableEventError("The message is not JSON.") from exc
    return read_document(document, envelopes=envelopes)


def read_document(document: Any, *, envelopes: int = 0) -> list[ObjectCreated]:
    """Return the objects created according to a JSON document; raises what `read_text` raises."""
    if isinstance(document, list):
        return _read_records(access_records(document))
    if not isinstance(document, dict):
        raise UnreadableEventError(f"Got a JSON {type(document).__name__}; bucket events are objects or lists.")
    if is_sns(document):
        if envelopes >= MAX_ENVELOPES:
            raise UnreadableEventError(f"Got more than {MAX_ENVELOPES} nested SNS envelopes.")
        inner = inner_text(document)
        return [] if inner is None else read_text(inner, envelopes=envelopes + 1)
    if is_eventbridge(document):
        created = read_eventbridge(document)
        return [created] if created is not None else []
    if isinstance(document.get("Records"), list):
        return _read_records(document["Records"])
    if document.get("Event") == TEST_EVENT:
        return []
    raise UnreadableEventError(
        "Got a JSON object of unknown form; known are `Records` (S3, MinIO, Ceph), SNS envelopes, EventBridge events "
        "and s3:TestEvent."
    )


def _read_records(records: list[Any]) -> list[ObjectCreated]:
    found = [_read_record(record) for record in records]
    return [created for created in found if created is not None]


def _read_record(document: Any) -> ObjectCreated | None:
    record = read_record(document)
    if not record.created:
        return None
    if record.source == CEPH:
        return read_ceph(record)
    # Records of the access format may have no source; then the `s3:` of their names identifies MinIO.
    if record.source == MINIO or record.name.startswith("s3:"):
        return read_minio(record)
    return read_aws(record)
