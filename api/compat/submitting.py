"""Submits jobs for calls in another shape, and the absolute URLs that their clients need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flask import request

from api.context import AppContext
from api.links import LinkBuilder
from api.submission import submit_request
from jobs.db.database import Transaction
from jobs.db.tables import Artifact, Job
from jobs.lifecycle import State, WebhookBody
from jobs.request import JobRequest
from jobs.service.artifacts import artifacts_by_job
from jobs.service.submission import Idempotency


def base_url(ctx: AppContext) -> str:
    """Return what the URLs of this API begin with: `public_url`, or else the address that the caller used."""
    return ctx.settings.public_url.rstrip("/") or request.host_url.rstrip("/")


def own_bases(ctx: AppContext) -> tuple[str, ...]:
    """Return what URLs of this API may begin with."""
    return base_url(ctx), request.host_url.rstrip("/")


def absolute_links(ctx: AppContext, tx: Transaction) -> LinkBuilder:
    """Return the builder of URLs, none of which is relative."""
    return replace(ctx.links(tx), base=base_url(ctx))


def submit_job(ctx: AppContext, body: JobRequest, *, scope: str, key: str | None, webhook_body: WebhookBody) -> Job:
    """Queue a job, or find the one that an earlier call with the same idempotency key created.

    Args:
        scope: method and path of the call.
        webhook_body: what the URL receives that the request names.

    Raises:
        RequestInvalidError, IdempotencyMismatchError, QueueFullError, DiskReserveError: as `submit`.
    """
    submitted = submit_request(ctx, body, Idempotency.of(scope, key, body) if key else None, webhook_body)
    if not submitted.replayed:
        ctx.publish(submitted.job.variant)
    return submitted.job


def artifacts_of(tx: Transaction, job: Job) -> Sequence[Artifact]:
    """Return the artifacts of a job, in order of sample and name; none before it has succeeded."""
    return artifacts_by_job(tx, [job.id])[job.id] if job.state is State.SUCCEEDED else ()
