"""A session that sees and writes the rows of its tenant only.

Three layers, each for what the ones before cannot see:

1. Every ORM statement gets the condition on the tenant of each tenant-owned table in it (`_limit_statement`), and every
   row that is written is checked (`_check_rows`, `_check_insert`).
2. The SQL of every statement is looked at before it is sent (`check_sql`): one that names a tenant-owned table without
   such a condition, such as raw SQL, is refused.
3. PostgreSQL itself filters by its setting `mmaudio.tenant` (`migrations.row_security`).

A session that is bound to the platform is not limited; one that is bound to nothing reaches no tenant-owned table.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar, cast

from sqlalchemy import Connection, Engine, Insert, event, inspect, text
from sqlalchemy.orm import Mapper, ORMExecuteState, Session, UOWTransaction, with_loader_criteria
from sqlalchemy.sql.base import ExecutableOption

from jobs.clock import utc_now
from jobs.db.base import Base, TenantOwned
from jobs.db.tenant_scope import ALL_TENANTS, ForeignRowError, TenantScope, TenantUnboundError

Row = TypeVar("Row")

BINDING = "tenant_binding"
"""Execution option of a connection: the `Binding` of its session."""
CHECKED_INSERT = "tenant_checked"
"""Execution option of an INSERT whose rows have been checked (`check_row`)."""


# Local to the transaction: a pooler such as pgbouncer may give the connection to another process after it.
_BIND = text("SELECT clock_timestamp(), set_config('mmaudio.tenant', :tenant, true)")


def setting_of(scope: TenantScope) -> str:
    """Return the value of PostgreSQL's setting `mmaudio.tenant`; see `migrations.row_security`."""
    return scope.tenant or (ALL_TENANTS if scope.platform else "")


@dataclass
class Binding:
    """Whose rows a session sees now.

    Attributes:
        flushing: the unit of work writes rows that have been checked.
    """

    scope: TenantScope
    flushing: bool = False


class BoundSession(Session):
    """A session with a tenant, the platform, or neither.

    Args:
        engine: its connections are checked (`watch`).
    """

    def __init__(self, engine: Engine, scope: TenantScope) -> None:
        self.binding = Binding(scope)
        super().__init__(engine.execution_options(**{BINDING: self.binding}), expire_on_commit=False)

    @property
    def scope(self) -> TenantScope:
        """Whose rows it sees and writes now."""
        return self.binding.scope

    def bind_to(self, scope: TenantScope) -> datetime:
        """See and write the rows of `scope` from now on, to the end of the transaction; return the server's time."""
        if self.get_bind().dialect.name == "sqlite":
            self.binding.scope = scope
            return utc_now()
        now = self.execute(_BIND, {"tenant": setting_of(scope)}).scalar_one()
        self.binding.scope = scope
        return cast("datetime", now).astimezone(UTC)

    def get(self, entity: type[Row] | Mapper[Row], ident: Any, **options: Any) -> Row | None:
        """As `Session.get`; an object of another tenant that this session loaded before is not found either."""
        found = super().get(entity, ident, **options)
        return found if found is None or self._may_see(found) else None

    def _may_see(self, row: object) -> bool:
        scope = self.binding.scope
        return scope.platform or not isinstance(row, TenantOwned) or row.tenant == scope.require_tenant()

    def flush(self, objects: Any = None) -> None:
        """As `Session.flush`; notes that the rows it writes have been checked."""
        before, self.binding.flushing = self.binding.flushing, True
        try:
            super().flush(objects)
        finally:
            self.binding.flushing = before


def watch(engine: Engine) -> None:
    """Check the SQL of the sessions of an engine."""
    event.listen(engine, "before_cursor_execute", _check_statement)


@event.listens_for(BoundSession, "do_orm_execute")
def _limit_statement(state: ORMExecuteState) -> None:
    scope = cast("BoundSession", state.session).scope
    if scope.platform:
        return
    if scope.tenant is None:
        return  # `_check_statement` refuses what names a tenant-owned table
    if state.is_insert:
        _check_insert(state, scope.tenant)
    elif state.is_column_load:  # loader criteria do not apply to the refresh of an object
        owner = state.bind_mapper.class_ if state.bind_mapper is not None else None
        if owner is not None and issubclass(owner, TenantOwned):
            state.statement = cast("Any", state.statement).where(owner.tenant == scope.tenant)
    elif state.is_select or state.is_update or state.is_delete:  # not raw SQL
        state.statement = state.statement.options(_criteria(scope.tenant))


@lru_cache(maxsize=1024)
def _criteria(tenant: str) -> ExecutableOption:
    # The lambda is analysed once; the tenant is a parameter, so that the statements of all tenants are compiled once.
    return with_loader_criteria(TenantOwned, lambda owned: owned.tenant == tenant, include_aliases=True)


def _check_insert(state: ORMExecuteState, tenant: str) -> None:
    """Check the rows of an INSERT statement.

    Raises:
        ForeignRowError: one is not the tenant's, or its tenant is not given as a plain value.
    """
    statement = cast("Insert", state.statement)
    table = str(getattr(statement.table, "name", ""))
    if table not in owned_tables():
        return
    for row in _inserted_rows(statement, state.parameters):
        check_row(table, row.get("tenant"), tenant)
    conflict: Any = getattr(statement, "_post_values_clause", None)
    if hasattr(conflict, "update_values_to_set") and conflict.update_whereclause is None:
        raise ForeignRowError(f"An upsert into {table} may change another tenant's row; use jobs.db.upsert.")
    state.update_execution_options(**{CHECKED_INSERT: True})


def _inserted_rows(statement: Insert, parameters: Any) -> Iterable[Mapping[str, Any]]:
    """Return the rows of an INSERT by name of column; a row without a readable tenant has none."""

    def plain(values: Mapping[Any, Any]) -> dict[str, Any]:
        return {getattr(key, "key", key): getattr(value, "value", value) for key, value in values.items()}

    given = cast("Any", statement)
    if given.select is not None:
        return [{}]
    if given._multi_values:
        return [plain(row) for rows in given._multi_values for row in rows]
    fixed = plain(given._values or {})
    if isinstance(parameters, Mapping):
        parameters = [parameters]
    return [{**fixed, **row} for row in parameters or [{}]]


def check_row(table: str, found: object, tenant: str) -> None:
    """Check the tenant of a row that is about to be written.

    Raises:
        ForeignRowError: it is another one.
    """
    if found != tenant:
        raise ForeignRowError(
            f"Got a row of tenant {found!r} for {table} in a transaction bound to {tenant!r}; "
            "only the platform writes for several tenants."
        )


@event.listens_for(BoundSession, "before_flush")
def _check_rows(session: Session, _context: UOWTransaction, _objects: object) -> None:
    """Give new rows the tenant of the session; check that no row of another one is written."""
    scope = cast("BoundSession", session).scope
    if scope.platform:
        return
    for row in session.new:
        if isinstance(row, TenantOwned):
            tenant = scope.require_tenant()
            row.tenant = row.tenant or tenant
            check_row(type(row).__name__, row.tenant, tenant)
    for row in (*session.dirty, *session.deleted):
        if isinstance(row, TenantOwned):
            for found in (row.tenant, *inspect(row).attrs.tenant.history.deleted):
                check_row(type(row).__name__, found, scope.require_tenant())


def _check_statement(
    connection: Connection, _cursor: Any, statement: str, _parameters: Any, context: Any, _executemany: bool
) -> None:
    """Refuse a statement that would reach rows of another tenant.

    Raises:
        TenantUnboundError: the session is bound to nothing, or the statement does not name the tenant.
    """
    binding: Binding | None = connection.get_execution_options().get(BINDING)
    if binding is None or binding.scope.platform:
        return
    named, unlimited = owned_tables_in(statement)
    if not named:
        return
    if binding.scope.tenant is None:
        raise TenantUnboundError(
            f"Got a statement on {named} in a transaction bound to nothing; open it with Database.of_tenant(...) or "
            "Database.of_platform()."
        )
    if unlimited and not binding.flushing and not context.execution_options.get(CHECKED_INSERT):
        raise TenantUnboundError(
            f"Got a statement on {unlimited} without a condition on the tenant in a transaction bound to "
            f"{binding.scope}. Use the mapped classes, or compare each table's `tenant` in raw SQL."
        )


def owned_tables_in(statement: str) -> tuple[str, str]:
    """Return the tenant-owned tables that a statement names, and those without a condition on their tenant."""
    return _named_and_unlimited(statement, len(Base.metadata.tables))


@lru_cache(maxsize=4096)
def _named_and_unlimited(statement: str, tables: int) -> tuple[str, str]:
    named = [(match["table"], match["alias"] or match["table"]) for match in _pattern(tables).finditer(statement)]
    if not named:
        return "", ""
    limits = Counter(match[1] for match in _LIMIT.finditer(statement))
    limits.subtract(name for _, name in named)
    unlimited = (table for table, name in named if limits[name] < 0)
    return ", ".join(dict.fromkeys(table for table, _ in named)), ", ".join(dict.fromkeys(unlimited))


_LIMIT = re.compile(r"\b(\w+)\"?\.tenant = ")


@lru_cache(maxsize=8)
def _pattern(_tables: int) -> re.Pattern[str]:
    """Return what finds the names of the tenant-owned tables. More tables come with the modules that define them."""
    names = "|".join(sorted(owned_tables()))
    # Before a dot it qualifies a column, after "AS" it names one, after "OF" it repeats a table (FOR UPDATE OF).
    return re.compile(
        rf"(?<![.\w'])(?<!\bOF )(?<!\bAS )(?P<table>{names})\b(?!['.]|\"\.)(?:\"?\s+AS\s+\"?(?P<alias>\w+))?"
    )


def owned_tables() -> dict[str, type[Base]]:
    """Return the mapped classes of the tenant-owned tables, by name of table."""
    classes: Iterable[type[Base]] = (mapper.class_ for mapper in Base.registry.mappers)
    return {one.__tablename__: one for one in classes if issubclass(one, TenantOwned)}
