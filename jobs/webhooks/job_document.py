"""The job as webhooks show it: small, and as of the event. Its names are those of the API's document of a job."""

from __future__ import annotations

from typing import Any

from jobs.db.database import Transaction
from jobs.db.tables import Artifact, Job
from jobs.db.webhook_tables import WebhookDelivery
from jobs.lifecycle import Stage, State, WebhookEvent, overall_progress
from jobs.links import ResultLinks
from jobs.service.artifacts import artifact_expired, artifacts_by_job
from jobs.webhooks.document_times import shown
from jobs.webhooks.subject import told_job

_ENDED = {
    WebhookEvent.SUCCEEDED: State.SUCCEEDED,
    WebhookEvent.FAILED: State.FAILED,
    WebhookEvent.CANCELED: State.CANCELED,
}


def job_document(tx: Transaction, delivery: WebhookDelivery, links: ResultLinks) -> dict[str, Any]:
    """Return the document of the job that a delivery tells of.

    Raises:
        SubjectGoneError: the job was deleted.
    """
    job = told_job(tx, delivery)
    state = _ENDED.get(delivery.event, State.RUNNING)
    ended, succeeded = state.is_terminal, state is State.SUCCEEDED
    stage, progress = _advance(delivery, job, ended=ended)
    artifacts = artifacts_by_job(tx, [job.id])[job.id] if succeeded else []
    return {
        "id": job.id,
        "state": state.value,
        "stage": stage,
        "progress": progress,
        "attempt": delivery.detail.get("attempt", job.attempt),
        "variant": job.variant,
        "seed": job.request.get("seed"),
        "prompt": job.request.get("prompt", ""),
        "metadata": job.request.get("metadata", {}),
        "error": job.error if state is State.FAILED else None,
        "warnings": job.warnings if succeeded else [],
        "timings": job.timings if succeeded else {},
        "artifacts": [_artifact(artifact, links) for artifact in artifacts],
        "retry_of": job.retry_of,
        "batch": job.batch_id,
        "created_at": shown(job.created_at),
        "started_at": shown(job.started_at if ended else delivery.occurred_at),
        "finished_at": shown(job.finished_at if ended else None),
        "links": {"self": links.job(job.id)},
    }


def _advance(delivery: WebhookDelivery, job: Job, *, ended: bool) -> tuple[str | None, float]:
    """Return stage and progress as of the event."""
    if ended:
        return None, round(job.progress, 4)
    named = delivery.detail.get("data", {}).get("stage")
    stage = Stage(named) if named is not None else Stage.FETCH
    return stage.value, round(overall_progress(stage, 0.0), 4)


def _artifact(row: Artifact, links: ResultLinks) -> dict[str, Any]:
    expired = artifact_expired(row, links.now)
    return {
        "name": row.name,
        "kind": row.kind.value,
        "format": row.format,
        "url": None if expired else links.artifact(row.job_id, row.name),
        "size_bytes": row.size_bytes,
        "sha256": row.sha256,
        "duration_s": row.duration_s,
        "take": row.take,
        "seed": row.seed,
        "delivered_to": row.delivered_to,
        "expires_at": shown(row.expires_at),
        "expired": expired,
    }
