"""Gives memory back that was freed, and that the C library would keep for later.

A device that is a CPU has its tensors in the heap. Sounds of different lengths leave holes of different sizes, which
glibc fills again only where they fit: a process that uses 250 MB holds 2 GB after a minute of mixed work, and goes on
growing. Trimming takes 10 ms of a heap that size; a fixed `MALLOC_MMAP_THRESHOLD_` keeps it as small and takes half of
the speed.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

EVERY_S = 1.0


def _malloc_trim() -> Callable[[], None]:
    """Return glibc's way to do it; another C library has none, and nothing is done."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return lambda: None

    def call() -> None:
        trim(0)

    return call


class FreedMemory:
    """Trims the heap, but not more often than every `every_s` seconds: a hundredth of the time at most."""

    def __init__(
        self,
        *,
        every_s: float = EVERY_S,
        monotonic: Callable[[], float] = time.monotonic,
        trim: Callable[[], None] | None = None,
    ) -> None:
        self._every_s, self._monotonic, self._trim = every_s, monotonic, trim or _malloc_trim()
        self._last = -float("inf")

    def give_back(self) -> None:
        """Trim, if it is time again."""
        now = self._monotonic()
        if now - self._last >= self._every_s:
            self._last = now
            self._trim()
