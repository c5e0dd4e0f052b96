"""Cursors of pages: the place where a page ended, such as the id of its last row.

Callers take them as they are; the OpenAPI document says what they look like, so nothing that it allows is refused.
"""

from __future__ import annotations

import re

from jobs.errors import InvalidCursorError


def place_of(cursor: str, form: re.Pattern[str]) -> str:
    """Return the place that a cursor stands for.

    Args:
        form: what every place looks like.

    Raises:
        InvalidCursorError: no page ends with such a cursor.
    """
    if not form.fullmatch(cursor):
        raise InvalidCursorError(f"Got cursor {cursor[:60]!r}; use `next_cursor` of a page unchanged.")
    return cursor
