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
from jobs.service import work
from jobs.service.choice import DispatchPolicy
from jobs.service.dispatch import dispatch
from jobs.service.work import Claim
from jobs.storage.errors import StorageError
from mmaudio_model.errors import ModelError
from workers.in_hand import HeldJob, JobsInHand, StoppedError, StopReason
from workers.job_run import JobRun, Made, Tools
from workers.reporter import Reporter

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class JobRunner:
    """Runs jobs in this process; called from the pool's threads."""

    def __init__(
        self, tools: Tools, broker: Broker, in_hand: JobsInHand, reporter: Reporter, *, worker_id: str
    ) -> None:
        self._tools, self._broker, self._in_hand, self._reporter = tools, broker, in_hand, reporter
        self._worker_id = worker_id
        self._db: Database = tools.db
        self._dispatch_policy = DispatchPolicy.from_settings(tools.settings)
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
        lease_s = self._tools.settings.lease_s
        claim = self._write(lambda tx: work.claim(tx, job_id, worker_id=self._worker_id, lease_s=lease_s))
        if claim is None:
            log.debug("nothing to claim for %s", job_id)
            return
        held = HeldJob(claim, on_stop=self._tools.sandbox.stop)
        self._in_hand.add(held)
        try:
            self._attempt(held)
        finally:
            self._in_hand.remove(held)
            self._reporter.forget(held)
        self.fill_slots()

    def fill_slots(self) -> None:
        """Have the next jobs published for the slots that are free now, of whatever variant."""
        try:
            dispatch(self._db, self._broker, policy=self._dispatch_policy)
        except SQLAlchemyError as exc:
            log.warning("the next jobs wait for the sweep: the database did not answer (%s)", type(exc).__name__)

    def _attempt(self, held: HeldJob) -> None:
        claim = held.claim
        made = Made()
        stage: str | None = None
        try:
            run = JobRun(held, self._tools)
            made = run.made
            try:
                run.run()
            finally:
                stage = str(run.stage)
        except StoppedError:
            self._end_stopped(held, stage)
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
            if self._publish(claim, made):
                return
        self._discard(made)

    def _publish(self, claim: Claim, made: Made) -> bool:
        """Point the job at what was made; False when nobody ever will."""
        ttl_s = self._tools.settings.artifact_ttl_s
        try:
            return self._write(
                lambda tx: work.complete(
                    tx, claim, made.artifacts, warnings=made.warnings, timings=made.timings, artifact_ttl_s=ttl_s
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

    def _end_stopped(self, held: HeldJob, stage: str | None) -> None:
        claim = held.claim
        if held.reason in {StopReason.DRAINED, StopReason.SILENT}:
            self._end(claim, lambda tx: work.hand_back(tx, claim))
        elif held.reason is StopReason.TIMED_OUT:
            limit = claim.request["run_timeout_s"]
            error = RunTimeoutError(f"The attempt ran longer than the {limit} s that the request allows.")
            self._fail(claim, error.failure(stage))
        else:
            self._end(claim, lambda tx: work.acknowledge_cancel(tx, claim))

    def _fail(self, claim: Claim, failure: Failure) -> None:
        if self._end(claim, lambda tx: work.fail(tx, claim, failure)) is State.QUEUED:
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

    def _discard(self, made: Made) -> None:
        """Remove what an attempt stored and delivered that nobody will ever point at."""
        try:
            self._tools.store.delete(made.stored_keys)
            if made.handover is not None:
                made.handover.withdraw()
        except StorageError as exc:
            log.warning("objects of a dropped attempt stay behind: %s", exc)


def _unforeseen(exc: Exception) -> JobError:
    if isinstance(exc, OSError) and exc.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DiskFullError("The worker's disk has no room left.")
    return InternalError("Something went wrong inside the platform; the worker's log has the details.")
