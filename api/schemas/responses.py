"""What every call may answer with: the problem document, and how the OpenAPI document tells of refusals and files."""

from __future__ import annotations

from flask_openapi3.types import ResponseDict
from pydantic import BaseModel


class FieldError(BaseModel):
    field: str
    message: str


class Problem(BaseModel):
    """RFC 9457 problem document. A 409 of a job also has `job`, a 503 also has `down`, the names of what is."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldError] | None = None


def problems(*statuses: int) -> ResponseDict:
    """Return the refusals of a call as the OpenAPI document tells them."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {str(status): {"content": content} for status in statuses}


def files(*statuses: int) -> ResponseDict:
    """Return answers that are the bytes of a file."""
    content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    return {str(status): {"content": content} for status in statuses}
