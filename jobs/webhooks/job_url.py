"""The URL that a job names itself: checked at submit, stored beside the job."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import delete, insert

from jobs.db.database import Transaction
from jobs.db.webhook_tables import JobWebhook
from jobs.errors import FieldProblem
from jobs.lifecycle import DEFAULT_WEBHOOK_EVENTS, WebhookBody
from jobs.outbound.errors import OutboundRefusedError
from jobs.outbound.policy import OutboundPolicy, check_url
from jobs.request import JobRequest


def url_problem(field: str, url: str | None, policy: OutboundPolicy) -> FieldProblem | None:
    """Return why this server would not call a URL, as far as its form tells; None: it would."""
    if url is None:
        return None
    try:
        check_url(url, policy)
    except OutboundRefusedError as exc:
        return FieldProblem(field, exc.message)
    return None


def resolved_webhook(request: JobRequest) -> dict[str, Any]:
    """Return the fields of a request about its webhook, with the default events."""
    if request.webhook_url is None:
        return {}
    return {"webhook_events": [str(event) for event in request.webhook_events or DEFAULT_WEBHOOK_EVENTS]}


def remember_webhooks(
    tx: Transaction, jobs: Iterable[tuple[str, Mapping[str, Any]]], *, body_kind: WebhookBody = WebhookBody.JOB
) -> None:
    """Store the URLs that new jobs name, in the transaction that creates the jobs.

    Args:
        jobs: the id of each and its request, with the defaults.
    """
    rows = [
        {
            "job_id": job_id,
            "tenant": tx.tenant,
            "url": request["webhook_url"],
            "events": request["webhook_events"],
            "body_kind": body_kind,
            "created_at": tx.now,
        }
        for job_id, request in jobs
        if request.get("webhook_url") is not None
    ]
    if rows:
        tx.session.execute(insert(JobWebhook), rows)


def forget_webhook(tx: Transaction, job_id: str) -> None:
    """Delete the URL that a job names, when its owner deletes the job."""
    tx.session.execute(delete(JobWebhook).where(JobWebhook.job_id == job_id))


def body_kind_of(tx: Transaction, job_id: str) -> WebhookBody:
    """Return the shape of the bodies that a job's own URL receives."""
    row = tx.session.get(JobWebhook, job_id)
    return row.body_kind if row is not None else WebhookBody.JOB
