"""Times that callers send: RFC 3339 with a zone, nothing that merely looks like a time."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator, field_validator

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")


def _is_rfc_3339(value: Any) -> Any:
    # Numbers would be taken for seconds since 1970.
    if not isinstance(value, datetime) and not (isinstance(value, str) and _RFC_3339.fullmatch(value)):
        raise ValueError("give a time with its zone, such as 2026-01-31T12:00:00Z (RFC 3339)")
    return value


Rfc3339Time = Annotated[AwareDatetime, BeforeValidator(_is_rfc_3339)]


def in_utc(*names: str) -> Any:
    """Return a validator that converts fields with a time to UTC."""

    def convert(value: datetime | None) -> datetime | None:
        try:
            return value.astimezone(UTC) if value is not None else None
        except OverflowError:
            raise ValueError("in UTC it is outside the years 1 to 9999") from None

    return field_validator(*names)(convert)
