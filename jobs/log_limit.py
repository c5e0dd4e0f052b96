"""Limits repeated log lines: a fault that every request or pass meets is logged once a minute."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

INTERVAL_S = 60.0


@dataclass
class LogLimit:
    """Allows one line per key and minute. Thread-safe.

    Args:
        monotonic: clock in seconds.
    """

    monotonic: Callable[[], float] = time.monotonic
    _last: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def allows(self, key: str) -> bool:
        """Return whether a line of this key may be logged now, and count it as logged."""
        now = self.monotonic()
        with self._lock:
            if now - self._last.get(key, float("-inf")) < INTERVAL_S:
                return False
            self._last[key] = now
            return True
