"""What the tools return."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mmaudio_client.models import Job


class JobResult(BaseModel):
    """A job as an assistant needs it; the whole document is at the server."""

    job_id: str
    state: str
    progress: float
    stage: str | None
    queue_position: int | None
    prompt: str
    variant: str | None
    seed: int | None
    error: str | None
    warnings: list[str]
    artifacts: list[str]
    saved_files: list[str]
    next_step: str | None


class JobList(BaseModel):
    """Some jobs, newest first."""

    jobs: list[JobResult]


class VariantList(BaseModel):
    """The model variants of the server, as it describes them."""

    variants: list[dict[str, Any]]


def job_result(job: Job, saved: tuple[Path, ...] = ()) -> JobResult:
    """Return what a tool says of a job.

    Args:
        saved: its files on this machine.
    """
    return JobResult(
        job_id=job.id,
        state=job.state,
        progress=round(job.progress, 3),
        stage=job.stage,
        queue_position=job.queue_position,
        prompt=job.request.prompt,
        variant=job.request.variant,
        seed=job.request.seed,
        error=f"{job.error.message} ({job.error.code})" if job.error is not None else None,
        warnings=[warning.message for warning in job.warnings],
        artifacts=[artifact.name for artifact in job.artifacts],
        saved_files=[str(path.absolute()) for path in saved],
        next_step=_next_step(job, saved),
    )


def _next_step(job: Job, saved: tuple[Path, ...]) -> str | None:
    if not job.ended:
        return "The job continues. Call job_status with its id, and fetch_result once it has succeeded."
    if job.state == "succeeded" and not saved:
        return "Call fetch_result with the id to save the files."
    return None
