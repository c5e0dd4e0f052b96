"""The secret of a tenant, which signs the webhooks to URLs that its jobs name themselves."""

from __future__ import annotations

from jobs.db.database import Transaction
from jobs.db.upsert import insert_or_ignore
from jobs.db.webhook_tables import WebhookSecret
from jobs.webhooks.signing import new_secret, rotate


def tenant_secret(tx: Transaction) -> WebhookSecret:
    """Return the secret of the transaction's tenant."""
    return secret_of(tx, tx.tenant)


def secret_of(tx: Transaction, tenant: str) -> WebhookSecret:
    """Return the secret of a tenant; it is made when it is asked for first."""
    row = tx.session.get(WebhookSecret, tenant)
    if row is None:
        # Two transactions may ask first at the same time.
        insert_or_ignore(tx.session, WebhookSecret, {"tenant": tenant, "secret": new_secret(), "created_at": tx.now})
        row = tx.session.get_one(WebhookSecret, tenant)
    return row


def rotate_tenant_secret(tx: Transaction, *, overlap_s: int) -> WebhookSecret:
    """Give the transaction's tenant a new secret; see `signing.rotate`."""
    tenant_secret(tx)
    row = tx.session.get_one(WebhookSecret, tx.tenant, with_for_update=True, populate_existing=True)
    rotate(row, now=tx.now, overlap_s=overlap_s)
    row.rotated_at = tx.now
    tx.session.flush()
    return row
