"""INSERT ... ON CONFLICT behaves the same on both databases."""

from __future__ import annotations

from sqlalchemy import select

from jobs.db.database import Database
from jobs.db.tables import QueuedCount, TenantQuota
from jobs.db.upsert import insert_or_ignore, upsert

KEY = ("variant", "priority", "tenant", "shard")


def test_a_row_is_inserted_once(db: Database) -> None:
    with db.transaction() as tx:
        assert insert_or_ignore(tx.session, TenantQuota, {"tenant": "a", "weight": 1.0})
        assert not insert_or_ignore(tx.session, TenantQuota, {"tenant": "a", "weight": 2.0})
    with db.reading() as tx:
        assert [(row.tenant, row.weight) for row in tx.session.scalars(select(TenantQuota))] == [("a", 1.0)]


def test_existing_rows_are_updated_from_the_new_ones(db: Database) -> None:
    def add(*counts: tuple[int, int]) -> None:
        rows = [{"variant": "v", "priority": 1, "tenant": "a", "shard": shard, "queued": n} for shard, n in counts]
        with db.transaction() as tx:
            upsert(
                tx.session, QueuedCount, rows, key=KEY, update=lambda new: {"queued": QueuedCount.queued + new.queued}
            )

    add((0, 2), (1, 5))
    add((1, -3), (2, 1))
    with db.reading() as tx:
        rows = tx.session.scalars(select(QueuedCount).order_by(QueuedCount.shard))
        assert [(row.shard, row.queued) for row in rows] == [(0, 2), (1, 2), (2, 1)]
