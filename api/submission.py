"""What every call that creates a job from one request does, whatever its shape."""

from __future__ import annotations

from flask import abort

from api.context import AppContext
from api.errors import too_many
from jobs.lifecycle import WebhookBody
from jobs.request import JobRequest
from jobs.service.data_inputs import has_data_input
from jobs.service.submission import Idempotency, Submitted, earlier_job, submit_and_commit
from jobs.service.uploads import check_upload


def submit_request(
    ctx: AppContext,
    body: JobRequest,
    idempotency: Idempotency | None,
    webhook_body: WebhookBody = WebhookBody.JOB,
) -> Submitted:
    """Queue a job, which the caller dispatches, or find that of an earlier call with the same idempotency key.

    Args:
        webhook_body: what the URL receives that the request names.

    Raises:
        RequestInvalidError, IdempotencyMismatchError, QueueFullError, DiskReserveError: as `submit`.
        StorageError: a `data:` URI could not be stored.
        HTTPException: as many uploads as may are received now.
    """
    if has_data_input(body):
        with ctx.db.reading() as tx:
            earlier = earlier_job(tx, idempotency) if idempotency is not None else None
        if earlier is not None:
            return Submitted(earlier, replayed=True)
        with ctx.upload_places.place() as held:
            if not held:
                abort(too_many("uploads"))
            body = ctx.store_data_input(body)
    check_upload(ctx.db, ctx.store, body, run=ctx.upload_checks.run)
    return submit_and_commit(ctx.db, body, policy=ctx.policy(), idempotency=idempotency, webhook_body=webhook_body)
