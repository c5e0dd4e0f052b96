"""Measures how long the engine's thread is busy and idle; time idle while jobs wait is lost throughput."""

from __future__ import annotations

import time
from collections.abc import Callable


class UtilizationClock:
    """Two totals, written by the engine's thread and readable from any thread.

    Attributes:
        busy_s, idle_s: seconds busy and idle, up to the last change between the two.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self.busy_s = self.idle_s = 0.0
        self._since = monotonic()
        self._is_busy = False

    def busy(self) -> None:
        """Count as busy from now on."""
        self._switch(busy=True)

    def idle(self) -> None:
        """Count as idle from now on."""
        self._switch(busy=False)

    def _switch(self, *, busy: bool) -> None:
        now = self._monotonic()
        if self._is_busy:
            self.busy_s += now - self._since
        else:
            self.idle_s += now - self._since
        self._since, self._is_busy = now, busy
