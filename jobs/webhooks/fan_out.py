"""Turns events of the log into deliveries, in order: the deliveries and the cursor are one transaction.

Whatever crashes, no event is lost (the cursor moves with its deliveries) and none is doubled (unique keys). Several
processes may run it; the row of the cursor lets one at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select

from jobs.db.batch_tables import Batch
from jobs.db.database import Database, Transaction
from jobs.db.tables import Job, JobEvent
from jobs.db.upsert import insert_or_ignore
from jobs.db.webhook_tables import JobWebhook, WebhookCursor, WebhookDelivery, WebhookEndpoint
from jobs.lifecycle import WEBHOOK_EVENTS, EventKind, WebhookBody, WebhookEvent
from jobs.service.event_log import read_events, sequence_events
from jobs.webhooks.endpoints import enable, url_endpoint
from jobs.webhooks.outbox import Message, add_deliveries, delivery_row

FEED = "job_events"
BATCH = 200
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
    named = _named_urls(tx, told)
    registered = _registered(tx, {event.tenant for event in told})
    rows: list[dict[str, Any]] = []
    for event in told:
        rows += _rows(tx, event, registered[event.tenant], named.get(event.id), rows)
    add_deliveries(tx, rows)
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
    """A URL that the job or the batch of an event names."""

    endpoint: WebhookEndpoint
    body_kind: WebhookBody


def _named_urls(tx: Transaction, told: Sequence[JobEvent]) -> dict[int, _NamedUrl]:
    """Return the URLs that jobs and batches name for these events, by the id of the event."""
    endpoints: dict[tuple[str, str], WebhookEndpoint] = {}

    def named(event: JobEvent, url: str, body_kind: WebhookBody, since: datetime) -> _NamedUrl:
        key = (event.tenant, url)
        if key not in endpoints:
            endpoints[key] = url_endpoint(tx, tenant=event.tenant, url=url)
        endpoint = endpoints[key]
        if endpoint.disabled_at is not None and since > endpoint.disabled_at:
            enable(endpoint)  # a later job asks for it anew
        return _NamedUrl(endpoint, body_kind)

    job_ids, ends = sorted({event.job_id for event in told}), _batch_ends(told)
    by_job = {row.job_id: row for row in tx.session.scalars(select(JobWebhook).where(JobWebhook.job_id.in_(job_ids)))}
    batches = select(Job.id, Batch.webhook_url, Batch.created_at).join(Batch, Batch.id == Job.batch_id)
    by_end = {
        row.id: row
        for row in tx.session.execute(batches.where(Job.id.in_(sorted(ends)), Batch.webhook_url.is_not(None)))
    }
    found: dict[int, _NamedUrl] = {}
    for event in told:
        job, batch = by_job.get(event.job_id), by_end.get(event.job_id)
        if event.kind is EventKind.BATCH_FINISHED:
            if batch is not None:
                found[event.id] = named(event, batch.webhook_url, WebhookBody.BATCH, batch.created_at)
        elif job is not None and WEBHOOK_EVENTS[event.kind] in job.events:
            found[event.id] = named(event, job.url, job.body_kind, job.created_at)
    tx.session.flush()
    return found


def _batch_ends(told: Iterable[JobEvent]) -> set[str]:
    return {event.job_id for event in told if event.kind is EventKind.BATCH_FINISHED}


def _registered(tx: Transaction, tenants: Iterable[str]) -> dict[str, list[WebhookEndpoint]]:
    query = select(WebhookEndpoint).where(
        WebhookEndpoint.tenant.in_(sorted(tenants)), WebhookEndpoint.registered, WebhookEndpoint.disabled_at.is_(None)
    )
    found: dict[str, list[WebhookEndpoint]] = defaultdict(list)
    for endpoint in tx.session.scalars(query.order_by(WebhookEndpoint.id)):
        found[endpoint.tenant].append(endpoint)
    return found


def _rows(
    tx: Transaction,
    event: JobEvent,
    registered: Sequence[WebhookEndpoint],
    named: _NamedUrl | None,
    before: Sequence[dict[str, Any]],
) -> list[dict[str, Any]]:
    """Return the deliveries of one event.

    Args:
        before: those of earlier events, which are not stored yet.
    """
    told = WEBHOOK_EVENTS[event.kind]
    targets = [
        (endpoint, _body_kind(told))
        for endpoint in registered
        # What happened before it was registered is not for it.
        if told in endpoint.events and event.created_at >= endpoint.created_at
    ]
    if named is not None:
        targets.append((named.endpoint, named.body_kind))
    if told is WebhookEvent.PROGRESS:
        targets = [target for target in targets if not _told_lately(tx, target[0].id, event, before)]
    if not targets:
        return []
    message = message_of(tx, event)
    return [delivery_row(tx, endpoint, replace(message, body_kind=kind)) for endpoint, kind in targets]


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


def _told_lately(tx: Transaction, endpoint_id: str, event: JobEvent, before: Sequence[dict[str, Any]]) -> bool:
    """Return whether the endpoint has been told of the job's progress only a moment before this event."""
    stored: datetime | None = tx.session.scalar(
        select(func.max(WebhookDelivery.occurred_at)).where(
            WebhookDelivery.job_id == event.job_id,
            WebhookDelivery.event == WebhookEvent.PROGRESS,
            WebhookDelivery.endpoint_id == endpoint_id,
        )
    )
    new = [
        row["occurred_at"]
        for row in before
        if (row["endpoint_id"], row["job_id"], row["event"]) == (endpoint_id, event.job_id, WebhookEvent.PROGRESS)
    ]
    last = max((time for time in (stored, *new) if time is not None), default=None)
    return last is not None and event.created_at < last + timedelta(seconds=PROGRESS_EVERY_S)
