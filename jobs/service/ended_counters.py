"""Sharded counters of ended jobs by tenant and state, and the counts of all states: no query counts a million rows."""

from __future__ import annotations

from typing import cast
from zlib import crc32

from sqlalchemy import func, select

from jobs.db.database import Transaction
from jobs.db.tables import RUNNING, EndedCount, Job
from jobs.db.upsert import upsert
from jobs.lifecycle import State
from jobs.service.scheduling.queue_counters import SHARDS, queued_of_tenant

_PENDING = "ended_counts"
_KEY_COLUMNS = ("tenant", "state", "shard")

_Key = tuple[str, State, int]


def adjust_ended(tx: Transaction, tenant: str, state: State, job_id: str, change: int) -> None:
    """Count a job that ended (+1), or an ended one that is deleted (-1).

    Written just before the commit, as the counters of queued jobs, and always before those: no two transactions
    deadlock.
    """
    pending = cast("dict[_Key, int]", tx.session.info.setdefault(_PENDING, {}))
    if not pending:
        tx.before_commit.insert(0, lambda: _write(tx))
    key = (tenant, state, crc32(job_id.encode()) % SHARDS)
    pending[key] = pending.get(key, 0) + change


def _write(tx: Transaction) -> None:
    pending = cast("dict[_Key, int]", tx.session.info.pop(_PENDING))
    names = (*_KEY_COLUMNS, "ended")
    rows = [dict(zip(names, (*key, change), strict=True)) for key, change in sorted(pending.items()) if change]
    if rows:
        upsert(
            tx.session,
            EndedCount,
            rows,
            key=_KEY_COLUMNS,
            update=lambda excluded: {"ended": EndedCount.ended + excluded.ended},
        )


def jobs_by_state(tx: Transaction) -> dict[State, int]:
    """Return how many jobs the tenant has in each state, without deleted ones.

    Its cost is bounded by the number of counters, and of jobs that run.
    """
    counts = dict.fromkeys(State, 0)
    counts[State.QUEUED] = queued_of_tenant(tx, tx.tenant)
    running = select(func.count()).where(RUNNING, Job.deleted_at.is_(None))
    counts[State.RUNNING] = tx.session.execute(running).scalar_one()
    ended = select(EndedCount.state, func.sum(EndedCount.ended)).where(EndedCount.tenant == tx.tenant)
    for state, count in tx.session.execute(ended.group_by(EndedCount.state)):
        counts[state] = int(count)
    return counts
