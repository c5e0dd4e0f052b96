"""Estimates when a job ends, from how long each stage of earlier jobs took in this worker process."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from jobs.lifecycle import Stage

DEVICE_WAIT = "device_wait"
# Weight of the newest measurement: the load of the machine changes within minutes.
NEWEST_WEIGHT = 0.3


@dataclass(frozen=True)
class JobWork:
    """The parts of a job that its duration depends on.

    Attributes:
        features_cached: the visual features are in the feature cache, so decoding and encoding take no time.
    """

    variant: str
    duration_s: float
    num_steps: int
    features_cached: bool = False

    def units(self, phase: str) -> float:
        """Return the quantity that the time of a stage, or of the wait for the device, is proportional to."""
        if phase in {Stage.FETCH, Stage.UPLOAD, DEVICE_WAIT}:
            return 1.0
        return self.duration_s * (self.num_steps if phase == Stage.SAMPLE else 1)


class EtaEstimator:
    """Seconds per unit, by variant and stage. Thread-safe; never blocks for long."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str, bool], float] = {}
        self._lock = threading.Lock()

    def record(self, work: JobWork, phase: str, seconds: float) -> None:
        """Record how long a stage of a job, or its wait for the device (`DEVICE_WAIT`), took."""
        key, measured = self._key(work, phase), seconds / work.units(phase)
        with self._lock:
            before = self._seconds.get(key, measured)
            self._seconds[key] = before + NEWEST_WEIGHT * (measured - before)

    def remaining_s(self, work: JobWork, stage: Stage, fraction: float, *, waits: bool = False) -> float | None:
        """Return the seconds until a job ends that has done `fraction` of `stage`; None without a measurement.

        Args:
            waits: the job waits for the device, which still works for others.
        """
        stages = list(Stage)
        remaining = 0.0
        for place, following in enumerate(stages[stages.index(stage) :]):
            expected = self._expected(work, following)
            if expected is None:
                return None
            remaining += expected * (1 - min(max(fraction, 0.0), 1.0)) if place == 0 else expected
        if waits or stages.index(stage) < stages.index(Stage.ENCODE):
            remaining += self._expected(work, DEVICE_WAIT) or 0.0
        return remaining

    def _expected(self, work: JobWork, phase: str) -> float | None:
        with self._lock:
            seconds = self._seconds.get(self._key(work, phase))
        return None if seconds is None else seconds * work.units(phase)

    @staticmethod
    def _key(work: JobWork, phase: str) -> tuple[str, str, bool]:
        return work.variant, str(phase), work.features_cached and phase in {Stage.DECODE, Stage.ENCODE}
