"""What an endpoint for all events would receive, without one: for developers who listen at a terminal."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.db.database import Transaction
from jobs.db.webhook_tables import WebhookDelivery
from jobs.lifecycle import WEBHOOK_EVENTS, WebhookEvent
from jobs.links import ResultLinks
from jobs.service.event_log import last_position, read_page
from jobs.webhooks.bodies import render
from jobs.webhooks.errors import SubjectGoneError
from jobs.webhooks.fan_out import message_of


@dataclass(frozen=True)
class PreviewedMessage:
    """A message as it would be sent."""

    id: str
    event: WebhookEvent
    job_id: str | None
    batch_id: str | None
    body: str


@dataclass(frozen=True)
class PreviewPage:
    """Messages in the order of their events.

    Attributes:
        next_after: `after` of the next page.
        has_more: the next page may have messages already.
    """

    messages: list[PreviewedMessage]
    next_after: int
    has_more: bool


def preview_messages(tx: Transaction, *, after: int | None, links: ResultLinks, limit: int) -> PreviewPage:
    """Return what would be sent for the tenant's events after a position.

    Args:
        after: None: nothing yet; the answer tells where the next page begins.
    """
    if after is None:
        return PreviewPage([], last_position(tx), False)
    page = read_page(tx, after=after, kinds=WEBHOOK_EVENTS, limit=limit)
    messages = []
    for event in page.events:
        message = message_of(tx, event)
        unsent = WebhookDelivery(
            id=f"msg_preview_{event.position}",
            event=message.event,
            body_kind=message.body_kind,
            job_id=message.job_id,
            batch_id=message.batch_id,
            position=message.position,
            detail=message.detail,
            occurred_at=message.occurred_at,
        )
        try:
            body = render(tx, unsent, links)
        except SubjectGoneError:
            continue
        messages.append(PreviewedMessage(unsent.id, message.event, message.job_id, message.batch_id, body))
    return PreviewPage(messages, page.next_after, page.has_more)
