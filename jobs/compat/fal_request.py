"""A job as a request of fal's queue: its status, its result, and its input as a job's request."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from jobs.compat.job_log import JobProgress, log_of, progress_of
from jobs.compat.replicate_prediction import input_source
from jobs.compat.result_links import ResultUrls, output_name, shown_time
from jobs.db.tables import Artifact, Job
from jobs.lifecycle import Stage, State
from jobs.service.artifacts import artifact_expired

OWNER = "fal-ai"
DEFAULT_DURATION_S = 8.0
STATUSES = {
    State.QUEUED: "IN_QUEUE",
    State.RUNNING: "IN_PROGRESS",
    State.SUCCEEDED: "COMPLETED",
    State.FAILED: "COMPLETED",
    State.CANCELED: "COMPLETED",
}
CANCELED = {"code": "canceled", "message": "The request was canceled."}
# Stages whose permanent errors are the input's.
_INPUT_STAGES = {Stage.FETCH, Stage.DECODE}

# Names in fal's input and in a job's request.
_NAMES = {
    "prompt": "prompt",
    "negative_prompt": "negative_prompt",
    "video_url": "video",
    "duration": "duration_s",
    "num_steps": "num_steps",
    "cfg_strength": "cfg_strength",
    "seed": "seed",
    "mask_away_clip": "mask_away_clip",
}


def field_names() -> dict[str, str]:
    """Return the names of an input's fields by those of a job's request, for errors."""
    return {ours: theirs for theirs, ours in _NAMES.items()}


def request_fields(given: Mapping[str, Any], *, variant: str, bases: Sequence[str]) -> dict[str, Any]:
    """Return the fields of a job's request for an input.

    Args:
        given: with the hosted model's defaults.
        bases: see `replicate_prediction.input_source`.
    """
    fields = {ours: given[theirs] for theirs, ours in _NAMES.items() if given.get(theirs) is not None}
    if "video" in fields:
        fields["video"] = input_source(fields["video"], bases)
    return {**fields, "variant": variant}


def header_fields(*, timeout: str | None, priority: str | None) -> dict[str, Any]:
    """Return the fields of a job's request for the headers of a submit.

    Args:
        timeout: `X-Fal-Request-Timeout`, how many seconds the request may wait before it starts.
        priority: `X-Fal-Queue-Priority`.
    """
    fields: dict[str, Any] = {}
    if timeout:
        try:
            fields["queue_ttl_s"] = max(1, math.ceil(float(timeout)))
        except (ValueError, OverflowError):
            fields["queue_ttl_s"] = timeout  # refused, with its name
    if priority:
        fields["priority"] = priority
    return fields


def webhook_fields(url: str | None) -> dict[str, Any]:
    """Return the fields of a job's request for `fal_webhook`."""
    return {} if url is None else {"webhook_url": url, "webhook_events": ["succeeded", "failed", "canceled"]}


def request_urls(queue_url: str, job_id: str) -> dict[str, str]:
    """Return the URLs of a request.

    Args:
        queue_url: of the app, such as `https://host/fal-ai/mmaudio-v2`.
    """
    url = f"{queue_url}/requests/{job_id}"
    return {"response_url": url, "status_url": f"{url}/status", "cancel_url": f"{url}/cancel"}


def log_entries(log: str, at: datetime | None) -> list[dict[str, str]]:
    """Return a log as fal's list of lines. All have one time: that of the attempt."""
    timestamp = shown_time(at) or ""
    return [{"timestamp": timestamp, "level": "INFO", "source": "USER", "message": line} for line in log.splitlines()]


def status_document(
    state: State,
    job_id: str,
    queue_url: str,
    *,
    queue_position: int | None = None,
    logs: list[dict[str, str]] | None = None,
    run_s: float | None = None,
    error: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the status of a request.

    Args:
        queue_position: from 1; shown from 0.
        logs: None: not asked for.
        run_s: seconds that the last attempt ran.
        error: of a job that has failed.
    """
    document: dict[str, Any] = {"status": STATUSES[state], "request_id": job_id, **request_urls(queue_url, job_id)}
    if state is State.QUEUED:
        document["queue_position"] = max(0, (queue_position or 1) - 1)
    document["logs"] = logs
    if state.is_terminal:
        document["metrics"] = {} if run_s is None else {"inference_time": run_s}
        fault = CANCELED if state is State.CANCELED else error if state is State.FAILED else None
        if fault is not None:
            document |= {"error": str(fault["message"]), "error_type": str(fault["code"])}
    return document


def job_status_document(job: Job, queue_url: str, *, queue_position: int | None, with_logs: bool) -> dict[str, Any]:
    """Return the status of a job."""
    run_s = None
    if job.finished_at is not None and job.started_at is not None:
        run_s = (job.finished_at - job.started_at).total_seconds()
    logs = log_entries(log_of(progress_of(job)), job.started_at or job.created_at) if with_logs else None
    return status_document(
        job.state, job.id, queue_url, queue_position=queue_position, logs=logs, run_s=run_s, error=job.error
    )


def result_document(job_id: str, made: Sequence[Mapping[str, Any]], urls: ResultUrls) -> dict[str, Any]:
    """Return the result of a request: the video with its sound, or the sound; {}: nothing is left of it.

    Args:
        made: `name`, `kind`, `content_type` and `size_bytes` of the files, in order of sample and name.
    """
    name = output_name(made)
    for file in made:
        if file["name"] == name:
            return {
                str(file["kind"]): {
                    "url": urls.artifact(job_id, str(name)),
                    "content_type": file.get("content_type"),
                    "file_name": name,
                    "file_size": file.get("size_bytes"),
                }
            }
    return {}


def webhook_document(job: Job, made: Sequence[Mapping[str, Any]], urls: ResultUrls) -> dict[str, Any]:
    """Return what `fal_webhook` is called with when a job has ended.

    Args:
        made: see `result_document`.
    """
    document: dict[str, Any] = {"request_id": job.id, "gateway_request_id": job.id}
    if job.state is State.SUCCEEDED:
        return {**document, "status": "OK", "error": None, "payload": result_document(job.id, made, urls)}
    error = CANCELED if job.state is State.CANCELED or job.error is None else job.error
    payload = {"detail": str(error["message"]), "error_type": str(error["code"])}
    return {**document, "status": "ERROR", "error": payload["detail"], "payload": payload}


def made_by(artifacts: Sequence[Artifact], now: datetime) -> list[dict[str, Any]]:
    """Return the files of a job that have not expired, for `result_document`."""
    return [
        {
            "name": artifact.name,
            "kind": artifact.kind.value,
            "content_type": artifact.content_type,
            "size_bytes": artifact.size_bytes,
        }
        for artifact in artifacts
        if not artifact_expired(artifact, now)
    ]


def is_input_error(error: Mapping[str, Any]) -> bool:
    """Return whether a job failed because of what its caller gave."""
    stage = error.get("stage")
    return stage in _INPUT_STAGES and not error.get("retryable", False)


def progress_logs(progress: JobProgress, at: datetime) -> list[dict[str, str]]:
    """Return the log of a job's progress as fal's list of lines."""
    return log_entries(log_of(progress), at)
