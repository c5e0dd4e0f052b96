"""The counters of queued jobs, and what they must be: tests compare the two after each scenario."""

from __future__ import annotations

from sqlalchemy import func, select

from jobs.db.database import Transaction
from jobs.db.tables import EndedCount, Job, QueuedCount
from jobs.lifecycle import State

_Key = tuple[str, int, str]


def stored_counts(tx: Transaction) -> dict[_Key, int]:
    """Return the counters by lane (variant, priority, tenant), without zeros. No shard is negative."""
    rows = list(tx.session.scalars(select(QueuedCount)))
    counts: dict[_Key, int] = {}
    for row in rows:
        assert row.queued >= 0, (row.variant, row.priority, row.tenant, row.shard, row.queued)
        key = (row.variant, row.priority, row.tenant)
        counts[key] = counts.get(key, 0) + row.queued
    return {key: count for key, count in counts.items() if count}


def ended_counts(tx: Transaction) -> dict[tuple[str, State], int]:
    """Return the counters of ended jobs by tenant and state, without zeros."""
    counts: dict[tuple[str, State], int] = {}
    for row in tx.session.scalars(select(EndedCount)):
        counts[row.tenant, row.state] = counts.get((row.tenant, row.state), 0) + row.ended
    return {key: count for key, count in counts.items() if count}


def recount_ended(tx: Transaction) -> dict[tuple[str, State], int]:
    """Return the number of ended jobs that are not deleted, by tenant and state, counted from the jobs."""
    query = select(Job.tenant, Job.state, func.count()).where(Job.finished_at.is_not(None), Job.deleted_at.is_(None))
    return {(row[0], row[1]): row[2] for row in tx.session.execute(query.group_by(Job.tenant, Job.state))}


def recount(tx: Transaction) -> dict[_Key, int]:
    """Return the number of queued jobs by lane, counted from the jobs."""
    lane = (Job.variant, Job.priority, Job.tenant)
    query = select(*lane, func.count()).where(Job.state == State.QUEUED).group_by(*lane)
    return {(row[0], row[1], row[2]): row[3] for row in tx.session.execute(query)}
