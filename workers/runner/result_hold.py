"""Holds the finished result of an attempt on this worker's disk while the platform is in trouble.

The files stay in the attempt's scratch folder and its slot stays taken, so a worker holds at most one result per slot.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from jobs.errors import InfrastructureError
from jobs.lifecycle import Stage
from workers.runner.active_jobs import ActiveJob
from workers.runner.attempt_errors import AttemptErrors
from workers.runner.availability import FIRST_PAUSE_S, LONGEST_PAUSE_S, Availability

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# A caller's bucket that does not answer may not keep a slot from the others for longer.
BUCKET_WAIT_S = 60.0
POLL_S = 0.2


class ResultHold:
    """The patience of one attempt with the platform.

    Args:
        wait_s: how long a result may wait in all.
    """

    def __init__(
        self,
        active_job: ActiveJob,
        availability: Availability,
        errors: AttemptErrors,
        *,
        wait_s: float,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._active_job, self._availability, self._errors = active_job, availability, errors
        self._wait_s, self._monotonic, self._sleep = wait_s, monotonic, sleep
        self._began_at: float | None = None

    def keep_trying(self, step: Callable[[], Result], stage: Stage) -> Result:
        """Run a step that may be repeated until it succeeds; raise its error when the platform is not in trouble.

        Raises:
            StoppedError: the job was stopped meanwhile.
            InfrastructureError: the result has waited too long.
        """
        pause_s = FIRST_PAUSE_S
        while True:
            self._active_job.check()
            try:
                return step()
            except Exception as exc:
                trouble = self._errors.infrastructure(exc, self._active_job.claim.variant, stage)
                if trouble is None:
                    raise
                left_s = self._left_s(trouble)
                if left_s <= 0:
                    raise trouble from exc
                log.warning("the result of job %s waits here: %s", self._active_job.claim.job_id, trouble)
            self._wait(trouble, min(pause_s, left_s), left_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    def _left_s(self, trouble: InfrastructureError) -> float:
        if self._began_at is None:
            self._began_at = self._monotonic()
        limit_s = self._wait_s if trouble.dependency is not None else min(self._wait_s, BUCKET_WAIT_S)
        return limit_s - (self._monotonic() - self._began_at)

    def _wait(self, trouble: InfrastructureError, pause_s: float, left_s: float) -> None:
        """Wait until a check says that the trouble is over, or for a pause where nothing can be checked."""
        if trouble.dependency is not None:
            self._availability.report(trouble)
            self._availability.wait(trouble.dependency, left_s, lambda: self._active_job.stopped)
            return
        until = self._monotonic() + pause_s
        while self._monotonic() < until and not self._active_job.stopped:
            self._sleep(min(POLL_S, pause_s))
