"""Numbers as JSON has them: 25.0 is the integer 25."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator


def whole(value: Any) -> Any:
    """Return an integer for a float without a fraction, and anything else as it is."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


Whole = Annotated[int, BeforeValidator(whole)]
"""An integer, also if it is written with a fraction of zero. Declare it with `strict=True`."""
