"""A job's log as hosted services show one: made from the job's row, with progress lines that their clients read.

While an attempt goes on the log only grows, so that a reader of a stream gets what is new.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jobs.db.tables import Job
from jobs.lifecycle import Stage, State

_BAR_CHARS = 10
_STAGES = tuple(Stage)
DEFAULT_STEPS = 25


@dataclass(frozen=True)
class JobProgress:
    """How far an attempt at a job is.

    Attributes:
        stage: None: none has begun, or the attempt has ended.
        step: sampling steps that are done.
        done: the job has succeeded.
        ending: lines for the end: warnings, or the error.
    """

    seed: int | None
    num_steps: int
    attempt: int
    stage: Stage | None = None
    step: int | None = None
    done: bool = False
    ending: tuple[str, ...] = ()


def progress_line(step: int, num_steps: int) -> str:
    """Return a progress bar as clients of Replicate parse it: percentage, bar, steps done and in all."""
    percentage = 100 * step // num_steps
    filled = percentage * _BAR_CHARS // 100
    return f"{percentage:3d}%|{'█' * filled}{' ' * (_BAR_CHARS - filled)}| {step}/{num_steps}"


def progress_of(job: Job) -> JobProgress:
    """Return how far a job is, by its row."""
    ending: list[str] = []
    if job.state is State.SUCCEEDED:
        ending = [f"Warning: {warning['message']}" for warning in job.warnings]
    if job.state is State.FAILED and job.error is not None:
        ending = [f"Error: {job.error['message']}"]
    if job.state is State.CANCELED:
        ending = ["Canceled."]
    return JobProgress(
        seed=job.request.get("seed"),
        num_steps=num_steps_of(job.request),
        attempt=job.attempt,
        stage=job.stage,
        step=job.step,
        done=job.state is State.SUCCEEDED,
        ending=tuple(ending),
    )


def num_steps_of(request: dict[str, Any]) -> int:
    """Return the number of sampling steps of a stored request."""
    return int(request.get("num_steps", DEFAULT_STEPS))


def log_of(progress: JobProgress) -> str:
    """Return the log, a line each; empty before the first attempt."""
    if progress.attempt == 0:
        return "".join(f"{line}\n" for line in progress.ending)
    lines = [f"Using seed: {progress.seed}"]
    if progress.attempt > 1:
        lines.append(f"Attempt {progress.attempt}")
    for stage in _reached(progress):
        lines.append(f"Stage: {stage}")
        if stage is Stage.SAMPLE:
            is_now = progress.stage is Stage.SAMPLE and not progress.done
            steps = (progress.step or 0) if is_now else progress.num_steps
            lines += [progress_line(step, progress.num_steps) for step in range(1, steps + 1)]
    return "".join(f"{line}\n" for line in [*lines, *progress.ending])


def _reached(progress: JobProgress) -> tuple[Stage, ...]:
    if progress.done:
        return _STAGES
    return () if progress.stage is None else _STAGES[: _STAGES.index(progress.stage) + 1]
