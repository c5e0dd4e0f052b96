"""Positions of queued jobs: what they depend on is read once for all jobs of a variant. Its cost does not grow with the
backlog."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from sqlalchemy import ColumnElement, func, select, tuple_

from jobs.db.database import Transaction
from jobs.db.tables import IN_LANE, Job, TenantQuota, VariantQueue
from jobs.service.scheduling.fairness import FairOrder, QueuedJob, TenantSlots, missing_slots
from jobs.service.scheduling.queue_counters import queued_by_lane
from jobs.service.scheduling.selection import lane_heads, occupied_slots, tenant_virtual_times

# Jobs of the same lane that are counted one by one; behind that many the position is estimated from their ages.
COUNTED_PLACES = 1000
_LOWEST_RANK = 2**31 - 1


class Queued(Protocol):
    """What a position needs to know of a queued job."""

    @property
    def id(self) -> str: ...
    @property
    def tenant(self) -> str: ...
    @property
    def priority(self) -> int: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def published_at(self) -> datetime | None: ...


@dataclass
class QueueSnapshot:
    """A variant's queue at one moment.

    Attributes:
        published: jobs whose message is on the broker's queue, the next one first.
        queued: how many jobs are in each lane (priority, tenant), without these.
        lanes: the oldest jobs of the lanes that were asked for.
    """

    published: list[tuple[datetime, str]]
    queued: Counter[tuple[int, str]]
    order: FairOrder
    weights: dict[str, float]
    heads: list[QueuedJob]
    occupied: Counter[str]
    lanes: dict[tuple[int, str], list[tuple[datetime, str]]] = field(default_factory=dict)

    @classmethod
    def read(cls, tx: Transaction, variant: str) -> QueueSnapshot:
        """Read the queue of a variant, in a transaction over all tenants."""
        tx.require_platform()
        query = select(Job.published_at, Job.id, Job.priority, Job.tenant)
        query = query.where(Job.variant == variant, Job.published_at.is_not(None))
        rows = tx.session.execute(query.order_by(Job.published_at, Job.id)).all()
        queued = Counter(queued_by_lane(tx, variant, up_to_priority=_LOWEST_RANK))
        queued.subtract(Counter((row.priority, row.tenant) for row in rows))
        queue = tx.session.get(VariantQueue, variant)
        order = FairOrder(queue.virtual_time if queue else 0.0, 0, tenant_virtual_times(tx, variant))
        weights = {row.tenant: row.weight for row in tx.session.scalars(select(TenantQuota))}
        occupied = Counter({tenant: count for (one, tenant), count in occupied_slots(tx).items() if one == variant})
        return cls(
            [(row.published_at, row.id) for row in rows], queued, order, weights, lane_heads(tx, variant), occupied
        )

    def read_lane(self, tx: Transaction, variant: str, job: Queued) -> None:
        """Read the oldest jobs of a job's lane, for `before_in_lane`, in a transaction over all tenants."""
        tx.require_platform()
        if (job.priority, job.tenant) in self.lanes:
            return
        query = select(Job.created_at, Job.id).where(*_lane(variant, job)).order_by(Job.created_at, Job.id)
        rows = tx.session.execute(query.limit(COUNTED_PLACES + 1))
        self.lanes[job.priority, job.tenant] = [(row.created_at, row.id) for row in rows]

    def counted(self, job: Queued) -> int | None:
        """Return how many jobs of its lane are before a job; None: it is not among those that were read."""
        lane = self.lanes.get((job.priority, job.tenant))
        if lane is None:
            return None
        place = bisect_left(lane, (job.created_at, job.id))
        return place if place <= COUNTED_PLACES else None

    def in_lane(self, job: Queued) -> int:
        """Return how many jobs are in a job's lane."""
        return self.queued[job.priority, job.tenant]

    def position(self, job: Queued, own: Callable[[], int]) -> int:
        """Return a job's position.

        Args:
            own: returns how many jobs of its lane are before it.
        """
        if job.published_at is not None:
            return bisect_left(self.published, (job.published_at, job.id)) + 1
        more_urgent = sum(count for (priority, _), count in self.queued.items() if priority < job.priority)
        before = own()
        return len(self.published) + more_urgent + before + self._others_before(job, before) + 1

    def _others_before(self, job: Queued, own: int) -> int:
        """Return how many jobs of other tenants go before the job that has `own` earlier ones in its lane."""
        heads = {head.tenant: head for head in self.heads if head.priority == job.priority}
        rivals = {
            tenant: TenantSlots(self.weights.get(tenant, 1.0), occupied=self.occupied[tenant])
            for tenant in {*heads, job.tenant}
        }
        # The slots that a tenant lacks of its share go before all turns by virtual time.
        missing = {tenant: max(0, math.ceil(slots)) for tenant, slots in missing_slots(rivals, free_slots=0).items()}
        by_turn = own - missing[job.tenant]
        order = self.order
        own_time = order.tenant_time(job.tenant) + (own if by_turn < 0 else by_turn) / rivals[job.tenant].weight
        before = 0
        for (priority, tenant), count in self.queued.items():
            if priority != job.priority or tenant == job.tenant or tenant not in heads:
                continue
            turns = (own_time - order.tenant_time(tenant)) * rivals[tenant].weight
            # At the same virtual time the older job goes first.
            older = heads[tenant].created_at < job.created_at
            earlier = max(0, math.floor(turns) + 1 if older else math.ceil(turns))
            before += min(count, min(earlier, missing[tenant]) if by_turn < 0 else earlier + missing[tenant])
        return before


def before_in_lane(tx: Transaction, variant: str, job: Queued, in_lane: int) -> int:
    """Return how many jobs of its lane are before a job: counted, or estimated behind `COUNTED_PLACES`."""
    tx.require_platform()
    lane = _lane(variant, job)
    older = select(Job.id).where(*lane, tuple_(Job.created_at, Job.id) < (job.created_at, job.id))
    counted = tx.session.scalar(select(func.count()).select_from(older.limit(COUNTED_PLACES + 1).subquery())) or 0
    if counted <= COUNTED_PLACES:
        return counted
    oldest = tx.session.scalar(select(Job.created_at).where(*lane).order_by(Job.created_at, Job.id).limit(1))
    newest = tx.session.scalar(
        select(Job.created_at).where(*lane).order_by(Job.created_at.desc(), Job.id.desc()).limit(1)
    )
    if oldest is None or newest is None or newest <= oldest:
        return max(counted, in_lane // 2)  # all were created at the same time
    share = (job.created_at - oldest) / (newest - oldest)
    return min(max(counted, round(in_lane * share)), max(counted, in_lane - 1))


def _lane(variant: str, job: Queued) -> tuple[ColumnElement[bool], ...]:
    return (Job.variant == variant, Job.priority == job.priority, Job.tenant == job.tenant, IN_LANE)
