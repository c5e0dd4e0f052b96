"""Synchronous calls below `/fal/run`: they answer with the result, or stream it."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from flask import Response
from flask_openapi3 import APIBlueprint
from flask_openapi3.types import ResponseDict

from api.auth import current_principal
from api.bridge.waiting import WaitEnd, stream_events, wait_for, waited
from api.compat.event_stream import EVENT_STREAM_RESPONSE
from api.compat.fal.frames import ResultFrames
from api.compat.fal.problems import fal_problem, fault
from api.compat.fal.queue import FAL_TAG, result_answer, submitted_job
from api.compat.fal.schemas import AppPath, FalResult, FalTextInput, FalVideoInput, SubmitHeader, SubmitQuery, faults
from api.compat.submitting import absolute_links
from api.context import current_context
from jobs.db.tables import Job
from jobs.errors import JobEndedError
from jobs.service import cancellation

RUN = "/fal/run/<owner>"
LONGEST_RUN_S = 3600.0
_RESULT: ResponseDict = {"200": FalResult, **faults(400, 404, 410, 411, 413, 415, 422, 429, 500, 503, 504, 507)}
_STREAM: ResponseDict = {
    "200": EVENT_STREAM_RESPONSE,
    **faults(400, 404, 411, 413, 415, 422, 429, 503, 507),
}

fal_run_api = APIBlueprint("fal_run", __name__, url_prefix=RUN, abp_tags=[FAL_TAG])
fal_run_api.after_request(fal_problem)


@fal_run_api.post("/<alias>", summary="Run a request with a video", responses=_RESULT)
def run_video(path: AppPath, query: SubmitQuery, header: SubmitHeader, body: FalVideoInput) -> Response:
    """Queues a job and answers with its result; the answer may take as long as the job, up to an hour."""
    return _run(path, query, header, body)


@fal_run_api.post("/<alias>/text-to-audio", summary="Run a request without a video", responses=_RESULT)
def run_text(path: AppPath, query: SubmitQuery, header: SubmitHeader, body: FalTextInput) -> Response:
    """Queues a job and answers with its result; the answer may take as long as the job, up to an hour."""
    return _run(path, query, header, body)


@fal_run_api.post("/<alias>/stream", summary="Run a request with a video, as a stream", responses=_STREAM)
def stream_video(path: AppPath, query: SubmitQuery, header: SubmitHeader, body: FalVideoInput) -> Response:
    """Queues a job and sends its result as one server-sent event."""
    return _stream(path, query, header, body)


@fal_run_api.post(
    "/<alias>/text-to-audio/stream", summary="Run a request without a video, as a stream", responses=_STREAM
)
def stream_text(path: AppPath, query: SubmitQuery, header: SubmitHeader, body: FalTextInput) -> Response:
    """Queues a job and sends its result as one server-sent event."""
    return _stream(path, query, header, body)


def _run(path: AppPath, query: SubmitQuery, header: SubmitHeader, body: FalTextInput) -> Response:
    release, job = _submitted_with_place(path, query, header, body)
    return wait_for([job.id], LONGEST_RUN_S, again=lambda: _after_wait(job.id), on_end=release)


def _submitted_with_place(
    path: AppPath, query: SubmitQuery, header: SubmitHeader, body: FalTextInput
) -> tuple[Callable[[], None], Job]:
    """Queue the job of a call for which there is a place to wait; return what frees the place, and the job.

    Raises:
        TooManyWaitingError: there is no place; no job is queued, whose id the caller would not learn.
    """
    release = current_context().hold_place()
    try:
        return release, submitted_job(path, query, header, body)
    except BaseException:
        release()
        raise


def _after_wait(job_id: str) -> Response:
    end = waited()
    if end is not None and end.end is WaitEnd.NO_PLACE:
        _cancel(job_id)  # its caller learns no id to come back with
        response = fault(503, "busy", "As many requests wait as may; submit to the queue instead, or try again later.")
        response.headers["Retry-After"] = "5"
        return response
    if end is not None and end.end is WaitEnd.TIME_UP:
        detail = f"Request {job_id} goes on; get its result from the queue."
        response = fault(HTTPStatus.GATEWAY_TIMEOUT, "run_timeout", detail)
        response.headers["x-fal-request-id"] = job_id
        return response
    return result_answer(job_id)


def _cancel(job_id: str) -> None:
    ctx = current_context()
    try:
        job = ctx.db.run(lambda tx: cancellation.cancel(tx, job_id), repeatable=True)
    except JobEndedError:
        return
    ctx.publish(job.variant)


def _stream(path: AppPath, query: SubmitQuery, header: SubmitHeader, body: FalTextInput) -> Response:
    ctx, principal = current_context(), current_principal()
    with ctx.db.reading() as tx:
        links = absolute_links(ctx, tx)
    release, job = _submitted_with_place(path, query, header, body)
    response = stream_events(
        principal.tenant,
        job_id=job.id,
        render=ResultFrames(job.id, links).render,
        progress=False,
        allowed_key=principal.key_id,
        still_allowed=lambda: ctx.still_allowed(principal),
        on_end=release,
    )
    response.headers["x-fal-request-id"] = job.id
    return response
