"""The delivery log: list, get, and send again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, literal, select, update

from jobs.cursor import place_of
from jobs.db.database import Transaction
from jobs.db.webhook_tables import WebhookDelivery, WebhookEndpoint, WebhookTry
from jobs.ids import new_id
from jobs.lifecycle import DeliveryState, WebhookBody, WebhookEvent
from jobs.webhooks.endpoints import get_endpoint
from jobs.webhooks.errors import DeliveryNotFoundError, DeliveryPendingError, EndpointDisabledError
from jobs.webhooks.outbox import Message, add_deliveries, delivery_row, mark_due

DELIVERY_ID = re.compile(r"msg_[0-9a-f]{32}")
MAX_PAGE = 200
MAX_REPLAYED = 1000
NOT_DELIVERED = (DeliveryState.FAILED, DeliveryState.DROPPED)


@dataclass(frozen=True)
class DeliveryFilter:
    """Conditions of a list of deliveries; None means any."""

    endpoint_id: str | None = None
    state: DeliveryState | None = None
    job_id: str | None = None


@dataclass(frozen=True)
class LoggedDelivery:
    """A delivery and where it goes."""

    row: WebhookDelivery
    endpoint: WebhookEndpoint

    @property
    def next_try_at(self) -> datetime | None:
        """When it is tried next, as far as that is known; None: it has ended."""
        planned, retry_at = self.row.next_try_at, self.endpoint.retry_at
        if planned is None or retry_at is None or self.row.overtaken:
            return planned
        return max(planned, retry_at)


@dataclass(frozen=True)
class DeliveryPage:
    """Deliveries, newest first, and the cursor of the next page (None: this is the last page)."""

    deliveries: list[LoggedDelivery]
    next_cursor: str | None


def list_deliveries(
    tx: Transaction, wanted: DeliveryFilter, *, cursor: str | None = None, limit: int = MAX_PAGE
) -> DeliveryPage:
    """Return one page of the tenant's deliveries, by keyset.

    Raises:
        InvalidCursorError: the cursor was not issued by this function.
    """
    query = _own(tx)
    if wanted.endpoint_id is not None:
        query = query.where(WebhookDelivery.endpoint_id == wanted.endpoint_id)
    if wanted.job_id is not None:
        query = query.where(WebhookDelivery.job_id == wanted.job_id)
    if wanted.state is not None:
        kind = WebhookDelivery.__table__.c.state.type
        query = query.where(WebhookDelivery.state == literal(wanted.state, kind, literal_execute=True))
    if cursor is not None:
        query = query.where(WebhookDelivery.id < place_of(cursor, DELIVERY_ID))
    limit = min(max(limit, 1), MAX_PAGE)
    rows = tx.session.execute(query.order_by(WebhookDelivery.id.desc()).limit(limit + 1)).all()
    found = [LoggedDelivery(row, endpoint) for row, endpoint in rows[:limit]]
    return DeliveryPage(found, found[-1].row.id if len(rows) > limit else None)


def get_delivery(tx: Transaction, delivery_id: str, *, lock: bool = False) -> LoggedDelivery:
    """Return a delivery of the tenant.

    Raises:
        DeliveryNotFoundError: the tenant has none of this id.
    """
    query = _own(tx).where(WebhookDelivery.id == delivery_id)
    if lock:
        query = query.with_for_update(key_share=True, of=WebhookDelivery)
    found = tx.session.execute(query.execution_options(populate_existing=True)).one_or_none()
    if found is None:
        raise DeliveryNotFoundError(f"There is no webhook delivery {delivery_id}.")
    return LoggedDelivery(*found)


def _own(tx: Transaction) -> Select[WebhookDelivery, WebhookEndpoint]:
    return (
        select(WebhookDelivery, WebhookEndpoint)
        .join(WebhookEndpoint, WebhookEndpoint.id == WebhookDelivery.endpoint_id)
        .where(WebhookDelivery.tenant == tx.tenant)
    )


def tries_of(tx: Transaction, delivery: WebhookDelivery) -> list[WebhookTry]:
    """Return the tries at a delivery, first to last."""
    query = select(WebhookTry).where(WebhookTry.delivery == delivery.sequence).order_by(WebhookTry.id)
    return list(tx.session.scalars(query))


def replay(tx: Transaction, delivery_id: str) -> LoggedDelivery:
    """Send a delivery again that has ended, with the same `webhook-id`; its tries begin anew.

    Raises:
        DeliveryNotFoundError: the tenant has none of this id.
        DeliveryPendingError: it is still being tried.
        EndpointDisabledError: enable the endpoint first.
    """
    found = get_delivery(tx, delivery_id, lock=True)
    if found.row.state is DeliveryState.PENDING:
        raise DeliveryPendingError(f"Webhook delivery {delivery_id} is still being tried; it needs no replay.")
    _check_enabled(found.endpoint)
    tx.session.execute(
        update(WebhookDelivery).where(WebhookDelivery.sequence == found.row.sequence).values(**_anew(tx)),
        execution_options={"synchronize_session": False},
    )
    mark_due(tx, [found.endpoint.id])
    tx.session.refresh(found.row)
    return found


def replay_failed(
    tx: Transaction, *, since: datetime, endpoint_id: str | None = None, limit: int = MAX_REPLAYED
) -> tuple[int, bool]:
    """Send again what was not delivered of the events since a time; return how many, and whether there are more.

    Deliveries to disabled endpoints are left out.

    Raises:
        EndpointNotFoundError: the tenant has no endpoint of this id.
        EndpointDisabledError: enable the endpoint first.
    """
    if endpoint_id is not None:
        _check_enabled(get_endpoint(tx, endpoint_id))
    query = (
        select(WebhookDelivery.sequence, WebhookDelivery.endpoint_id)
        .join(WebhookEndpoint, WebhookEndpoint.id == WebhookDelivery.endpoint_id)
        .where(
            WebhookDelivery.tenant == tx.tenant,
            WebhookDelivery.state.in_(NOT_DELIVERED),
            WebhookDelivery.occurred_at >= since,
            WebhookEndpoint.disabled_at.is_(None),
        )
        .order_by(WebhookDelivery.sequence)
        .limit(limit + 1)
    )
    if endpoint_id is not None:
        query = query.where(WebhookDelivery.endpoint_id == endpoint_id)
    found = tx.session.execute(query).all()
    chosen = found[:limit]
    done = tx.session.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.sequence.in_([row.sequence for row in chosen]), WebhookDelivery.state.in_(NOT_DELIVERED))
        .values(**_anew(tx))
        .returning(WebhookDelivery.sequence),
        execution_options={"synchronize_session": False},
    ).all()
    mark_due(tx, {row.endpoint_id for row in chosen})
    return len(done), len(found) > limit


def _anew(tx: Transaction) -> dict[str, Any]:
    return {
        "state": DeliveryState.PENDING,
        "tries": 0,
        "probes": 0,
        "first_tried_at": None,
        "next_try_at": tx.now,
        "ended_at": None,
        "overtaken": False,
    }


def _check_enabled(endpoint: WebhookEndpoint) -> None:
    if endpoint.disabled_at is not None:
        raise EndpointDisabledError(
            f"Webhook endpoint {endpoint.id} is disabled ({endpoint.disabled_reason}); enable it first."
        )


def send_test(tx: Transaction, endpoint_id: str) -> LoggedDelivery:
    """Send a test event to an endpoint, whatever events it receives.

    Raises:
        EndpointNotFoundError: the tenant has no endpoint of this id.
        EndpointDisabledError: enable the endpoint first.
    """
    endpoint = get_endpoint(tx, endpoint_id)
    _check_enabled(endpoint)
    message = Message(WebhookEvent.TEST, WebhookBody.TEST, key=new_id("test"), occurred_at=tx.now)
    row = delivery_row(tx, endpoint, message)
    add_deliveries(tx, [row])
    return get_delivery(tx, row["id"])
