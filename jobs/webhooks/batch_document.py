"""The batch as webhooks show it, once its last job has ended. Its names are those of the API's document of a batch."""

from __future__ import annotations

from typing import Any

from jobs.db.batch_tables import Batch
from jobs.db.database import Transaction
from jobs.db.webhook_tables import WebhookDelivery
from jobs.links import ResultLinks
from jobs.service.batches import summary_of
from jobs.webhooks.document_times import shown
from jobs.webhooks.errors import SubjectGoneError


def batch_document(tx: Transaction, delivery: WebhookDelivery, links: ResultLinks) -> dict[str, Any]:
    """Return the document of the batch that a delivery tells of.

    Raises:
        SubjectGoneError: the batch was deleted.
    """
    batch = tx.session.get(Batch, delivery.batch_id)
    if batch is None:
        raise SubjectGoneError(f"batch {delivery.batch_id} was deleted")
    summary = summary_of(tx, batch)
    return {
        "id": batch.id,
        "name": batch.name,
        "state": "finished",
        "total": batch.job_count,
        "counts": {state.value: count for state, count in summary.counts.items()},
        "metadata": batch.labels,
        "created_at": shown(batch.created_at),
        "finished_at": shown(summary.finished_at),
        "links": {"self": links.batch(batch.id), "jobs": links.jobs_page(f"batch={batch.id}")},
    }
