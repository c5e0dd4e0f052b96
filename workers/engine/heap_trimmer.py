"""Returns freed heap memory to the operating system.

On a CPU the tensors are on the heap. Sounds of different lengths leave gaps of different sizes that glibc reuses only
where they fit: a process that uses 250 MB holds 2 GB after a minute of mixed work, and keeps growing. With a GPU only
media and results are on the heap. Trimming takes 10 ms for a heap of that size; a fixed `MALLOC_MMAP_THRESHOLD_` keeps
it as small but halves the speed.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable

DELAY_S = 1.0


def _malloc_trim() -> Callable[[], None]:
    """Return glibc's `malloc_trim`; a function that does nothing where the C library has none."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return lambda: None

    def call() -> None:
        trim(0)

    return call


class HeapTrimmer:
    """Trims the heap on its own thread, a delay after the first of any number of requests.

    After a delay, because the memory of a batch is freed little by little, the last of it by the batch's jobs.

    Args:
        delay_s: time from a request to the trim; bounds trimming to about a hundredth of the time.
        trim: trims the heap; glibc's `malloc_trim` by default.
    """

    def __init__(self, *, delay_s: float = DELAY_S, trim: Callable[[], None] | None = None) -> None:
        self._delay_s, self._trim = delay_s, trim or _malloc_trim()
        self._requested, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="heap-trimmer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def request(self) -> None:
        """Request a trim. Never blocks."""
        self._requested.set()

    def close(self) -> None:
        """Stop the thread, without a last trim."""
        self._closed.set()
        self._requested.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._requested.wait()
            if self._closed.wait(self._delay_s):
                return
            self._requested.clear()
            self._trim()
