"""Kills a process whose engine makes no progress while busy: a hung kernel or driver would block every job for ever.

The timer is a thread of faulthandler that needs no Python lock, so it also fires when the engine hangs inside a library
that holds the lock. It writes the stack of every thread to standard error and ends the process; the supervisor starts
another one, and the jobs are rescued when their leases expire.
"""

from __future__ import annotations

import faulthandler


class Watchdog:
    """A timer that the engine's thread resets with every step.

    Args:
        limit_s: how long the engine may make no progress while busy; 0 disables.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s

    def progressed(self) -> None:
        """Start or reset the timer. Costs the start of a thread: call once per step, not once per operation."""
        if self._limit_s:
            faulthandler.dump_traceback_later(self._limit_s, exit=True)

    def idle(self) -> None:
        """Stop the timer."""
        if self._limit_s:
            faulthandler.cancel_dump_traceback_later()
