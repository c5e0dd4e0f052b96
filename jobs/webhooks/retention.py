"""Deletes old entries of the delivery log, and the rows of URLs that no job names any more."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import delete, exists, select

from jobs.db.database import Database
from jobs.db.webhook_tables import WebhookDelivery, WebhookEndpoint

BATCH = 1000


def prune_deliveries(db: Database, *, older_than_s: float) -> int:
    """Delete deliveries, with their tries, that ended before `older_than_s` seconds; return how many (up to a batch).

    Pending ones stay, however old they are.
    """
    with db.transaction() as tx:
        horizon = tx.now - timedelta(seconds=older_than_s)
        old = (
            select(WebhookDelivery.sequence)
            .where(WebhookDelivery.ended_at < horizon)
            .order_by(WebhookDelivery.ended_at)
            .limit(BATCH)
        )
        sequences = list(tx.session.scalars(old))
        if sequences:
            tx.session.execute(delete(WebhookDelivery).where(WebhookDelivery.sequence.in_(sequences)))
        unused = (
            select(WebhookEndpoint.id)
            .where(
                ~WebhookEndpoint.registered,
                WebhookEndpoint.created_at < horizon,
                WebhookEndpoint.due_at.is_(None),
                WebhookEndpoint.claimed_by.is_(None),
                ~exists().where(WebhookDelivery.endpoint_id == WebhookEndpoint.id),
            )
            .limit(BATCH)
        )
        ids = list(tx.session.scalars(unused))
        if ids:
            tx.session.execute(delete(WebhookEndpoint).where(WebhookEndpoint.id.in_(ids)))
    return len(sequences)
