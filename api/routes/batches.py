"""`/v1/batches`: create many jobs by one call, see how far they are, cancel them."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus
from urllib.parse import urlencode

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag
from werkzeug.exceptions import RequestEntityTooLarge

from api.batch_body import BatchRequests, parse_requests, read_batch
from api.body_limits import MAX_BATCH_BYTES, check_json_values
from api.context import AppContext, current_context
from api.errors import problem, too_many
from api.presentation import answer, conditional_answer
from api.schemas.batches import (
    BATCH_BODY,
    BatchOptions,
    BatchPage,
    BatchPageLinks,
    BatchPath,
    BatchView,
    ListBatchesQuery,
)
from api.schemas.jobs import SubmitHeader
from api.schemas.responses import problems
from jobs.db.database import Transaction
from jobs.errors import RequestInvalidError
from jobs.request import UPLOAD_ID, JobRequest
from jobs.service.batch_creation import BatchInvalidError, NewBatch, create_and_commit
from jobs.service.batches import cancel_jobs, get_batch, list_batches, request_cancel, summary_of
from jobs.service.submission import Idempotency
from jobs.service.uploads import check_upload, pending_uploads

batches_api = APIBlueprint("batches", __name__, url_prefix="/v1/batches", abp_tags=[Tag(name="batches")])
BATCHES_ENDPOINT = "batches.create"


@batches_api.post(
    "",
    summary="Create a batch of jobs",
    responses={
        "202": BatchView,
        "200": BatchView,
        **problems(400, 403, 408, 411, 413, 415, 422, 429, 503, 507),
    },
    openapi_extensions={"requestBody": BATCH_BODY},
)
def create(header: SubmitHeader, query: BatchOptions) -> Response:
    """Creates up to 10,000 jobs, all of them or none. 200: an earlier call with the same `Idempotency-Key` did.

    The body is an object with `requests`, an array of requests, or (`application/x-ndjson`) a request a line; `name`
    and `webhook_url` may also be given in the query. 422: nothing was created; up to 100 errors name the request by
    `index`, from 0, and its line by `line`, from 1. The jobs have `batch` and `batch_index`. Files are uploaded before:
    a `data:` URI is not allowed here.
    """
    ctx = current_context()
    data = request.get_data()
    if request.content_length is None and len(data) >= MAX_BATCH_BYTES:
        raise RequestEntityTooLarge  # a chunked body was read up to the limit only
    key = header.idempotency_key
    body_sha256 = hashlib.sha256(request.query_string + b"\n" + data).hexdigest()
    idempotency = Idempotency("POST /v1/batches", key, body_sha256) if key else None
    check_json_values(data)
    with ctx.batch_places.place() as held:  # a body becomes many times as large when it is parsed
        if not held:
            return too_many("batches")
        requests, new = read_batch(data, request.mimetype, query)
        try:
            return _create(ctx, requests, new, idempotency)
        except BatchInvalidError as exc:
            count = len(exc.items)
            detail = (
                f"Nothing was created: the first {count} errors are listed." if count > 1 else "Nothing was created."
            )
            fields = [requests.field(item) for item in exc.items]
            return problem(HTTPStatus.UNPROCESSABLE_ENTITY, exc.code, detail, fields=fields)


def _create(ctx: AppContext, requests: BatchRequests, new: NewBatch, idempotency: Idempotency | None) -> Response:
    new = replace(new, requests=parse_requests(requests))
    _check_pending_uploads(ctx, new.requests)
    created = create_and_commit(ctx.db, new, policy=ctx.policy(), idempotency=idempotency)
    for variant in created.variants:
        ctx.publish(variant)
    response = _batch_answer(ctx, created.batch.id, HTTPStatus.OK if created.replayed else HTTPStatus.ACCEPTED)
    if created.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return response


def _check_pending_uploads(ctx: AppContext, requests: Sequence[JobRequest]) -> None:
    """Accept the content of uploads that was sent directly to the store, as a single submit does."""
    by_upload = {one.source: one for one in requests if one.source and UPLOAD_ID.fullmatch(one.source)}
    with ctx.db.reading() as tx:
        pending = pending_uploads(tx, list(by_upload))
    for upload_id in pending:
        with contextlib.suppress(RequestInvalidError):  # the batch's own check names the request
            check_upload(ctx.db, ctx.store, by_upload[upload_id], run=ctx.upload_checks.run)


@batches_api.get("", summary="List batches", responses={"200": BatchPage, "304": None, **problems(422, 503)})
def list_all(query: ListBatchesQuery) -> Response:
    """Returns a page of batches, newest first; `links.next` is the next page."""
    ctx = current_context()
    with ctx.db.reading() as tx:
        batches, next_cursor = list_batches(tx, cursor=query.cursor, limit=query.limit)
        links = ctx.links(tx)
        data = [BatchView.from_summary(summary_of(tx, batch), links) for batch in batches]
    following = None
    if next_cursor is not None:
        following = links.batches_page(urlencode({"limit": query.limit, "cursor": next_cursor}))
    return conditional_answer(BatchPage(data=data, next_cursor=next_cursor, links=BatchPageLinks(next=following)))


@batches_api.get(
    "/<batch_id>", summary="Get a batch", responses={"200": BatchView, "304": None, **problems(404, 422, 503)}
)
def get_one(path: BatchPath) -> Response:
    """Returns how many jobs of the batch are in each state, and its progress."""
    ctx = current_context()
    with ctx.db.reading() as tx:
        return conditional_answer(_view(ctx, tx, path.batch_id))


@batches_api.post(
    "/<batch_id>/cancel",
    summary="Cancel a batch",
    responses={"200": BatchView, "202": BatchView, **problems(403, 404, 409, 411, 415, 422, 503)},
)
def cancel(path: BatchPath) -> Response:
    """Cancels the jobs of the batch that have not ended. Idempotent. 202: running jobs are still being stopped.

    409: all its jobs had ended before.
    """
    ctx = current_context()
    ctx.db.run(lambda tx: request_cancel(tx, path.batch_id), repeatable=True)
    for variant in cancel_jobs(ctx.db, path.batch_id):
        ctx.publish(variant)
    with ctx.db.reading() as tx:
        view = _view(ctx, tx, path.batch_id)
    return answer(view, HTTPStatus.OK if view.finished_at is not None else HTTPStatus.ACCEPTED)


def _view(ctx: AppContext, tx: Transaction, batch_id: str) -> BatchView:
    return BatchView.from_summary(summary_of(tx, get_batch(tx, batch_id)), ctx.links(tx))


def _batch_answer(ctx: AppContext, batch_id: str, status: HTTPStatus) -> Response:
    with ctx.db.reading() as tx:
        view = _view(ctx, tx, batch_id)
    response = answer(view, status)
    response.headers["Location"] = view.links.self_
    return response
