"""The register of the jobs that this process runs, and how one of them is asked to stop.

Recording the end does not belong here: the executor does that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from jobs.service.attempts import Claim


class StopReason(StrEnum):
    """Why a running job should stop."""

    CANCELED = "canceled"
    """Cancel was requested, or the attempt is no longer current; recording the end finds out which."""
    LEASE_EXPIRED = "lease_expired"
    """The lease could not be renewed in time, so another worker may have the job; if none has, it is requeued."""
    DRAINED = "drained"
    """This worker stops; the job is requeued."""
    TIMED_OUT = "timed_out"
    """The attempt ran longer than the request allows."""


class StoppedError(Exception):
    """Raised in the thread of a job that was asked to stop."""


@dataclass
class ActiveJob:
    """One running job. `stop` may be called from any thread; the first reason counts.

    Attributes:
        on_stop: called once with the job's id when it is asked to stop.
        waits_for_device: nothing is left to do until the device, busy with other jobs, takes this one.
        fetching: its input is being downloaded; how long that takes is the store's doing, so it is no run time.
        fetch_s: how long the download took.
        has_result: its sound is made and only has to be stored. No timeout ends it any more, and a lease that could not
            be renewed neither: if another worker has the job, the record of the result is refused.
    """

    claim: Claim
    on_stop: Callable[[str], None]
    reason: StopReason | None = None
    waits_for_device: bool = False
    fetching: bool = False
    fetch_s: float = 0.0
    has_result: bool = False
    _stopped: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def stop(self, reason: StopReason) -> None:
        """Ask the job to stop; does nothing when it was asked before."""
        with self._lock:
            if self.reason is not None:
                return
            self.reason = reason
            self._stopped.set()
        self.on_stop(self.claim.job_id)

    def run_time_left_s(self, elapsed_s: float, wait_s: float) -> float:
        """Return the seconds that the attempt may still run.

        Args:
            elapsed_s: since the claim.
            wait_s: how long the job may wait for the store, beside its own run timeout.
        """
        if self.has_result:
            return wait_s
        extra_s = wait_s if self.fetching else min(self.fetch_s, wait_s)
        return float(self.claim.request["run_timeout_s"]) + extra_s - elapsed_s

    @property
    def stopped(self) -> bool:
        """Whether the job was asked to stop."""
        return self._stopped.is_set()

    def check(self) -> None:
        """Raise `StoppedError` when the job was asked to stop."""
        if self.stopped:
            raise StoppedError(str(self.reason))


class ActiveJobs:
    """The running jobs by id. Thread-safe."""

    def __init__(self) -> None:
        self._jobs: dict[str, ActiveJob] = {}
        self._lock = threading.Lock()

    def add(self, active_job: ActiveJob) -> None:
        """Register a job; a later attempt at the same job replaces the earlier one."""
        with self._lock:
            self._jobs[active_job.claim.job_id] = active_job

    def remove(self, active_job: ActiveJob) -> None:
        """Remove a job; does nothing when it is not registered or a later attempt has replaced it."""
        with self._lock:
            if self._jobs.get(active_job.claim.job_id) is active_job:
                del self._jobs[active_job.claim.job_id]

    def all(self) -> list[ActiveJob]:
        """Return a snapshot of the running jobs."""
        with self._lock:
            return list(self._jobs.values())

    def stop_all(self, reason: StopReason) -> None:
        """Ask every job to stop."""
        for active_job in self.all():
            active_job.stop(reason)

    def stop_waiting(self, reason: StopReason) -> None:
        """Ask the jobs that wait for the device to stop: another worker's device may be free."""
        for active_job in self.all():
            if active_job.waits_for_device:
                active_job.stop(reason)
