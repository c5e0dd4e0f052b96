"""The thread that talks to SQL for all jobs in hand: progress, heartbeats, and the ear for cancel.

It never waits for the device, and a database that does not answer for a while only delays it. When leases could not
be renewed in time, the jobs are stopped here: somebody else may have them by now.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from jobs.db.database import Database, Transaction
from jobs.lifecycle import Stage
from jobs.service.attempts import Progress, cancel_requests, record_progress, renew_leases
from jobs.service.workers import record_heartbeat
from workers.runner.active_jobs import ActiveJob, ActiveJobs, StopReason

log = logging.getLogger(__name__)

LISTEN_S = 0.05
"""How often SQL is asked for cancels while jobs are in hand."""
FLUSH_S = 0.5
"""How often progress is written."""
TRIES = 2
"""A deadlock or a connection that broke costs one more try at once. What lasts is for the next tick, which looks first
whether the leases still hold."""


class Reporter:
    """Reports for one worker process.

    Args:
        state: says what the worker is doing (`starting`, `ready`, `draining`).
        loaded: says which variants are loaded.
        memory: says how many bytes the process uses.
        gpu: says the figures of its GPU, if it has one.
        drain: called when somebody asked for this worker's drain, at every heartbeat.
    """

    def __init__(
        self,
        db: Database,
        active_jobs: ActiveJobs,
        *,
        worker_id: str,
        lease_s: float,
        heartbeat_s: float,
        state: Callable[[], str],
        loaded: Callable[[], list[str]],
        memory: Callable[[], int | None],
        gpu: Callable[[], dict[str, Any] | None] = lambda: None,
        drain: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db, self._active_jobs, self._worker_id = db, active_jobs, worker_id
        self._lease_s, self._heartbeat_s = lease_s, heartbeat_s
        self._state, self._loaded, self._memory, self._monotonic = state, loaded, memory, monotonic
        self._gpu, self._drain = gpu, drain
        self._latest: dict[str, Progress] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._renewed_at = monotonic()
        self._beat_at = self._flushed_at = float("-inf")
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        self._renewed_at = self._monotonic()  # no job was held before, however long it took to get here
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def report(
        self, active_job: ActiveJob, stage: Stage, fraction: float, step: int | None = None, eta_s: float | None = None
    ) -> None:
        """Note how far a job is; written with the next flush. Never blocks."""
        with self._lock:
            claim = active_job.claim
            self._latest[claim.job_id] = Progress(claim.job_id, claim.attempt, stage, fraction, step, eta_s)

    def forget(self, active_job: ActiveJob) -> None:
        """Drop what was not written yet of a job that has ended."""
        with self._lock:
            self._latest.pop(active_job.claim.job_id, None)

    def _run(self) -> None:
        while not self._closed.wait(LISTEN_S):
            try:
                self.tick()
            except SQLAlchemyError as exc:
                log.warning("the database did not answer (%s); trying again", type(exc).__name__)
                self._closed.wait(0.5)
            except Exception:
                # Without this thread every job in hand would be lost; whatever it was, the next tick may do.
                log.exception("reporting failed; trying again")
                self._closed.wait(0.5)

    def tick(self) -> None:
        """Do what is due now."""
        now = self._monotonic()
        active_job = self._active_jobs.all()
        if not active_job:
            self._renewed_at = now
        elif now - self._renewed_at > self._lease_s:
            log.error("leases could not be renewed for %.0f s; dropping %d jobs", self._lease_s, len(active_job))
            for job in active_job:
                job.stop(StopReason.SILENT)
        if now - self._beat_at >= self._heartbeat_s:
            self._beat(active_job)
            self._beat_at = now
        if active_job:
            self._listen(active_job)
        if now - self._flushed_at >= FLUSH_S:
            self._flush()
            self._flushed_at = now

    def _beat(self, active_job: list[ActiveJob]) -> None:
        pairs = [(job.claim.job_id, job.claim.attempt) for job in active_job]

        def beat(tx: Transaction) -> tuple[set[str], bool]:
            lost = renew_leases(tx, pairs, worker_id=self._worker_id, lease_s=self._lease_s)
            drain = record_heartbeat(
                tx,
                self._worker_id,
                state=self._state(),
                variants_loaded=self._loaded(),
                memory_bytes=self._memory(),
                gpu=self._gpu(),
            )
            return lost, drain

        lost, drain = self._db.run(beat, repeatable=True, tries=TRIES)
        self._renewed_at = self._monotonic()
        for job in active_job:
            if job.claim.job_id in lost:
                job.stop(StopReason.CANCELED)
        if drain:
            self._drain()

    def _listen(self, active_job: list[ActiveJob]) -> None:
        pairs = [(job.claim.job_id, job.claim.attempt) for job in active_job]
        in_vain, now = self._db.run_reading(lambda tx: (cancel_requests(tx, pairs), tx.now), tries=TRIES)
        for job in active_job:
            if job.claim.job_id in in_vain:
                job.stop(StopReason.CANCELED)
            elif (now - job.claim.started_at).total_seconds() > float(job.claim.request["run_timeout_s"]):
                job.stop(StopReason.TIMED_OUT)

    def _flush(self) -> None:
        with self._lock:
            reports, self._latest = list(self._latest.values()), {}
        if not reports:
            return
        try:
            self._db.run(lambda tx: record_progress(tx, reports), repeatable=True, tries=TRIES)
        except SQLAlchemyError:
            with self._lock:  # only later; what was reported meanwhile is newer
                self._latest = {report.job_id: report for report in reports} | self._latest
            raise
