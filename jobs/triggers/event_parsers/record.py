"""The record of S3 and compatible stores: one entry of `Records`.

Vendor differences (encoded keys, empty fields) are in `aws`, `minio` and `ceph`.
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
    name: _Text = Field(min_length=1, max_length=255)


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
    """One entry of `Records`."""

    version: str = Field("2.1", alias="eventVersion")
    source: _Text = Field("aws:s3", alias="eventSource", max_length=64)
    name: _Text = Field(alias="eventName", max_length=128)
    s3: _Entity

    @property
    def created(self) -> bool:
        """Whether an object was created."""
        return self.plain_name.startswith(PREFIX)

    @property
    def plain_name(self) -> str:
        """The event's name without the prefix `s3:` of MinIO and older Ceph."""
        return self.name.removeprefix("s3:")

    @property
    def kind(self) -> str:
        """How the object was created: `Put`, `Post`, `Copy`, `CompleteMultipartUpload`."""
        return self.plain_name.removeprefix(PREFIX)

    @property
    def version_id(self) -> str | None:
        """The version id. None also for Ceph's empty string, and for `null` of buckets with versioning suspended."""
        version_id = self.s3.object.version_id
        return version_id if version_id not in {"", "null"} else None

    @property
    def etag(self) -> str | None:
        """The ETag without quotes, if any."""
        return (self.s3.object.etag or "").strip('"') or None


def read_record(document: Any) -> Record:
    """Parse a record.

    Raises:
        UnreadableEventError: its fields are not valid, or its version is not supported.
    """
    try:
        record = Record.model_validate(document)
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "record"
        raise UnreadableEventError(f"{where} of an event record: {first['msg']}") from exc
    if record.version.partition(".")[0] != READABLE_MAJOR:
        raise UnreadableEventError(f"Got eventVersion {record.version!r}; supported is 2.x.")
    return record


def possible_keys(*keys: str) -> tuple[str, ...]:
    """Return the distinct keys that an object can have, in order.

    Raises:
        UnreadableEventError: there is none.
    """
    found = tuple(dict.fromkeys(key for key in keys if _is_valid(key)))
    if not found:
        raise UnreadableEventError(f"Got key {keys[0][:80]!r}; a key is UTF-8 of 1 to {MAX_KEY_BYTES} bytes.")
    return found


def decoded(key: str) -> str:
    """Decode a key that is encoded as a form field: `+` for a space, `%XX` for other characters."""
    return unquote_plus(key, errors="surrogateescape")


def _is_valid(key: str) -> bool:
    try:
        storable(key)
    except ValueError:
        return False
    return 0 < len(key.encode()) <= MAX_KEY_BYTES
