"""INSERT ... ON CONFLICT, which SQLAlchemy offers for each database separately."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import ColumnCollection
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from jobs.db.base import Base

Row = dict[str, Any]
Update = Callable[[ColumnCollection[str, Any]], Row]
"""Returns the columns to set, given the values of the row that could not be inserted."""


def insert_or_ignore(session: Session, table: type[Base], row: Row) -> bool:
    """Insert a row unless a unique key already holds it; return whether it was inserted."""
    statement = _insert(session, table).values(row).on_conflict_do_nothing().returning(table.__mapper__.primary_key[0])
    return session.execute(statement).first() is not None


def upsert(session: Session, table: type[Base], rows: Sequence[Row], *, key: Sequence[str], update: Update) -> None:
    """Insert rows; where `key` already has one, update it instead.

    Args:
        key: the columns of the unique key that may conflict.
        update: see `Update`.
    """
    insert = _insert(session, table).values(list(rows))
    session.execute(insert.on_conflict_do_update(index_elements=key, set_=update(insert.excluded)))


def _insert(session: Session, table: type[Base]) -> sqlite.Insert | postgresql.Insert:
    return sqlite.insert(table) if session.get_bind().dialect.name == "sqlite" else postgresql.insert(table)
