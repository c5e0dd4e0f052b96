"""Times as documents show them."""

from __future__ import annotations

from datetime import datetime


def shown(time: datetime | None) -> str | None:
    """Return a UTC time, such as `2026-01-31T12:00:00.000Z`; None: there is none."""
    return None if time is None else time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
