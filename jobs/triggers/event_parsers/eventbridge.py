"""EventBridge: one object per document, keys not encoded, other field names."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from jobs.request import storable
from jobs.triggers.event_parsers.aws import SOURCE
from jobs.triggers.event_parsers.event import ObjectCreated, UnreadableEventError
from jobs.triggers.event_parsers.record import possible_keys

CREATED = "Object Created"

_Text = Annotated[str, AfterValidator(storable)]


class _Bucket(BaseModel):
    name: _Text = Field(min_length=1, max_length=255)


class _Object(BaseModel):
    key: _Text = Field(min_length=1)
    size: int | None = None
    etag: _Text | None = None
    version_id: _Text | None = Field(None, alias="version-id")
    sequencer: _Text | None = None


class _Detail(BaseModel):
    bucket: _Bucket
    object: _Object
    reason: _Text = ""


def is_eventbridge(document: dict[str, Any]) -> bool:
    return "detail-type" in document and document.get("source") == "aws.s3"


def read_eventbridge(document: dict[str, Any]) -> ObjectCreated | None:
    """Parse an EventBridge document; None when no object was created.

    Raises:
        UnreadableEventError: its detail is not valid.
    """
    if document["detail-type"] != CREATED:
        return None
    try:
        detail = _Detail.model_validate(document.get("detail"))
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UnreadableEventError(f"detail.{where} of an EventBridge event: {first['msg']}") from exc
    created = detail.object
    return ObjectCreated(
        source=SOURCE,
        bucket=detail.bucket.name,
        keys=possible_keys(created.key),
        version_id=created.version_id if created.version_id not in {"", "null"} else None,
        etag=(created.etag or "").strip('"') or None,
        sequencer=created.sequencer or None,
        size_bytes=created.size,
        name=f"ObjectCreated:{detail.reason}" if detail.reason else CREATED,
    )
