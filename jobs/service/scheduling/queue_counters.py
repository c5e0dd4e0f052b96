"""Sharded counters of queued jobs by lane, updated as jobs come and go, so that no query counts a million rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast
from zlib import crc32

from sqlalchemy import delete, func, select

from jobs.db.database import Transaction
from jobs.db.tables import QueuedCount
from jobs.db.upsert import upsert

SHARDS = 8
_PENDING = "queued_counts"
_KEY_COLUMNS = ("variant", "priority", "tenant", "shard")

_Key = tuple[str, int, str, int]


@dataclass(frozen=True)
class Lane:
    """The queued jobs of one tenant at one priority for one variant."""

    variant: str
    priority: int
    tenant: str


def adjust_count(tx: Transaction, lane: Lane, job_id: str, change: int) -> None:
    """Count a job that enters its lane (+1) or leaves it (-1).

    Written just before the commit and in one order, so that the counters, which many transactions update, are the last
    locks that a transaction takes: they are held only for the commit, and no two transactions deadlock. A step that
    counts must therefore not be rolled back to a savepoint.
    """
    tx.require_own(lane.tenant)
    pending = cast("dict[_Key, int]", tx.session.info.setdefault(_PENDING, {}))
    if not pending:
        tx.before_commit.append(lambda: _write(tx))
    key = (lane.variant, lane.priority, lane.tenant, crc32(job_id.encode()) % SHARDS)
    pending[key] = pending.get(key, 0) + change


def _write(tx: Transaction) -> None:
    pending = cast("dict[_Key, int]", tx.session.info.pop(_PENDING))
    names = (*_KEY_COLUMNS, "queued")
    rows = [dict(zip(names, (*key, change), strict=True)) for key, change in sorted(pending.items()) if change]
    if rows:
        upsert(
            tx.session,
            QueuedCount,
            rows,
            key=_KEY_COLUMNS,
            update=lambda excluded: {"queued": QueuedCount.queued + excluded.queued},
        )


def queued_by_lane(tx: Transaction, variant: str, *, up_to_priority: int) -> dict[tuple[int, str], int]:
    """Return how many jobs are queued for a variant by (priority, tenant), for priorities up to a rank."""
    tx.require_platform()
    query = (
        select(QueuedCount.priority, QueuedCount.tenant, func.sum(QueuedCount.queued))
        .where(QueuedCount.variant == variant, QueuedCount.priority <= up_to_priority)
        .group_by(QueuedCount.priority, QueuedCount.tenant)
    )
    return {(row[0], row[1]): int(row[2]) for row in tx.session.execute(query)}


def queued_by_variant(tx: Transaction, *, of_tenant: str | None = None) -> dict[str, int]:
    """Return how many jobs are queued, of all tenants or of one, by variant, for variants that have some."""
    if of_tenant is None:
        tx.require_platform()
    else:
        tx.require_own(of_tenant)
    query = select(QueuedCount.variant, func.sum(QueuedCount.queued)).group_by(QueuedCount.variant)
    if of_tenant is not None:
        query = query.where(QueuedCount.tenant == of_tenant)
    return {row[0]: int(row[1]) for row in tx.session.execute(query) if row[1] > 0}


def queued_of_tenant(tx: Transaction, tenant: str) -> int:
    """Return how many jobs a tenant has queued, including those of this transaction."""
    tx.require_own(tenant)
    written = tx.session.scalar(select(func.sum(QueuedCount.queued)).where(QueuedCount.tenant == tenant)) or 0
    pending = cast("dict[_Key, int]", tx.session.info.get(_PENDING, {}))
    return int(written) + sum(change for key, change in pending.items() if key[2] == tenant)


def prune_empty_lanes(tx: Transaction) -> None:
    """Delete counters that are zero. One that is incremented meanwhile is not zero when the delete locks it."""
    tx.require_platform()
    tx.session.execute(delete(QueuedCount).where(QueuedCount.queued == 0))
