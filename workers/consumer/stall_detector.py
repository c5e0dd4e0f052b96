"""Notices that this process has stopped taking messages although some wait for it and it has room.

Celery's consumer can fall silent after the broker went away: a message that could not be acknowledged keeps its place
in the prefetch window for ever, and a full window is never asked for more (celery #8030, #9054, #10205). No ping shows
that. What shows it: the queue is not empty, a slot is free, and nothing comes. The process then ends, and its
supervisor starts another.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from jobs.queue import BrokerUnavailableError


class StallDetector:
    """Watches one consumer.

    Args:
        waiting: says how many messages wait on the queues that this process consumes.
        has_free_slot: says whether this process could take another job now.
        consumer_stall_s: how long messages may wait beside a free slot.
    """

    def __init__(
        self,
        *,
        waiting: Callable[[], int],
        has_free_slot: Callable[[], bool],
        consumer_stall_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._waiting, self._has_free_slot, self._stalled_s, self._monotonic = (
            waiting,
            has_free_slot,
            consumer_stall_s,
            monotonic,
        )
        self._lock = threading.Lock()
        self._idle_since: float | None = None

    def took(self) -> None:
        """Note that a message came."""
        with self._lock:
            self._idle_since = None

    def is_stalled(self) -> bool:
        """Look now; True when messages have waited beside a free slot for too long. A broker that is away says nothing.

        To be called about once a second: the queue is only seen at these moments.
        """
        try:
            could_work = self._has_free_slot() and self._waiting() > 0
        except BrokerUnavailableError:
            could_work = False
        now = self._monotonic()
        with self._lock:
            if not could_work:
                self._idle_since = None
            elif self._idle_since is None:
                self._idle_since = now
            return self._idle_since is not None and now - self._idle_since > self._stalled_s
