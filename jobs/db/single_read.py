"""One SELECT as a transaction of its own: a single round trip to PostgreSQL instead of five.

The setting that row-level security looks at must be made in the same transaction. So the statement makes it itself, in
a first sub-select that the rest refers to: `OFFSET 0` keeps PostgreSQL from taking them apart, and should it ever read
the rows first, it would find none.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.types import DateTime, TypeEngine

# A connection that answered within this time is used without asking it for a sign of life; the read is tried again
# should it be broken.
FRESH_S = 1.0
_reading = threading.local()
_BINDING = (
    "SELECT clock_timestamp() AS now, found.* "
    "FROM (SELECT set_config('mmaudio.tenant', :tenant, true) AS tenant OFFSET 0) AS bound "
    "LEFT JOIN LATERAL (INNER_SELECT OFFSET 0) AS found ON true"
)


@dataclass(frozen=True)
class SingleRead:
    """A SELECT of at most one row of a tenant.

    Attributes:
        sql: names the tenant as `:tenant`, and compares each tenant-owned table's `tenant` with it.
        columns: types of the columns that need conversion.
    """

    sql: str
    columns: tuple[tuple[str, TypeEngine[Any]], ...]

    @functools.cached_property
    def statement(self) -> TextClause:
        """The SELECT, for a transaction that is bound to the tenant."""
        return _typed(self.sql, self.columns)

    @functools.cached_property
    def binding_statement(self) -> TextClause:
        """The SELECT with the binding; returns one row with the server's time as `now`, `found` tells of the rest."""
        inner = self.sql.replace(":tenant", "bound.tenant")
        sql = _BINDING.replace("INNER_SELECT", inner)
        return _typed(sql, (*self.columns, ("now", DateTime(timezone=True))))


def _typed(sql: str, columns: tuple[tuple[str, TypeEngine[Any]], ...]) -> TextClause:
    return text(sql).columns(**dict(columns))  # type: ignore[return-value]


Parameters = Mapping[str, Any]


@contextmanager
def without_ping() -> Iterator[None]:
    """Let this thread take connections that answered a moment ago without a sign of life."""
    _reading.skips_ping = True
    try:
        yield
    finally:
        _reading.skips_ping = False


def needs_ping(connection: Any) -> bool:
    """Return whether a connection of the pool must give a sign of life before it is used."""
    if not getattr(_reading, "skips_ping", False):
        return True
    answered_at: float = getattr(connection, "answered_at", float("-inf"))
    return time.monotonic() - answered_at > FRESH_S
