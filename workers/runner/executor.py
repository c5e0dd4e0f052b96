"""The Celery task: claims a job, runs one attempt, records how it ended. The only place with a broad `except`.

The stages of an attempt do not belong here: they are in `workers.runner.attempt`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from celery import Celery
from celery.exceptions import Reject
from sqlalchemy.exc import SQLAlchemyError

from jobs.db.database import Database, Transaction
from jobs.db.faults import reason
from jobs.errors import DiskFullError, Failure, InternalError, JobError, LeaseLostError, RunTimeoutError
from jobs.lifecycle import AttemptOutcome, Stage, State
from jobs.queue import RUN_JOB_TASK, Broker
from jobs.service import attempts
from jobs.service.attempts import Claim
from jobs.service.scheduling.dispatch import dispatch
from jobs.service.scheduling.selection import DispatchPolicy
from jobs.storage.errors import StorageError
from mmaudio_model.errors import ModelError
from workers.runner.active_jobs import ActiveJob, ActiveJobs, StoppedError, StopReason
from workers.runner.attempt import AttemptOutput, AttemptPipeline, WorkerContext
from workers.runner.job_log import Ending, log_ended, log_started
from workers.runner.reporter import Reporter

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class JobExecutor:
    """Runs jobs in this process; called from the threads of the pool.

    Attributes:
        draining: messages are rejected and go back to the queue.
        on_message: called with every message.
    """

    def __init__(
        self,
        context: WorkerContext,
        broker: Broker,
        active_jobs: ActiveJobs,
        reporter: Reporter,
        *,
        worker_id: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._context, self._broker, self._active_jobs, self._reporter = context, broker, active_jobs, reporter
        self._worker_id, self._monotonic = worker_id, monotonic
        self._db: Database = context.db
        self._disk_full = context.disk_full
        self._dispatch_policy = DispatchPolicy.from_settings(context.settings)
        self.draining = False
        self.on_message: Callable[[], None] = lambda: None

    def register(self, app: Celery) -> None:
        """Make `run` the task that the messages of this app name."""

        def run_job(job_id: str) -> None:
            self.run(job_id)

        app.task(name=RUN_JOB_TASK)(run_job)

    def run(self, job_id: str) -> None:
        """Claim a job and run one attempt; do nothing when the job cannot be claimed.

        Raises:
            Reject: this worker is stopping; the message goes back to the queue.
        """
        self.on_message()
        if self.draining:
            raise Reject("this worker is stopping", requeue=True)
        claim = self._claim(job_id)
        if claim is None:
            return
        active_job = ActiveJob(claim, on_stop=self._context.sandbox.stop)
        self._active_jobs.add(active_job)
        try:
            self._attempt(active_job)
        finally:
            self._active_jobs.remove(active_job)
            self._reporter.forget(active_job)
        self.fill_slots()

    def fill_slots(self) -> None:
        """Publish the next jobs for the slots that are free, of any variant."""
        try:
            dispatch(self._db, self._broker, policy=self._dispatch_policy)
        except SQLAlchemyError as exc:
            if not self._disk_full.report(exc):
                log.warning("database unavailable (%s); maintenance will publish the next jobs", reason(exc))

    def _claim(self, job_id: str) -> Claim | None:
        lease_s = self._context.settings.lease_s
        try:
            claim = self._write(lambda tx: attempts.claim(tx, job_id, worker_id=self._worker_id, lease_s=lease_s))
        except SQLAlchemyError as exc:
            if not self._disk_full.report(exc):
                raise
            return None  # the job is still queued; maintenance publishes it again
        if claim is None:
            log.debug("job %s cannot be claimed; its message is dropped", job_id)
        return claim

    def _attempt(self, active_job: ActiveJob) -> None:
        claim, began_at = active_job.claim, self._monotonic()
        log_started(claim)
        output = AttemptOutput()
        stage: Stage | None = None
        try:
            pipeline = AttemptPipeline(active_job, self._context)
            output = pipeline.output
            try:
                pipeline.run()
            finally:
                stage = pipeline.stage
        except StoppedError:
            ending = self._end_stopped(active_job, stage)
        except LeaseLostError as exc:
            log.warning("%s The result is discarded.", exc)
            ending = Ending(AttemptOutcome.LOST)
        except Exception as exc:
            # The boundary: whatever happened, the job ends with a reason and the worker goes on.
            ending = self._fail(claim, self._failure(claim, exc, stage))
        else:
            ending = self._publish(claim, output)
        if not ending.keeps_objects:
            self._discard(output)
        log_ended(claim, ending, timings=output.timings, total_s=self._monotonic() - began_at)

    def _failure(self, claim: Claim, exc: Exception, stage: Stage | None) -> Failure:
        """Return what the job says about an error, and log what only the operator should know."""
        # While the input is fetched, the store's side only reads: what is full is the scratch folder.
        folder = self._context.settings.scratch_dir if stage is Stage.FETCH else None
        name = stage.value if stage is not None else None
        if self._disk_full.report(exc, folder):
            return DiskFullError("The disk of the worker or of its object store is full.").failure(name)
        if isinstance(exc, ModelError):
            return Failure(exc.code, str(exc), name, exc.retryable)
        if isinstance(exc, JobError):
            log.warning("job %s failed in stage %s: %s", claim.job_id, name, exc, exc_info=exc.__cause__)
            return exc.failure(name)
        log.error("job %s failed in stage %s", claim.job_id, name, exc_info=exc)
        return InternalError("An unexpected error occurred; the worker's log has the details.").failure(name)

    def _publish(self, claim: Claim, output: AttemptOutput) -> Ending:
        """Record success and the artifacts in one transaction."""
        ttl_s = self._context.settings.artifact_ttl_s
        try:
            published = self._write(
                lambda tx: attempts.complete(
                    tx, claim, output.artifacts, warnings=output.warnings, timings=output.timings, artifact_ttl_s=ttl_s
                )
            )
        except LeaseLostError as exc:
            log.warning("%s The result is discarded.", exc)
            return Ending(AttemptOutcome.LOST)
        except SQLAlchemyError as exc:
            if self._disk_full.report(exc):
                # A full disk rolls back for certain. Deleting first may free what the record of the failure needs.
                self._discard(output)
                return self._fail(claim, DiskFullError("The disk of the database is full.").failure(None))
            # The commit may have succeeded and only its answer was lost: the objects must stay. If it did not, the
            # lease expires and another attempt makes its own.
            log.exception("unknown whether the result of job %s was committed", claim.job_id)
            return Ending(None, keeps_objects=True)
        if not published:
            return Ending(AttemptOutcome.CANCELED, State.CANCELED)
        return Ending(AttemptOutcome.SUCCEEDED, State.SUCCEEDED, keeps_objects=True)

    def _end_stopped(self, active_job: ActiveJob, stage: Stage | None) -> Ending:
        claim = active_job.claim
        if active_job.reason in {StopReason.DRAINED, StopReason.LEASE_EXPIRED}:
            return self._end(claim, lambda tx: attempts.release(tx, claim), AttemptOutcome.REQUEUED)
        if active_job.reason is StopReason.TIMED_OUT:
            limit = claim.request["run_timeout_s"]
            error = RunTimeoutError(f"The attempt ran longer than the {limit} s that the request allows.")
            return self._fail(claim, error.failure(stage.value if stage is not None else None))

        def cancel(tx: Transaction) -> State:
            attempts.acknowledge_cancel(tx, claim)
            return State.CANCELED

        return self._end(claim, cancel, AttemptOutcome.CANCELED)

    def _fail(self, claim: Claim, failure: Failure) -> Ending:
        step = self._end(claim, lambda tx: attempts.fail(tx, claim, failure), AttemptOutcome.FAILED, failure.code)
        if step.state is State.QUEUED:
            log.warning("job %s goes back to the queue: %s", claim.job_id, failure.message)
        return step

    def _end(
        self,
        claim: Claim,
        step: Callable[[Transaction], State],
        outcome: AttemptOutcome,
        error_code: str | None = None,
    ) -> Ending:
        """Record an end other than success; if that fails, the lease expires and maintenance takes the job back."""
        try:
            state = self._write(step)
        except LeaseLostError as exc:
            log.warning("%s", exc)
            return Ending(AttemptOutcome.LOST, error_code=error_code)
        except SQLAlchemyError as exc:
            if not self._disk_full.report(exc):
                log.exception("the end of job %s could not be recorded", claim.job_id)
            return Ending(None, error_code=error_code)
        return Ending(AttemptOutcome.CANCELED if state is State.CANCELED else outcome, state, error_code)

    def _write(self, step: Callable[[Transaction], Result]) -> Result:
        """Run a step in a transaction, repeated while the database is away; it names its attempt, so it may be.

        Raises:
            DBAPIError: the database stayed away; the lease expires and maintenance takes the job back.
        """
        return self._db.run(step, repeatable=True)

    def _discard(self, output: AttemptOutput) -> None:
        """Delete what a dropped attempt has stored and delivered."""
        try:
            self._context.store.delete(output.stored_keys)
            if output.delivery is not None:
                output.delivery.withdraw()
        except StorageError as exc:
            if not self._disk_full.report(exc):
                log.warning("objects of a dropped attempt could not be deleted: %s", exc)
