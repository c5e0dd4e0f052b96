"""From the backlog in SQL to the belt: queued jobs are published only up to a window, best first.

SQL holds the backlog, so priorities are exact, a million waiting jobs cost the broker nothing, and a wiped broker is
refilled by `republish_lost`.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Protocol

from sqlalchemy import func, select, update

from jobs.db.database import Database, Transaction
from jobs.db.tables import Job
from jobs.lifecycle import State
from jobs.queue import BrokerUnavailableError
from jobs.service.workers import slots_by_variant

log = logging.getLogger(__name__)

WINDOW_PER_SLOT = 2
SMALLEST_WINDOW = 8
# A worker is counted for the window this long after it was last heard.
HEARD_WITHIN_S = 60.0
# A message younger than this may still be on its way to the belt.
SETTLING_S = 2.0


class Publisher(Protocol):
    """What dispatch needs of `jobs.queue.Broker`."""

    def publish(self, job_ids: list[str], *, variant: str) -> None: ...

    def job_ids_on_belt(self, variant: str) -> set[str]: ...


def dispatch(db: Database, publisher: Publisher, *, variants: tuple[str, ...] = ()) -> int:
    """Publish what fits into each variant's window; return how many jobs were published.

    Marks rows as published, commits, then publishes. When the broker does not take them the marks are taken back, and
    when this process dies in between, `republish_lost` finds rows marked without a message.

    Args:
        variants: look at these only; empty means all with queued jobs.
    """
    with db.transaction() as tx:
        chosen = {variant: _choose(tx, variant) for variant in variants or _waiting_variants(tx)}
    published = 0
    for variant, job_ids in chosen.items():
        if job_ids and _publish(db, publisher, variant, job_ids):
            published += len(job_ids)
    return published


def republish_lost(db: Database, publisher: Publisher) -> int:
    """Publish again what is marked as published but lies on no belt (the broker was wiped); return how many.

    Raises:
        BrokerUnavailableError: the broker does not answer; nothing was changed.
    """
    with db.reading() as tx:
        marked: dict[str, list[str]] = {}
        query = select(Job.variant, Job.id).where(
            Job.state == State.QUEUED, Job.published_at < tx.now - timedelta(seconds=SETTLING_S)
        )
        for row in tx.session.execute(query):
            marked.setdefault(row.variant, []).append(row.id)
    lost = 0
    for variant, job_ids in marked.items():
        on_belt = publisher.job_ids_on_belt(variant)
        missing = [job_id for job_id in job_ids if job_id not in on_belt]
        if missing:
            log.warning("%d published jobs of %s had no message; publishing them again", len(missing), variant)
            _unmark(db, missing)
            lost += len(missing)
    if lost:
        dispatch(db, publisher)
    return lost


def _waiting_variants(tx: Transaction) -> list[str]:
    return list(tx.session.scalars(select(Job.variant).where(Job.state == State.QUEUED).distinct()))


def _choose(tx: Transaction, variant: str) -> list[str]:
    """Mark the best unpublished jobs, as many as the window has room for. Best: priority, then age."""
    slots = slots_by_variant(tx, heard_within_s=HEARD_WITHIN_S).get(variant, 0)
    window = max(SMALLEST_WINDOW, slots * WINDOW_PER_SLOT)
    waiting = (Job.variant == variant, Job.state == State.QUEUED)
    on_belt = tx.session.scalar(select(func.count()).select_from(Job).where(*waiting, Job.published_at.is_not(None)))
    room = window - (on_belt or 0)
    if room <= 0:
        return []
    query = (
        select(Job.id)
        .where(*waiting, Job.published_at.is_(None), Job.available_at <= tx.now)
        .order_by(Job.priority, Job.created_at, Job.id)
        .limit(room)
        .with_for_update(skip_locked=True)  # two dispatchers share the work on PostgreSQL; SQLite has one writer
    )
    job_ids = list(tx.session.scalars(query))
    tx.session.execute(update(Job).where(Job.id.in_(job_ids)).values(published_at=tx.now))
    return job_ids


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
        tx.session.execute(update(Job).where(Job.id.in_(job_ids), Job.state == State.QUEUED).values(published_at=None))
