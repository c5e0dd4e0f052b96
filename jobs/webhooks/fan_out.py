"""Turns events of the log into deliveries, in order: the deliveries and the cursor are one transaction.

Whatever crashes, no event is lost (the cursor moves with its deliveries) and none is doubled (unique keys). Several
processes may run it; the row of the cursor lets one at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import func, select

from jobs.db.batch_tables import Batch
from jobs.db.database import Database, Transaction
from jobs.db.tables import Job, JobEvent
from jobs.db.upsert import insert_or_ignore
from jobs.db.webhook_tables import JobWebhook, WebhookCursor, WebhookDelivery, WebhookEndpoint
from jobs.lifecycle import WEBHOOK_EVENTS, EventKind, WebhookBody, WebhookEvent
from jobs.service.event_log import read_events, sequence_events
from jobs.webhooks.endpoints import enable, url_endpoint
from jobs.webhooks.outbox import Message, add_delivery, mark_due

FEED = "job_events"
BATCH = 500
PROGRESS_EVERY_S = 5.0
"""A receiver gets at most one `progress` of a job in this time."""


def fan_out(db: Database, *, limit: int = BATCH) -> int:
    """Turn up to `limit` events into deliveries; return how many events were read."""
    sequence_events(db)
    if not db.run_reading(_has_new):
        return 0  # without the lock that SQLite's writers wait for
    return db.run(lambda tx: _fan_out(tx, limit), repeatable=True)


def _fan_out(tx: Transaction, limit: int) -> int:
    cursor = _locked_cursor(tx)
    events = read_events(tx, after=cursor.position, limit=limit)
    if not events:
        return 0
    told = [event for event in events if event.kind in WEBHOOK_EVENTS]
    named = {**_named_by_jobs(tx, told), **_named_by_batches(tx, told)}
    registered = _registered(tx, {event.tenant for event in told})
    touched: set[str] = set()
    for event in told:
        touched.update(_deliver(tx, event, registered[event.tenant], named.get(event.id)))
    mark_due(tx, touched)
    last = events[-1].position
    assert last is not None, events[-1].id
    cursor.position = last
    return len(events)


def _has_new(tx: Transaction) -> bool:
    cursor = tx.session.get(WebhookCursor, FEED)
    return bool(read_events(tx, after=cursor.position if cursor is not None else 0, limit=1))


def _locked_cursor(tx: Transaction) -> WebhookCursor:
    query = select(WebhookCursor).where(WebhookCursor.feed == FEED).with_for_update()
    cursor = tx.session.scalar(query)
    if cursor is None:
        insert_or_ignore(tx.session, WebhookCursor, {"feed": FEED, "position": 0})
        cursor = tx.session.scalars(query).one()
    return cursor


@dataclass(frozen=True)
class _NamedUrl:
    """A URL that the job or the batch of an event names.

    Attributes:
        since: when it was named.
    """

    url: str
    body_kind: WebhookBody
    since: datetime


def _named_by_jobs(tx: Transaction, told: Sequence[JobEvent]) -> dict[int, _NamedUrl]:
    """Return the URLs that jobs name for these events, by the id of the event."""
    job_ids = {event.job_id for event in told}
    rows = tx.session.scalars(select(JobWebhook).where(JobWebhook.job_id.in_(sorted(job_ids))))
    by_job = {row.job_id: row for row in rows}
    return {
        event.id: _NamedUrl(row.url, row.body_kind, row.created_at)
        for event in told
        if (row := by_job.get(event.job_id)) is not None and WEBHOOK_EVENTS[event.kind] in row.events
    }


def _named_by_batches(tx: Transaction, told: Sequence[JobEvent]) -> dict[int, _NamedUrl]:
    """Return the URLs that batches name for their ends, by the id of the event."""
    ends = {event.job_id: event for event in told if event.kind is EventKind.BATCH_FINISHED}
    query = select(Job.id, Batch.webhook_url, Batch.created_at).join(Batch, Batch.id == Job.batch_id)
    rows = tx.session.execute(query.where(Job.id.in_(sorted(ends)), Batch.webhook_url.is_not(None))).all()
    return {ends[row.id].id: _NamedUrl(row.webhook_url, WebhookBody.BATCH, row.created_at) for row in rows}


def _registered(tx: Transaction, tenants: Iterable[str]) -> dict[str, list[WebhookEndpoint]]:
    query = select(WebhookEndpoint).where(
        WebhookEndpoint.tenant.in_(sorted(tenants)), WebhookEndpoint.registered, WebhookEndpoint.disabled_at.is_(None)
    )
    found: dict[str, list[WebhookEndpoint]] = defaultdict(list)
    for endpoint in tx.session.scalars(query.order_by(WebhookEndpoint.id)):
        found[endpoint.tenant].append(endpoint)
    return found


def _deliver(
    tx: Transaction, event: JobEvent, registered: Sequence[WebhookEndpoint], named: _NamedUrl | None
) -> list[str]:
    """Add the deliveries of one event; return the ids of the endpoints that have something to do."""
    told = WEBHOOK_EVENTS[event.kind]
    targets = [
        (endpoint, _body_kind(told))
        for endpoint in registered
        # What happened before it was registered is not for it.
        if told in endpoint.events and event.created_at >= endpoint.created_at
    ]
    if named is None and not targets:
        return []
    if named is not None:
        own = url_endpoint(tx, tenant=event.tenant, url=named.url)
        if own.disabled_at is not None and named.since > own.disabled_at:
            enable(own)  # a later job asks for it anew
        targets.append((own, named.body_kind))
    message, touched = message_of(tx, event), list[str]()
    for endpoint, kind in targets:
        if told is WebhookEvent.PROGRESS and _told_lately(tx, endpoint.id, event):
            continue
        if add_delivery(tx, endpoint, replace(message, body_kind=kind)) and endpoint.disabled_at is None:
            touched.append(endpoint.id)
    return touched


def message_of(tx: Transaction, event: JobEvent) -> Message:
    """Return what registered endpoints are told of an event, one of `WEBHOOK_EVENTS`."""
    told, batch_id = WEBHOOK_EVENTS[event.kind], None
    if told is WebhookEvent.BATCH_FINISHED:
        batch_id = tx.session.scalar(select(Job.batch_id).where(Job.id == event.job_id))
    return Message(
        told,
        _body_kind(told),
        key=f"event:{event.position}",
        occurred_at=event.created_at,
        position=event.position,
        job_id=None if batch_id is not None else event.job_id,
        batch_id=batch_id,
        detail={"attempt": event.attempt, "data": event.data},
    )


def _body_kind(told: WebhookEvent) -> WebhookBody:
    return WebhookBody.BATCH if told is WebhookEvent.BATCH_FINISHED else WebhookBody.JOB


def _told_lately(tx: Transaction, endpoint_id: str, event: JobEvent) -> bool:
    last: datetime | None = tx.session.scalar(
        select(func.max(WebhookDelivery.occurred_at)).where(
            WebhookDelivery.job_id == event.job_id,
            WebhookDelivery.event == WebhookEvent.PROGRESS,
            WebhookDelivery.endpoint_id == endpoint_id,
        )
    )
    return last is not None and event.created_at < last + timedelta(seconds=PROGRESS_EVERY_S)
