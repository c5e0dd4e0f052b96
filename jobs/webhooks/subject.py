"""The job that a delivery tells of."""

from __future__ import annotations

from jobs.db.database import Transaction
from jobs.db.tables import Job
from jobs.db.webhook_tables import WebhookDelivery
from jobs.webhooks.errors import SubjectGoneError


def told_job(tx: Transaction, delivery: WebhookDelivery) -> Job:
    """Return the job that a delivery tells of.

    Raises:
        SubjectGoneError: it was deleted.
    """
    job = tx.session.get(Job, delivery.job_id)
    if job is None or job.deleted_at is not None:
        raise SubjectGoneError(f"job {delivery.job_id} was deleted")
    return job
