"""The source of time. Leases are judged by one clock, the database's, so that workers with skewed clocks agree."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol

from sqlalchemy import text
from sqlalchemy.orm import Session


def utc_now() -> datetime:
    """Return this host's time (UTC, aware)."""
    return datetime.now(UTC)


class Clock(Protocol):
    """Source of a transaction's time."""

    def now(self, session: Session) -> datetime:
        """Return the current time (UTC, aware)."""
        ...


class DatabaseClock:
    """The database server's clock. With SQLite that is this machine's clock, read without a query."""

    def now(self, session: Session) -> datetime:
        """Return the current time (UTC, aware)."""
        if session.get_bind().dialect.name == "sqlite":
            return utc_now()
        value = session.execute(text("SELECT clock_timestamp()")).scalar_one()
        assert isinstance(value, datetime), value
        return value.astimezone(UTC)
