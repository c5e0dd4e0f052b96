"""INSERT ... ON CONFLICT, which SQLAlchemy offers for each database separately."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import ColumnCollection
from sqlalchemy.dialects import postgresql, sqlite

from jobs.db.base import Base, TenantOwned
from jobs.db.bound_session import BoundSession

Row = dict[str, Any]
Update = Callable[[ColumnCollection[str, Any]], Row]
"""Returns the columns to set, given the values of the row that could not be inserted."""


def insert_or_ignore(session: BoundSession, table: type[Base], row: Row) -> bool:
    """Insert a row unless a unique key already holds it; return whether it was inserted.

    Raises:
        ForeignRowError: it is another tenant's.
    """
    statement = (
        _insert(session, table)
        .values(_of_tenant(session, table, row))
        .on_conflict_do_nothing()
        .returning(table.__mapper__.primary_key[0])
    )
    return session.execute(statement).first() is not None


def insert_all_or_ignore(session: BoundSession, table: type[Base], rows: Sequence[Row]) -> None:
    """Insert rows with the same columns, in order, except those whose unique key is held already.

    Raises:
        ForeignRowError: one is another tenant's.
    """
    if rows:
        owned = [_of_tenant(session, table, row) for row in rows]
        session.execute(_insert(session, table).on_conflict_do_nothing(), owned)


def upsert(
    session: BoundSession, table: type[Base], rows: Sequence[Row], *, key: Sequence[str], update: Update
) -> None:
    """Insert rows; where `key` already has one, update it instead.

    Args:
        key: the columns of the unique key that may conflict.
        update: see `Update`.

    Raises:
        ForeignRowError: a row is another tenant's.
    """
    insert = _insert(session, table).values([_of_tenant(session, table, row) for row in rows])
    own = None
    if issubclass(table, TenantOwned) and session.scope.tenant is not None:
        own = table.tenant == session.scope.tenant  # a row of another tenant with the same key stays as it is
    session.execute(insert.on_conflict_do_update(index_elements=key, set_=update(insert.excluded), where=own))


def _of_tenant(session: BoundSession, table: type[Base], row: Row) -> Row:
    """Return a row with the tenant of its session, unless it names one."""
    if issubclass(table, TenantOwned) and session.scope.tenant is not None:
        return {"tenant": session.scope.tenant, **row}
    return row


def _insert(session: BoundSession, table: type[Base]) -> sqlite.Insert | postgresql.Insert:
    return sqlite.insert(table) if session.get_bind().dialect.name == "sqlite" else postgresql.insert(table)
