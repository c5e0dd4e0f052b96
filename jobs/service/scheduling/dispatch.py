"""From the backlog in SQL to the queue: queued jobs are published only when a slot is free for them, best first.

SQL holds the backlog, so the order is exact until a slot is free, a million waiting jobs cost the broker nothing,
and a wiped broker is refilled by `republish_lost`. Who is next is chosen in `choice`; why the window is so small
stands in ADR 7.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Protocol

from sqlalchemy import func, select, update

from jobs.db.database import Database, Transaction
from jobs.db.tables import IN_LANE, QUEUED, Job
from jobs.queue import BrokerUnavailableError
from jobs.service.scheduling.selection import (
    DispatchLockBusyError,
    DispatchPolicy,
    acquire_dispatch_lock,
    end_retry_backoffs,
    select_next_jobs,
)
from jobs.service.workers import capacities

log = logging.getLogger(__name__)

# A worker is counted for the window this long after it was last heard; the sweep says sooner that it is lost.
HEARD_WITHIN_S = 60.0
# A message younger than this may still be on its way to the queue.
SETTLING_S = 2.0
EVERYBODY_EQUAL = DispatchPolicy()


class Publisher(Protocol):
    """What dispatch needs of `jobs.queue.Broker`."""

    def publish(self, job_ids: list[str], *, variant: str) -> None: ...

    def enqueued_job_ids(self, variant: str) -> set[str]: ...


def dispatch(
    db: Database, publisher: Publisher, *, variants: tuple[str, ...] = (), policy: DispatchPolicy = EVERYBODY_EQUAL
) -> int:
    """Publish what fits into each variant's window; return how many jobs were published.

    Marks rows as published, commits, then publishes. When the broker does not take them the marks are taken back, and
    when this process dies in between, `republish_lost` finds rows marked without a message.

    Args:
        variants: look at these only; empty means all that a worker takes.
        policy: the settings' word on ageing and limits.

    Raises:
        DBAPIError: the database stayed away; what was marked without a message, `republish_lost` finds.
    """
    # Most calls find every slot busy; they need not wait for whoever chooses right now.
    if not db.run_reading(lambda tx: _free_slots_by_variant(tx, variants)):
        return 0
    try:
        # Repeatable: what a commit without an answer has marked occupies its slots and gets its messages from
        # `republish_lost`.
        chosen = db.run(lambda tx: _select(tx, variants, policy), repeatable=True)
    except DispatchLockBusyError as exc:
        log.warning("%s The next jobs wait for the sweep.", exc)
        return 0
    published = 0
    for variant, job_ids in chosen.items():
        if job_ids and _publish(db, publisher, variant, job_ids):
            published += len(job_ids)
    return published


def republish_lost(db: Database, publisher: Publisher, *, policy: DispatchPolicy = EVERYBODY_EQUAL) -> int:
    """Publish again what is marked as published but lies on no belt (the broker was wiped); return how many.

    Raises:
        BrokerUnavailableError: the broker does not answer; nothing was changed.
    """
    marked = db.run_reading(_marked)
    lost = 0
    for variant, job_ids in marked.items():
        enqueued = publisher.enqueued_job_ids(variant)
        missing = [job_id for job_id in job_ids if job_id not in enqueued]
        if missing:
            log.warning("%d published jobs of %s had no message; they are in the backlog again", len(missing), variant)
            _unmark(db, missing)
            lost += len(missing)
    if lost:
        dispatch(db, publisher, policy=policy)
    return lost


def _select(tx: Transaction, variants: tuple[str, ...], policy: DispatchPolicy) -> dict[str, list[str]]:
    """Mark the next jobs of each variant as published; return their ids, best first."""
    acquire_dispatch_lock(tx)
    end_retry_backoffs(tx)
    return {
        variant: select_next_jobs(tx, variant, free_slots=free_slots, policy=policy)
        for variant, free_slots in _free_slots_by_variant(tx, variants).items()
    }


def _marked(tx: Transaction) -> dict[str, list[str]]:
    """Return the jobs that must have a message by now, by variant."""
    query = select(Job.variant, Job.id).where(
        QUEUED, Job.published_at.is_not(None), Job.published_at < tx.now - timedelta(seconds=SETTLING_S)
    )
    marked: dict[str, list[str]] = {}
    for row in tx.session.execute(query):
        marked.setdefault(row.variant, []).append(row.id)
    return marked


def _free_slots_by_variant(tx: Transaction, variants: tuple[str, ...]) -> dict[str, int]:
    """Return how many more jobs each variant's queue may hold; full or empty variants are left out."""
    windows = {name: capacity.window for name, capacity in capacities(tx, heard_within_s=HEARD_WITHIN_S).items()}
    counted = select(Job.variant, func.count()).where(Job.published_at.is_not(None)).group_by(Job.variant)
    enqueued = {row[0]: row[1] for row in tx.session.execute(counted)}
    free_slots = {name: windows.get(name, 0) - enqueued.get(name, 0) for name in variants or sorted(windows)}
    return {name: count for name, count in free_slots.items() if count > 0 and _some_wait(tx, name)}


def _some_wait(tx: Transaction, variant: str) -> bool:
    # The order is the index's. Without one, PostgreSQL may read the table from its start instead, past all that ended.
    order = (Job.priority, Job.tenant, Job.created_at, Job.id)
    in_lane = select(Job.id).where(Job.variant == variant, IN_LANE).order_by(*order).limit(1)
    retry_due = select(Job.id).where(Job.variant == variant, Job.retry_at <= tx.now).limit(1)
    return any(tx.session.scalar(query) is not None for query in (in_lane, retry_due))


def _publish(db: Database, publisher: Publisher, variant: str, job_ids: list[str]) -> bool:
    try:
        publisher.publish(job_ids, variant=variant)
    except BrokerUnavailableError as exc:
        log.warning("%s; %d jobs stay queued until the sweep reaches the broker", exc, len(job_ids))
        _unmark(db, job_ids)
        return False
    return True


def _unmark(db: Database, job_ids: list[str]) -> None:
    # Done twice it may take the mark of a message that is there by now: the job gets another, which claims nothing.
    unmark = update(Job).where(Job.id.in_(job_ids), QUEUED).values(published_at=None)
    db.run(lambda tx: tx.session.execute(unmark), repeatable=True)
