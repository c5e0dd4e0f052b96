"""How a device's thread spends its time, at work or at rest: rest while jobs wait is what could be done better."""

from __future__ import annotations

import time
from collections.abc import Callable


class UtilizationClock:
    """Written by the engine's thread, read by anybody.

    Attributes:
        busy_s, idle_s: seconds at work and at rest, up to the last change between the two.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self.busy_s = self.idle_s = 0.0
        self._since = monotonic()
        self._working = False

    def busy(self) -> None:
        """The thread turns to a batch."""
        self._turn(working=True)

    def idle(self) -> None:
        """The thread looks for the next batch, and sleeps if there is none."""
        self._turn(working=False)

    def _turn(self, *, working: bool) -> None:
        now = self._monotonic()
        if self._working:
            self.busy_s += now - self._since
        else:
            self.idle_s += now - self._since
        self._since, self._working = now, working
