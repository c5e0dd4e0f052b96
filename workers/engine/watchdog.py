"""Ends a process whose engine stands still: a hung kernel or driver holds every job of the device, for ever.

The clock is faulthandler's own thread, which needs no Python lock: it also runs when the engine hangs inside a library
that holds it. When time is up it writes the stack of every thread to standard error and ends the process; the
supervisor starts another one, and the jobs come back when their leases run out.
"""

from __future__ import annotations

import faulthandler


class Watchdog:
    """Told by the engine's thread that it begins, goes on, and has nothing to do.

    Args:
        limit_s: how long the engine may stand still while it has work; 0 means for ever.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s

    def progressed(self) -> None:
        """Begin to count, or begin anew. Costs the start of a thread: once a step, not once an operation."""
        if self._limit_s:
            faulthandler.dump_traceback_later(self._limit_s, exit=True)

    def idle(self) -> None:
        """Stop counting."""
        if self._limit_s:
            faulthandler.cancel_dump_traceback_later()
