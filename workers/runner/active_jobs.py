"""The jobs that this process holds, and the word to stop one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from jobs.service.attempts import Claim


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
class ActiveJob:
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


class ActiveJobs:
    """The register of held jobs; thread-safe."""

    def __init__(self) -> None:
        self._jobs: dict[str, ActiveJob] = {}
        self._lock = threading.Lock()

    def add(self, active_job: ActiveJob) -> None:
        with self._lock:
            self._jobs[active_job.claim.job_id] = active_job

    def remove(self, active_job: ActiveJob) -> None:
        with self._lock:
            if self._jobs.get(active_job.claim.job_id) is active_job:
                del self._jobs[active_job.claim.job_id]

    def all(self) -> list[ActiveJob]:
        with self._lock:
            return list(self._jobs.values())

    def stop_all(self, reason: StopReason) -> None:
        for active_job in self.all():
            active_job.stop(reason)

    def stop_waiting(self, reason: StopReason) -> None:
        """Stop the jobs that wait for the device: another worker's may be free."""
        for active_job in self.all():
            if active_job.waits_for_device:
                active_job.stop(reason)
