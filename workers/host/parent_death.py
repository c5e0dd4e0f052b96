"""Ends a process when its parent exits, however the parent exits (PR_SET_PDEATHSIG)."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int, with_signal: signal.Signals = signal.SIGTERM) -> Callable[[], None]:
    """Return a function for the child to call, after which the kernel signals it when its parent exits (Linux only).

    The library is loaded before the call, which may run between fork and exec, where little is allowed.
    """
    if sys.platform != "linux":
        return lambda: None
    libc = ctypes.CDLL(None, use_errno=True)

    def ask_kernel() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, with_signal)
        if os.getppid() != parent_pid:  # the parent exited before the kernel was asked
            os.kill(os.getpid(), with_signal)

    return ask_kernel
