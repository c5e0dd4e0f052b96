"""A session that sees and writes the rows of its tenant only.

Three layers, each for what the ones before cannot see:

1. Every ORM statement gets the condition on the tenant of each tenant-owned table in it (`_limit_statement`), and every
   row that is written is checked (`_check_rows`, `_check_insert`).
2. The SQL of every statement is looked at before it is sent (`_check_statement`): one that names a tenant-owned table
   without such a condition, such as raw SQL, is refused.
3. PostgreSQL itself filters by its setting `mmaudio.tenant` (`migrations.row_security`).

A session that is bound to the platform is not limited; one that is bound to nothing reaches no table; one that is
bound to a tenant reaches tenant-owned tables only, and those of `SharedNumbers`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar, cast

from sqlalchemy import ColumnElement, Connection, Engine, Insert, event, inspect, text
from sqlalchemy.orm import Mapper, ORMExecuteState, Session, UOWTransaction, with_loader_criteria
from sqlalchemy.sql.base import ExecutableOption

from jobs.clock import utc_now
from jobs.db.base import Base, SharedNumbers, TenantOwned
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
        getting: the next statement reads one row by its key.
    """

    scope: TenantScope
    flushing: bool = False
    getting: bool = False


class BoundSession(Session):
    """A session with a tenant, the platform, or neither.

    Args:
        engine: its connections are checked (`watch`).
    """

    def __init__(self, engine: Engine, scope: TenantScope) -> None:
        self.binding = Binding(scope)
        super().__init__(engine, expire_on_commit=False)

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
        self.binding.getting = True
        try:
            found = super().get(entity, ident, **options)
        finally:
            self.binding.getting = False
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


@event.listens_for(BoundSession, "after_begin")
def _mark_connection(session: Session, _transaction: object, connection: Connection) -> None:
    connection.execution_options(**{BINDING: cast("BoundSession", session).binding})


@event.listens_for(BoundSession, "do_orm_execute")
def _limit_statement(state: ORMExecuteState) -> None:
    binding = cast("BoundSession", state.session).binding
    tenant = binding.scope.tenant
    if tenant is None:
        return  # the platform is not limited, and `_check_statement` refuses all of a session that is bound to nothing
    if state.is_insert:
        _check_insert(state, tenant)
    elif state.is_column_load or binding.getting:
        # Loader criteria do not apply to the refresh of an object; for one row by its key they cost four times as much.
        owner = state.bind_mapper.class_ if state.bind_mapper is not None else None
        if owner is not None and issubclass(owner, TenantOwned):
            condition = _condition(owner, tenant)  # type: ignore[arg-type]  # a class is hashable
            state.statement = cast("Any", state.statement).where(condition)
    elif state.is_select or state.is_update or state.is_delete:  # not raw SQL
        state.statement = state.statement.options(_criteria(tenant))


@lru_cache(maxsize=8192)
def _condition(owned: type[TenantOwned], tenant: str) -> ColumnElement[bool]:
    return owned.tenant == tenant


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
    if not issubclass(_known_tables(len(Base.metadata.tables))[1].get(table, object), TenantOwned):
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
    found = tables_in(statement)
    if binding.scope.tenant is None:
        if found.named:
            raise TenantUnboundError(
                f"Got a statement on {found.named} in a transaction bound to nothing; open it with "
                "Database.of_tenant(...) or Database.of_platform()."
            )
    elif found.of_platform:
        raise TenantUnboundError(
            f"Got a statement on {found.of_platform}, which is the platform's alone, in a transaction bound to "
            f"{binding.scope}; open it with Database.of_platform()."
        )
    elif found.unlimited and not binding.flushing and not context.execution_options.get(CHECKED_INSERT):
        raise TenantUnboundError(
            f"Got a statement on {found.unlimited} without a condition on the tenant in a transaction bound to "
            f"{binding.scope}. Use the mapped classes, or compare each table's `tenant` in raw SQL."
        )


@dataclass(frozen=True)
class NamedTables:
    """The tables that a statement names, each as a list for people; empty: none.

    Attributes:
        of_platform: those that tenants have no part in.
        unlimited: tenant-owned ones without a condition on their tenant.
    """

    named: str = ""
    of_platform: str = ""
    unlimited: str = ""


def tables_in(statement: str) -> NamedTables:
    """Return which tables a statement names; SQL that was looked at before costs one lookup."""
    return _tables_in(statement, len(Base.metadata.tables))


@lru_cache(maxsize=4096)
def _tables_in(statement: str, tables: int) -> NamedTables:
    pattern, kinds = _known_tables(tables)
    found = [(match["table"], match["alias"] or match["table"]) for match in pattern.finditer(statement)]
    limits = Counter(match[1] for match in _LIMIT.finditer(statement))
    limits.subtract(name for table, name in found if issubclass(kinds[table], TenantOwned))

    def shown(*names: str) -> str:
        return ", ".join(dict.fromkeys(names))

    return NamedTables(
        shown(*(table for table, _ in found)),
        shown(*(table for table, _ in found if not issubclass(kinds[table], TenantOwned | SharedNumbers))),
        shown(*(table for table, name in found if limits[name] < 0)),
    )


_LIMIT = re.compile(r"\b(\w+)\"?\.tenant = ")


@lru_cache(maxsize=8)
def _known_tables(_number: int) -> tuple[re.Pattern[str], dict[str, type[Base]]]:
    """Return what finds the names of tables, and their mapped classes. More come with the modules that define them."""
    classes: Iterable[type[Base]] = (mapper.class_ for mapper in Base.registry.mappers)
    kinds = {one.__tablename__: one for one in classes}
    names = "|".join(sorted(kinds))
    # Before a dot it qualifies a column, after "AS" it names one, after "OF" it repeats a table (FOR UPDATE OF).
    name = rf"(?<![.\w'])(?<!\bOF )(?<!\bAS )(?P<table>{names})\b(?!['.]|\"\.)"
    return re.compile(rf"{name}(?:\"?\s+AS\s+\"?(?P<alias>\w+))?"), kinds
