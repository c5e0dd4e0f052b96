"""A circuit breaker: after a failure, a service is not called for a while, and then by one caller first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

OPEN_S = 5.0
# A trial call that never says how it went is given up after this time.
TRIAL_S = 30.0


@dataclass
class CircuitBreaker:
    """Open for `OPEN_S` seconds after a failure; then one caller tries while the others are still refused. Thread-safe.

    Args:
        monotonic: clock in seconds.
    """

    monotonic: Callable[[], float] = time.monotonic
    _open_until: float = float("-inf")
    _failed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_open(self) -> bool:
        """Whether the service must not be called now."""
        with self._lock:
            return self.monotonic() < self._open_until

    def allows_call(self) -> bool:
        """Return whether the service may be called now; say by one of the methods below how the call went."""
        with self._lock:
            now = self.monotonic()
            if now < self._open_until:
                return False
            if self._failed:
                self._open_until = now + TRIAL_S
            return True

    def record_success(self) -> None:
        """Close the breaker: the service has answered."""
        with self._lock:
            self._failed, self._open_until = False, float("-inf")

    def record_failure(self) -> None:
        """Open the breaker: a call has failed."""
        with self._lock:
            self._failed, self._open_until = True, self.monotonic() + OPEN_S
