"""The task: claim a job, run it, write down how it ended. The one place with a broad `except`."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from typing import TypeVar

from celery import Celery
from celery.exceptions import Reject
from sqlalchemy.exc import SQLAlchemyError

from jobs.db.database import Database, Transaction
from jobs.errors import DiskFullError, Failure, InternalError, JobError, LeaseLostError, RunTimeoutError
from jobs.lifecycle import State
from jobs.queue import RUN_JOB_TASK, Broker
from jobs.service import attempts
from jobs.service.attempts import Claim
from jobs.service.scheduling.dispatch import dispatch
from jobs.service.scheduling.selection import DispatchPolicy
from jobs.storage.errors import StorageError
from mmaudio_model.errors import ModelError
from workers.runner.active_jobs import ActiveJob, ActiveJobs, StoppedError, StopReason
from workers.runner.attempt import AttemptOutput, AttemptPipeline, WorkerContext
from workers.runner.reporter import Reporter

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class JobExecutor:
    """Runs jobs in this process; called from the pool's threads."""

    def __init__(
        self, context: WorkerContext, broker: Broker, active_jobs: ActiveJobs, reporter: Reporter, *, worker_id: str
    ) -> None:
        self._context, self._broker, self._active_jobs, self._reporter = context, broker, active_jobs, reporter
        self._worker_id = worker_id
        self._db: Database = context.db
        self._dispatch_policy = DispatchPolicy.from_settings(context.settings)
        self.draining = False
        self.on_message: Callable[[], None] = lambda: None

    def register(self, app: Celery) -> None:
        """Make `run` the task of this app that a message names."""

        @app.task(name=RUN_JOB_TASK)
        def run_job(job_id: str) -> None:
            self.run(job_id)

    def run(self, job_id: str) -> None:
        """Claim a job and bring it to an end; does nothing when it is not there to claim.

        Raises:
            Reject: this worker stops; the message goes back to the queue.
        """
        self.on_message()
        if self.draining:
            raise Reject("this worker is stopping", requeue=True)
        lease_s = self._context.settings.lease_s
        claim = self._write(lambda tx: attempts.claim(tx, job_id, worker_id=self._worker_id, lease_s=lease_s))
        if claim is None:
            log.debug("nothing to claim for %s", job_id)
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
        """Have the next jobs published for the slots that are free now, of whatever variant."""
        try:
            dispatch(self._db, self._broker, policy=self._dispatch_policy)
        except SQLAlchemyError as exc:
            log.warning("the next jobs wait for the sweep: the database did not answer (%s)", type(exc).__name__)

    def _attempt(self, active_job: ActiveJob) -> None:
        claim = active_job.claim
        output = AttemptOutput()
        stage: str | None = None
        try:
            run = AttemptPipeline(active_job, self._context)
            output = run.output
            try:
                run.run()
            finally:
                stage = str(run.stage)
        except StoppedError:
            self._end_stopped(active_job, stage)
        except LeaseLostError as exc:
            log.warning("%s The result is dropped.", exc)
        except ModelError as exc:
            self._fail(claim, Failure(exc.code, str(exc), stage, exc.retryable))
        except JobError as exc:
            log.warning("job %s: %s", claim.job_id, exc, exc_info=exc.__cause__)
            self._fail(claim, exc.failure(stage))
        except Exception as exc:
            # The boundary: whatever it was, the job ends with a reason and the worker goes on.
            log.exception("job %s failed in stage %s", claim.job_id, stage)
            self._fail(claim, _unforeseen(exc).failure(stage))
        else:
            if self._publish(claim, output):
                return
        self._discard(output)

    def _publish(self, claim: Claim, output: AttemptOutput) -> bool:
        """Point the job at what was made; False when nobody ever will."""
        ttl_s = self._context.settings.artifact_ttl_s
        try:
            return self._write(
                lambda tx: attempts.complete(
                    tx, claim, output.artifacts, warnings=output.warnings, timings=output.timings, artifact_ttl_s=ttl_s
                )
            )
        except LeaseLostError as exc:
            log.warning("%s The result is dropped.", exc)
            return False
        except SQLAlchemyError:
            # The commit may have gone through and only its answer was lost: the objects must stay. If it did not, the
            # lease runs out and another attempt makes its own.
            log.exception("whether job %s is published is not known", claim.job_id)
            return True

    def _end_stopped(self, active_job: ActiveJob, stage: str | None) -> None:
        claim = active_job.claim
        if active_job.reason in {StopReason.DRAINED, StopReason.SILENT}:
            self._end(claim, lambda tx: attempts.release(tx, claim))
        elif active_job.reason is StopReason.TIMED_OUT:
            limit = claim.request["run_timeout_s"]
            error = RunTimeoutError(f"The attempt ran longer than the {limit} s that the request allows.")
            self._fail(claim, error.failure(stage))
        else:
            self._end(claim, lambda tx: attempts.acknowledge_cancel(tx, claim))

    def _fail(self, claim: Claim, failure: Failure) -> None:
        if self._end(claim, lambda tx: attempts.fail(tx, claim, failure)) is State.QUEUED:
            log.warning("job %s goes back to the queue: %s", claim.job_id, failure.message)

    def _end(self, claim: Claim, step: Callable[[Transaction], Result]) -> Result | None:
        """Write down an end that is not success; when that cannot be, the lease runs out and the sweep does it."""
        try:
            return self._write(step)
        except LeaseLostError as exc:
            log.warning("%s", exc)
        except SQLAlchemyError:
            log.exception("the end of job %s could not be written", claim.job_id)
        return None

    def _write(self, step: Callable[[Transaction], Result]) -> Result:
        """Do one step in a transaction, again when the database was away; every step names its attempt, so it may.

        Raises:
            DBAPIError: the database stayed away; the lease runs out and the sweep takes the job back.
        """
        return self._db.run(step, repeatable=True)

    def _discard(self, output: AttemptOutput) -> None:
        """Remove what an attempt stored and delivered that nobody will ever point at."""
        try:
            self._context.store.delete(output.stored_keys)
            if output.delivery is not None:
                output.delivery.withdraw()
        except StorageError as exc:
            log.warning("objects of a dropped attempt stay behind: %s", exc)


def _unforeseen(exc: Exception) -> JobError:
    if isinstance(exc, OSError) and exc.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DiskFullError("The worker's disk has no room left.")
    return InternalError("Something went wrong inside the platform; the worker's log has the details.")
