"""Dispatch: publishes queued jobs to the broker, only when a worker slot is free for them, best first.

The database holds the backlog, so the order is exact until a slot is free, a million queued jobs cost the broker
nothing, and `republish_lost` refills a broker that lost its data. `selection` chooses the next jobs; ADR 7 explains why
so few are published at once.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
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

# A worker's slots count for this long after its last heartbeat; maintenance marks it as lost earlier.
HEARD_WITHIN_S = 60.0
# A message younger than this may still be on its way to the queue.
SETTLING_S = 2.0
DEFAULT_DISPATCH_POLICY = DispatchPolicy()


class Publisher(Protocol):
    """The part of `jobs.queue.Broker` that dispatch needs."""

    def publish(self, job_ids: list[str], *, variant: str) -> None:
        """Put one message per job on the variant's queue.

        Raises:
            BrokerUnavailableError: the broker did not accept a message.
        """
        ...

    def enqueued_job_ids(self, variant: str) -> set[str]:
        """Return the ids of the jobs that have a message.

        Raises:
            BrokerUnavailableError: the broker does not answer.
        """
        ...


@dataclass(frozen=True)
class DispatchResult:
    """What a dispatch did.

    Attributes:
        published: how many jobs were published.
        broker_ok: False when the broker did not accept jobs; they stay queued for the next dispatch.
        lock_busy: another process held the dispatch lock for too long; nothing was published.
    """

    published: int = 0
    broker_ok: bool = True
    lock_busy: bool = False


def dispatch(
    db: Database,
    publisher: Publisher,
    *,
    variants: tuple[str, ...] = (),
    policy: DispatchPolicy = DEFAULT_DISPATCH_POLICY,
) -> DispatchResult:
    """Publish jobs for the free slots of each variant.

    Marks rows as published, commits, then publishes. When the broker does not accept the messages the marks are
    removed. When this process dies in between, `republish_lost` finds rows that are marked but have no message.

    Args:
        variants: only these; empty means all that workers run.
        policy: the settings for priority aging and limits.

    Raises:
        DBAPIError: the database does not answer; `republish_lost` finds what was marked and not published.
    """
    # Most calls find every slot busy; they need not wait for the dispatch lock.
    if not db.run_reading(lambda tx: _free_slots_by_variant(tx, variants)):
        return DispatchResult()
    try:
        # Repeatable: rows marked by a commit with unknown result occupy their slots until `republish_lost` finds them.
        selected = db.run(lambda tx: _select(tx, variants, policy), repeatable=True)
    except DispatchLockBusyError as exc:
        log.warning("%s; queued jobs wait for the next maintenance", exc)
        return DispatchResult(lock_busy=True)
    published, broker_ok = 0, True
    for variant, job_ids in selected.items():
        if not job_ids:
            continue
        if _publish(db, publisher, variant, job_ids):
            published += len(job_ids)
        else:
            broker_ok = False
    return DispatchResult(published, broker_ok)


def republish_lost(db: Database, publisher: Publisher, *, policy: DispatchPolicy = DEFAULT_DISPATCH_POLICY) -> int:
    """Publish again the jobs that are marked as published but have no message (the broker lost it); return how many.

    Raises:
        BrokerUnavailableError: the broker does not answer; nothing was changed.
    """
    marked = db.run_reading(_marked)
    lost = 0
    for variant, job_ids in marked.items():
        enqueued = publisher.enqueued_job_ids(variant)
        missing = [job_id for job_id in job_ids if job_id not in enqueued]
        if missing:
            log.warning("%d published jobs of %s had no message; queuing them again", len(missing), variant)
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
    """Return how many more jobs may be enqueued for each variant; variants without free slots or jobs are left out."""
    windows = {name: capacity.window for name, capacity in capacities(tx, heard_within_s=HEARD_WITHIN_S).items()}
    counted = select(Job.variant, func.count()).where(Job.published_at.is_not(None)).group_by(Job.variant)
    enqueued = {row[0]: row[1] for row in tx.session.execute(counted)}
    free_slots = {name: windows.get(name, 0) - enqueued.get(name, 0) for name in variants or sorted(windows)}
    return {name: count for name, count in free_slots.items() if count > 0 and _has_dispatchable(tx, name)}


def _has_dispatchable(tx: Transaction, variant: str) -> bool:
    # Ordered as the index is: otherwise PostgreSQL may scan the table from its start, past all ended jobs.
    order = (Job.priority, Job.tenant, Job.created_at, Job.id)
    in_lane = select(Job.id).where(Job.variant == variant, IN_LANE).order_by(*order).limit(1)
    retry_due = select(Job.id).where(Job.variant == variant, Job.retry_at <= tx.now).limit(1)
    return any(tx.session.scalar(query) is not None for query in (in_lane, retry_due))


def _publish(db: Database, publisher: Publisher, variant: str, job_ids: list[str]) -> bool:
    try:
        publisher.publish(job_ids, variant=variant)
    except BrokerUnavailableError as exc:
        log.warning("%s; %d jobs stay queued until the broker answers", exc, len(job_ids))
        _unmark(db, job_ids)
        return False
    return True


def _unmark(db: Database, job_ids: list[str]) -> None:
    # A second run may unmark a job that has got its message by then: its second message claims nothing.
    unmark = update(Job).where(Job.id.in_(job_ids), QUEUED).values(published_at=None)
    db.run(lambda tx: tx.session.execute(unmark), repeatable=True)
