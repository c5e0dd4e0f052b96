"""Detects a consumer that receives no messages although some wait and a slot is free.

Celery's consumer can stall after the broker was unavailable: a message that could not be acknowledged keeps its place
in the prefetch window for ever, and a full window is never refilled (celery #8030, #9054, #10205). No ping reveals
that. The symptom does: the queue is not empty, a slot is free, and no message arrives. The worker process then drains
and exits, and its supervisor starts another.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from jobs.queue import BrokerUnavailableError


class StallDetector:
    """Watches one consumer. Thread-safe.

    Args:
        waiting: returns how many messages wait on the queues that this process consumes.
        has_free_slot: returns whether this process could run another job now.
        consumer_stall_s: how long messages may wait while a slot is free.
    """

    def __init__(
        self,
        *,
        waiting: Callable[[], int],
        has_free_slot: Callable[[], bool],
        consumer_stall_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._waiting, self._has_free_slot = waiting, has_free_slot
        self._consumer_stall_s, self._monotonic = consumer_stall_s, monotonic
        self._lock = threading.Lock()
        self._stalled_since: float | None = None

    def message_received(self) -> None:
        """Record that a message arrived."""
        with self._lock:
            self._stalled_since = None

    def is_stalled(self) -> bool:
        """Check now; return True when messages have waited beside a free slot for too long.

        Call about once a second: the queue is only checked by this call. An unavailable broker is not a stall.
        """
        try:
            suspicious = self._has_free_slot() and self._waiting() > 0
        except BrokerUnavailableError:
            suspicious = False
        now = self._monotonic()
        with self._lock:
            if not suspicious:
                self._stalled_since = None
            elif self._stalled_since is None:
                self._stalled_since = now
            return self._stalled_since is not None and now - self._stalled_since > self._consumer_stall_s
