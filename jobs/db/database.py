"""Engine and transactions: how a connection is set up, and how a unit of work begins and ends."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, create_engine, event, make_url
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from jobs.clock import Clock, DatabaseClock
from jobs.db.faults import may_pass, was_rolled_back

log = logging.getLogger(__name__)

Result = TypeVar("Result")

SQLITE_BUSY_TIMEOUT_MS = 10_000
# A process that is frozen, or cut off, in the middle of a transaction holds its row locks. The server ends such a
# transaction after this time, or the sweep could never take the row's job back.
IDLE_IN_TRANSACTION_MS = 30_000
LOCK_TIMEOUT_MS = 10_000
# A peer that is gone without a word (half-open) is noticed within about 10 + 3 * 5 s.
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
    """A running unit of work: the session, and the one time that all its rows carry."""

    session: Session
    now: datetime
    before_commit: list[Callable[[], None]] = field(default_factory=list)
    """Steps that are run when all else is done: those whose locks everybody wants."""


class Database:
    """Opens transactions on one database.

    Args:
        url: `sqlite:////path` or `postgresql+psycopg://...`.
        clock: where `Transaction.now` comes from; the database's own clock by default.
        pool_size: connections kept per process (PostgreSQL).
        sleep, rng: how `run` waits between two tries, and its jitter.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock | None = None,
        pool_size: int = 8,
        sleep: Callable[[float], None] = time.sleep,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.url = make_url(url)
        self._clock = clock or DatabaseClock()
        self._sleep, self._rng = sleep, rng
        if self.is_sqlite:
            self.engine = create_engine(self.url, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_MS / 1000})
            _prepare_sqlite(self.engine)
        else:
            self.engine = create_engine(
                self.url,
                pool_size=pool_size,
                max_overflow=pool_size,
                pool_pre_ping=True,  # a restarted server costs a reconnect, not a failed request
                connect_args={"connect_timeout": 5, **KEEPALIVE},
            )
            _prepare_postgres(self.engine)
        # SQLite: a write transaction takes the write lock at once. One that begins by reading and then writes fails
        # with "database is locked" at once when another writer came between, whatever the busy timeout says.
        self._writer = self.engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """A unit of work that writes: commits when the block ends, rolls back when it raises."""
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            tx = Transaction(session, self._clock.now(session))
            yield tx
            session.flush()
            for step in tx.before_commit:
                step()

    def run(self, step: Callable[[Transaction], Result], *, repeatable: bool, tries: int = RUN_TRIES) -> Result:
        """Do a step in a transaction of its own; the whole of it again when the database could not serve it just now.

        A broken connection, a serialisation failure, a deadlock, a server that restarts: each may pass. When the
        connection breaks during the commit, nobody knows whether it went through.

        Args:
            repeatable: doing the step a second time after it was committed changes nothing more (it names its
                attempt, or an idempotency key). Otherwise such a commit is not tried again.

        Raises:
            DBAPIError: it did not pass within `tries` tries, or is not of a kind that passes.
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
        """Do a step that only reads; the whole of it again when the database could not serve it just now.

        Raises:
            DBAPIError: as `run` does.
        """

        def attempt() -> Result:
            with self.reading() as tx:
                return step(tx)

        return self._tried(attempt, lambda _: True, tries)

    def _tried(self, attempt: Callable[[], Result], allowed: Callable[[DBAPIError], bool], tries: int) -> Result:
        for number in range(1, tries + 1):
            try:
                return attempt()
            except DBAPIError as exc:
                if number == tries or not may_pass(exc) or not allowed(exc):
                    raise
                log.warning("the database could not serve (%s); trying again", type(exc.orig).__name__)
            self._sleep(FIRST_PAUSE_S * 2 ** (number - 1) * (0.5 + self._rng()))
        raise AssertionError("the loop returns or raises")

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """A unit of work that only reads; takes no lock that a writer waits for."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield Transaction(session, self._clock.now(session))

    def check(self) -> None:
        """Raise whatever the driver raises when the database does not answer."""
        with self.engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")

    def close(self) -> None:
        self.engine.dispose()


def _prepare_postgres(engine: Engine) -> None:
    def set_timeouts(dbapi_connection: Any, _record: ConnectionPoolEntry) -> None:
        # By statement and not as a start-up option, which connection poolers refuse.
        before, dbapi_connection.autocommit = dbapi_connection.autocommit, True
        with dbapi_connection.cursor() as cursor:
            cursor.execute(f"SET idle_in_transaction_session_timeout = {IDLE_IN_TRANSACTION_MS}")
            cursor.execute(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")
        dbapi_connection.autocommit = before

    event.listen(engine, "connect", set_timeouts)


def _prepare_sqlite(engine: Engine) -> None:
    def set_pragmas(dbapi_connection: Any, _record: ConnectionPoolEntry) -> None:
        # The driver must not begin transactions by itself: `begin` below says which kind.
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {SQLITE_BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        # FULL: an answered submit survives a power cut. NORMAL would save one fsync a commit and lose the last ones.
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))

    event.listen(engine, "connect", set_pragmas)
    event.listen(engine, "begin", begin)
