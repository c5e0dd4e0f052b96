"""From the backlog in SQL to the belt: queued jobs are published only when a slot is free for them, best first.

SQL holds the backlog, so the order is exact until a slot is free, a million waiting jobs cost the broker nothing,
and a wiped broker is refilled by `republish_lost`. Who is next is chosen in `choice`; why the window is so small
stands in ADR 7.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Protocol

from sqlalchemy import func, select, update
from sqlalchemy.exc import OperationalError

from jobs.db.database import Database, Transaction
from jobs.db.tables import IN_LANE, QUEUED, Job
from jobs.queue import BrokerUnavailableError
from jobs.service.choice import DispatchPolicy, become_the_chooser, choose, end_pauses
from jobs.service.workers import capacities

log = logging.getLogger(__name__)

# A worker is counted for the window this long after it was last heard; the sweep says sooner that it is lost.
HEARD_WITHIN_S = 60.0
# A message younger than this may still be on its way to the belt.
SETTLING_S = 2.0
EVERYBODY_EQUAL = DispatchPolicy()
LOCK_NOT_AVAILABLE = "55P03"


class Publisher(Protocol):
    """What dispatch needs of `jobs.queue.Broker`."""

    def publish(self, job_ids: list[str], *, variant: str) -> None: ...

    def job_ids_on_belt(self, variant: str) -> set[str]: ...


def dispatch(
    db: Database, publisher: Publisher, *, variants: tuple[str, ...] = (), policy: DispatchPolicy = EVERYBODY_EQUAL
) -> int:
    """Publish what fits into each variant's window; return how many jobs were published.

    Marks rows as published, commits, then publishes. When the broker does not take them the marks are taken back, and
    when this process dies in between, `republish_lost` finds rows marked without a message.

    Args:
        variants: look at these only; empty means all that a worker takes.
        policy: the settings' word on ageing and limits.
    """
    with db.reading() as tx:
        # Most calls find every slot busy; they need not wait for whoever chooses right now.
        rooms = _rooms(tx, variants)
    chosen: dict[str, list[str]] = {}
    if rooms:
        try:
            with db.transaction() as tx:
                become_the_chooser(tx)
                end_pauses(tx)
                for variant, room in _rooms(tx, variants).items():
                    chosen[variant] = choose(tx, variant, room=room, policy=policy)
        except OperationalError as exc:
            if getattr(exc.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
            log.warning("another process has been choosing for long; the next jobs wait for the sweep")
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
    with db.reading() as tx:
        marked: dict[str, list[str]] = {}
        query = select(Job.variant, Job.id).where(
            QUEUED, Job.published_at.is_not(None), Job.published_at < tx.now - timedelta(seconds=SETTLING_S)
        )
        for row in tx.session.execute(query):
            marked.setdefault(row.variant, []).append(row.id)
    lost = 0
    for variant, job_ids in marked.items():
        on_belt = publisher.job_ids_on_belt(variant)
        missing = [job_id for job_id in job_ids if job_id not in on_belt]
        if missing:
            log.warning("%d published jobs of %s had no message; they are in the backlog again", len(missing), variant)
            _unmark(db, missing)
            lost += len(missing)
    if lost:
        dispatch(db, publisher, policy=policy)
    return lost


def _rooms(tx: Transaction, variants: tuple[str, ...]) -> dict[str, int]:
    """Return how many more jobs each variant's belt may hold; variants without room or waiting jobs are left out."""
    windows = {name: capacity.window for name, capacity in capacities(tx, heard_within_s=HEARD_WITHIN_S).items()}
    counted = select(Job.variant, func.count()).where(Job.published_at.is_not(None)).group_by(Job.variant)
    on_belt = {row[0]: row[1] for row in tx.session.execute(counted)}
    rooms = {name: windows.get(name, 0) - on_belt.get(name, 0) for name in variants or sorted(windows)}
    return {name: room for name, room in rooms.items() if room > 0 and _some_wait(tx, name)}


def _some_wait(tx: Transaction, variant: str) -> bool:
    in_lane = select(Job.id).where(Job.variant == variant, IN_LANE).limit(1)
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
    with db.transaction() as tx:
        tx.session.execute(update(Job).where(Job.id.in_(job_ids), QUEUED).values(published_at=None))
