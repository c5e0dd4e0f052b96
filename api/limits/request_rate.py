"""Counts requests a minute in the broker's server, for all API processes together.

Counting must not slow requests: far from its limit a process counts some itself and sends their number later, and a
server that does not answer is left alone for a while, in which nothing is refused.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from api.circuit_breaker import CircuitBreaker
from jobs.log_limit import LogLimit

log = logging.getLogger(__name__)

WINDOW_S = 60
TIMEOUT_S = 0.25
# Of what is left of a limit, a process may use this part before it counts in the server again, and no longer than this.
_SHARE = 64
_LONGEST_S = 1.0
_MOST_KEPT = 10_000


class Counters(Protocol):
    """The part of a storage of `limits` that is used."""

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Add to a counter, which is removed after `expiry` seconds; return its value."""
        ...


@dataclass(frozen=True)
class Standing:
    """Where a tenant or a key stands after a request.

    Attributes:
        reset_s: seconds until the count begins again.
    """

    limit: int
    remaining: int
    reset_s: int
    allowed: bool


@dataclass
class _Window:
    """The count of one name in one minute, as this process knows it."""

    minute: int
    count: int = 0
    unsent: int = 0
    grant: int = 0
    counted_at: float = 0.0


class RequestRate:
    """Counts requests by name in windows of a minute. Thread-safe.

    Args:
        open_counters: returns the counters; called once, when the first request is counted.
        now: the time in seconds; windows begin at full minutes of it.
    """

    def __init__(
        self,
        open_counters: Callable[[], Counters],
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_counters, self._now = open_counters, now
        self._counters: Counters | None = None
        self._breaker, self._log_limit = CircuitBreaker(monotonic), LogLimit(monotonic)
        self._lock = threading.Lock()
        self._windows: dict[str, _Window] = {}

    @classmethod
    def in_broker(cls, broker_url: Callable[[], str]) -> RequestRate:
        """Return one that counts in a Redis or Valkey server."""

        def open_counters() -> Counters:
            # Imported only here: servers without such limits do not need it.
            from limits.storage import RedisStorage
            from valkey.backoff import NoBackoff
            from valkey.retry import Retry

            return RedisStorage(
                # `limits` does not accept the newest `redis`, which Celery wants; its other client speaks to both.
                broker_url().replace("redis", "valkey", 1),
                key_prefix="mmaudio:requests",
                socket_timeout=TIMEOUT_S,
                socket_connect_timeout=TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),  # type: ignore[arg-type]
            )

        return cls(open_counters)

    def count(self, name: str, limit: int) -> Standing | None:
        """Count a request; None: the server did not answer, and the request is allowed."""
        now = self._now()
        minute = int(now // WINDOW_S)
        reset_s = max(1, round((minute + 1) * WINDOW_S - now))
        with self._lock:
            window = self._window(name, minute)
            if window.count >= limit:
                return Standing(limit, 0, reset_s, allowed=False)
            window.unsent += 1
            if window.unsent <= window.grant and now - window.counted_at < _LONGEST_S:
                return Standing(limit, max(0, limit - window.count - window.unsent), reset_s, allowed=True)
            amount, window.unsent, window.grant = window.unsent, 0, 0
        count = self._sent(f"{name}:{minute}", amount)
        if count is None:
            return None
        with self._lock:
            window.count = max(window.count, count)
            window.grant, window.counted_at = max(0, limit - count) // _SHARE, now
        return Standing(limit, max(0, limit - count), reset_s, allowed=count <= limit)

    def _window(self, name: str, minute: int) -> _Window:
        window = self._windows.get(name)
        if window is None or window.minute != minute:
            if len(self._windows) >= _MOST_KEPT:
                self._windows = {one: kept for one, kept in self._windows.items() if kept.minute == minute}
            window = self._windows[name] = _Window(minute)
        return window

    def _sent(self, key: str, amount: int) -> int | None:
        if not self._breaker.allows_call():
            return None
        answered = False
        try:
            if self._counters is None:
                self._counters = self._open_counters()
            count = self._counters.incr(key, 2 * WINDOW_S, amount)
            answered = True
        except Exception as exc:  # whatever it is, a request must not fail for it
            if self._log_limit.allows("rate"):
                log.warning("requests are not counted, so none is refused (said once a minute): %s", exc)
            return None
        finally:
            if answered:
                self._breaker.record_success()
            else:
                self._breaker.record_failure()
        return count
