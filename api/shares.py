"""How many request threads each kind of slow work may hold, so that none of them takes all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class ThreadShares:
    """Most threads that wait for jobs, receive uploads, and call the object store, of `threads` in all."""

    waiting: int
    uploads: int
    store: int

    @classmethod
    def of(cls, threads: int) -> ThreadShares:
        """Return a half, a quarter and an eighth; each has at least one."""
        return cls(max(1, threads // 2), max(1, threads // 4), max(1, threads // 8))

    def threads_needed(self, threads: int) -> int:
        """Return the threads with which one is left for other requests; more than `threads` where those are few."""
        return max(threads, self.waiting + self.uploads + self.store + 1)


class Places:
    """A number of places; who finds none is refused instead of waiting. Thread-safe."""

    def __init__(self, count: int) -> None:
        self._free = threading.BoundedSemaphore(count)

    @contextmanager
    def place(self, *, wait_s: float = 0.0) -> Iterator[bool]:
        """Hold a place while the block runs; yield False where none became free within `wait_s`."""
        held = self._free.acquire(timeout=wait_s) if wait_s else self._free.acquire(blocking=False)
        try:
            yield held
        finally:
            if held:
                self._free.release()
