"""Text on a terminal: what may be printed, and how many columns it takes."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

_NO_COLUMN = frozenset({"Mn", "Me", "Cf"})
"""Unicode categories of marks and signs that take no column of their own."""


def one_line(text: str) -> str:
    """Return text without line breaks and control characters, which a terminal might obey."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def printable_json(value: Any) -> str:
    """Return a value as indented JSON with its letters as they are, and what a terminal might obey as escapes."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return "".join(
        character if character.isprintable() or character == "\n" else json.dumps(character)[1:-1] for character in text
    )


def width_of(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(map(_columns, text))


def shortened(text: str, width: int) -> str:
    """Return a text that takes at most `width` columns; one that was cut ends with an ellipsis."""
    if width_of(text) <= width:
        return text
    if width <= 1:
        return ""
    kept, taken = "", 0
    for character in text:
        taken += _columns(character)
        if taken > width - 1:
            break
        kept += character
    return kept + "…"


def _columns(character: str) -> int:
    if unicodedata.category(character) in _NO_COLUMN:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1
