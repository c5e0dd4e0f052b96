"""What `fal_webhook` receives: the result of a request, or why there is none."""

from __future__ import annotations

from typing import Any

from jobs.compat.fal_request import made_by, webhook_document
from jobs.db.database import Transaction
from jobs.db.webhook_tables import WebhookDelivery
from jobs.links import ResultLinks
from jobs.service.artifacts import artifacts_by_job
from jobs.webhooks.subject import told_job


def fal_body(tx: Transaction, delivery: WebhookDelivery, links: ResultLinks) -> dict[str, Any]:
    """Return what is told of the end of a request.

    Raises:
        SubjectGoneError: the job was deleted.
    """
    job = told_job(tx, delivery)
    return webhook_document(job, made_by(artifacts_by_job(tx, [job.id])[job.id], links.now), links)
