"""`POST /v1/jobs/retry`: retry the ended jobs that match a filter."""

from __future__ import annotations

from flask import Response
from flask_openapi3 import APIBlueprint, Tag

from api.auth import current_principal
from api.context import current_context
from api.presentation import answer
from api.schemas.bulk_retry import BulkRetryBody, BulkRetryView
from api.schemas.responses import problems
from jobs.service.bulk_retry import retry_matching

bulk_retry_api = APIBlueprint("bulk_retry", __name__, url_prefix="/v1/jobs", abp_tags=[Tag(name="jobs")])


@bulk_retry_api.post(
    "/retry",
    summary="Retry jobs by filter",
    responses={"200": BulkRetryView, **problems(400, 413, 415, 422, 429, 503, 507)},
)
def retry_by_filter(body: BulkRetryBody) -> Response:
    """Creates a new job, with the same request and seed, for each ended job that matches, oldest first.

    One request deals with at most `limit` jobs; send it again with `cursor` set to `next_cursor` until that is null.
    A job that has been retried before is not retried again, so the same request may be repeated, also after a lost
    answer, without an `Idempotency-Key`. Jobs that cannot be retried, such as those whose upload has expired, are
    listed in `skipped`. When the queue is full: `stopped` says so after some jobs, 429 before the first.
    """
    ctx = current_context()
    page = retry_matching(
        ctx.db,
        wanted=body.wanted,
        policy=ctx.policy(),
        cursor=body.cursor,
        limit=body.limit,
        dry_run=body.dry_run,
        actor=current_principal().actor,
    )
    if not body.dry_run:
        for variant in sorted({one.variant for one in page.retried}):
            ctx.publish(variant)
    return answer(BulkRetryView.from_page(page, dry_run=body.dry_run))
