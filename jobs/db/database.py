"""Engine and transactions: sets up connections, begins and ends units of work."""

from __future__ import annotations

import copy
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Select, create_engine, event, make_url
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from jobs.clock import Clock, DatabaseClock, utc_now
from jobs.db.bound_session import BoundSession, tables_in, watch
from jobs.db.faults import is_transient, reason, sqlstate, was_rolled_back
from jobs.db.single_read import SingleRead, driver_sql, read_directly, without_ping
from jobs.db.tenant_scope import PLATFORM, UNBOUND, ForeignRowError, TenantScope, TenantUnboundError
from jobs.db.time_limits import CONNECT_S, TimeLimits, limit_waiting, through
from jobs.log_limit import LogLimit

log = logging.getLogger(__name__)

Result = TypeVar("Result")

SQLITE_BUSY_TIMEOUT_MS = 10_000
# A process that is suspended, or cut off, in the middle of a transaction holds its row locks. The server ends such a
# transaction after this time, or maintenance could never take the row's job back.
IDLE_IN_TRANSACTION_MS = 30_000
LOCK_TIMEOUT_MS = 10_000
POOL_TIMEOUT_S = 30
# A half-open connection is noticed within about 10 + 3 * 5 s.
KEEPALIVE = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
RUN_TRIES = 5
FIRST_PAUSE_S = 0.2


@dataclass(frozen=True)
class Transaction:
    """A running unit of work: the session, and the one time that all its rows get."""

    session: BoundSession
    now: datetime
    scope: TenantScope = UNBOUND
    """Whose rows it sees and writes."""
    before_commit: list[Callable[[], None]] = field(default_factory=list)
    """Steps that run last, because other transactions wait for their locks."""
    after_commit: list[Callable[[], None]] = field(default_factory=list)
    """Steps that run once the commit succeeded, such as log lines; they must not raise."""

    @property
    def tenant(self) -> str:
        """The tenant that the transaction is bound to.

        Raises:
            TenantUnboundError: it is bound to none, or to the platform, which sees the rows of all.
        """
        return self.scope.require_tenant()

    def require_platform(self) -> None:
        """Check that the transaction sees the rows of all tenants.

        Raises:
            TenantUnboundError: it is bound to one tenant, or to nothing.
        """
        self.scope.require_platform()

    def require_own(self, *tenants: str) -> None:
        """Check that rows that the caller gives belong to those that the transaction sees.

        Args:
            tenants: whose the rows are.

        Raises:
            ForeignRowError: the transaction is bound to another tenant.
            TenantUnboundError: it is bound to nothing.
        """
        self.scope.require_any()
        for tenant in tenants:
            if self.scope.tenant not in {None, tenant}:
                raise ForeignRowError(f"Got a row of tenant {tenant!r} in a transaction bound to {self.scope}.")

    @contextmanager
    def as_tenant(self, tenant: str) -> Iterator[Transaction]:
        """Act for one tenant within a transaction of the platform; the same transaction, bound to the tenant.

        Raises:
            TenantUnboundError: this one is bound to another tenant, or to nothing.
        """
        if self.scope.tenant != tenant:
            self.require_platform()
        with self._bound_to(TenantScope.of(tenant)) as bound:
            yield bound

    @contextmanager
    def over_all_tenants(self) -> Iterator[Transaction]:
        """Act for the platform within a transaction of a tenant: read a number over all tenants, such as a queue
        position, or write to the audit.

        Nothing else that is read may leave. `tests/contract/domain/test_every_domain_function.py` lists who does this.

        Raises:
            TenantUnboundError: this one is bound to nothing.
        """
        self.scope.require_any()
        with self._bound_to(PLATFORM) as bound:
            yield bound

    @contextmanager
    def _bound_to(self, scope: TenantScope) -> Iterator[Transaction]:
        before = self.session.scope
        if scope == before:
            yield replace(self, scope=scope)
            return
        self.session.flush()  # rows are checked against the scope that they were made in
        self.session.bind_to(scope)
        try:
            yield replace(self, scope=scope)
            self.session.flush()
        except BaseException:
            with suppress(SQLAlchemyError):  # a transaction that has failed takes no statement, and none is needed
                self.session.bind_to(before)
            raise
        self.session.bind_to(before)


class Database:
    """Opens transactions on one database.

    Args:
        url: `sqlite:////path` or `postgresql+psycopg://...`.
        clock: source of `Transaction.now`; the database's own clock by default.
        pool_size: connections kept per process (PostgreSQL).
        limits: how long to wait for the database, where callers wait as well.
        sleep, rng: used by `run` for the pause between two tries and its jitter.
        monotonic: clock in seconds; with `limits`, `run` begins no other try after `wait_s`.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock | None = None,
        pool_size: int = 8,
        limits: TimeLimits | None = None,
        sleep: Callable[[float], None] = time.sleep,
        rng: Callable[[], float] = random.random,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = make_url(url)
        self._clock = clock or DatabaseClock()
        self._limits, self._monotonic = limits, monotonic
        self._sleep, self._rng = sleep, rng
        self._log_limit = LogLimit(monotonic)
        if self.is_sqlite:
            busy_ms = round(limits.wait_s * 1000) if limits is not None else SQLITE_BUSY_TIMEOUT_MS
            self.engine = create_engine(
                self.url,
                hide_parameters=True,  # prompts are not for logs and tracebacks
                connect_args={"timeout": busy_ms / 1000},
            )
            _prepare_sqlite(self.engine, busy_ms)
        else:
            self.engine = create_engine(
                self.url,
                hide_parameters=True,
                pool_size=pool_size,
                max_overflow=pool_size,
                pool_timeout=limits.wait_s if limits is not None else POOL_TIMEOUT_S,
                pool_pre_ping=True,  # a restarted server costs a reconnect, not a failed request
                connect_args={"connect_timeout": CONNECT_S if limits is not None else 5, **KEEPALIVE},
            )
            _prepare_postgres(self.engine, limits)
            if limits is not None:
                limit_waiting(self.engine, limits)
        watch(self.engine)
        # SQLite: a write transaction takes the write lock when it begins. One that reads first and then writes fails
        # with "database is locked" as soon as another writer was faster, whatever the busy timeout is.
        self._writer = self.engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")
        # One statement alone: PostgreSQL needs no BEGIN and no ROLLBACK around it.
        self._scope = UNBOUND

    def of_tenant(self, tenant: str) -> Database:
        """Return this database, with every transaction bound to one tenant; it shares the connections."""
        return self._scoped(TenantScope.of(tenant))

    def of_platform(self) -> Database:
        """Return this database for the platform itself, which sees the rows of all tenants: workers, maintenance."""
        return self._scoped(PLATFORM)

    def _scoped(self, scope: TenantScope) -> Database:
        scoped = copy.copy(self)
        scoped._scope = scope
        return scoped

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Open a unit of work that writes: commits when the block ends, rolls back when it raises."""
        with through(self._limits), BoundSession(self._writer, self._scope) as session:
            with session.begin():
                tx = Transaction(session, self._begin(session), self._scope)
                yield tx
                session.flush()
                for step in tx.before_commit:
                    step()
            for step in tx.after_commit:
                step()

    def run(self, step: Callable[[Transaction], Result], *, repeatable: bool, tries: int = RUN_TRIES) -> Result:
        """Run a step in a transaction of its own; run the whole of it again after a transient error.

        Transient are a broken connection, a serialisation failure, a deadlock and a restarting server. When the
        connection breaks during the commit, it is unknown whether the commit succeeded.

        Args:
            repeatable: running the step again after a successful commit changes nothing more, because it names its
                attempt or an idempotency key. Otherwise a commit with unknown result is not tried again.

        Raises:
            DBAPIError: the error is not transient, or came in each of `tries` tries.
        """
        committing = False

        def attempt() -> Result:
            nonlocal committing
            committing = False
            with self.transaction() as tx:
                result = step(tx)
                tx.session.flush()
                committing = True
            return result

        return self._tried(attempt, lambda exc: repeatable or not committing or was_rolled_back(exc), tries)

    def run_reading(self, step: Callable[[Transaction], Result], *, tries: int = RUN_TRIES) -> Result:
        """Run a step that only reads; run it again after a transient error.

        Raises:
            DBAPIError: as `run` does.
        """

        def attempt() -> Result:
            with self.reading() as tx:
                return step(tx)

        return self._tried(attempt, lambda _: True, tries)

    def _tried(self, attempt: Callable[[], Result], allowed: Callable[[DBAPIError], bool], tries: int) -> Result:
        began = self._monotonic()
        for number in range(1, tries + 1):
            try:
                return attempt()
            except DBAPIError as exc:
                if number == tries or not is_transient(exc) or not allowed(exc):
                    raise
                if self._limits is not None and self._monotonic() - began >= self._limits.wait_s:
                    raise
                # Every caller meets an outage, several times a second.
                if self._log_limit.allows(sqlstate(exc) or "no answer"):
                    log.warning("transient database error (%s); trying again (said once a minute)", reason(exc))
            self._sleep(FIRST_PAUSE_S * 2 ** (number - 1) * (0.5 + self._rng()))
        raise AssertionError("the loop returns or raises")

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Open a unit of work that only reads; it takes no lock that a writer waits for."""
        with through(self._limits), BoundSession(self.engine, self._scope) as session:
            yield Transaction(session, self._begin(session), self._scope)

    def read_row(self, read: SingleRead, **parameters: Any) -> tuple[Any, datetime]:
        """Return the row that a statement finds (None: none) and the time; run it again after a transient error.

        Raises:
            DBAPIError: as `run` does.
            TenantUnboundError: the database is not bound to one tenant, or the statement does not name it.
        """
        given = {"tenant": self._scope.require_tenant(), **parameters}
        # Its SQL names the tenant itself, and may look at numbers of the platform besides.
        if unlimited := tables_in(read.sql).unlimited:
            raise TenantUnboundError(f"Got a statement on {unlimited} without a condition on the tenant.")
        if self.is_sqlite or not isinstance(self._clock, DatabaseClock):
            return self.of_platform().run_reading(
                lambda tx: (tx.session.execute(read.statement, given).one_or_none(), tx.now)
            )

        row = self._read_directly(read.binding_sql, given)
        return (row if row.found else None), row.now

    def _read_directly(self, sql: str, parameters: Mapping[str, object]) -> Any:
        """Run one statement on PostgreSQL as a transaction of its own; run it again after a transient error."""
        tries = iter((without_ping(),))

        def attempt() -> Any:
            with through(self._limits), next(tries, nullcontext()):
                return read_directly(self.engine, sql, parameters)

        return self._tried(attempt, lambda _: True, RUN_TRIES)

    def _begin(self, session: BoundSession) -> datetime:
        """Tell PostgreSQL whose rows the transaction sees; return the transaction's time."""
        if self.is_sqlite:
            return self._clock.now(session)
        # The same statement reads the server's clock, so that a transaction begins with one round trip.
        bound_at = session.bind_to(self._scope)
        return bound_at if isinstance(self._clock, DatabaseClock) else self._clock.now(session)

    def first_row(
        self, statement: Select[*tuple[Any, ...]], parameters: Mapping[str, object]
    ) -> tuple[Any, datetime] | None:
        """Run one statement that reads a table owned by no tenant; return its first row and the database's time.

        It is the cheapest way to ask for a row: one round trip, without a transaction.

        Args:
            statement: made once: what is found out about it is kept.

        Raises:
            DBAPIError: the database does not answer.
        """
        if self.is_sqlite:
            with through(self._limits), self.engine.connect() as connection:
                row: Any = connection.execute(statement, parameters).first()
            now = utc_now()
        else:
            row = self._read_directly(driver_sql(statement, self.engine.dialect), parameters)
            now = row.now if row is not None else utc_now()
        if row is None:
            return None
        if isinstance(self._clock, DatabaseClock):
            return row, now
        with BoundSession(self.engine, UNBOUND) as session:
            return row, self._clock.now(session)

    def check(self) -> None:
        """Run a trivial query.

        Raises:
            DBAPIError: the database does not answer.
        """
        with self.engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")

    def close(self) -> None:
        """Close all pooled connections."""
        self.engine.dispose()


def _prepare_postgres(engine: Engine, limits: TimeLimits | None) -> None:
    settings = {"idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_MS, "lock_timeout": LOCK_TIMEOUT_MS}
    if limits is not None:
        settings["statement_timeout"] = round(limits.wait_s * 1000)
        settings["lock_timeout"] = min(LOCK_TIMEOUT_MS, round(limits.wait_s * 1000))

    def set_timeouts(dbapi_connection: Any, _record: ConnectionPoolEntry) -> None:
        # By statement, because connection poolers refuse these as start-up options.
        before, dbapi_connection.autocommit = dbapi_connection.autocommit, True
        with dbapi_connection.cursor() as cursor:
            for name, value in settings.items():
                cursor.execute(f"SET {name} = {value}")
        dbapi_connection.autocommit = before

    event.listen(engine, "connect", set_timeouts)


def _prepare_sqlite(engine: Engine, busy_timeout_ms: int) -> None:
    def set_pragmas(dbapi_connection: Any, _record: ConnectionPoolEntry) -> None:
        # The driver must not begin transactions by itself: `begin` below chooses the kind.
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {busy_timeout_ms}")
        cursor.execute("PRAGMA journal_mode = WAL")
        # FULL: an acknowledged submit survives a power cut. NORMAL saves fsyncs but may lose the last commits.
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))

    event.listen(engine, "connect", set_pragmas)
    event.listen(engine, "begin", begin)
