"""Secrets and signatures as Standard Webhooks has them."""

from __future__ import annotations

import base64
import math
import secrets
from datetime import datetime, timedelta

from standardwebhooks import Webhook

from jobs.db.webhook_tables import WebhookEndpoint, WebhookSecret

SECRET_BYTES = 32
DEFAULT_OVERLAP_S = 24 * 3600
MAX_OVERLAP_S = 7 * 24 * 3600


SecretRow = WebhookEndpoint | WebhookSecret
"""A row that has a secret and, after a rotation, the one before it."""


def new_secret() -> str:
    """Return a new secret: `whsec_` and 32 random bytes in base64."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def rotate(row: SecretRow, *, now: datetime, overlap_s: int) -> None:
    """Give a row a new secret; deliveries are signed with the one before it as well for `overlap_s` seconds."""
    row.previous_secret = row.secret if overlap_s else None
    row.previous_valid_until = now + timedelta(seconds=overlap_s) if overlap_s else None
    row.secret = new_secret()


def valid_secrets(row: SecretRow, now: datetime) -> tuple[str, ...]:
    """Return the secrets that deliveries are signed with, the present one first."""
    assert row.secret is not None, row
    before, until = row.previous_secret, row.previous_valid_until
    return (row.secret, before) if before is not None and until is not None and now < until else (row.secret,)


def signed_headers(message_id: str, sent_at: datetime, body: str, secrets_: tuple[str, ...]) -> dict[str, str]:
    """Return the headers of a message: its id, its time, and a signature by each secret."""
    signatures = (Webhook(secret).sign(msg_id=message_id, timestamp=sent_at, data=body) for secret in secrets_)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(math.floor(sent_at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
