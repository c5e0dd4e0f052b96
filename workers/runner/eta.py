"""How fast this worker is with each variant, measured on the jobs that it ran: what an estimated end is made of."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from jobs.lifecycle import Stage

DEVICE_WAIT = "device_wait"
# What the newest measurement counts; the machine's other work changes within minutes.
NEWEST = 0.3


@dataclass(frozen=True)
class JobWork:
    """What a job asks for, as far as time depends on it. What is known is encoded in no time."""

    variant: str
    duration_s: float
    num_steps: int
    known: bool = False

    def units(self, what: str) -> float:
        """Return what the time of a stage grows with."""
        if what in {Stage.FETCH, Stage.UPLOAD, DEVICE_WAIT}:
            return 1.0
        return self.duration_s * (self.num_steps if what == Stage.SAMPLE else 1)


class EtaEstimator:
    """Seconds a unit, by variant and stage. Thread-safe; never waits."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str, bool], float] = {}
        self._lock = threading.Lock()

    def note(self, work: JobWork, what: str, seconds: float) -> None:
        """Remember how long a stage of a job took, or how long it waited for the device."""
        key, measured = self._key(work, what), seconds / work.units(what)
        with self._lock:
            before = self._seconds.get(key, measured)
            self._seconds[key] = before + NEWEST * (measured - before)

    def remaining_s(self, work: JobWork, stage: Stage, fraction: float, *, waits: bool = False) -> float | None:
        """Return how long a job still takes that has done `fraction` of `stage`; None: that was never measured.

        Args:
            waits: it stands before the device, which still works for others.
        """
        stages = list(Stage)
        rest = 0.0
        for place, following in enumerate(stages[stages.index(stage) :]):
            expected = self._expected(work, following)
            if expected is None:
                return None
            rest += expected * (1 - min(max(fraction, 0.0), 1.0)) if place == 0 else expected
        if waits or stages.index(stage) < stages.index(Stage.ENCODE):
            rest += self._expected(work, DEVICE_WAIT) or 0.0
        return rest

    def _expected(self, work: JobWork, what: str) -> float | None:
        with self._lock:
            seconds = self._seconds.get(self._key(work, what))
        return None if seconds is None else seconds * work.units(what)

    @staticmethod
    def _key(work: JobWork, what: str) -> tuple[str, str, bool]:
        return work.variant, str(what), work.known and what in {Stage.DECODE, Stage.ENCODE}
