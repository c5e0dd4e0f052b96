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
from jobs.errors import (
    DiskFullError,
    Failure,
    InfrastructureError,
    InternalError,
    JobError,
    LeaseLostError,
    RunTimeoutError,
)
from jobs.lifecycle import AttemptOutcome, Dependency, Stage, State
from jobs.queue import RUN_JOB_TASK, Broker
from jobs.service import attempts
from jobs.service.attempts import Claim
from jobs.service.scheduling.dispatch import dispatch
from jobs.service.scheduling.selection import DispatchPolicy
from jobs.storage.errors import StorageError
from mmaudio_model.errors import ModelError
from workers.runner.active_jobs import ActiveJob, ActiveJobs, StoppedError, StopReason
from workers.runner.attempt import AttemptPipeline
from workers.runner.attempt_errors import database_trouble
from workers.runner.job_log import Ending, log_ended, log_started
from workers.runner.reporter import Reporter
from workers.runner.worker_context import AttemptOutput, WorkerContext

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
        self._disk_full, self._availability = context.disk_full, context.availability
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
        if not self._availability.available:
            self._decline(job_id)
            return
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

    def _decline(self, job_id: str) -> None:
        """Leave a job to the workers that take jobs."""
        try:
            self._db.run(lambda tx: attempts.decline(tx, job_id), repeatable=True)
        except SQLAlchemyError as exc:
            self._report_database(exc)  # the job is still queued; maintenance publishes it again

    def _claim(self, job_id: str) -> Claim | None:
        lease_s, failed = self._context.settings.lease_s, self._availability.failed_variants()
        try:
            claim = self._db.run(
                lambda tx: attempts.claim(
                    tx, job_id, worker_id=self._worker_id, lease_s=lease_s, except_variants=failed
                ),
                repeatable=True,
            )
        except SQLAlchemyError as exc:
            if not self._report_database(exc):
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
            ending = self._end_faulty(claim, exc, stage)
        else:
            ending = self._publish(claim, output)
        if not ending.keeps_objects:
            self._discard(output)
        log_ended(claim, ending, timings=output.timings, total_s=self._monotonic() - began_at)

    def _end_faulty(self, claim: Claim, exc: Exception, stage: Stage | None) -> Ending:
        """Give the job back if the platform is in trouble, otherwise fail the attempt."""
        name = stage.value if stage is not None else None
        trouble = self._context.errors.infrastructure(exc, claim.variant, stage)
        if trouble is not None:
            return self._give_back(claim, trouble, name)
        if isinstance(exc, ModelError):
            return self._fail(claim, Failure(exc.code, str(exc), name, exc.retryable))
        if isinstance(exc, JobError):
            log.warning("job %s failed in stage %s: %s", claim.job_id, name, exc, exc_info=exc.__cause__)
            return self._fail(claim, exc.failure(name))
        log.error("job %s failed in stage %s", claim.job_id, name, exc_info=exc)
        error = InternalError("An unexpected error occurred; the worker's log has the details.")
        return self._fail(claim, error.failure(name))

    def _give_back(self, claim: Claim, trouble: InfrastructureError, stage: str | None) -> Ending:
        self._availability.report(trouble)  # first: no other thread of this worker should claim the job again
        log.warning("job %s goes back to the queue, the attempt does not count: %s", claim.job_id, trouble)
        failure = trouble.failure(stage)
        return self._end(
            claim, lambda tx: attempts.give_back(tx, claim, failure), AttemptOutcome.REQUEUED, failure.code
        )

    def _publish(self, claim: Claim, output: AttemptOutput) -> Ending:
        """Record success and the artifacts in one transaction."""
        ttl_s = self._context.settings.artifact_ttl_s
        try:
            published = self._write(
                lambda tx: attempts.complete(
                    tx,
                    claim,
                    [*output.artifacts, *output.previews],
                    warnings=output.warnings,
                    timings=output.timings,
                    artifact_ttl_s=ttl_s,
                )
            )
        except LeaseLostError as exc:
            log.warning("%s The result is discarded.", exc)
            return Ending(AttemptOutcome.LOST)
        except SQLAlchemyError as exc:
            if self._disk_full.report(exc):
                # A full disk rolls back for certain. Deleting first may free what the record of the end needs.
                self._discard(output)
                return self._give_back(claim, DiskFullError("The disk of the database is full."), None)
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
        """Run a step in a transaction, repeated while the database is in trouble; it names its attempt, so it may be.

        Raises:
            DBAPIError: the trouble lasted longer than a result waits, or than a drain may take; the lease expires and
                maintenance takes the job back.
        """
        settings, began_at = self._context.settings, self._monotonic()

        def left_s() -> float:
            limit_s = settings.drain_grace_s if self.draining else settings.result_wait_s
            return limit_s - (self._monotonic() - began_at)

        while True:
            try:
                return self._db.run(step, repeatable=True)
            except SQLAlchemyError as exc:
                trouble = self._report_database(exc)
                if trouble is None or trouble.dependency is None or left_s() <= 0:
                    raise
            self._availability.wait(trouble.dependency, left_s(), lambda: left_s() <= 0)

    def _report_database(self, exc: SQLAlchemyError) -> InfrastructureError | None:
        """Take no jobs while the database is in trouble; return the trouble, None for a fault of the statement."""
        trouble: InfrastructureError | None = None
        if self._disk_full.report(exc):
            trouble = DiskFullError("The disk of the database is full.")
        else:
            trouble = database_trouble(exc)
        if trouble is not None:
            self._availability.report(trouble)
        return trouble

    def _discard(self, output: AttemptOutput) -> None:
        """Delete what a dropped attempt has stored and delivered; what cannot be deleted now is left to maintenance."""
        if not output.stored_keys or not self._availability.works(Dependency.STORE):
            return
        try:
            self._context.store.delete([*output.stored_keys, *output.preview_keys])
            if output.delivery is not None:
                output.delivery.withdraw()
        except StorageError as exc:
            if not self._disk_full.report(exc):
                log.warning("objects of a dropped attempt could not be deleted: %s", exc)
