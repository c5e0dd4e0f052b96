"""Inserts many rows whose values were converted for the driver before the transaction, so that it is short.

With SQLite, every other writer waits while a transaction lasts, and converting JSON and times takes most of an insert.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Table

from jobs.db.base import Base
from jobs.db.bound_session import CHECKED_INSERT, BoundSession, check_row

INSERTED_AT_ONCE = 1_000


@dataclass(frozen=True)
class PreparedRows:
    """Rows of one table, ready for the driver."""

    statement: str
    values: list[tuple[Any, ...]]

    @classmethod
    def of(cls, session: BoundSession, model: type[Base], rows: Sequence[dict[str, Any]]) -> PreparedRows:
        """Convert rows of one tenant that all have the same columns; others get the database's defaults.

        Raises:
            ForeignRowError: one is not of the tenant that the session is bound to.
        """
        table, dialect = cast("Table", model.__table__), session.get_bind().dialect
        for row in rows:
            check_row(table.name, row["tenant"], session.scope.require_tenant())
        columns = [table.c[name] for name in rows[0]] if rows else []
        convert = [_converter(column.type.dialect_impl(dialect).bind_processor(dialect)) for column in columns]
        names = [column.name for column in columns]
        values = [tuple(one(row[name]) for one, name in zip(convert, names, strict=True)) for row in rows]
        mark = "?" if dialect.paramstyle == "qmark" else "%s"
        marks = ", ".join([mark] * len(names))
        # Names of this program's own tables, not of callers.
        return cls(f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks})", values)  # noqa: S608

    def insert(self, session: BoundSession, start: int = 0, stop: int | None = None) -> None:
        """Insert the rows from `start` up to `stop`, in their order."""
        connection, end = session.connection(), len(self.values) if stop is None else stop
        for first in range(start, end, INSERTED_AT_ONCE):
            rows = self.values[first : min(first + INSERTED_AT_ONCE, end)]
            connection.exec_driver_sql(self.statement, rows, {CHECKED_INSERT: True})


def _converter(processor: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    return processor if processor is not None else _unchanged


def _unchanged(value: Any) -> Any:
    return value
