"""The members of a problem document (RFC 9457), for answers made inside and outside Flask."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

PROBLEM_TYPE = "application/problem+json"


def problem_document(
    status: int, code: str, detail: str, *, fields: list[dict[str, Any]] | None = None, **members: Any
) -> dict[str, Any]:
    """Return a problem document; `fields` become its `errors`, `members` are added as they are."""
    document: dict[str, Any] = {
        "type": f"/problems/{code}",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "detail": detail,
        "code": code,
        **members,
    }
    if fields is not None:
        document["errors"] = fields
    return document
