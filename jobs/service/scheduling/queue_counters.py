"""How many jobs wait, counted as they come and go: a number that is read without looking at a million rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast
from zlib import crc32

from sqlalchemy import delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from jobs.db.database import Transaction
from jobs.db.tables import Job, QueuedCount
from jobs.lifecycle import State

SHARDS = 8
_PENDING = "queued_counts"

_Key = tuple[str, int, str, int]


@dataclass(frozen=True)
class Lane:
    """What one tenant has waiting at one priority for one variant."""

    variant: str
    priority: int
    tenant: str


def adjust_count(tx: Transaction, lane: Lane, job_id: str, change: int) -> None:
    """Note that a job came into its lane (+1) or left it (-1).

    Written just before the commit and in one order, so that the counts, which everybody wants, are the last locks
    that a transaction takes: they are held for the commit alone, and two transactions never wait for each other. A
    step that counts must therefore not be undone by a savepoint.
    """
    pending = cast("dict[_Key, int]", tx.session.info.setdefault(_PENDING, {}))
    if not pending:
        tx.before_commit.append(lambda: _write(tx))
    key = (lane.variant, lane.priority, lane.tenant, crc32(job_id.encode()) % SHARDS)
    pending[key] = pending.get(key, 0) + change


def _write(tx: Transaction) -> None:
    pending = cast("dict[_Key, int]", tx.session.info.pop(_PENDING))
    names = ("variant", "priority", "tenant", "shard", "queued")
    rows = [dict(zip(names, (*key, change), strict=True)) for key, change in sorted(pending.items()) if change]
    if not rows:
        return
    is_sqlite = tx.session.get_bind().dialect.name == "sqlite"
    insert = (sqlite.insert if is_sqlite else postgresql.insert)(QueuedCount).values(rows)
    tx.session.execute(
        insert.on_conflict_do_update(
            index_elements=["variant", "priority", "tenant", "shard"],
            set_={"queued": QueuedCount.queued + insert.excluded.queued},
        )
    )


def queued_by_lane(tx: Transaction, variant: str, *, up_to_priority: int) -> dict[tuple[int, str], int]:
    """Return how many jobs wait for a variant by (priority, tenant), down to a priority."""
    query = (
        select(QueuedCount.priority, QueuedCount.tenant, func.sum(QueuedCount.queued))
        .where(QueuedCount.variant == variant, QueuedCount.priority <= up_to_priority)
        .group_by(QueuedCount.priority, QueuedCount.tenant)
    )
    return {(row[0], row[1]): int(row[2]) for row in tx.session.execute(query)}


def queued_by_variant(tx: Transaction) -> dict[str, int]:
    """Return how many jobs wait for each variant that has some."""
    query = select(QueuedCount.variant, func.sum(QueuedCount.queued)).group_by(QueuedCount.variant)
    return {row[0]: int(row[1]) for row in tx.session.execute(query) if row[1] > 0}


def queued_of_tenant(tx: Transaction, tenant: str) -> int:
    """Return how many jobs a tenant has waiting, those of this transaction included."""
    written = tx.session.scalar(select(func.sum(QueuedCount.queued)).where(QueuedCount.tenant == tenant)) or 0
    pending = cast("dict[_Key, int]", tx.session.info.get(_PENDING, {}))
    return int(written) + sum(change for key, change in pending.items() if key[2] == tenant)


def prune_empty_lanes(tx: Transaction) -> None:
    """Remove counts that are zero. A row that is counted up meanwhile is not zero when its turn to go comes."""
    tx.session.execute(delete(QueuedCount).where(QueuedCount.queued == 0))


def recount(tx: Transaction) -> dict[_Key, int]:
    """Return the counts as the rows say them: what the table must hold. Reads every queued job."""
    counts: dict[_Key, int] = {}
    query = select(Job.id, Job.variant, Job.priority, Job.tenant).where(Job.state == State.QUEUED)
    for row in tx.session.execute(query.execution_options(yield_per=10_000)):
        key = (row.variant, row.priority, row.tenant, crc32(row.id.encode()) % SHARDS)
        counts[key] = counts.get(key, 0) + 1
    return counts


def stored_counts(tx: Transaction) -> dict[_Key, int]:
    """Return the counts as the table says them, without the zeros."""
    rows = tx.session.scalars(select(QueuedCount).where(QueuedCount.queued != 0))
    return {(row.variant, row.priority, row.tenant, row.shard): row.queued for row in rows}
