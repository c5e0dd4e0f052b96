"""One SELECT as a transaction of its own: a single round trip to PostgreSQL instead of five.

The setting that row-level security looks at must be made in the same transaction. So the statement makes it itself, in
a first sub-select that the rest refers to: `OFFSET 0` keeps PostgreSQL from taking them apart, and should it ever read
the rows first, it would find none.

PostgreSQL's driver is called directly: SQLAlchemy's connection, result and row take five times as long as the read.
"""

from __future__ import annotations

import functools
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import psycopg
from sqlalchemy import Dialect, Engine, Select, TextClause, func, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine

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
        return text(self.sql).columns(**dict(self.columns))  # type: ignore[return-value]

    @functools.cached_property
    def binding_sql(self) -> str:
        """The SELECT with the binding, for the driver; `now` is the server's time, `found` says that a row is there."""
        inner = self.sql.replace(":tenant", "bound.tenant")
        return _PARAMETER.sub(r"%(\1)s", _BINDING.replace("INNER_SELECT", inner))


_PARAMETER = re.compile(r"(?<!:):(\w+)\b")


@functools.lru_cache(maxsize=64)
def driver_sql(statement: Select[*tuple[Any, ...]], dialect: Dialect) -> str:
    """Return the SQL of a statement that is made once, for the driver, with the server's time as `now`."""
    return str(statement.add_columns(func.clock_timestamp().label("now")).compile(dialect=dialect))


def read_directly(engine: Engine, sql: str, parameters: Mapping[str, object]) -> Any:
    """Run one statement on PostgreSQL, without a transaction around it; return its first row (None: none).

    Raises:
        DBAPIError: as a connection of the engine would.
    """
    pooled: Any = None
    try:
        pooled = engine.raw_connection()
        connection = pooled.driver_connection
        connection.autocommit = True
        try:
            cursor = connection.execute(sql, parameters)
            values = cursor.fetchone()
            names = [column.name for column in cursor.description]
        finally:
            if not connection.closed:
                connection.autocommit = False
    except psycopg.Error as exc:
        gone = pooled is None or engine.dialect.is_disconnect(exc, pooled.dbapi_connection, None)  # type: ignore[arg-type]
        if gone and pooled is not None:
            pooled.invalidate(exc)
        raise DBAPIError.instance(
            sql, None, exc, psycopg.Error, hide_parameters=True, connection_invalidated=gone, dialect=engine.dialect
        ) from exc
    finally:
        if pooled is not None:
            pooled.close()
    if values is None:
        return None
    # The driver gives times in the zone of the server's session.
    values = [value.astimezone(UTC) if isinstance(value, datetime) else value for value in values]
    return SimpleNamespace(**dict(zip(names, values, strict=True)))


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
