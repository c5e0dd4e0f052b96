"""Gives memory back that was freed, and that the C library would keep for later.

A device that is a CPU has its tensors in the heap. Sounds of different lengths leave holes of different sizes, which
glibc fills again only where they fit: a process that uses 250 MB holds 2 GB after a minute of mixed work, and goes on
growing. With a GPU only what media and results leave is there. Trimming takes 10 ms of a heap that size; a fixed
`MALLOC_MMAP_THRESHOLD_` keeps it as small and takes half of the speed.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable

AFTER_S = 1.0


def _malloc_trim() -> Callable[[], None]:
    """Return glibc's way to do it; another C library has none, and nothing is done."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return lambda: None

    def call() -> None:
        trim(0)

    return call


class HeapTrimmer:
    """Trims the heap a while after it was told that something was freed, once for all that was, on its own thread.

    After, and not at once: what a batch leaves is freed little by little, the last of it by the jobs that it was for.

    Args:
        after_s: the time from the first word to the trim; so the trims take a hundredth of the time at most.
    """

    def __init__(self, *, after_s: float = AFTER_S, trim: Callable[[], None] | None = None) -> None:
        self._after_s, self._trim = after_s, trim or _malloc_trim()
        self._requested, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="freed memory", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def request(self) -> None:
        """Say that something was freed. Costs nothing."""
        self._requested.set()

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._requested.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._requested.wait()
            if self._closed.wait(self._after_s):
                return
            self._requested.clear()
            self._trim()
