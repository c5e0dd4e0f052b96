"""Creates, reads, enables and deletes triggers, and reads and prunes their events."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update

from jobs.cursor import place_of
from jobs.db.database import Database, Transaction
from jobs.db.tables import Trigger, TriggerEvent
from jobs.errors import TriggerNotFoundError
from jobs.ids import new_id
from jobs.lifecycle import TriggerOutcome, TriggerState
from jobs.triggers.rule import NewTrigger

TRIGGER_ID = re.compile(r"trg_[0-9a-f]{32}")
MAX_PAGE = 200
PRUNE_BATCH = 2000


@dataclass(frozen=True)
class EventCounts:
    """How many of a trigger's stored events had which outcome."""

    submitted: int = 0
    skipped: int = 0
    held: int = 0


def create_trigger(tx: Transaction, rule: NewTrigger) -> Trigger:
    """Store a rule that `jobs.triggers.rule.check_rule` has accepted."""
    trigger = Trigger(
        id=new_id("trg"),
        tenant=tx.tenant,
        name=rule.name,
        bucket=rule.bucket,
        prefix=rule.prefix,
        suffixes=list(rule.suffixes),
        source_field=rule.source_field,
        request=rule.request,
        deliver_to=rule.deliver_to,
        enabled=rule.enabled,
        created_at=tx.now,
    )
    tx.session.add(trigger)
    tx.session.flush()
    return trigger


@dataclass(frozen=True)
class TriggerPage:
    """Triggers, newest first, and the cursor of the next page (None: this is the last page)."""

    triggers: list[Trigger]
    next_cursor: str | None


def list_triggers(tx: Transaction, *, cursor: str | None = None, limit: int = MAX_PAGE) -> TriggerPage:
    """Return one page of the tenant's triggers, by keyset.

    Raises:
        InvalidCursorError: the cursor was not issued by this function.
    """
    query = select(Trigger)
    if cursor is not None:
        query = query.where(Trigger.id < place_of(cursor, TRIGGER_ID))
    limit = min(max(limit, 1), MAX_PAGE)
    rows = list(tx.session.scalars(query.order_by(Trigger.id.desc()).limit(limit + 1)))
    more = len(rows) > limit
    return TriggerPage(rows[:limit], rows[limit - 1].id if more else None)


def get_trigger(tx: Transaction, trigger_id: str) -> Trigger:
    """Return the tenant's trigger.

    Raises:
        TriggerNotFoundError: the tenant has none of this id.
    """
    trigger = tx.session.get(Trigger, trigger_id)
    if trigger is None:
        raise TriggerNotFoundError(f"There is no trigger {trigger_id}.")
    return trigger


def trigger_state(trigger: Trigger) -> TriggerState:
    """Return a trigger's state; `disabled` takes precedence over `paused`."""
    if not trigger.enabled:
        return TriggerState.DISABLED
    return TriggerState.ENABLED if trigger.paused_at is None else TriggerState.PAUSED


def set_trigger_enabled(tx: Transaction, trigger_id: str, *, enabled: bool) -> Trigger:
    """Enable or disable a trigger. Enabling also ends a pause by the rate breaker and retries held events at once.

    Raises:
        TriggerNotFoundError: the tenant has none of this id.
    """
    trigger = get_trigger(tx, trigger_id)
    trigger.enabled = enabled
    if enabled:
        trigger.paused_at, trigger.pause_reason, trigger.resumed_at = None, None, tx.now
        held = (TriggerEvent.trigger_id == trigger_id, TriggerEvent.outcome == TriggerOutcome.HELD)
        tx.session.execute(update(TriggerEvent).where(*held).values(retry_at=tx.now))
    tx.session.flush()
    return trigger


def delete_trigger(tx: Transaction, trigger_id: str) -> None:
    """Delete a trigger and its stored events. Jobs that it made continue.

    Raises:
        TriggerNotFoundError: the tenant has none of this id.
    """
    trigger = get_trigger(tx, trigger_id)
    tx.session.execute(delete(Trigger).where(Trigger.id == trigger.id))


def count_events(tx: Transaction, trigger_ids: list[str]) -> dict[str, EventCounts]:
    """Return the counts of stored events by trigger id."""
    query = (
        select(TriggerEvent.trigger_id, TriggerEvent.outcome, func.count().label("number"))
        .where(TriggerEvent.trigger_id.in_(trigger_ids))
        .group_by(TriggerEvent.trigger_id, TriggerEvent.outcome)
    )
    found: dict[str, dict[str, int]] = {}
    for row in tx.session.execute(query):
        found.setdefault(row.trigger_id, {})[row.outcome] = row.number
    return {trigger_id: EventCounts(**found.get(trigger_id, {})) for trigger_id in trigger_ids}


def latest_events(tx: Transaction, trigger_id: str, limit: int) -> list[TriggerEvent]:
    """Return a trigger's latest stored events, newest first."""
    query = (
        select(TriggerEvent)
        .where(TriggerEvent.trigger_id == trigger_id)
        .order_by(TriggerEvent.received_at.desc(), TriggerEvent.id.desc())
        .limit(limit)
    )
    return list(tx.session.scalars(query))


def jobs_made_since(tx: Transaction, trigger_id: str, since: datetime, *, at_most: int) -> int:
    """Return how many jobs a trigger has made since `since`; counts up to `at_most`."""
    made = (
        select(TriggerEvent.id)
        .where(
            TriggerEvent.trigger_id == trigger_id, TriggerEvent.received_at >= since, TriggerEvent.job_id.is_not(None)
        )
        .limit(at_most)
    )
    return tx.session.scalar(select(func.count()).select_from(made.subquery())) or 0


def prune_events(db: Database, *, older_than_s: float) -> int:
    """Delete stored events older than `older_than_s`, except held ones; return how many (at most a batch)."""
    with db.transaction() as tx:
        old = (
            select(TriggerEvent.id)
            .where(
                TriggerEvent.received_at < tx.now - timedelta(seconds=older_than_s),
                TriggerEvent.outcome != TriggerOutcome.HELD,
            )
            .limit(PRUNE_BATCH)
        )
        ids = list(tx.session.scalars(old))
        if ids:
            tx.session.execute(delete(TriggerEvent).where(TriggerEvent.id.in_(ids)))
    return len(ids)
