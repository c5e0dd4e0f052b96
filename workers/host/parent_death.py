"""A process that must not outlive the one that started it, however that one ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int, with_signal: signal.Signals = signal.SIGTERM) -> Callable[[], None]:
    """Return what a child calls so that the kernel sends it a signal when its parent dies (Linux; elsewhere nothing).

    The library is loaded here and not in the call, which may run between fork and exec, where little is allowed.
    """
    if sys.platform != "linux":
        return lambda: None
    libc = ctypes.CDLL(None, use_errno=True)

    def ask_kernel() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, with_signal)
        if os.getppid() != parent_pid:  # it died before the kernel was asked
            os.kill(os.getpid(), with_signal)

    return ask_kernel
