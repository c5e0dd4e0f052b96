"""The queue: submit, status, result, cancel. The same calls at the root and below `/fal/queue`."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

from flask import Response, jsonify, request
from flask_openapi3 import APIBlueprint, Tag
from flask_openapi3.types import ResponseDict

from api.auth import current_principal
from api.bridge.waiting import stream_events
from api.compat.event_stream import EVENT_STREAM_RESPONSE
from api.compat.fal.frames import StatusFrames
from api.compat.fal.problems import fal_problem, fault, no_result
from api.compat.fal.schemas import (
    AppPath,
    FalCancel,
    FalResult,
    FalStatus,
    FalSubmitted,
    FalTextInput,
    FalVideoInput,
    RequestPath,
    RootAppPath,
    RootRequestPath,
    StatusQuery,
    SubmitHeader,
    SubmitQuery,
    faults,
    owner_of,
)
from api.compat.replicate.stream import last_position
from api.compat.submitting import absolute_links, artifacts_of, base_url, own_bases, submit_job
from api.context import AppContext, current_context
from jobs.compat.fal_request import (
    OWNER,
    header_fields,
    job_status_document,
    made_by,
    request_fields,
    request_urls,
    result_document,
    webhook_fields,
)
from jobs.compat.replicate_model import variant_of_model
from jobs.compat.request_check import checked_request
from jobs.db.tables import Job
from jobs.errors import JobEndedError, JobNotFoundError
from jobs.lifecycle import State, WebhookBody
from jobs.service import cancellation
from jobs.service.queries import get_job
from jobs.service.scheduling.queue_stats import queue_position

FAL_TAG = Tag(name="fal", description="The calls of fal's clients.")
ROOT = f"/{OWNER}"
QUEUE = "/fal/queue/<owner>"
View = TypeVar("View", bound=Callable[..., Any])
_SUBMITTED: ResponseDict = {"200": FalSubmitted, **faults(400, 404, 411, 413, 415, 422, 429, 503, 507)}


class AppUnknownError(JobNotFoundError):
    """Raised for an app that this server does not have."""

    code = "app_not_found"


def _of(path_type: type[RootAppPath]) -> Callable[[View], View]:
    """Declare the parameters in a view's path; it stands below the route's decorator."""

    def declare(view: View) -> View:
        view.__annotations__["path"] = path_type
        return view

    return declare


def queue_api(
    name: str, url_prefix: str, app_path: type[RootAppPath], request_path: type[RootRequestPath]
) -> APIBlueprint:
    """Return the calls of the queue below a prefix.

    Args:
        app_path, request_path: the parameters in the paths of apps and of requests.
    """
    api = APIBlueprint(name, __name__, url_prefix=url_prefix, abp_tags=[FAL_TAG])
    api.after_request(fal_problem)

    @api.post("/<alias>", summary="Submit a request with a video", responses=_SUBMITTED)
    @_of(app_path)
    def submit_video(path: RootAppPath, query: SubmitQuery, header: SubmitHeader, body: FalVideoInput) -> Response:
        """Queues a job with the hosted model's input."""
        return _submit(path, query, header, body)

    @api.post("/<alias>/text-to-audio", summary="Submit a request without a video", responses=_SUBMITTED)
    @_of(app_path)
    def submit_text(path: RootAppPath, query: SubmitQuery, header: SubmitHeader, body: FalTextInput) -> Response:
        """Queues a job with the hosted model's input."""
        return _submit(path, query, header, body)

    @api.get(
        "/<alias>/requests/<request_id>/status",
        summary="Get the status of a request",
        responses={"200": FalStatus, "202": FalStatus, **faults(403, 404, 410, 422, 503)},
    )
    @_of(request_path)
    def get_status(path: RootRequestPath, query: StatusQuery) -> Response:
        """200: completed; 202: not yet."""
        ctx = current_context()
        with ctx.db.reading() as tx:
            job = _job(ctx, path)
            position = queue_position(tx, job)
        document = job_status_document(job, _queue_url(ctx, path), queue_position=position, with_logs=query.with_logs)
        return _answer(document, job.id, HTTPStatus.OK if job.state.is_terminal else HTTPStatus.ACCEPTED)

    @api.get(
        "/<alias>/requests/<request_id>/status/stream",
        summary="Stream the status of a request",
        responses={
            "200": EVENT_STREAM_RESPONSE,
            **faults(403, 404, 410, 422, 503),
        },
    )
    @_of(request_path)
    def stream_status(path: RootRequestPath, query: StatusQuery) -> Response:
        """Sends the status as server-sent events, each time that it changes, until it is `COMPLETED`."""
        ctx, principal = current_context(), current_principal()
        with ctx.db.reading() as tx:
            job = _job(ctx, path)
            position = queue_position(tx, job)
        frames = StatusFrames(job, _queue_url(ctx, path), queue_position=position, with_logs=query.with_logs)
        return stream_events(
            principal.tenant,
            job_id=job.id,
            after=last_position(request.headers.get("Last-Event-ID")),
            render=frames.render,
            allowed_key=principal.key_id,
            still_allowed=lambda: ctx.still_allowed(principal),
            on_end=ctx.hold_place(),
        )

    @api.get(
        "/<alias>/requests/<request_id>",
        summary="Get the result of a request",
        responses={"200": FalResult, **faults(400, 404, 410, 422, 500, 503)},
    )
    @_of(request_path)
    def get_result(path: RootRequestPath) -> Response:
        """400: it has not completed, or was canceled; 422 or 500: it failed, because of its input or otherwise."""
        _job(current_context(), path)
        return result_answer(path.request_id)

    @api.put(
        "/<alias>/requests/<request_id>/cancel",
        summary="Cancel a request",
        responses={"202": FalCancel, "400": FalCancel, **faults(403, 404, 410, 422, 503)},
    )
    @_of(request_path)
    def cancel_request(path: RootRequestPath) -> Response:
        """202: it is canceled, at once or when its worker has stopped it; 400: it has completed."""
        ctx = current_context()
        _job(ctx, path)
        try:
            job = ctx.db.run(lambda tx: cancellation.cancel(tx, path.request_id), repeatable=True)
        except JobEndedError:
            return _answer({"status": "ALREADY_COMPLETED"}, path.request_id, HTTPStatus.BAD_REQUEST)
        ctx.publish(job.variant)
        return _answer({"status": "CANCELLATION_REQUESTED"}, job.id, HTTPStatus.ACCEPTED)

    return api


def submitted_job(path: RootAppPath, query: SubmitQuery, header: SubmitHeader, body: FalTextInput) -> Job:
    """Queue the job of a request.

    Raises:
        AppUnknownError: there is no such app.
        RequestInvalidError, QueueFullError, DiskReserveError: as `submit`.
    """
    ctx = current_context()
    fields = request_fields(body.model_dump(), variant=_variant(ctx, path), bases=own_bases(ctx))
    fields |= header_fields(timeout=header.timeout, priority=header.priority) | webhook_fields(query.fal_webhook)
    return submit_job(
        ctx,
        checked_request(fields),
        scope=f"POST {request.path}",
        key=header.idempotency_key,
        webhook_body=WebhookBody.FAL,
    )


def result_answer(job_id: str) -> Response:
    """Return the answer with the result of a job, or that there is none."""
    ctx = current_context()
    with ctx.db.reading() as tx:
        job = get_job(tx, job_id)
        links = absolute_links(ctx, tx)
        result = result_document(job.id, made_by(artifacts_of(tx, job), tx.now), links)
    if job.state is not State.SUCCEEDED:
        response = no_result(job)
        response.headers["x-fal-request-id"] = job.id
        return response
    if not result:
        return fault(410, "expired", "The result was kept until its retention time passed; submit the request again.")
    return _answer(result, job.id, HTTPStatus.OK)


def _submit(path: RootAppPath, query: SubmitQuery, header: SubmitHeader, body: FalTextInput) -> Response:
    ctx, job = current_context(), submitted_job(path, query, header, body)
    with ctx.db.reading() as tx:
        position = queue_position(tx, get_job(tx, job.id))
    document = {
        "request_id": job.id,
        "gateway_request_id": job.id,
        **request_urls(_queue_url(ctx, path), job.id),
        "status": "IN_QUEUE",
        "queue_position": max(0, (position or 1) - 1),
    }
    return _answer(document, job.id, HTTPStatus.OK)


def _variant(ctx: AppContext, path: RootAppPath) -> str:
    with ctx.platform_db.reading() as tx:
        offered = ctx.offered_variants(tx)
    variant = variant_of_model(path.alias, offered)
    if variant is None:
        names = ", ".join(["mmaudio-v2", *offered])
        raise AppUnknownError(f"There is no app {f'{owner_of(path)}/{path.alias}'[:120]!r}; this server has: {names}.")
    return variant


def _job(ctx: AppContext, path: RootRequestPath) -> Job:
    _variant(ctx, path)
    with ctx.db.reading() as tx:
        return get_job(tx, path.request_id)


def _queue_url(ctx: AppContext, path: RootAppPath) -> str:
    """Return the URL of the app, below the prefix that the caller used."""
    prefix = "/fal/queue" if request.path.startswith("/fal/queue/") else ""
    return f"{base_url(ctx)}{prefix}/{owner_of(path)}/{path.alias}"


def _answer(document: dict[str, Any], job_id: str, status: HTTPStatus) -> Response:
    response = jsonify(document)
    response.status_code = status
    response.headers["x-fal-request-id"] = job_id
    return response


fal_root_api = queue_api("fal_root", ROOT, RootAppPath, RootRequestPath)
fal_queue_api = queue_api("fal_queue", QUEUE, AppPath, RequestPath)
