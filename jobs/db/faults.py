"""Classifies database errors by their codes, never by their text or class: transient, rolled back, disk full, away."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    InterfaceError,
    OperationalError,
    PendingRollbackError,
    SQLAlchemyError,
    StatementError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from jobs.db.time_limits import DatabaseNotCalledError

# The names of PostgreSQL's manual, for people. Class 40: the server rolled back. 08: connection. 57P0x: shutting down,
# crashed, starting. 25006: a failover has made this server read-only. 25P03: for example after this process was
# suspended. 57014: statement_timeout.
_TRANSIENT = {
    "08000": "connection_exception",
    "08003": "connection_does_not_exist",
    "08006": "connection_failure",
    "25006": "read_only_sql_transaction",
    "25P03": "idle_in_transaction_session_timeout",
    "25P04": "transaction_timeout",
    "40001": "serialization_failure",
    "40003": "statement_completion_unknown",
    "40P01": "deadlock_detected",
    "53300": "too_many_connections",
    "55P03": "lock_not_available",
    "57P01": "admin_shutdown",
    "57P02": "crash_shutdown",
    "57P03": "cannot_connect_now",
    "57P05": "idle_session_timeout",
}
_TRANSIENT_CLASSES = ("40", "08")
_UNAVAILABLE = {
    "28000": "invalid_authorization_specification",
    "28P01": "invalid_password",
    "3D000": "invalid_catalog_name",
    "53000": "insufficient_resources",
    "53100": "disk_full",
    "53200": "out_of_memory",
    "53400": "configuration_limit_exceeded",
    "57014": "query_canceled",
    "57P04": "database_dropped",
    "58000": "system_error",
    "58030": "io_error",
}
# Class 53: insufficient resources. 57: operator intervention. 58: errors outside the database.
# XX: an internal error, such as a damaged page.
_UNAVAILABLE_CLASSES = (*_TRANSIENT_CLASSES, "53", "57", "58", "XX")
READ_ONLY = "25006"
_DISK_FULL = "53100"

_SQLITE_TRANSIENT = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
# Class 22: data exception; 23: integrity constraint violation.
_VALUE_CLASSES = ("22", "23")
_SQLITE_VALUE = frozenset({sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG})
_SQLITE_UNAVAILABLE = _SQLITE_TRANSIENT | {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}
# SQLite reports a full disk as SQLITE_FULL, except while it extends the index of the write-ahead log.
_SQLITE_DISK_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE})


def is_transient(exc: DBAPIError) -> bool:
    """Return whether the same transaction may succeed a moment later."""
    if exc.connection_invalidated:
        return True
    if isinstance(exc.orig, sqlite3.Error):
        return _primary_code(exc.orig) in _SQLITE_TRANSIENT
    code = sqlstate(exc)
    if code is None:
        return _got_no_answer(exc)
    return code in _TRANSIENT or code.startswith(_TRANSIENT_CLASSES)


def is_unavailable(exc: SQLAlchemyError) -> bool:
    """Return whether the database could not do its work now, which is no fault of the statement."""
    if not isinstance(exc, DBAPIError):
        return isinstance(exc, PoolTimeoutError | PendingRollbackError | DatabaseNotCalledError)
    if is_transient(exc):
        return True
    if isinstance(exc.orig, sqlite3.Error):
        return _primary_code(exc.orig) in _SQLITE_UNAVAILABLE
    code = sqlstate(exc)
    return code is not None and (code in _UNAVAILABLE or code.startswith(_UNAVAILABLE_CLASSES))


def was_rolled_back(exc: DBAPIError) -> bool:
    """Return whether the transaction certainly changed nothing; after a broken connection that is unknown."""
    if isinstance(exc.orig, sqlite3.Error):
        return True
    code = sqlstate(exc)
    return code is not None and code.startswith("40") and code != "40003"  # 40003: completion unknown


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
        return _primary_code(exc.orig) in _SQLITE_VALUE
    code = sqlstate(exc)
    # psycopg refuses some values itself, without a code.
    return isinstance(exc, DataError) if code is None else code.startswith(_VALUE_CLASSES)


def is_read_only(exc: SQLAlchemyError) -> bool:
    """Return whether the database accepts no writes now, as after a failover."""
    if not isinstance(exc, DBAPIError):
        return False
    if isinstance(exc.orig, sqlite3.Error):
        return _primary_code(exc.orig) == sqlite3.SQLITE_READONLY
    return sqlstate(exc) == READ_ONLY


def sqlstate(exc: DBAPIError) -> str | None:
    """Return the five-character SQLSTATE; None where the server sent none."""
    code = getattr(exc.orig, "sqlstate", None)
    return str(code) if code else None


def message(exc: SQLAlchemyError) -> str:
    """Return what the database said, in one line, without the statement."""
    if not isinstance(exc, DBAPIError):
        said = str(exc)
    else:
        said = getattr(getattr(exc.orig, "diag", None), "message_primary", None) or _without_statement(str(exc.orig))
    return "".join(char if char.isprintable() else " " for char in " ".join(said.split())) or "no answer"


def reason(exc: SQLAlchemyError) -> str:
    """Return what the database said, with its code: SQLSTATE and condition, or SQLite's name."""
    if not isinstance(exc, DBAPIError):
        return message(exc)
    if isinstance(exc.orig, sqlite3.Error):
        name = getattr(exc.orig, "sqlite_errorname", None)
        return f"{message(exc)} ({name})" if name else message(exc)
    code = sqlstate(exc)
    if code is None:
        return message(exc)
    name = _TRANSIENT.get(code) or _UNAVAILABLE.get(code)
    return f"{message(exc)} (SQLSTATE {code}{f', {name}' if name else ''})"


def _got_no_answer(exc: DBAPIError) -> bool:
    """Return whether an error without a code came from the driver: refused, reset, timed out, closed."""
    return isinstance(exc, OperationalError | InterfaceError)


def _without_statement(text: str) -> str:
    """Return the lines before the one in which PostgreSQL quotes the statement."""
    kept = []
    for line in text.splitlines():
        if line.startswith("LINE "):
            break
        kept.append(line)
    return " ".join(kept)


def _primary_code(error: sqlite3.Error) -> int:
    return _sqlite_code(error) & 0xFF  # the extended codes keep the primary one in their low byte


def _sqlite_code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0))
