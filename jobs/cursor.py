"""Cursors of pages: opaque to callers, made from the place where a page ended."""

from __future__ import annotations

import base64
import binascii
import re

from jobs.errors import InvalidCursorError


def encode_cursor(place: str) -> str:
    """Return the cursor of the page after `place`."""
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, form: re.Pattern[str]) -> str:
    """Return the place that a cursor was made from.

    Args:
        form: what every place looks like.

    Raises:
        InvalidCursorError: the cursor was not made by `encode_cursor`.
    """
    try:
        place = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, ValueError):
        place = None
    if place is None or not form.fullmatch(place):
        raise InvalidCursorError(f"Got cursor {cursor[:60]!r}; use `next_cursor` of a page unchanged.")
    return place
