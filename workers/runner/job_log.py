"""The two INFO lines that a worker writes per attempt: one when it starts, one when it ends.

Details of an error do not belong here; the executor logs those with their traceback.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from jobs.lifecycle import AttemptOutcome, State
from jobs.service.attempts import Claim

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ending:
    """How an attempt ended.

    Attributes:
        outcome: None when it is unknown whether the database recorded the end.
        state: state of the job afterwards; None when unknown.
        error_code: code of the error; None without one.
        keeps_objects: the stored objects belong to the job, or may belong to it, and must not be deleted.
    """

    outcome: AttemptOutcome | None
    state: State | None = None
    error_code: str | None = None
    keeps_objects: bool = False


def log_started(claim: Claim) -> None:
    """Log that an attempt starts."""
    log.info(
        "job %s started: attempt=%d tenant=%s variant=%s queue_s=%.3f",
        claim.job_id,
        claim.attempt,
        claim.tenant,
        claim.variant,
        claim.queued_s,
    )


def log_ended(claim: Claim, ending: Ending, *, timings: Mapping[str, float], total_s: float) -> None:
    """Log how an attempt ended, with the seconds of each stage that it reached."""
    stages = "".join(f" {name}={seconds:.3f}" for name, seconds in timings.items())
    log.info(
        "job %s ended: attempt=%d tenant=%s variant=%s outcome=%s state=%s error=%s%s total_s=%.3f",
        claim.job_id,
        claim.attempt,
        claim.tenant,
        claim.variant,
        ending.outcome or "unknown",
        ending.state or "unknown",
        ending.error_code or "-",
        stages,
        total_s,
    )
