"""How many requests of one tenant may wait or stream at once in this process."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class WaitingCounts:
    """Requests that wait or stream, by tenant. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def count(self, tenant: str) -> int:
        """Return how many requests of a tenant wait or stream."""
        with self._lock:
            return self._counts[tenant]

    def take(self, tenant: str, limit: int) -> bool:
        """Take a place, unless the tenant has `limit` (0: no limit); return whether it was taken."""
        with self._lock:
            if limit and self._counts[tenant] >= limit:
                return False
            self._counts[tenant] += 1
            return True

    def release(self, tenant: str) -> None:
        """Give a place back."""
        with self._lock:
            self._counts[tenant] -= 1
            if self._counts[tenant] <= 0:
                del self._counts[tenant]


@dataclass(frozen=True)
class TenantPlaces:
    """The places of one tenant: `take` one, `release` it from any thread when the request has ended.

    Attributes:
        limit: how many there are; 0: no limit.
    """

    tenant: str
    limit: int
    counts: WaitingCounts

    def take(self) -> bool:
        """Take a place; return whether there was one."""
        return self.counts.take(self.tenant, self.limit)

    def release(self) -> None:
        """Give a place back that was taken."""
        self.counts.release(self.tenant)

    @contextmanager
    def place(self) -> Iterator[bool]:
        """Hold a place while the block runs; yield False where there is none."""
        held = self.take()
        try:
            yield held
        finally:
            if held:
                self.release()
