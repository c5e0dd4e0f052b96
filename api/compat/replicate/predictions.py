"""`/v1/predictions`: create, get, list, cancel; and predictions of a model."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from flask import Response, jsonify, request
from flask_openapi3 import APIBlueprint, Tag

from api.bridge.waiting import WaitEnd, wait_for, waited
from api.compat.replicate.problems import replicate_problem
from api.compat.replicate.schemas import (
    ModelPath,
    NewPrediction,
    NewVersionPrediction,
    PredictionHeader,
    PredictionPage,
    PredictionPath,
    PredictionsQuery,
    PredictionView,
)
from api.compat.submitting import absolute_links, artifacts_of, base_url, own_bases, submit_job
from api.context import AppContext, current_context
from api.errors import problem
from api.schemas.responses import problems
from jobs.compat.pages import two_way_page
from jobs.compat.preference import held_s, preferred_wait_s
from jobs.compat.replicate_events import subscribed_events
from jobs.compat.replicate_model import variant_of_model, variant_of_version
from jobs.compat.replicate_prediction import STATUSES, prediction_document, request_fields
from jobs.compat.request_check import checked_request
from jobs.db.database import Transaction
from jobs.db.tables import Job
from jobs.errors import JobEndedError, RequestInvalidError, TooManyWaitingError
from jobs.lifecycle import State, WebhookBody
from jobs.service import cancellation
from jobs.service.artifacts import artifacts_by_job
from jobs.service.queries import JobFilter, get_job

PAGE = 100
WAIT_AGAIN_S = 5
REPLICATE_TAG = Tag(name="replicate", description="The calls of Replicate's clients.")

predictions_api = APIBlueprint("replicate_predictions", __name__, url_prefix="/v1", abp_tags=[REPLICATE_TAG])
predictions_api.after_request(replicate_problem)
_CREATED = {"201": PredictionView, "202": PredictionView, **problems(400, 404, 411, 413, 415, 422, 429, 503, 507)}


@predictions_api.post("/predictions", summary="Create a prediction of a version", responses=_CREATED)
def create_prediction(header: PredictionHeader, body: NewVersionPrediction) -> Response:
    """Queues a job with the hosted model's input. 201: created, or with `Prefer: wait` ended; 202: not yet ended."""
    ctx = current_context()
    variant = variant_of_version(body.version, _offered(ctx))
    if variant is None:
        raise RequestInvalidError.of("version", _no_such("version", body.version, ctx))
    return _create(ctx, variant, header, body)


@predictions_api.post("/models/<owner>/<name>/predictions", summary="Create a prediction", responses=_CREATED)
def create_model_prediction(path: ModelPath, header: PredictionHeader, body: NewPrediction) -> Response:
    """As the call for a version, for the variant that the model's name stands for."""
    return _create_of_model(path, header, body)


@predictions_api.post(
    "/deployments/<owner>/<name>/predictions", summary="Create a prediction of a deployment", responses=_CREATED
)
def create_deployment_prediction(path: ModelPath, header: PredictionHeader, body: NewPrediction) -> Response:
    """As the call for a model: its name is that of the deployment."""
    return _create_of_model(path, header, body)


@predictions_api.get(
    "/predictions", summary="List predictions", responses={"200": PredictionPage, **problems(422, 503)}
)
def list_predictions(query: PredictionsQuery) -> Response:
    """Returns a page of 100 jobs as predictions, newest first, however they were created."""
    ctx = current_context()
    wanted = JobFilter(created_after=query.created_after, created_before=query.created_before)
    with ctx.db.reading() as tx:
        page = two_way_page(tx, wanted=wanted, cursor=query.cursor, limit=PAGE)
        artifacts, links = artifacts_by_job(tx, [job.id for job in page.jobs]), absolute_links(ctx, tx)
        results = [prediction_document(job, artifacts[job.id], links) for job in page.jobs]
    given = {name: value for name, value in request.args.items() if name != "cursor"}
    urls = {
        name: f"{base_url(ctx)}/v1/predictions?{urlencode({**given, 'cursor': cursor})}" if cursor else None
        for name, cursor in (("previous", page.previous), ("next", page.next))
    }
    return jsonify({**urls, "results": results})


@predictions_api.get(
    "/predictions/<prediction_id>",
    summary="Get a prediction",
    responses={"200": PredictionView, **problems(404, 410, 422, 503)},
)
def get_prediction(path: PredictionPath) -> Response:
    """Returns a job as a prediction."""
    return _answer(path.prediction_id)


@predictions_api.post(
    "/predictions/<prediction_id>/cancel",
    summary="Cancel a prediction",
    responses={"200": PredictionView, **problems(403, 404, 410, 411, 415, 422, 503)},
)
def cancel_prediction(path: PredictionPath) -> Response:
    """Idempotent. A running prediction becomes `canceled` when its worker has stopped it; an ended one stays."""
    ctx = current_context()
    try:
        job = ctx.db.run(lambda tx: cancellation.cancel(tx, path.prediction_id), repeatable=True)
    except JobEndedError:
        return _answer(path.prediction_id)
    ctx.publish(job.variant)
    return _answer(job.id)


def _create_of_model(path: ModelPath, header: PredictionHeader, body: NewPrediction) -> Response:
    ctx = current_context()
    variant = variant_of_model(path.name, _offered(ctx))
    if variant is None:
        return unknown_model(path, ctx)
    return _create(ctx, variant, header, body)


def unknown_model(path: ModelPath, ctx: AppContext) -> Response:
    """Return the answer for a model that this server does not have."""
    return problem(HTTPStatus.NOT_FOUND, "model_not_found", _no_such("model", f"{path.owner}/{path.name}", ctx))


def _no_such(what: str, got: str, ctx: AppContext) -> str:
    return f"There is no {what} {got[:120]!r}; this server has mmaudio and: {', '.join(_offered(ctx)) or 'none'}."


def _offered(ctx: AppContext) -> tuple[str, ...]:
    with ctx.platform_db.reading() as tx:
        return ctx.offered_variants(tx)


def _create(ctx: AppContext, variant: str, header: PredictionHeader, body: NewPrediction) -> Response:
    fields = request_fields(body.input.model_dump(), variant=variant, bases=own_bases(ctx))
    fields |= subscribed_events(body.webhook, body.webhook_events_filter, body.webhook_completed)
    job = submit_job(
        ctx,
        checked_request(fields),
        scope=f"POST {request.path}",
        key=header.idempotency_key,
        webhook_body=WebhookBody.REPLICATE,
    )
    wait_s = preferred_wait_s(header.prefer)
    if not wait_s or job.state.is_terminal:
        return _answer(job.id, created=True, wait_s=wait_s)
    try:
        release = ctx.hold_place()
    except TooManyWaitingError:  # it is queued all the same
        return _answer(job.id, created=True, wait_s=wait_s, refused=True)
    return wait_for(
        [job.id], held_s(wait_s), again=lambda: _answer(job.id, created=True, wait_s=wait_s), on_end=release
    )


def _answer(job_id: str, *, created: bool = False, wait_s: float = 0.0, refused: bool = False) -> Response:
    """Return the answer with a prediction.

    Args:
        created: by this call.
        wait_s: how long this call waited for its end, or wanted to.
        refused: there was no place to wait.
    """
    ctx = current_context()
    with ctx.db.reading() as tx:
        document, ended = _document(ctx, tx, job_id)
    status = HTTPStatus.CREATED if created else HTTPStatus.OK
    end = waited()
    if wait_s and not ended:
        # Clients that waited take any other status for an end.
        document["status"] = STATUSES[State.QUEUED]
        status = HTTPStatus.ACCEPTED
    response = jsonify(document)
    response.status_code = status
    if created:
        response.headers["Location"] = document["urls"]["get"]
    if refused or (end is not None and end.end is WaitEnd.NO_PLACE):
        response.headers["Retry-After"] = str(WAIT_AGAIN_S)
    elif wait_s:
        response.headers["Preference-Applied"] = f"wait={wait_s:g}"
    return response


def _document(ctx: AppContext, tx: Transaction, job_id: str) -> tuple[dict[str, Any], bool]:
    job: Job = get_job(tx, job_id)
    return prediction_document(job, artifacts_of(tx, job), absolute_links(ctx, tx)), job.state.is_terminal
