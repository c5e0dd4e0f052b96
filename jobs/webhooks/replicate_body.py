"""What the `webhook` of a prediction receives: the prediction as of the event."""

from __future__ import annotations

from typing import Any

from jobs.compat.job_log import JobProgress, num_steps_of
from jobs.compat.replicate_prediction import RunningMoment, prediction_document
from jobs.db.database import Transaction
from jobs.db.tables import Job
from jobs.db.webhook_tables import WebhookDelivery
from jobs.lifecycle import Stage, WebhookEvent
from jobs.links import ResultLinks
from jobs.service.artifacts import artifacts_by_job
from jobs.webhooks.subject import told_job

_RUNNING = {WebhookEvent.STARTED, WebhookEvent.PROGRESS}


def replicate_body(tx: Transaction, delivery: WebhookDelivery, links: ResultLinks) -> dict[str, Any]:
    """Return the prediction that a delivery tells of.

    Raises:
        SubjectGoneError: the job was deleted.
    """
    job = told_job(tx, delivery)
    if delivery.event in _RUNNING:
        return prediction_document(job, [], links, moment=_moment(job, delivery))
    return prediction_document(job, artifacts_by_job(tx, [job.id])[job.id], links)


def _moment(job: Job, delivery: WebhookDelivery) -> RunningMoment:
    named = delivery.detail.get("data", {}).get("stage")
    progress = JobProgress(
        seed=job.request.get("seed"),
        num_steps=num_steps_of(job.request),
        attempt=int(delivery.detail.get("attempt", job.attempt)),
        stage=Stage(named) if named is not None else None,
    )
    return RunningMoment(progress, job.started_at or delivery.occurred_at)
