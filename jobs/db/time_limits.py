"""Limits on how long one process waits for its database, for processes whose callers wait as well.

PostgreSQL's own timeouts do not help against a server that is suspended or cut off: it cannot end its statements, and
its kernel goes on acknowledging packets. So the client's waits are limited too.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import psycopg
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from jobs.db.single_read import needs_ping

Value = TypeVar("Value")

CONNECT_S = 2
# A pooled connection is asked for a sign of life before it is used.
PING_S = 1.0
# The server ends a statement itself where it can; the client's own limit comes a little later.
CLIENT_MARGIN_S = 0.5
_WAKE_S = 0.1


class Breaker(Protocol):
    """Remembers that the database did not answer, so that not every caller waits for it."""

    def allows_call(self) -> bool:
        """Return whether the database may be called now."""
        ...

    def record_success(self) -> None:
        """Note that it has answered."""
        ...

    def record_failure(self) -> None:
        """Note that it did not answer."""
        ...


class DatabaseNotCalledError(SQLAlchemyError):
    """Raised instead of calling a database that did not answer a moment ago."""


@dataclass(frozen=True)
class TimeLimits:
    """How long to wait for a database.

    Attributes:
        wait_s: for one statement, one lock, or a connection of the pool.
        breaker: opened when the database did not answer within these times.
    """

    wait_s: float
    breaker: Breaker


class LimitedConnection(psycopg.Connection[Any]):
    """A connection that is closed when the server takes longer than `limit_s` for one answer."""

    limit_s: float = CONNECT_S
    answered_at: float = float("-inf")

    def wait(self, gen: Generator[Any, Any, Value], interval: float = _WAKE_S, timeout: float | None = None) -> Value:
        """Wait for an answer as psycopg does, and no longer than the limit.

        Raises:
            psycopg.errors.ConnectionTimeout: no answer came in time; the connection is closed.
        """
        named = {} if timeout is None else {"timeout": timeout}  # psycopg before 3.3 has no such argument
        answer = super().wait(self._limited(gen), interval, **named)
        self.answered_at = time.monotonic()
        return answer

    def _limited(self, gen: Generator[Any, Any, Value]) -> Generator[Any, Any, Value]:
        # psycopg sends a false value into the generator whenever `interval` has passed without an answer.
        until = time.monotonic() + self.limit_s
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > until:
                    self.pgconn.finish()
                    raise psycopg.errors.ConnectionTimeout(f"no answer within {self.limit_s:g} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def limit_waiting(engine: Engine, limits: TimeLimits) -> None:
    """Make every connection of a PostgreSQL engine a limited one."""

    def connect(_dialect: Any, _record: Any, arguments: Any, named: Any) -> LimitedConnection:
        connection: LimitedConnection = LimitedConnection.connect(*arguments, **named)
        connection.limit_s = limits.wait_s + CLIENT_MARGIN_S
        return connection

    event.listen(engine, "do_connect", connect)
    ping = engine.dialect.do_ping

    def quick_ping(connection: Any) -> bool:
        if not needs_ping(connection):
            return True
        usual, connection.limit_s = connection.limit_s, PING_S
        try:
            return ping(connection)
        finally:
            connection.limit_s = usual

    engine.dialect.do_ping = quick_ping  # type: ignore[method-assign,assignment]


@contextmanager
def through(limits: TimeLimits | None) -> Generator[None]:
    """Run a block that calls the database, unless it did not answer a moment ago; note whether it answers now.

    Raises:
        DatabaseNotCalledError: it did not answer a moment ago.
    """
    if limits is None:
        yield
        return
    if not limits.breaker.allows_call():
        raise DatabaseNotCalledError("The database did not answer a moment ago.")
    answered = True
    try:
        yield
    except SQLAlchemyError as exc:
        if isinstance(getattr(exc, "orig", None), psycopg.errors.ConnectionTimeout):
            answered = False
            limits.breaker.record_failure()
        raise
    finally:
        if answered:
            limits.breaker.record_success()
