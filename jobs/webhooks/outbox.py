"""Adds deliveries to the outbox, in the transaction of what they tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import and_, case, func, or_, select, update

from jobs.db.database import Transaction
from jobs.db.upsert import insert_all_or_ignore
from jobs.db.webhook_tables import WebhookDelivery, WebhookEndpoint
from jobs.ids import new_id
from jobs.lifecycle import DeliveryState, WebhookBody, WebhookEvent


@dataclass(frozen=True)
class Message:
    """What is told, whoever receives it.

    Attributes:
        key: names the event among those of an endpoint.
    """

    event: WebhookEvent
    body_kind: WebhookBody
    key: str
    occurred_at: datetime
    position: int | None = None
    job_id: str | None = None
    batch_id: str | None = None
    detail: dict[str, Any] = field(default_factory=dict)


def delivery_row(tx: Transaction, endpoint: WebhookEndpoint, message: Message) -> dict[str, Any]:
    """Return the columns of a delivery; for a disabled endpoint it is dropped, with the reason."""
    dropped = endpoint.disabled_at is not None
    return {
        "id": new_id("msg"),
        "tenant": endpoint.tenant,
        "endpoint_id": endpoint.id,
        "event": message.event,
        "event_key": message.key,
        "position": message.position,
        "body_kind": message.body_kind,
        "job_id": message.job_id,
        "batch_id": message.batch_id,
        "detail": message.detail,
        "occurred_at": message.occurred_at,
        "state": DeliveryState.DROPPED if dropped else DeliveryState.PENDING,
        "tries": 0,
        "probes": 0,
        "next_try_at": None if dropped else tx.now,
        "ended_at": tx.now if dropped else None,
        "last_error": f"the endpoint is disabled: {endpoint.disabled_reason}" if dropped else None,
        "overtaken": False,
        "created_at": tx.now,
    }


def add_deliveries(tx: Transaction, rows: Sequence[dict[str, Any]]) -> None:
    """Add deliveries in their order, except those that their endpoints have already; tell the senders."""
    insert_all_or_ignore(tx.session, WebhookDelivery, rows)
    mark_due(tx, {row["endpoint_id"] for row in rows if row["state"] is DeliveryState.PENDING})


def mark_due(tx: Transaction, endpoint_ids: Iterable[str]) -> None:
    """Tell the senders that there is something new for some endpoints; one that fails keeps the time of its retry."""
    ids = sorted(set(endpoint_ids))
    if not ids:
        return
    waits = and_(WebhookEndpoint.retry_at.is_not(None), WebhookEndpoint.retry_at > tx.now)
    sooner = or_(WebhookEndpoint.due_at.is_(None), WebhookEndpoint.due_at > tx.now)
    due = case(
        (waits, func.coalesce(WebhookEndpoint.due_at, WebhookEndpoint.retry_at)),
        (sooner, tx.now),
        else_=WebhookEndpoint.due_at,
    )
    # Locked in the order of their ids, so that two transactions do not deadlock.
    locked = select(WebhookEndpoint.id).where(WebhookEndpoint.id.in_(ids)).order_by(WebhookEndpoint.id)
    tx.session.execute(locked.with_for_update(key_share=True))
    tx.session.execute(
        update(WebhookEndpoint).where(WebhookEndpoint.id.in_(ids)).values(due_at=due),
        execution_options={"synchronize_session": False},
    )
