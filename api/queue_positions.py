"""Queue positions for callers that poll: the queue of a variant is read once for all of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from jobs.db.database import Database
from jobs.service.job_look import JobLook
from jobs.service.scheduling.queue_positions import QueueSnapshot, before_in_lane

LONGEST_S = 1.0
"""How long a snapshot serves: positions also change as jobs age and end."""
READS_PER_S = 2.0
READS_AT_ONCE = 20.0


@dataclass
class _Kept:
    """A snapshot of a variant's queue, and what the queue was then."""

    queue: object
    read_at: float
    snapshot: QueueSnapshot


@dataclass
class QueuePositions:
    """Positions from a snapshot of the queue, which is read again when the queue has changed.

    When it changes many times a second, a snapshot of up to `LONGEST_S` serves: `READS_AT_ONCE` are read at once, then
    `READS_PER_S` a second.

    Args:
        monotonic: clock in seconds.
    """

    monotonic: Callable[[], float] = time.monotonic
    _kept: dict[str, _Kept] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _reads_left: float = READS_AT_ONCE
    _counted_at: float = 0.0

    def position(self, platform: Database, job: JobLook) -> int:
        """Return the position of a queued job.

        Args:
            platform: bound to the platform.
        """
        kept = self._kept.get(job.variant)
        if kept is None or not self._serves(kept, job):
            with platform.reading() as tx:
                snapshot = QueueSnapshot.read(tx, job.variant)
                snapshot.read_lane(tx, job.variant, job)
            kept = _Kept(job.queue, self.monotonic(), snapshot)
            self._kept[job.variant] = kept
        return kept.snapshot.position(job, lambda: self._before(platform, kept.snapshot, job))

    def _serves(self, kept: _Kept, job: JobLook) -> bool:
        """Return whether a snapshot is good enough; otherwise the caller reads another one."""
        with self._lock:
            now = self.monotonic()
            self._reads_left = min(READS_AT_ONCE, self._reads_left + (now - self._counted_at) * READS_PER_S)
            self._counted_at = now
            if now - kept.read_at < LONGEST_S and (kept.queue == job.queue or self._reads_left < 1.0):
                return True
            self._reads_left -= 1.0
            kept.read_at = now  # others use this one until the new one is there
            kept.queue = job.queue
            return False

    def _before(self, platform: Database, snapshot: QueueSnapshot, job: JobLook) -> int:
        counted = snapshot.counted(job)
        if counted is not None:
            return counted
        with platform.reading() as tx:
            snapshot.read_lane(tx, job.variant, job)
            counted = snapshot.counted(job)
            if counted is not None:
                return counted
            return before_in_lane(tx, job.variant, job, snapshot.in_lane(job))
