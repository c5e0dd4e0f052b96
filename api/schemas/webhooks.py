"""Webhooks: endpoints, secrets, the delivery log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from api.links import LinkBuilder
from api.schemas.jobs import PageLinks
from api.schemas.parameters import page_cursor
from api.schemas.times import Rfc3339Time, in_utc
from api.schemas.view import Timestamp, View
from jobs.db.webhook_tables import WebhookEndpoint, WebhookSecret, WebhookTry
from jobs.lifecycle import DeliveryState, WebhookBody, WebhookEvent
from jobs.request import Source, Text
from jobs.webhooks.endpoints import DEFAULT_ENDPOINT_EVENTS, ENDPOINT_EVENTS, ENDPOINT_ID, MAX_PAGE
from jobs.webhooks.history import DELIVERY_ID, MAX_REPLAYED, LoggedDelivery
from jobs.webhooks.preview import PreviewedMessage
from jobs.webhooks.signing import DEFAULT_OVERLAP_S, MAX_OVERLAP_S
from jobs.whole_numbers import Whole

EndpointEvent = Literal["started", "progress", "succeeded", "failed", "canceled", "batch_finished"]
_EXAMPLE: dict[str, Any] = {
    "url": "https://app.example.com/hooks/sounds",
    "events": ["succeeded", "failed"],
    "description": "app",
}


def _each_once(value: list[str] | None) -> list[str] | None:
    if value is not None and len(set(value)) != len(value):
        raise ValueError("name each event once")
    return value


class EndpointPath(BaseModel):
    endpoint_id: str = Field(max_length=64, description="Id of the endpoint.")


class DeliveryPath(BaseModel):
    delivery_id: str = Field(max_length=64, description="Id of the delivery, which is the message's `webhook-id`.")


class NewEndpoint(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": _EXAMPLE})

    url: Source = Field(description="http(s) URL that is called. It must have a public address.")
    events: list[EndpointEvent] = Field(
        default_factory=lambda: [*map(str, DEFAULT_ENDPOINT_EVENTS)],  # type: ignore[arg-type]
        min_length=1,
        max_length=len(ENDPOINT_EVENTS),
        description="Which events it receives. Default: the ends of jobs and batches.",
        json_schema_extra={"uniqueItems": True},
    )
    description: Text | None = Field(None, max_length=200, description="For people.")

    _once = field_validator("events")(_each_once)


class EndpointUpdate(BaseModel):
    """What is left out, or null, stays as it is."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"enabled": True}})

    url: Source | None = Field(None, description="What is pending goes to the new URL, too.")
    events: list[EndpointEvent] | None = Field(
        None,
        min_length=1,
        max_length=len(ENDPOINT_EVENTS),
        description="Which events it receives.",
        json_schema_extra={"uniqueItems": True},
    )
    description: Text | None = Field(None, max_length=200, description="For people; empty: none.")
    enabled: bool | None = Field(
        None,
        strict=True,
        description="false: nothing is sent, and what is pending is dropped. true: events count again.",
    )

    _once = field_validator("events")(_each_once)


class RotateBody(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"overlap_s": DEFAULT_OVERLAP_S}})

    overlap_s: Whole = Field(
        DEFAULT_OVERLAP_S,
        ge=0,
        le=MAX_OVERLAP_S,
        strict=True,
        description="How long deliveries carry a signature by the previous secret as well.",
    )


class SecretView(View):
    secret: str = Field(description="`whsec_` and base64; give it to a library of Standard Webhooks.")
    previous_valid_until: Timestamp | None = Field(
        description="Until when deliveries are signed with the previous secret as well; null: they are not."
    )

    @classmethod
    def from_row(cls, row: WebhookEndpoint | WebhookSecret, now: datetime) -> SecretView:
        """Return the document of a secret."""
        assert row.secret is not None, row
        return cls(secret=row.secret, previous_valid_until=_still(row, now))


def _still(row: WebhookEndpoint | WebhookSecret, now: datetime) -> datetime | None:
    until = row.previous_valid_until
    return until if until is not None and until > now else None


class EndpointLinks(View):
    self_: str = Field(alias="self", description="The endpoint itself.")
    secret: str = Field(description="GET shows the secret.")
    rotate: str = Field(description="POST makes a new secret.")
    test: str = Field(description="POST sends a test.")
    deliveries: str = Field(description="What was sent to it.")


class EndpointView(View):
    id: str
    url: str
    events: list[EndpointEvent]
    description: str | None
    state: Literal["enabled", "disabled"]
    disabled_at: Timestamp | None
    disabled_reason: str | None = Field(
        description="Why it is disabled: its owner, an answer 410, or days without a success."
    )
    failing_since: Timestamp | None = Field(
        description="First failure since the last success; null: the last delivery was accepted."
    )
    retry_at: Timestamp | None = Field(description="While it fails: when its oldest delivery is tried again.")
    last_success_at: Timestamp | None
    previous_secret_valid_until: Timestamp | None
    created_at: Timestamp
    links: EndpointLinks

    @classmethod
    def from_row(cls, row: WebhookEndpoint, links: LinkBuilder) -> EndpointView:
        """Return the document of an endpoint."""
        return cls.model_validate(cls._fields(row, links))

    @staticmethod
    def _fields(row: WebhookEndpoint, links: LinkBuilder) -> dict[str, Any]:
        url = links.webhook_endpoint(row.id)
        return {
            "id": row.id,
            "url": row.url,
            "events": row.events,
            "description": row.description,
            "state": "enabled" if row.disabled_at is None else "disabled",
            "disabled_at": row.disabled_at,
            "disabled_reason": row.disabled_reason,
            "failing_since": row.failing_since,
            "retry_at": row.retry_at,
            "last_success_at": row.last_success_at,
            "previous_secret_valid_until": _still(row, links.now),
            "created_at": row.created_at,
            "links": EndpointLinks(
                self_=url,
                secret=f"{url}/secret",
                rotate=f"{url}/secret/rotate",
                test=f"{url}/test",
                deliveries=links.webhooks_page("deliveries", f"endpoint_id={row.id}"),
            ),
        }


class NewEndpointView(EndpointView):
    """A new endpoint, with its secret."""

    secret: str = Field(description="Verifies the signatures. Also at `links.secret`, for keys that may write.")

    @classmethod
    def from_row(cls, row: WebhookEndpoint, links: LinkBuilder) -> NewEndpointView:
        """Return the document of a new endpoint."""
        return cls.model_validate({**cls._fields(row, links), "secret": row.secret})


class ListEndpointsQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    cursor: str | None = page_cursor(ENDPOINT_ID)
    limit: int = Field(50, ge=1, le=MAX_PAGE, description="Maximum number of endpoints on the page.")


class EndpointList(View):
    data: list[EndpointView]
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last one.")
    links: PageLinks


class ListDeliveriesQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    endpoint_id: str | None = Field(None, max_length=64, description="Only deliveries to this endpoint.")
    state: DeliveryState | None = Field(None, description="Only deliveries in this state.")
    job_id: str | None = Field(None, max_length=64, description="Only deliveries about this job.")
    cursor: str | None = page_cursor(DELIVERY_ID)
    limit: int = Field(50, ge=1, le=MAX_PAGE, description="Maximum number of deliveries on the page.")


class TryView(View):
    number: int = Field(description="From 1.")
    started_at: Timestamp
    duration_s: float | None = Field(description="null: it runs, or its process has died.")
    status: int | None = Field(description="HTTP status of the answer; null: there was none.")
    error: str | None = Field(description="Why it failed; null: it did not.")
    answer_start: str | None = Field(description="The beginning of the answer's body.")

    @classmethod
    def from_row(cls, row: WebhookTry) -> TryView:
        """Return the document of a try."""
        return cls(
            number=row.number,
            started_at=row.started_at,
            duration_s=row.duration_s,
            status=row.status,
            error=row.error,
            answer_start=row.answer_start,
        )


class DeliveryLinks(View):
    """URLs around a delivery; null: there is none."""

    self_: str = Field(alias="self", description="The delivery itself.")
    replay: str | None = Field(description="POST sends it again; null while it is tried.")
    endpoint: str | None = Field(description="The endpoint; null: the job named the URL.")
    job: str | None = Field(description="The job that it tells of.")


class DeliveryView(View):
    id: str = Field(description="The message's `webhook-id`, the same in every try.")
    event: WebhookEvent
    event_id: str | None = Field(description="Id of the job's event, as in `GET /v1/events`.")
    body_kind: WebhookBody = Field(description="Shape of the body.")
    endpoint_id: str | None = Field(description="null: the job or batch named the URL.")
    url: str = Field(description="Where it goes.")
    job_id: str | None
    batch_id: str | None
    state: DeliveryState = Field(
        description="`failed`: the last of all tries failed, or the receiver answered 410. `dropped`: the endpoint was "
        "disabled."
    )
    tries: int = Field(description="How many tries there were.")
    next_try_at: Timestamp | None = Field(description="null: it has ended.")
    last_status: int | None = Field(description="HTTP status of the last answer.")
    last_error: str | None = Field(description="Why the last try failed.")
    occurred_at: Timestamp = Field(description="When the event happened.")
    created_at: Timestamp
    delivered_at: Timestamp | None
    log: list[TryView] | None = Field(description="All tries, first to last; null in lists.")
    links: DeliveryLinks

    @classmethod
    def from_logged(
        cls, logged: LoggedDelivery, *, tries: Sequence[WebhookTry] | None, links: LinkBuilder
    ) -> DeliveryView:
        """Return the document of a delivery.

        Args:
            tries: None in lists.
        """
        row, endpoint = logged.row, logged.endpoint
        url = links.webhook_delivery(row.id)
        registered = endpoint.id if endpoint.registered else None
        return cls(
            id=row.id,
            event=row.event,
            event_id=None if row.position is None else str(row.position),
            body_kind=row.body_kind,
            endpoint_id=registered,
            url=endpoint.url,
            job_id=row.job_id,
            batch_id=row.batch_id,
            state=row.state,
            tries=row.tries + row.probes,
            next_try_at=logged.next_try_at,
            last_status=row.last_status,
            last_error=row.last_error,
            occurred_at=row.occurred_at,
            created_at=row.created_at,
            delivered_at=row.ended_at if row.state is DeliveryState.DELIVERED else None,
            log=None if tries is None else [TryView.from_row(one) for one in tries],
            links=DeliveryLinks(
                self_=url,
                replay=None if row.state is DeliveryState.PENDING else f"{url}/replay",
                endpoint=links.webhook_endpoint(registered) if registered is not None else None,
                job=links.job(row.job_id) if row.job_id is not None else None,
            ),
        )


class DeliveryPage(View):
    data: list[DeliveryView]
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last one.")
    links: PageLinks


class ReplayBody(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"since": "2026-01-31T12:00:00Z"}})

    since: Rfc3339Time = Field(description="Only events that happened at this time or later.")
    endpoint_id: str | None = Field(None, max_length=64, description="Only to this endpoint.")

    _in_utc = in_utc("since")


class ReplayView(View):
    replayed: int = Field(description=f"Deliveries that are sent again, at most {MAX_REPLAYED} a call.")
    has_more: bool = Field(description="Whether there are more; call again.")


class ListMessagesQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    after: str | None = Field(
        None,
        pattern=r"^[0-9]{1,18}$",
        description="`next_after` of the previous page. Left out: no messages yet; `next_after` tells where to begin.",
    )
    limit: int = Field(100, ge=1, le=MAX_PAGE, description="Maximum number of messages on the page.")


class MessageView(View):
    id: str = Field(description="A `webhook-id`; not one of a delivery.")
    event: WebhookEvent
    job_id: str | None
    batch_id: str | None
    body: str = Field(description="The body as it would be sent, to be signed as it is.")

    @classmethod
    def from_message(cls, message: PreviewedMessage) -> MessageView:
        """Return the document of a message."""
        return cls(
            id=message.id, event=message.event, job_id=message.job_id, batch_id=message.batch_id, body=message.body
        )


class MessagePage(View):
    data: list[MessageView]
    next_after: str = Field(description="`after` of the next page.")
    has_more: bool = Field(description="Whether the next page may have messages already.")
