"""Classifies database errors by their codes, never by their text: transient, rolled back, disk full, bad values."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import DataError, DBAPIError, SQLAlchemyError, StatementError

# Class 40: the server rolled back (serialisation failure, deadlock). 08: connection. 57P0x: shutting down, crashed,
# starting. 53300: too many connections. 25006: a failover has made this server read-only. 55P03: lock_timeout.
# 25P03: idle_in_transaction_session_timeout, for example after this process was suspended.
_TRANSIENT_CLASSES = ("40", "08")
_TRANSIENT_CODES = frozenset({"57P01", "57P02", "57P03", "57P05", "53300", "25006", "55P03", "25P03"})
_SQLITE_TRANSIENT = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
# Class 22: data exception; 23: integrity constraint violation.
_VALUE_CLASSES = ("22", "23")
_SQLITE_VALUE = frozenset({sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG})
_DISK_FULL = "53100"
# 53: insufficient resources. 57: an operator intervened. 58: system error. 28: the password is no longer accepted.
# XX: an internal error, such as a damaged page.
_OUTAGE_CLASSES = ("53", "57", "58", "28", "XX")
_SQLITE_OUTAGE = frozenset(
    {
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)
# SQLite reports a full disk as SQLITE_FULL, except while it extends the index of the write-ahead log.
_SQLITE_DISK_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE})


def is_transient(exc: DBAPIError) -> bool:
    """Return whether the same transaction may succeed a moment later."""
    if exc.connection_invalidated:
        return True
    if isinstance(exc.orig, sqlite3.Error):
        # The extended codes keep the primary one in their low byte.
        return _sqlite_code(exc.orig) & 0xFF in _SQLITE_TRANSIENT
    code = sqlstate(exc)
    if code is None:
        # psycopg has no code where no server answered: refused, reset, timed out.
        return type(exc.orig).__name__ in {"OperationalError", "ConnectionTimeout"}
    return code in _TRANSIENT_CODES or code.startswith(_TRANSIENT_CLASSES)


def was_rolled_back(exc: DBAPIError) -> bool:
    """Return whether the transaction certainly changed nothing; after a broken connection that is unknown."""
    if isinstance(exc.orig, sqlite3.Error):
        return True
    code = sqlstate(exc)
    return code is not None and code.startswith("40") and code != "40003"  # 40003: completion unknown


def is_outage(exc: DBAPIError) -> bool:
    """Return whether the database is in trouble as a whole: away, read-only, out of memory, broken. No statement is."""
    if is_transient(exc) or is_disk_full(exc):
        return True
    if isinstance(exc.orig, sqlite3.Error):
        return _sqlite_code(exc.orig) & 0xFF in _SQLITE_OUTAGE
    code = sqlstate(exc)
    return code is not None and code.startswith(_OUTAGE_CLASSES)


def is_disk_full(exc: DBAPIError) -> bool:
    """Return whether the database's disk is full."""
    if isinstance(exc.orig, sqlite3.Error):
        return _sqlite_code(exc.orig) in _SQLITE_DISK_FULL
    return sqlstate(exc) == _DISK_FULL


def is_value_fault(exc: SQLAlchemyError) -> bool:
    """Return whether the values of a statement caused the error, so that the same values fail again."""
    if not isinstance(exc, DBAPIError):
        return isinstance(exc, StatementError)  # a value that SQLAlchemy could not bind
    if isinstance(exc.orig, sqlite3.Error):
        return _sqlite_code(exc.orig) & 0xFF in _SQLITE_VALUE
    code = sqlstate(exc)
    # psycopg refuses some values itself, without a code.
    return isinstance(exc, DataError) if code is None else code.startswith(_VALUE_CLASSES)


def sqlstate(exc: DBAPIError) -> str | None:
    """Return the five-character SQLSTATE; None where the server sent none."""
    code = getattr(exc.orig, "sqlstate", None)
    return str(code) if code else None


def _sqlite_code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0))
