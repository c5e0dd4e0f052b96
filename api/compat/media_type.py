"""Media types that callers give for their files."""

from __future__ import annotations

import re

from jobs.compat.files import DEFAULT_TYPE, MAX_TYPE_CHARS

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+")


def checked_media_type(value: str) -> str:
    """Return a media type without its parameters, or that of any file where it is none."""
    name = value.partition(";")[0].strip()
    return name if len(name) <= MAX_TYPE_CHARS and _MEDIA_TYPE.fullmatch(name) else DEFAULT_TYPE
