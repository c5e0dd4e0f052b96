"""`/v1/predictions/{id}/stream`: the log and the output of a prediction as server-sent events of Replicate's."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from typing import Any

from flask import Response, request
from flask_openapi3 import APIBlueprint

from api.auth import current_principal
from api.bridge.waiting import stream_events
from api.compat.event_stream import EVENT_STREAM_RESPONSE
from api.compat.replicate.predictions import REPLICATE_TAG
from api.compat.replicate.schemas import PredictionPath
from api.compat.submitting import absolute_links, artifacts_of
from api.context import current_context
from api.events.updates import JobUpdate
from api.links import LinkBuilder
from api.schemas.responses import problems
from jobs.compat.job_log import JobProgress, log_of, num_steps_of, progress_of
from jobs.compat.result_links import direct_url, output_name, output_of, output_url
from jobs.db.tables import Job
from jobs.lifecycle import Stage, State
from jobs.service.queries import get_job

prediction_stream_api = APIBlueprint("replicate_stream", __name__, url_prefix="/v1", abp_tags=[REPLICATE_TAG])


@prediction_stream_api.get(
    "/predictions/<prediction_id>/stream",
    summary="Stream a prediction",
    responses={
        "200": EVENT_STREAM_RESPONSE,
        **problems(404, 410, 422, 503),
    },
)
def stream_prediction(path: PredictionPath) -> Response:
    """Sends events `logs` while the prediction goes on, then `output` (the URL) or `error`, and at last `done`.

    A client that reconnects with `Last-Event-ID` misses no event.
    """
    ctx, principal = current_context(), current_principal()
    with ctx.db.reading() as tx:
        job = get_job(tx, path.prediction_id)
        links = absolute_links(ctx, tx)
        artifact = output_of(artifacts_of(tx, job))
        output = output_url(artifact, links) if artifact is not None else None
        frames = PredictionFrames(job, links, output)
    after = last_position(request.headers.get("Last-Event-ID"))
    response = stream_events(
        principal.tenant,
        job_id=job.id,
        after=after,
        render=frames.render,
        allowed_key=principal.key_id,
        still_allowed=lambda: ctx.still_allowed(principal),
        on_end=ctx.hold_place(),
    )
    response.status_code = HTTPStatus.OK
    return response


def last_position(last_event_id: str | None) -> int:
    """Return the position of the last event that a client has; 0: none, or it names none."""
    position = (last_event_id or "").partition(":")[0]
    return int(position) if position.isascii() and position.isdigit() and len(position) < 19 else 0


class PredictionFrames:
    """Turns the updates of one stream into Replicate's events. The log goes out line by line, each once.

    Args:
        output: URL of the output, if the job had succeeded when the stream began.
    """

    def __init__(self, job: Job, links: LinkBuilder, output: str | None) -> None:
        self._job_id, self._links, self._output = job.id, links, output
        self._seed, self._num_steps = job.request.get("seed"), num_steps_of(job.request)
        self._ending = progress_of(job).ending
        self._sent, self._attempt, self._position, self._count = "", 0, 0, 0

    def render(self, update: JobUpdate) -> bytes:
        """Return the events for an update."""
        if update.position is not None:
            self._position, self._count = update.position, 0
        if update.attempt != self._attempt:
            self._attempt, self._sent = update.attempt, ""
        frames = [self._logs(update)]
        if update.state is State.SUCCEEDED and update.is_last:
            frames.append(self._event("output", self._output or self._made(update) or ""))
        if update.state is State.FAILED:
            frames.append(self._event("error", str(_error(update).get("message", "The prediction failed."))))
        if update.is_last:
            reason = {State.SUCCEEDED: "{}", State.CANCELED: '{"reason": "canceled"}'}
            frames.append(self._event("done", reason.get(update.state, '{"reason": "error"}')))
        return b"".join(frames)

    def _logs(self, update: JobUpdate) -> bytes:
        stage = update.data.get("stage")
        if update.is_last and update.state is not State.SUCCEEDED:
            return b""
        log = log_of(
            JobProgress(
                seed=self._seed,
                num_steps=self._num_steps,
                attempt=update.attempt,
                stage=Stage(stage) if stage is not None else None,
                step=update.data.get("step"),
                done=update.state is State.SUCCEEDED,
            )
        )
        if len(log) <= len(self._sent):
            return b""
        more = log.removeprefix(self._sent)
        self._sent = log
        return self._event("logs", more)

    def _made(self, update: JobUpdate) -> str | None:
        """Return the URL of the output that a job's last event names."""
        name = output_name(update.data.get("artifacts", ()))
        links = replace(self._links, now=update.created_at)
        return direct_url(links, self._job_id, name) if name is not None else None

    def _event(self, kind: str, data: str) -> bytes:
        event_id = f"{self._position}:{self._count}" if self._count else str(self._position)
        self._count += 1
        lines = "".join(f"data: {line}\n" for line in data.split("\n"))
        return f"event: {kind}\nid: {event_id}\n{lines}\n".encode()


def _error(update: JobUpdate) -> dict[str, Any]:
    error = update.data.get("error")
    return error if isinstance(error, dict) else {}
