"""Dispatches after a change of the queue: by few threads, and without keeping a request for long."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

PUBLISHERS = 2
# A request goes on after this time although its jobs are not published yet.
WAIT_S = 1.0


class Publishing:
    """Runs `dispatch` for variants in at most `PUBLISHERS` threads of its own.

    Who finds them busy leaves its variant to them and does not wait; maintenance dispatches what nobody took.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(PUBLISHERS, thread_name_prefix="publish")
        self._lock = threading.Lock()
        self._wanted: set[str] = set()
        self._running = 0

    def publish(self, variant: str, dispatch: Callable[[tuple[str, ...]], None]) -> None:
        """Dispatch the jobs of a variant, and those that others left meanwhile; wait at most `WAIT_S` for it."""
        with self._lock:
            self._wanted.add(variant)
            if self._running >= PUBLISHERS:
                return
            self._running += 1
        try:
            running: Future[None] = self._threads.submit(self._run, dispatch)
        except RuntimeError:  # this process is ending; maintenance dispatches
            return
        with suppress(TimeoutError):
            running.result(WAIT_S)

    def _run(self, dispatch: Callable[[tuple[str, ...]], None]) -> None:
        try:
            for _ in range(2):  # not until none is left: under load that would keep one caller for ever
                if variants := self._take():
                    dispatch(variants)
        finally:
            with self._lock:
                self._running -= 1

    def _take(self) -> tuple[str, ...]:
        with self._lock:
            taken, self._wanted = tuple(sorted(self._wanted)), set()
        return taken
