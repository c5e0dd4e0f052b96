"""A job as a prediction of Replicate's HTTP API, and a prediction's input as a request."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jobs.compat.job_log import JobProgress, log_of, progress_of
from jobs.compat.result_links import ResultUrls, output_of, output_url, shown_time
from jobs.db.tables import Artifact, Job
from jobs.lifecycle import State
from jobs.request import UPLOAD_ID

OWNER = "mmaudio"
STATUSES = {
    State.QUEUED: "starting",
    State.RUNNING: "processing",
    State.SUCCEEDED: "succeeded",
    State.FAILED: "failed",
    State.CANCELED: "canceled",
}
# What the hosted model does where its input does not say.
DEFAULT_DURATION_S = 8.0
DEFAULT_NEGATIVE_PROMPT = "music"
RANDOM_SEED = -1

# Names in a prediction's input and in a job's request.
_NAMES = {
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "video": "video",
    "image": "image",
    "duration": "duration_s",
    "num_steps": "num_steps",
    "cfg_strength": "cfg_strength",
    "seed": "seed",
}
_FILE_PATH = re.compile(r"/v1/files/(upl_[0-9a-f]{32})")


def file_url(base: str, upload_id: str) -> str:
    """Return the URL of an uploaded file, which an input may name."""
    return f"{base}/v1/files/{upload_id}"


def input_source(value: str, bases: Sequence[str]) -> str:
    """Return what a job's request calls an input: the upload's id where it is the URL of one of this API.

    Args:
        bases: what such URLs begin with.
    """
    for base in bases:
        if base and value.startswith(base) and (match := _FILE_PATH.fullmatch(value.removeprefix(base))):
            return match[1]
    return value


def request_fields(given: dict[str, Any], *, variant: str, bases: Sequence[str]) -> dict[str, Any]:
    """Return the fields of a job's request for a prediction's input.

    Args:
        given: with the hosted model's defaults.
        bases: see `input_source`.
    """
    fields = {ours: given[theirs] for theirs, ours in _NAMES.items() if given.get(theirs) is not None}
    if fields.get("seed") == RANDOM_SEED:
        del fields["seed"]
    for name in ("video", "image"):
        if name in fields:
            fields[name] = input_source(fields[name], bases)
    return {**fields, "variant": variant}


def field_names() -> dict[str, str]:
    """Return the names of an input's fields by those of a request, for errors."""
    return {ours: theirs for theirs, ours in _NAMES.items()}


def shown_input(request: dict[str, Any], base: str) -> dict[str, Any]:
    """Return a stored request as a prediction's input."""
    shown = {theirs: request[ours] for theirs, ours in _NAMES.items() if request.get(ours) is not None}
    for name in ("video", "image"):
        if name in shown and UPLOAD_ID.fullmatch(shown[name]):
            shown[name] = file_url(base, shown[name])
    return shown


@dataclass(frozen=True)
class RunningMoment:
    """A moment at which a job ran, for the documents that tell of it later.

    Attributes:
        started_at: of the attempt.
    """

    progress: JobProgress
    started_at: datetime


def prediction_document(
    job: Job, artifacts: Sequence[Artifact], urls: ResultUrls, *, moment: RunningMoment | None = None
) -> dict[str, Any]:
    """Return a job as a prediction.

    Args:
        artifacts: of the job, in order of sample and name.
        moment: as it was then; None: as it is.
    """
    state = job.state if moment is None else State.RUNNING
    artifact = output_of(artifacts) if state is State.SUCCEEDED else None
    output = output_url(artifact, urls) if artifact is not None else None
    return {
        "id": job.id,
        "model": f"{OWNER}/{job.variant}",
        "version": job.variant,
        "input": shown_input(job.request, urls.base),
        "logs": log_of(progress_of(job) if moment is None else moment.progress),
        "output": output,
        "data_removed": state is State.SUCCEEDED and output is None,
        "error": job.error["message"] if state is State.FAILED and job.error is not None else None,
        "source": "api",
        "status": STATUSES[state],
        "created_at": shown_time(job.created_at),
        "started_at": shown_time(job.started_at if moment is None else moment.started_at),
        "completed_at": shown_time(job.finished_at if moment is None else None),
        "urls": prediction_urls(urls.base, job.id),
        "metrics": prediction_metrics(job) if moment is None else {},
    }


def prediction_urls(base: str, job_id: str) -> dict[str, str]:
    """Return the URLs of a prediction."""
    url = f"{base}/v1/predictions/{job_id}"
    return {"get": url, "cancel": f"{url}/cancel", "stream": f"{url}/stream"}


def prediction_metrics(job: Job) -> dict[str, float]:
    """Return the seconds that an ended job ran and took in all; empty before its end."""
    if job.finished_at is None:
        return {}
    metrics = {"total_time": (job.finished_at - job.created_at).total_seconds()}
    if job.started_at is not None:
        metrics["predict_time"] = (job.finished_at - job.started_at).total_seconds()
    return metrics
