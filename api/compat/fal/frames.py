"""Updates of a job as the server-sent events of fal: statuses, or the result."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from api.events.updates import JobUpdate, server_sent_event
from api.links import LinkBuilder
from jobs.compat.fal_request import CANCELED, progress_logs, result_document, status_document
from jobs.compat.job_log import JobProgress, num_steps_of
from jobs.db.tables import Job
from jobs.lifecycle import Stage, State


class StatusFrames:
    """Turns the updates of one stream into statuses.

    Args:
        queue_position: of the job when the stream began.
    """

    def __init__(self, job: Job, queue_url: str, *, queue_position: int | None, with_logs: bool) -> None:
        self._job_id, self._queue_url = job.id, queue_url
        self._seed, self._num_steps = job.request.get("seed"), num_steps_of(job.request)
        self._queue_position, self._with_logs = queue_position, with_logs

    def render(self, update: JobUpdate) -> bytes:
        """Return the event for an update."""
        document = status_document(
            update.state,
            self._job_id,
            self._queue_url,
            queue_position=self._queue_position,
            logs=progress_logs(self._progress(update), update.created_at) if self._with_logs else None,
            error=_error(update),
        )
        return server_sent_event(document, position=update.position)

    def _progress(self, update: JobUpdate) -> JobProgress:
        stage = update.data.get("stage")
        return JobProgress(
            seed=self._seed,
            num_steps=self._num_steps,
            attempt=update.attempt,
            stage=Stage(stage) if stage is not None else None,
            step=update.data.get("step"),
            done=update.state is State.SUCCEEDED,
        )


class ResultFrames:
    """Turns the last update of one stream into the result of the request, or its error; the others are left out."""

    def __init__(self, job_id: str, links: LinkBuilder) -> None:
        self._job_id, self._links = job_id, links

    def render(self, update: JobUpdate) -> bytes:
        """Return the event for an update."""
        if not update.is_last:
            return b""
        if update.state is State.SUCCEEDED:
            links = replace(self._links, now=update.created_at)
            document = result_document(self._job_id, update.data.get("artifacts", ()), links)
        else:
            error = CANCELED if update.state is State.CANCELED else _error(update) or {}
            document = {
                "detail": str(error.get("message", "The request failed.")),
                "error_type": str(error.get("code", "failed")),
            }
        return server_sent_event(document, position=update.position)


def _error(update: JobUpdate) -> dict[str, Any] | None:
    if update.state is not State.FAILED:
        return None
    error = update.data.get("error")
    return error if isinstance(error, dict) else {"code": "failed", "message": "The request failed."}
