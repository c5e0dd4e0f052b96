"""Where the time comes from. Leases are judged by one clock, the database's, so skewed workers cannot disagree."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol

from sqlalchemy import text
from sqlalchemy.orm import Session


class Clock(Protocol):
    """Says what time it is for a transaction (UTC, aware)."""

    def now(self, session: Session) -> datetime: ...


class DatabaseClock:
    """The database server's clock. On SQLite the database is this machine, so its clock is read without a query."""

    def now(self, session: Session) -> datetime:
        if session.get_bind().dialect.name == "sqlite":
            return datetime.now(UTC)
        value = session.execute(text("SELECT clock_timestamp()")).scalar_one()
        assert isinstance(value, datetime), value
        return value.astimezone(UTC)
