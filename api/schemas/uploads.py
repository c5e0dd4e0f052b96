"""Uploads: the announcement, and how the content is sent."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from api.links import LinkBuilder
from api.schemas.view import Timestamp, View
from jobs.db.tables import Upload
from jobs.lifecycle import UploadState
from jobs.request import Text
from jobs.service.uploads import upload_state
from jobs.storage.protocol import UploadTarget
from jobs.whole_numbers import Whole


class UploadPath(BaseModel):
    upload_id: str = Field(max_length=64, description="Id of the upload.")


class NewUpload(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"filename": "walk.mp4", "size_bytes": 5_000_000, "resumable": True}},
    )

    filename: Text = Field(
        min_length=1, max_length=255, description="Display name; the stored object has another name."
    )
    size_bytes: Whole = Field(ge=1, strict=True, description="Size of the file.")
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="SHA-256 to check the content against.")
    content_type: str = Field(
        "application/octet-stream",
        max_length=120,
        pattern=r"^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+$",
        description="Media type of the file.",
    )
    resumable: bool = Field(
        False, strict=True, description="Send the content in parts, so that a connection that breaks costs one part."
    )


class PartsQuery(BaseModel):
    limit: int = Field(100, ge=1, le=1000, description="Most missing parts to return.")


class MissingPartView(View):
    """A part to send: `PUT` the bytes of the file from `start` to before `end` to `url`, with `headers`.

    A key that may only read gets the first three fields alone.
    """

    number: int
    start: int
    end: int
    method: Literal["PUT"] | None = None
    url: str | None = None
    headers: dict[str, str] | None = None
    expires_at: Timestamp | None = Field(None, description="When `url` stops working; ask for the parts again then.")


class UploadPartsView(View):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "upload_id": "upl_01a2238c477377da8da7f53c51e604b6",
                "state": "pending",
                "size_bytes": 40_000_000,
                "part_bytes": 16_777_216,
                "part_count": 3,
                "in_order": True,
                "received_bytes": 33_554_432,
                "received": [1, 2],
                "missing_count": 1,
                "missing": [
                    {
                        "number": 3,
                        "start": 33_554_432,
                        "end": 40_000_000,
                        "method": "PUT",
                        "url": "/v1/uploads/upl_01a2238c477377da8da7f53c51e604b6/content?expires=1&signature=0",
                        "headers": {
                            "Content-Type": "application/octet-stream",
                            "Content-Range": "bytes 33554432-39999999/40000000",
                        },
                        "expires_at": "2026-01-31T12:00:00.000Z",
                    }
                ],
            }
        }
    )

    upload_id: str
    state: UploadState
    size_bytes: int
    part_bytes: int = Field(description="Size of each part but the last.")
    part_count: int
    in_order: bool = Field(description="Send one part after the other; otherwise several at once are possible.")
    received_bytes: int
    received: list[int] = Field(description="Numbers of the parts that are there.")
    missing_count: int
    missing: list[MissingPartView] = Field(description="The first missing parts, at most `limit`.")


class UploadOffsetView(View):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "upload_id": "upl_01a2238c477377da8da7f53c51e604b6",
                "state": "pending",
                "size_bytes": 40_000_000,
                "received_bytes": 33_554_432,
            }
        }
    )

    upload_id: str
    state: UploadState
    size_bytes: int
    received_bytes: int = Field(description="Bytes that are there; send the others from this offset on.")


class UploadInstruction(View):
    """How to send the content: `PUT` it to `url` with `headers`, or `POST` a form of `fields` and the part `file`."""

    method: Literal["PUT", "POST"]
    url: str
    headers: dict[str, str]
    fields: dict[str, str]
    expires_at: Timestamp = Field(description="When `url` stops working.")

    @classmethod
    def of(cls, upload: Upload, target: UploadTarget | None, links: LinkBuilder) -> UploadInstruction:
        """Return how to send an upload's content.

        Args:
            target: the store's own address; None: the content is sent to this API.
        """
        if target is not None:
            return cls.model_validate(vars(target))
        url, expires_at = links.upload_content(upload.id)
        headers = {"Content-Type": "application/octet-stream"}
        return cls(method="PUT", url=url, headers=headers, fields={}, expires_at=expires_at)


class UploadView(View):
    id: str = Field(description="A job's `video` or `image` may be this id.")
    state: UploadState
    filename: str
    content_type: str
    size_bytes: int
    sha256: str | None
    created_at: Timestamp
    expires_at: Timestamp
    upload: UploadInstruction | None = Field(
        None, description="How to send the content in one call; only in the announcement."
    )
    parts_url: str | None = Field(None, description="Where a resumable upload's parts are listed.")

    @classmethod
    def from_row(cls, row: Upload, links: LinkBuilder) -> UploadView:
        """Return the document of an upload, without `upload`."""
        now = links.now
        return cls(
            id=row.id,
            state=upload_state(row, now),
            filename=row.filename,
            content_type=row.content_type,
            size_bytes=row.size_bytes,
            sha256=row.sha256,
            created_at=row.created_at,
            expires_at=row.expires_at,
            parts_url=links.upload_parts(row.id) if row.part_bytes is not None else None,
        )
