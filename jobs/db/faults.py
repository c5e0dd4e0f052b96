"""Which of the database's refusals may pass when the whole transaction is done again. By codes, never by texts."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DBAPIError

# Class 40: the server rolled back (serialisation failure, deadlock). 08: connection. 57P0x: shutting down, crashed,
# starting. 53300: too many connections. 25006: a failover has made this server read-only. 55P03: lock_timeout.
# 25P03: this process was frozen in the middle, and its transaction ended meanwhile.
_PASSING_CLASSES = ("40", "08")
_PASSING_CODES = frozenset({"57P01", "57P02", "57P03", "57P05", "53300", "25006", "55P03", "25P03"})
_SQLITE_PASSING = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


def may_pass(exc: DBAPIError) -> bool:
    """Say whether the same transaction may go through a moment later."""
    if exc.connection_invalidated:
        return True
    if isinstance(exc.orig, sqlite3.Error):
        # The extended codes keep the primary one in their low byte.
        return getattr(exc.orig, "sqlite_errorcode", 0) & 0xFF in _SQLITE_PASSING
    code = sqlstate(exc)
    if code is None:
        # psycopg knows no code where no server answered: refused, reset, timed out.
        return type(exc.orig).__name__ in {"OperationalError", "ConnectionTimeout"}
    return code in _PASSING_CODES or code.startswith(_PASSING_CLASSES)


def was_rolled_back(exc: DBAPIError) -> bool:
    """Say whether it is certain that the transaction changed nothing; a connection that breaks leaves that open."""
    if isinstance(exc.orig, sqlite3.Error):
        return True
    code = sqlstate(exc)
    return code is not None and code.startswith("40") and code != "40003"  # 40003: completion unknown


def sqlstate(exc: DBAPIError) -> str | None:
    """Return the five-character code of the SQL standard, where the server gave one."""
    code = getattr(exc.orig, "sqlstate", None)
    return str(code) if code else None
