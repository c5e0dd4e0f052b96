"""The thread that talks to SQL for all running jobs: flushes progress, renews leases and polls for cancellation.

It never waits for the device; an unavailable database only delays it. When leases could not be renewed in time it stops
the jobs, because another worker may have them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from jobs.clock import utc_now
from jobs.db.database import Database, Transaction
from jobs.db.faults import reason
from jobs.lifecycle import Stage, WorkerState
from jobs.log_limit import LogLimit
from jobs.service.running_attempts import Progress, cancel_requests, record_progress, renew_leases
from jobs.service.workers import record_heartbeat
from workers.disk_full import DiskFullLog
from workers.runner.active_jobs import ActiveJob, ActiveJobs, StopReason

log = logging.getLogger(__name__)

SKEW_WARNED_S = 30.0
SKEW_LOG_S = 3600.0
POLL_S = 0.05
"""How often SQL is polled for cancellation while jobs run."""
FLUSH_S = 0.5
"""How often progress is written."""
RETRY_S = 0.5
"""How long the thread waits after a tick that failed."""
TRIES = 2
"""A deadlock or a broken connection is retried once at once. What lasts is left to the next tick, which first checks
whether the leases still hold."""


class Reporter:
    """Reports for one worker process.

    Args:
        state: returns what the worker is doing.
        loaded: returns the variants in memory.
        memory: returns the bytes that the process uses.
        gpu: returns the figures of its GPU; None without one.
        unavailable: returns why the worker takes no jobs; None: it takes them.
        variants: returns those whose jobs the worker takes; None: as registered.
        drain: called with every heartbeat while a drain of this worker is requested.
        disk_full: where a full disk is logged.
        result_wait_s: how long a job may wait for the store, beside its run timeout.
        now: this host's clock, which is compared with the database's.
    """

    def __init__(
        self,
        db: Database,
        active_jobs: ActiveJobs,
        *,
        worker_id: str,
        lease_s: float,
        heartbeat_s: float,
        state: Callable[[], WorkerState],
        loaded: Callable[[], list[str]],
        memory: Callable[[], int | None],
        gpu: Callable[[], dict[str, Any] | None] = lambda: None,
        unavailable: Callable[[], dict[str, Any] | None] = lambda: None,
        variants: Callable[[], list[str] | None] = lambda: None,
        drain: Callable[[], None] = lambda: None,
        disk_full: DiskFullLog | None = None,
        result_wait_s: float = 900.0,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._db, self._active_jobs, self._worker_id = db, active_jobs, worker_id
        self._lease_s, self._heartbeat_s = lease_s, heartbeat_s
        self._state, self._loaded, self._memory, self._monotonic = state, loaded, memory, monotonic
        self._gpu, self._drain, self._unavailable, self._variants = gpu, drain, unavailable, variants
        self._now, self._result_wait_s = now, result_wait_s
        self._heartbeat_wanted = threading.Event()
        self._skew_logged_at = float("-inf")
        self._disk_full = disk_full or DiskFullLog()
        self._log_limit = LogLimit(monotonic)
        self._latest: dict[str, Progress] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._renewed_at = monotonic()
        self._heartbeat_at = self._flushed_at = float("-inf")
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._renewed_at = self._monotonic()  # no job ran before, however long the start took
        self._thread.start()

    def close(self) -> None:
        """Stop the thread and wait for it."""
        self._closed.set()
        self._thread.join()

    def report(
        self, active_job: ActiveJob, stage: Stage, fraction: float, step: int | None = None, eta_s: float | None = None
    ) -> None:
        """Note how far a job is; the next flush writes it. Never blocks."""
        with self._lock:
            claim = active_job.claim
            self._latest[claim.job_id] = Progress(claim.job_id, claim.attempt, stage, fraction, step, eta_s)

    def send_heartbeat_now(self) -> None:
        """Let the next tick send a heartbeat: what it says has changed. May be called from any thread."""
        self._heartbeat_wanted.set()

    def forget(self, active_job: ActiveJob) -> None:
        """Drop unwritten progress of a job that has ended."""
        with self._lock:
            self._latest.pop(active_job.claim.job_id, None)

    def _run(self) -> None:
        while not self._closed.wait(POLL_S):
            try:
                self.tick()
            except SQLAlchemyError as exc:
                if not self._disk_full.report(exc) and self._log_limit.allows("database"):
                    log.warning("database unavailable (%s); retrying (said once a minute)", reason(exc))
                self._closed.wait(RETRY_S)
            except Exception:
                # Without this thread every running job would lose its lease; the next tick may succeed.
                log.exception("reporting failed; retrying")
                self._closed.wait(RETRY_S)

    def tick(self) -> None:
        """Do what is due: heartbeat, cancellation, progress."""
        now = self._monotonic()
        jobs = self._active_jobs.all()
        if not jobs:
            self._renewed_at = now
        elif now - self._renewed_at > self._lease_s:
            running = [job for job in jobs if not job.stopped and not job.has_result]
            if running:
                log.error("leases could not be renewed for %.0f s; stopping %d jobs", self._lease_s, len(running))
            for job in running:
                job.stop(StopReason.LEASE_EXPIRED)
        if now - self._heartbeat_at >= self._heartbeat_s or self._heartbeat_wanted.is_set():
            self._heartbeat_wanted.clear()
            self._send_heartbeat(jobs)
            self._heartbeat_at = now
        if jobs:
            self._poll_cancellation(jobs)
        if now - self._flushed_at >= FLUSH_S:
            self._flush()
            self._flushed_at = now

    def _send_heartbeat(self, jobs: list[ActiveJob]) -> None:
        """Renew the leases and record the worker's state in one transaction."""
        pairs = [(job.claim.job_id, job.claim.attempt) for job in jobs]

        def heartbeat(tx: Transaction) -> tuple[set[str], bool]:
            skew_s = round((self._now() - tx.now).total_seconds(), 1)
            self._log_skew(skew_s)
            left_s = {job.claim.job_id: self._run_time_left_s(job, tx.now) for job in jobs}
            lost = renew_leases(tx, pairs, worker_id=self._worker_id, lease_s=self._lease_s, run_time_left_s=left_s)
            drain = record_heartbeat(
                tx,
                self._worker_id,
                state=self._state(),
                variants_loaded=self._loaded(),
                memory_bytes=self._memory(),
                gpu=self._gpu(),
                unavailable=self._unavailable(),
                clock_skew_s=skew_s,
                variants=self._variants(),
            )
            return lost, drain

        lost, drain = self._db.run(heartbeat, repeatable=True, tries=TRIES)
        self._renewed_at = self._monotonic()
        for job in jobs:
            if job.claim.job_id in lost:
                job.stop(StopReason.CANCELED)
        if drain:
            self._drain()

    def _log_skew(self, skew_s: float) -> None:
        """Say once an hour that this host's clock is off: object stores refuse what is signed by such a clock."""
        now = self._monotonic()
        if abs(skew_s) >= SKEW_WARNED_S and now - self._skew_logged_at >= SKEW_LOG_S:
            self._skew_logged_at = now
            which = "ahead of" if skew_s > 0 else "behind"
            log.warning("the clock of this host is %.0f s %s the database's; set it right", abs(skew_s), which)

    def _poll_cancellation(self, jobs: list[ActiveJob]) -> None:
        """Stop the jobs whose cancel was requested, whose attempt is no longer current, or that ran too long."""
        pairs = [(job.claim.job_id, job.claim.attempt) for job in jobs]
        canceled, now = self._db.run_reading(lambda tx: (cancel_requests(tx, pairs), tx.now), tries=TRIES)
        for job in jobs:
            if job.claim.job_id in canceled:
                job.stop(StopReason.CANCELED)
            elif self._run_time_left_s(job, now) < 0:
                job.stop(StopReason.TIMED_OUT)

    def _run_time_left_s(self, job: ActiveJob, now: datetime) -> float:
        return job.run_time_left_s((now - job.claim.started_at).total_seconds(), self._result_wait_s)

    def _flush(self) -> None:
        """Write the latest progress of each job; what could not be written is kept for the next flush."""
        with self._lock:
            reports, self._latest = list(self._latest.values()), {}
        if not reports:
            return
        try:
            self._db.run(lambda tx: record_progress(tx, reports), repeatable=True, tries=TRIES)
        except SQLAlchemyError:
            with self._lock:  # what was reported meanwhile is newer
                self._latest = {report.job_id: report for report in reports} | self._latest
            raise
