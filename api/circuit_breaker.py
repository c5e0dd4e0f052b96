"""A circuit breaker: after a failure, a service is not called for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

OPEN_S = 5.0


@dataclass
class CircuitBreaker:
    """Open for `OPEN_S` seconds after a failure. Thread-safe.

    Args:
        monotonic: clock in seconds.
    """

    monotonic: Callable[[], float] = time.monotonic
    _open_until: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_open(self) -> bool:
        """Whether the service must not be called now."""
        with self._lock:
            return self.monotonic() < self._open_until

    def record_failure(self) -> None:
        """Open the breaker: a call has failed."""
        with self._lock:
            self._open_until = self.monotonic() + OPEN_S
