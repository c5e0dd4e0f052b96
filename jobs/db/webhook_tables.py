"""Tables of webhooks: who is called, what is to be delivered to them, and every try."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, CheckConstraint, Float, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from jobs.db.base import SERIAL, Base, TenantOwned, one_of, partial_index
from jobs.db.types import enum_column
from jobs.lifecycle import DeliveryState, WebhookBody, WebhookEvent


class WebhookSecret(TenantOwned, Base):
    """The secret of a tenant, for the URLs that its jobs name themselves."""

    __tablename__ = "webhook_secrets"

    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    secret: Mapped[str] = mapped_column(String(80))
    previous_secret: Mapped[str | None] = mapped_column(String(80))
    previous_valid_until: Mapped[datetime | None]
    """Until when deliveries carry a signature by the previous secret as well."""
    created_at: Mapped[datetime]
    rotated_at: Mapped[datetime | None]


class WebhookEndpoint(TenantOwned, Base):
    """A URL that is called: one that was registered, or one that jobs name themselves (one row per tenant and URL).

    Deliveries of an endpoint go one after another. `due_at` and the claim are what several senders share.
    """

    __tablename__ = "webhook_endpoints"
    __table_args__ = (
        CheckConstraint("(secret IS NOT NULL) = registered", name="secret_when_registered"),
        CheckConstraint("(claimed_by IS NULL) = (claimed_until IS NULL)", name="claim_ends"),
        CheckConstraint("(disabled_at IS NULL) = (disabled_reason IS NULL)", name="disabled_for_a_reason"),
        CheckConstraint("(failing_since IS NULL) = (retry_at IS NULL)", name="retry_while_failing"),
        Index("ix_webhook_endpoints_tenant_page", "tenant", "id"),
        partial_index("ix_webhook_endpoints_due", "due_at", where="due_at IS NOT NULL"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    """`whe_` and a UUIDv7; of a URL that jobs name: `whu_` and a hash of tenant and URL."""
    registered: Mapped[bool] = mapped_column(Boolean)
    """False: jobs name the URL."""
    url: Mapped[str] = mapped_column(Text)
    host: Mapped[str] = mapped_column(String(300))
    """Scheme, host and port of the URL."""
    events: Mapped[list[Any]]
    """Which events a registered endpoint receives."""
    description: Mapped[str | None] = mapped_column(String(200))
    secret: Mapped[str | None] = mapped_column(String(80))
    """NULL: the tenant's."""
    previous_secret: Mapped[str | None] = mapped_column(String(80))
    previous_valid_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]
    disabled_reason: Mapped[str | None] = mapped_column(Text)
    failing_since: Mapped[datetime | None]
    """First failure since the last success; NULL: the last delivery succeeded."""
    retry_at: Mapped[datetime | None]
    """While it fails: when its oldest delivery is tried again."""
    last_success_at: Mapped[datetime | None]
    due_at: Mapped[datetime | None]
    """When a sender has something to do for it; NULL: nothing is pending."""
    claimed_by: Mapped[str | None] = mapped_column(String(40))
    claimed_until: Mapped[datetime | None]


class JobWebhook(TenantOwned, Base):
    """The URL that a job names itself."""

    __tablename__ = "job_webhooks"
    __table_args__ = (CheckConstraint(one_of("body_kind", WebhookBody), name="body_kind_known"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    url: Mapped[str] = mapped_column(Text)
    events: Mapped[list[Any]]
    body_kind: Mapped[WebhookBody] = mapped_column(enum_column(WebhookBody))
    created_at: Mapped[datetime]


class WebhookDelivery(TenantOwned, Base):
    """One event for one endpoint; `sequence` is the order in which an endpoint receives them."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint(one_of("state", DeliveryState), name="state_known"),
        CheckConstraint(one_of("event", WebhookEvent), name="event_known"),
        CheckConstraint(one_of("body_kind", WebhookBody), name="body_kind_known"),
        CheckConstraint("(state = 'pending') = (next_try_at IS NOT NULL)", name="next_try_while_pending"),
        CheckConstraint("(state = 'pending') = (ended_at IS NULL)", name="ended_unless_pending"),
        Index("uq_webhook_deliveries_event", "endpoint_id", "event_key", unique=True),
        Index("uq_webhook_deliveries_id", "id", unique=True),
        Index("ix_webhook_deliveries_tenant_page", "tenant", "id"),
        Index("ix_webhook_deliveries_tenant_state", "tenant", "state", "id"),
        Index("ix_webhook_deliveries_job", "job_id", "event"),
        Index("ix_webhook_deliveries_endpoint_page", "endpoint_id", "id"),
        partial_index("ix_webhook_deliveries_pending", "endpoint_id", "sequence", where="state = 'pending'"),
        partial_index("ix_webhook_deliveries_ended", "ended_at", where="ended_at IS NOT NULL"),
    )

    sequence: Mapped[int] = mapped_column(SERIAL, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(40))
    """`msg_...`: the header `webhook-id`, the same in every try."""
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    event: Mapped[WebhookEvent] = mapped_column(enum_column(WebhookEvent))
    event_key: Mapped[str] = mapped_column(String(120))
    """Names the event among those of its endpoint, so that none is delivered as two messages."""
    position: Mapped[int | None] = mapped_column(BigInteger)
    """Position of the job's event in the event log; NULL: it is not from there."""
    body_kind: Mapped[WebhookBody] = mapped_column(enum_column(WebhookBody))
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    batch_id: Mapped[str | None] = mapped_column(String(40))
    detail: Mapped[dict[str, Any]]
    """`attempt` and `data` of the job's event."""
    occurred_at: Mapped[datetime]
    state: Mapped[DeliveryState] = mapped_column(enum_column(DeliveryState))
    tries: Mapped[int]
    probes: Mapped[int]
    """Tries that do not count, made while an earlier delivery failed, to find out whether only that one is refused."""
    first_tried_at: Mapped[datetime | None]
    next_try_at: Mapped[datetime | None]
    overtaken: Mapped[bool] = mapped_column(Boolean)
    """A later delivery of the endpoint has been accepted: this one holds up nothing any more."""
    last_status: Mapped[int | None]
    last_error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]


class WebhookTry(TenantOwned, Base):
    """One try at a delivery, written before it begins: one without `duration_s` runs, or its process has died."""

    __tablename__ = "webhook_tries"
    __table_args__ = (Index("ix_webhook_tries_delivery", "delivery", "id"),)

    id: Mapped[int] = mapped_column(SERIAL, primary_key=True, autoincrement=True)
    delivery: Mapped[int] = mapped_column(ForeignKey("webhook_deliveries.sequence", ondelete="CASCADE"))
    number: Mapped[int]
    started_at: Mapped[datetime]
    duration_s: Mapped[float | None] = mapped_column(Float)
    status: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(Text)
    answer_start: Mapped[str | None] = mapped_column(Text)
    """The beginning of the answer's body, printable characters only."""


class WebhookCursor(Base):
    """How far the event log has been turned into deliveries, of all tenants."""

    __tablename__ = "webhook_cursors"

    feed: Mapped[str] = mapped_column(String(32), primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger)
