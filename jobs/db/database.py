"""Engine and transactions: how a connection is set up, and how a unit of work begins and ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, create_engine, event, make_url
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from jobs.clock import Clock, DatabaseClock

SQLITE_BUSY_TIMEOUT_MS = 10_000


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
    """

    def __init__(self, url: str, *, clock: Clock | None = None, pool_size: int = 8) -> None:
        self.url = make_url(url)
        self._clock = clock or DatabaseClock()
        if self.is_sqlite:
            self.engine = create_engine(self.url, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_MS / 1000})
            _prepare_sqlite(self.engine)
        else:
            self.engine = create_engine(
                self.url,
                pool_size=pool_size,
                max_overflow=pool_size,
                pool_pre_ping=True,  # a restarted server costs a reconnect, not a failed request
                connect_args={"connect_timeout": 5},
            )
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
