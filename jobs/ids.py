"""Ids of rows: a prefix for the kind of row and a UUIDv7, so that ids sort by time and index well."""

from __future__ import annotations

from uuid_utils import uuid7


def new_id(prefix: str) -> str:
    """Return a new id such as `job_0198c0de...` (prefix, underscore, 32 hex digits)."""
    return f"{prefix}_{uuid7().hex}"
