"""Database errors are classified by code: transient, rolled back, disk full."""

from __future__ import annotations

import sqlite3

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError, OperationalError

from jobs.db.faults import is_disk_full, is_transient, was_rolled_back


def sqlite_error(code: int) -> DBAPIError:
    error = sqlite3.OperationalError("made by the test")
    error.sqlite_errorcode = code
    return OperationalError("x", {}, error)


def postgres_error(sqlstate: str) -> DBAPIError:
    return OperationalError("x", {}, psycopg.errors.lookup(sqlstate)("made by the test"))


@pytest.mark.parametrize(
    ("error", "transient", "rolled_back", "disk_full"),
    [
        (sqlite_error(sqlite3.SQLITE_BUSY), True, True, False),
        (sqlite_error(sqlite3.SQLITE_BUSY_SNAPSHOT), True, True, False),
        (sqlite_error(sqlite3.SQLITE_FULL), False, True, True),
        (sqlite_error(sqlite3.SQLITE_IOERR_SHMSIZE), False, True, True),
        (sqlite_error(sqlite3.SQLITE_IOERR_READ), False, True, False),
        (postgres_error("40001"), True, True, False),
        (postgres_error("57P01"), True, False, False),
        (postgres_error("53100"), False, False, True),
        (postgres_error("53200"), False, False, False),
    ],
)
def test_errors_are_classified_by_code(error: DBAPIError, transient: bool, rolled_back: bool, disk_full: bool) -> None:
    assert (is_transient(error), was_rolled_back(error), is_disk_full(error)) == (transient, rolled_back, disk_full)
