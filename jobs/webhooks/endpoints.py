"""Registered endpoints: create, list, change, enable, disable, delete; and the rows of the URLs that jobs name."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import delete, func, select, update

from jobs.cursor import place_of
from jobs.db.database import Transaction
from jobs.db.upsert import insert_or_ignore
from jobs.db.webhook_tables import WebhookDelivery, WebhookEndpoint
from jobs.ids import new_id
from jobs.lifecycle import DEFAULT_WEBHOOK_EVENTS, JOB_WEBHOOK_EVENTS, DeliveryState, WebhookEvent
from jobs.service.audit import record_action
from jobs.webhooks.errors import EndpointNotFoundError, TooManyEndpointsError
from jobs.webhooks.signing import new_secret, rotate

log = logging.getLogger(__name__)

ENDPOINT_ID = re.compile(r"whe_[0-9a-f]{32}")
MAX_PAGE = 200
MAX_ENDPOINTS = 50
ENDPOINT_EVENTS = (*JOB_WEBHOOK_EVENTS, WebhookEvent.BATCH_FINISHED)
"""What an endpoint may receive."""
DEFAULT_ENDPOINT_EVENTS = (*DEFAULT_WEBHOOK_EVENTS, WebhookEvent.BATCH_FINISHED)
BY_CALLER = "the owner disabled it"


def host_of(url: str) -> str:
    """Return scheme, host and port of a URL that `jobs.outbound` allows."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()[:300]


def create_endpoint(
    tx: Transaction, url: str, *, events: Sequence[WebhookEvent], description: str | None
) -> WebhookEndpoint:
    """Register an endpoint of the transaction's tenant; `jobs.outbound` has checked the URL.

    Raises:
        TooManyEndpointsError: the tenant has as many as allowed.
    """
    query = select(func.count()).select_from(WebhookEndpoint).where(*_registered(tx))
    if (count := tx.session.scalar(query) or 0) >= MAX_ENDPOINTS:
        raise TooManyEndpointsError(
            f"There are {count} webhook endpoints, at most {MAX_ENDPOINTS} are allowed; delete one first."
        )
    endpoint = WebhookEndpoint(
        id=new_id("whe"),
        tenant=tx.tenant,
        registered=True,
        url=url,
        host=host_of(url),
        events=list(events),
        description=description,
        secret=new_secret(),
        created_at=tx.now,
    )
    tx.session.add(endpoint)
    tx.session.flush()
    return endpoint


@dataclass(frozen=True)
class EndpointPage:
    """Endpoints, newest first, and the cursor of the next page (None: this is the last page)."""

    endpoints: list[WebhookEndpoint]
    next_cursor: str | None


def list_endpoints(tx: Transaction, *, cursor: str | None = None, limit: int = MAX_PAGE) -> EndpointPage:
    """Return one page of the tenant's registered endpoints, by keyset.

    Raises:
        InvalidCursorError: the cursor was not issued by this function.
    """
    query = select(WebhookEndpoint).where(*_registered(tx))
    if cursor is not None:
        query = query.where(WebhookEndpoint.id < place_of(cursor, ENDPOINT_ID))
    limit = min(max(limit, 1), MAX_PAGE)
    rows = list(tx.session.scalars(query.order_by(WebhookEndpoint.id.desc()).limit(limit + 1)))
    more = len(rows) > limit
    return EndpointPage(rows[:limit], rows[limit - 1].id if more else None)


def get_endpoint(tx: Transaction, endpoint_id: str, *, lock: bool = False) -> WebhookEndpoint:
    """Return a registered endpoint of the tenant.

    Args:
        lock: it is changed in this transaction.

    Raises:
        EndpointNotFoundError: the tenant has none of this id.
    """
    query = select(WebhookEndpoint).where(*_registered(tx), WebhookEndpoint.id == endpoint_id)
    if lock:
        query = query.with_for_update(key_share=True)
    endpoint = tx.session.scalar(query.execution_options(populate_existing=True))
    if endpoint is None:
        raise EndpointNotFoundError(f"There is no webhook endpoint {endpoint_id}.")
    return endpoint


def _registered(tx: Transaction) -> tuple[Any, ...]:
    return WebhookEndpoint.tenant == tx.tenant, WebhookEndpoint.registered


def change_endpoint(
    tx: Transaction,
    endpoint_id: str,
    *,
    url: str | None = None,
    events: Sequence[WebhookEvent] | None = None,
    description: str | None = None,
    enabled: bool | None = None,
) -> WebhookEndpoint:
    """Change what is given. What is pending goes to the new URL; disabling drops it.

    Raises:
        EndpointNotFoundError: the tenant has none of this id.
    """
    endpoint = get_endpoint(tx, endpoint_id, lock=True)
    if url is not None:
        endpoint.url, endpoint.host = url, host_of(url)
    if events is not None:
        endpoint.events = list(events)
    if description is not None:
        endpoint.description = description or None
    if enabled is False and endpoint.disabled_at is None:
        disable(tx, endpoint, BY_CALLER)
    if enabled is True and endpoint.disabled_at is not None:
        enable(endpoint)
    tx.session.flush()
    return endpoint


def rotate_endpoint_secret(tx: Transaction, endpoint_id: str, *, overlap_s: int) -> WebhookEndpoint:
    """Give an endpoint a new secret; see `signing.rotate`.

    Raises:
        EndpointNotFoundError: the tenant has none of this id.
    """
    endpoint = get_endpoint(tx, endpoint_id, lock=True)
    rotate(endpoint, now=tx.now, overlap_s=overlap_s)
    tx.session.flush()
    return endpoint


def delete_endpoint(tx: Transaction, endpoint_id: str) -> None:
    """Delete an endpoint and its deliveries.

    Raises:
        EndpointNotFoundError: the tenant has none of this id.
    """
    endpoint = get_endpoint(tx, endpoint_id)
    tx.session.execute(delete(WebhookEndpoint).where(WebhookEndpoint.id == endpoint.id))


def enable(endpoint: WebhookEndpoint) -> None:
    """Enable an endpoint; events that come from now on are delivered, dropped deliveries can be replayed."""
    endpoint.disabled_at = endpoint.disabled_reason = None
    endpoint.failing_since = endpoint.retry_at = None


def disable(tx: Transaction, endpoint: WebhookEndpoint, reason: str) -> int:
    """Disable an endpoint and drop what is pending for it, with a log line; return how many were dropped.

    Where the platform disables it, that is also an audit event.
    """
    tx.require_own(endpoint.tenant)
    endpoint.disabled_at, endpoint.disabled_reason = tx.now, reason
    endpoint.failing_since = endpoint.retry_at = endpoint.due_at = None
    dropped = drop_pending(tx, endpoint.id, f"the endpoint was disabled: {reason}")
    if reason != BY_CALLER:
        record_action(
            tx, "webhooks", "webhook.disable", endpoint.id, tenant=endpoint.tenant, reason=reason, dropped=dropped
        )
    name, tenant = endpoint.id, endpoint.tenant
    tx.after_commit.append(
        lambda: log.warning(
            "webhook endpoint %s of tenant %s is disabled: %s; %d deliveries dropped", name, tenant, reason, dropped
        )
    )
    return dropped


def drop_pending(tx: Transaction, endpoint_id: str, why: str) -> int:
    """Give up the pending deliveries of an endpoint; return how many."""
    dropped = tx.session.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.endpoint_id == endpoint_id, WebhookDelivery.state == DeliveryState.PENDING)
        .values(state=DeliveryState.DROPPED, next_try_at=None, ended_at=tx.now, last_error=why)
        .returning(WebhookDelivery.sequence),
        execution_options={"synchronize_session": False},
    )
    return len(dropped.all())


def url_endpoint(tx: Transaction, *, tenant: str, url: str) -> WebhookEndpoint:
    """Return the row of a URL that jobs of a tenant name; it is made for the first of them."""
    endpoint_id = "whu_" + hashlib.sha256(f"{tenant} {url}".encode()).hexdigest()[:32]
    endpoint = tx.session.get(WebhookEndpoint, endpoint_id)
    if endpoint is None:
        insert_or_ignore(
            tx.session,
            WebhookEndpoint,
            {
                "id": endpoint_id,
                "tenant": tenant,
                "registered": False,
                "url": url,
                "host": host_of(url),
                "events": [],
                "created_at": tx.now,
            },
        )
        endpoint = tx.session.get_one(WebhookEndpoint, endpoint_id)
    return endpoint
