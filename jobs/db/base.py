"""The base class of the tables, and what their definitions share."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Index, Integer, MetaData, String, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from jobs.db.tenant_scope import MAX_TENANT
from jobs.db.types import JsonDocument, UtcDateTime

# SQLite makes an alias of the rowid only of INTEGER; PostgreSQL needs a bigint for that many events.
SERIAL = BigInteger().with_variant(Integer(), "sqlite")


class Base(DeclarativeBase):
    """Base of all tables: one metadata with named constraints, so that Alembic can drop them by name."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime, dict[str, Any]: JsonDocument, list[Any]: JsonDocument}  # noqa: RUF012


class TenantOwned:
    """A table whose rows belong to one tenant each.

    A transaction that is bound to a tenant sees and writes only its rows (`jobs.db.bound_session`); every other table
    is closed to it, except those of `SharedNumbers`. The migration of a tenant-owned table calls
    `migrations.row_security.protect`.
    """

    tenant: Mapped[str] = mapped_column(String(MAX_TENANT))


class SharedNumbers:
    """A table of the platform that the transactions of tenants use too: it holds numbers that are nobody's."""


def one_of(column: str, values: Iterable[StrEnum]) -> str:
    """Return the condition that a column holds one of some values."""
    names = ", ".join(f"'{value}'" for value in sorted(values))
    return f"{column} IN ({names})"


def partial_index(name: str, *columns: str, where: str) -> Index:
    """Return an index of the rows that meet a condition."""
    return Index(name, *columns, postgresql_where=text(where), sqlite_where=text(where))
