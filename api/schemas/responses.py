"""The problem document, and how the OpenAPI document describes errors and files."""

from __future__ import annotations

from flask_openapi3.types import ResponseDict
from pydantic import BaseModel, Field


class FieldError(BaseModel):
    field: str = Field(description="Name of the field; dots for nested fields.")
    message: str = Field(description="What is wrong with it.")
    index: int | None = Field(None, description="Of a batch: place of the request, from 0.")
    line: int | None = Field(None, description="Of a batch in lines: number of the request's line, from 1.")


class Problem(BaseModel):
    """RFC 9457 problem document.

    A 409 about a job also has `job`; a 503 has `down`, the names of what is down. A 410 has `reason`
    (`retention_time_passed`, `object_missing` or `deleted_by_owner`) and the times `expired_at` and `deleted_at`, null
    where unknown.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable error code.")
    errors: list[FieldError] | None = None


# What the check of the sender answers: no valid key, no right to it, too many requests.
OF_SENDER = (401, 403, 429)


def problems(*statuses: int) -> ResponseDict:
    """Return the error responses of a call that needs a key, for the OpenAPI document."""
    return open_problems(*sorted({*statuses, *OF_SENDER}))


def open_problems(*statuses: int) -> ResponseDict:
    """Return the error responses of a call that needs no key, for the OpenAPI document."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {str(status): {"content": content} for status in statuses}


# Sounds, videos with sound, and the picture of a preview.
FILE_TYPES = (
    "audio/flac",
    "audio/wav",
    "audio/mpeg",
    "audio/ogg",
    "audio/mp4",
    "video/mp4",
    "video/quicktime",
    "video/x-matroska",
    "video/webm",
    "image/png",
)


def files(*statuses: int) -> ResponseDict:
    """Return the responses with an artifact's content for the OpenAPI document."""
    content = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in FILE_TYPES}
    return {str(status): {"content": content} for status in statuses}
