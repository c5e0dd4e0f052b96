"""The jobs that this process holds, and the word to stop one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from jobs.service.work import Claim


class StopReason(StrEnum):
    """Why a job that runs here should stop."""

    CANCELED = "canceled"
    """Cancel was asked for, or the attempt is no longer ours: SQL says which when the end is written."""
    SILENT = "silent"
    """The lease could not be renewed in time: somebody else may have the job by now. If not, it goes back."""
    DRAINED = "drained"
    """This worker stops; the job goes back to the queue."""
    TIMED_OUT = "timed_out"
    """The attempt ran longer than the request allows."""


class StoppedError(Exception):
    """Raised in the job's own thread when somebody asked for its stop."""


@dataclass
class HeldJob:
    """One job in hand. `stop` may be called from any thread; the first reason counts.

    Attributes:
        waits_for_device: it has nothing left to do here until the device, busy with others, takes it.
    """

    claim: Claim
    on_stop: Callable[[str], None]
    reason: StopReason | None = None
    waits_for_device: bool = False
    _stopped: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def stop(self, reason: StopReason) -> None:
        with self._lock:
            if self.reason is not None:
                return
            self.reason = reason
            self._stopped.set()
        self.on_stop(self.claim.job_id)

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def check(self) -> None:
        """Raise `StoppedError` when the job should stop."""
        if self.stopped:
            raise StoppedError(str(self.reason))


class JobsInHand:
    """The register of held jobs; thread-safe."""

    def __init__(self) -> None:
        self._jobs: dict[str, HeldJob] = {}
        self._lock = threading.Lock()

    def add(self, held: HeldJob) -> None:
        with self._lock:
            self._jobs[held.claim.job_id] = held

    def remove(self, held: HeldJob) -> None:
        with self._lock:
            if self._jobs.get(held.claim.job_id) is held:
                del self._jobs[held.claim.job_id]

    def all(self) -> list[HeldJob]:
        with self._lock:
            return list(self._jobs.values())

    def stop_all(self, reason: StopReason) -> None:
        for held in self.all():
            held.stop(reason)

    def stop_waiting(self, reason: StopReason) -> None:
        """Stop the jobs that wait for the device: another worker's may be free."""
        for held in self.all():
            if held.waits_for_device:
                held.stop(reason)
