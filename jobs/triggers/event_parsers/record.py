"""The record that S3 invented and the others copied: one entry of `Records`.

What differs between the vendors (is the key encoded, what do empty fields mean) is theirs: `aws`, `minio`, `ceph`.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import unquote_plus

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from jobs.request import storable
from jobs.triggers.event_parsers.event import UnreadableEventError

PREFIX = "ObjectCreated:"
READABLE_MAJOR = "2"
MAX_KEY_BYTES = 1024

_Text = Annotated[str, AfterValidator(storable)]


class _Bucket(BaseModel):
    name: str = Field(min_length=1, max_length=255)


class _Object(BaseModel):
    key: _Text = Field(min_length=1, max_length=3 * MAX_KEY_BYTES)
    size: int | None = None  # Ceph may send a string; pydantic reads it
    etag: _Text | None = Field(None, alias="eTag")
    version_id: _Text | None = Field(None, alias="versionId")
    sequencer: _Text | None = None


class _Entity(BaseModel):
    bucket: _Bucket
    object: _Object


class Record(BaseModel):
    """One entry of `Records`, as it came."""

    version: str = Field("2.1", alias="eventVersion")
    source: str = Field("aws:s3", alias="eventSource", max_length=64)
    name: str = Field(alias="eventName", max_length=128)
    s3: _Entity

    @property
    def created(self) -> bool:
        return self.plain_name.startswith(PREFIX)

    @property
    def plain_name(self) -> str:
        """The event's name without the `s3:` that MinIO and older Ceph put before it."""
        return self.name.removeprefix("s3:")

    @property
    def kind(self) -> str:
        """What created the object: `Put`, `Post`, `Copy`, `CompleteMultipartUpload`."""
        return self.plain_name.removeprefix(PREFIX)

    @property
    def version_id(self) -> str | None:
        """None when there is none: Ceph sends an empty text, a bucket that once kept versions sends `null`."""
        given = self.s3.object.version_id
        return given if given not in {"", "null"} else None

    @property
    def etag(self) -> str | None:
        return (self.s3.object.etag or "").strip('"') or None


def read_record(document: Any) -> Record:
    """Return the record.

    Raises:
        UnreadableEventError: it is none, or of a version that nobody has described yet.
    """
    try:
        record = Record.model_validate(document)
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "record"
        raise UnreadableEventError(f"{where} of an event record: {first['msg']}") from exc
    if record.version.partition(".")[0] != READABLE_MAJOR:
        raise UnreadableEventError(f"Got eventVersion {record.version!r}; 2.x is understood.")
    return record


def readings(*keys: str) -> tuple[str, ...]:
    """Return the possible keys once each, in order, without those that no object can have.

    Raises:
        UnreadableEventError: none is left.
    """
    found = tuple(dict.fromkeys(key for key in keys if _possible(key)))
    if not found:
        raise UnreadableEventError(f"Got key {keys[0][:80]!r}; a key is UTF-8 of 1 to {MAX_KEY_BYTES} bytes.")
    return found


def decoded(key: str) -> str:
    """Return a key that was encoded as a form field is: `+` for a space, `%XX` for the rest."""
    return unquote_plus(key, errors="surrogateescape")


def _possible(key: str) -> bool:
    try:
        storable(key)
    except ValueError:
        return False
    return 0 < len(key.encode()) <= MAX_KEY_BYTES
