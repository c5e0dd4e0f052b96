"""`/v1/jobs`: create, get, list, count, cancel, retry one, delete."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from flask import Response, request
from flask_openapi3 import APIBlueprint, Tag
from sqlalchemy.exc import SQLAlchemyError

from api.auth import current_tenant
from api.bridge.waiting import WaitEnd, wait_for, waited
from api.context import AppContext, current_context
from api.job_status import job_status, status_answer
from api.presentation import answer, conditional_answer, job_views
from api.schemas.jobs import (
    RETRY_BODY,
    GetJobQuery,
    JobCounts,
    JobPage,
    JobPath,
    JobView,
    ListJobsQuery,
    PageLinks,
    SubmitHeader,
)
from api.schemas.responses import problems
from api.submission import submit_request
from jobs.request import UPLOAD_ID, JobRequest
from jobs.service import cancellation, deletion
from jobs.service.ended_counters import jobs_by_state
from jobs.service.job_look import look_at_job
from jobs.service.job_pages import list_jobs
from jobs.service.queries import JobFilter
from jobs.service.submission import Idempotency, Submitted
from jobs.service.uploads import check_upload
from jobs.storage.errors import StorageError

MAX_WAIT_S = 60.0
WAIT_AGAIN_S = 5

jobs_api = APIBlueprint("jobs", __name__, url_prefix="/v1/jobs", abp_tags=[Tag(name="jobs")])
_ERRORS = problems(400, 403, 404, 409, 410, 411, 413, 415, 422, 503)


@jobs_api.post(
    "",
    summary="Create a job",
    responses={"202": JobView, "200": JobView, **problems(400, 411, 413, 415, 422, 429, 503, 507)},
)
def submit_job(header: SubmitHeader, body: JobRequest) -> Response:
    """Queues a job and returns it at once. 200: an earlier request with the same `Idempotency-Key` created it."""
    ctx = current_context()
    key = header.idempotency_key
    idempotency = Idempotency.of("POST /v1/jobs", key, body) if key else None
    return _submitted(ctx, submit_request(ctx, body, idempotency))


@jobs_api.get("", summary="List jobs", responses={"200": JobPage, "304": None, **problems(422, 503)})
def list_all(query: ListJobsQuery) -> Response:
    """Returns a page of jobs, newest first; `links.next` is the next page. Parameters `metadata.KEY=VALUE` filter."""
    wanted = JobFilter(
        variant=query.variant,
        created_after=query.created_after,
        metadata=query.metadata,
        error_code=query.code,
        created_before=query.created_before,
        states=tuple(query.state),
        ids=tuple(query.ids) if query.ids is not None else None,
        batch_id=query.batch,
        text=query.q,
    )
    ctx = current_context()
    with ctx.db.reading() as tx:
        page = list_jobs(tx, wanted=wanted, cursor=query.cursor, limit=query.limit)
        data, links = job_views(ctx, tx, page.jobs), ctx.links(tx)
    following = None
    if page.next_cursor is not None:
        parameters = {**request.args.to_dict(flat=False), "cursor": page.next_cursor}
        following = links.jobs_page(urlencode(parameters, doseq=True))
    return conditional_answer(JobPage(data=data, next_cursor=page.next_cursor, links=PageLinks(next=following)))


@jobs_api.get("/counts", summary="Count jobs by state", responses={"200": JobCounts, **problems(422, 503)})
def count_by_state() -> Response:
    """Returns how many jobs are in each state, from counters: it costs the same however many there are."""
    with current_context().db.reading() as tx:
        return answer(JobCounts.from_counts(jobs_by_state(tx)))


@jobs_api.get("/<job_id>", summary="Get a job", responses={"200": JobView, "304": None, **problems(404, 410, 422, 503)})
def get_one(path: JobPath, query: GetJobQuery) -> Response:
    """Returns the job. With `wait=N` (or `Prefer: wait=N`) once it has ended, or after N seconds in its state then.

    While too many requests wait, it returns the job at once, with `Retry-After`.
    """
    wait_s, end = query.wait or _preferred_wait(), waited()
    ctx, tenant = current_context(), current_tenant()
    look = look_at_job(ctx.database, tenant, path.job_id)
    if wait_s > 0 and end is None and not look.state.is_terminal:
        return wait_for([look.id], wait_s, on_end=ctx.hold_place())
    response = status_answer(job_status(ctx, tenant, look))
    refused = end is not None and end.end is WaitEnd.NO_PLACE
    if wait_s and not query.wait and not refused:
        response.headers["Preference-Applied"] = f"wait={wait_s:g}"
    if refused:
        response.headers["Retry-After"] = str(WAIT_AGAIN_S)
    return response


@jobs_api.delete("/<job_id>", summary="Delete a job", responses={"204": None, **problems(403, 404, 409, 422, 503)})
def delete_one(path: JobPath) -> Response:
    """Deletes the files of a job that has ended, and what its row holds; its id is answered with 410 from then on.

    Idempotent. Copies in the caller's own bucket (`deliver_to`) stay. 409: the job has not ended; cancel it first.
    """
    ctx = current_context()
    ctx.db.run(lambda tx: deletion.delete_job(tx, path.job_id), repeatable=True)
    with suppress(StorageError, SQLAlchemyError):  # maintenance deletes them then
        deletion.delete_job_objects(ctx.db, ctx.store, path.job_id)
    return Response(status=HTTPStatus.NO_CONTENT)


@jobs_api.post("/<job_id>/cancel", summary="Cancel a job", responses={"200": JobView, "202": JobView, **_ERRORS})
def cancel_job(path: JobPath) -> Response:
    """Idempotent. 200: canceled. 202: requested; a running job becomes `canceled` when its worker has stopped it.

    409: it has already succeeded or failed.
    """
    ctx = current_context()
    job = ctx.db.run(lambda tx: cancellation.cancel(tx, path.job_id), repeatable=True)
    ctx.publish(job.variant)
    return _job_answer(job.id, HTTPStatus.OK if job.state.is_terminal else HTTPStatus.ACCEPTED)


@jobs_api.post(
    "/<job_id>/retry",
    summary="Retry a job",
    responses={"202": JobView, "200": JobView, **_ERRORS, **problems(429, 507)},
    openapi_extensions={"requestBody": RETRY_BODY},
)
def retry_job(path: JobPath, header: SubmitHeader) -> Response:
    """Creates a new job with the request and the seed of one that has ended. Accepts an `Idempotency-Key`.

    The body may name fields to change, such as `{"seed": null, "prompt": "rain on tin"}`; null: the default, or drawn
    anew. The request is then checked as a whole. 409: the job has not ended.
    """
    ctx = current_context()
    changes: dict[str, Any] = request.get_json() if request.get_data() else {}
    for name in ("video", "image"):
        source = changes.get(name)
        if isinstance(source, str) and UPLOAD_ID.fullmatch(source):
            new_input = JobRequest.model_validate({name: source})
            check_upload(ctx.db, ctx.store, new_input, run=ctx.upload_checks.run)
    key, body_sha256 = header.idempotency_key, hashlib.sha256(request.get_data()).hexdigest()
    submitted = cancellation.retry_and_commit(
        ctx.db,
        path.job_id,
        policy=ctx.policy(),
        changes=changes,
        idempotency=Idempotency(f"POST /v1/jobs/{path.job_id}/retry", key, body_sha256) if key else None,
    )
    return _submitted(ctx, submitted)


def _submitted(ctx: AppContext, submitted: Submitted) -> Response:
    if submitted.replayed:
        response = _job_answer(submitted.job.id, HTTPStatus.OK)
        response.headers["Idempotent-Replayed"] = "true"
        return response
    ctx.publish(submitted.job.variant)
    return _job_answer(submitted.job.id, HTTPStatus.ACCEPTED)


def _job_answer(job_id: str, status: HTTPStatus) -> Response:
    ctx, tenant = current_context(), current_tenant()
    look = look_at_job(ctx.database, tenant, job_id)
    response = Response(job_status(ctx, tenant, look), status, mimetype="application/json")
    response.headers["Location"] = ctx.links_at(look.now, tenant).job(job_id)
    return response


def _preferred_wait() -> float:
    for part in request.headers.get("Prefer", "").split(","):
        name, _, value = part.strip().partition("=")
        if name.lower() == "wait" and value.strip().isdecimal():
            return min(float(value), MAX_WAIT_S)
    return 0.0
