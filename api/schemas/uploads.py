"""Uploads: what is announced, and how the bytes are sent."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from jobs.request import Text


class UploadPath(BaseModel):
    upload_id: str = Field(max_length=64)


class NewUpload(BaseModel):
    model_config = ConfigDict(extra="forbid")

    filename: Text = Field(min_length=1, max_length=255, description="Only shown; the stored name is another.")
    size_bytes: int = Field(ge=1, strict=True)
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    content_type: str = Field(
        "application/octet-stream", max_length=120, pattern=r"^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+$"
    )


class UploadInstruction(BaseModel):
    """How to send the bytes: `PUT` them to `url` with `headers`, or `POST` a form, `fields` first, then part `file`."""

    method: Literal["PUT", "POST"]
    url: str
    headers: dict[str, str]
    fields: dict[str, str]
    expires_at: datetime


class UploadView(BaseModel):
    id: str
    state: Literal["pending", "ready", "expired"]
    filename: str
    content_type: str
    size_bytes: int
    sha256: str | None
    created_at: datetime
    expires_at: datetime
    upload: UploadInstruction | None = None
