"""Counts the attempts at a job that were spent on trouble of the platform's own.

An attempt counts unless the job's limit was raised by one when it ended (`jobs.service.attempts.release`). Counting is
right for an attempt that ended the job, and for one whose worker process was killed or frozen.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from jobs.db.tables import Job, JobAttempt
from jobs.lifecycle import AttemptOutcome

_ENDED_THE_JOB = frozenset({AttemptOutcome.SUCCEEDED, AttemptOutcome.CANCELED})


def spent_attempts(job: Job, attempts: Sequence[JobAttempt], *, max_attempts: int, hit: Set[str]) -> str | None:
    """Return how many attempts at an ended job were spent and how they ended, None when none was.

    Args:
        attempts: all of the job's.
        max_attempts: the limit that the job was submitted with.
        hit: ids of the workers whose processes were killed or frozen.
    """
    counted = job.attempt - (job.max_attempts - max_attempts)
    allowed = sum(_may_count(attempt, hit) for attempt in attempts)
    if counted <= allowed:
        return None
    endings = ", ".join(f"{attempt.attempt} {_ending(attempt)}" for attempt in attempts)
    return f"{counted - allowed} of {counted} counted attempts spent on infrastructure (attempts: {endings})"


def _may_count(attempt: JobAttempt, hit: Set[str]) -> bool:
    if attempt.outcome in _ENDED_THE_JOB:
        return True
    if attempt.outcome is AttemptOutcome.LOST:
        return attempt.worker_id in hit
    # A failure that ends the job at once is an answer to the request; the checker judges its code.
    return attempt.outcome is AttemptOutcome.FAILED and not (attempt.error or {}).get("retryable", False)


def _ending(attempt: JobAttempt) -> str:
    code = (attempt.error or {}).get("code")
    return f"{attempt.outcome}{f' ({code})' if code else ''}"
