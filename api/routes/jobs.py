"""`/v1/jobs`: submit, get, list, cancel, retry."""

from __future__ import annotations

import hashlib
import time
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from flask import Response, jsonify, request
from flask_openapi3 import APIBlueprint, Tag

from api.auth import current_tenant
from api.context import AppContext, current_context
from api.presentation import JobPresenter
from api.routes.uploads import check_upload
from api.schemas.jobs import GetJobQuery, JobPage, JobPath, JobView, ListJobsQuery, SubmitHeader
from api.schemas.responses import problems
from jobs.request import JobRequest
from jobs.service import cancellation
from jobs.service.queries import JobFilter, get_job, list_jobs
from jobs.service.submission import Idempotency, Submitted, submit_and_commit

WAIT_POLL_S = 0.1
MAX_WAIT_S = 60.0

jobs_api = APIBlueprint("jobs", __name__, url_prefix="/v1/jobs", abp_tags=[Tag(name="jobs")])
_ERRORS = problems(403, 404, 409, 415, 422, 503)


@jobs_api.post(
    "", summary="Ask for a sound", responses={"202": JobView, "200": JobView, **problems(400, 413, 415, 422, 429, 503)}
)
def submit_job(header: SubmitHeader, body: JobRequest) -> Response:
    """Queues a job and answers at once. With an `Idempotency-Key` that came before: 200 with the job of then."""
    ctx, tenant = current_context(), current_tenant()
    if body.source is not None:
        check_upload(ctx, body, tenant)
    key = header.idempotency_key
    submitted = submit_and_commit(
        ctx.db,
        body,
        tenant=tenant,
        policy=ctx.policy(),
        idempotency=Idempotency.of("POST /v1/jobs", key, body) if key else None,
    )
    return _submitted(ctx, submitted)


@jobs_api.get("", summary="List jobs, newest first", responses={"200": JobPage, "304": None, **problems(422, 503)})
def list_all(query: ListJobsQuery) -> Response:
    """Pages by cursor: follow `links.next`. `metadata.KEY=VALUE`, any number of times, filters too."""
    wanted = JobFilter(query.state, query.variant, query.created_after, query.metadata)
    ctx = current_context()
    with ctx.db.reading() as tx:
        page = list_jobs(tx, tenant=current_tenant(), wanted=wanted, cursor=query.cursor, limit=query.limit)
        data = JobPresenter(ctx, tx).jobs(page.jobs)
    following = None
    if page.next_cursor is not None:
        arguments = {**request.args.to_dict(), "cursor": page.next_cursor}
        following = f"{ctx.settings.public_url.rstrip('/')}/v1/jobs?{_query_string(arguments)}"
    document = {"data": data, "next_cursor": page.next_cursor, "links": {"next": following}}
    return _conditional(jsonify(document), JobPresenter.etag_of(document))


@jobs_api.get("/<job_id>", summary="Get a job", responses={"200": JobView, "304": None, **problems(404, 422, 503)})
def get_one(path: JobPath, query: GetJobQuery) -> Response:
    """With `wait=N` (or `Prefer: wait=N`) answers when the job has ended, or after N seconds as it then is."""
    wait_s = query.wait or _preferred_wait()
    deadline = time.monotonic() + wait_s
    ctx, tenant = current_context(), current_tenant()
    while True:
        with ctx.db.reading() as tx:
            job = get_job(tx, path.job_id, tenant=tenant)
            if job.state.is_terminal or time.monotonic() >= deadline:
                document = JobPresenter(ctx, tx).job(job)
                break
        time.sleep(max(0.0, min(WAIT_POLL_S, deadline - time.monotonic())))
    response = _conditional(jsonify(document), JobPresenter.etag_of(document))
    if wait_s and not query.wait:
        response.headers["Preference-Applied"] = f"wait={wait_s:g}"
    return response


@jobs_api.post("/<job_id>/cancel", summary="Cancel a job", responses={"200": JobView, "202": JobView, **_ERRORS})
def cancel_job(path: JobPath) -> Response:
    """Idempotent. 200: canceled. 202: asked for; `canceled` is said when the device has let go. 409: already ended."""
    ctx = current_context()
    job = ctx.db.run(lambda tx: cancellation.cancel(tx, path.job_id, tenant=current_tenant()), repeatable=True)
    ctx.publish(job.variant)
    return _answer(job.id, HTTPStatus.OK if job.state.is_terminal else HTTPStatus.ACCEPTED)


@jobs_api.post(
    "/<job_id>/retry",
    summary="Do an ended job again",
    responses={"202": JobView, "200": JobView, **_ERRORS, **problems(429)},
)
def retry_job(path: JobPath, header: SubmitHeader) -> Response:
    """A new job with the same request and seed, linked to the old one. Takes an `Idempotency-Key` as submit does."""
    ctx = current_context()
    key, sent = header.idempotency_key, hashlib.sha256(request.get_data()).hexdigest()
    submitted = cancellation.retry_and_commit(
        ctx.db,
        path.job_id,
        tenant=current_tenant(),
        policy=ctx.policy(),
        idempotency=Idempotency(f"POST /v1/jobs/{path.job_id}/retry", key, sent) if key else None,
    )
    return _submitted(ctx, submitted)


def _submitted(ctx: AppContext, submitted: Submitted) -> Response:
    if submitted.replayed:
        response = _answer(submitted.job.id, HTTPStatus.OK)
        response.headers["Idempotent-Replayed"] = "true"
        return response
    ctx.publish(submitted.job.variant)
    return _answer(submitted.job.id, HTTPStatus.ACCEPTED)


def _answer(job_id: str, status: HTTPStatus) -> Response:
    ctx = current_context()
    with ctx.db.reading() as tx:
        document: dict[str, Any] = JobPresenter(ctx, tx).job(get_job(tx, job_id, tenant=current_tenant()))
    response = jsonify(document)
    response.status_code = status
    response.headers["Location"] = document["links"]["self"]
    return response


def _conditional(response: Response, etag: str) -> Response:
    """Answer 304 when the caller already has this document."""
    response.set_etag(etag)
    response.headers["Cache-Control"] = "private, no-cache"
    response.make_conditional(request)
    return response


def _preferred_wait() -> float:
    for part in request.headers.get("Prefer", "").split(","):
        name, _, value = part.strip().partition("=")
        if name.lower() == "wait" and value.strip().isdecimal():
            return min(float(value), MAX_WAIT_S)
    return 0.0


def _query_string(arguments: dict[str, str]) -> str:
    return urlencode(arguments)
