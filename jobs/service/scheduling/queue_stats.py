"""Statistics of the queues, for operators and autoscalers, and a job's queue position. Their cost does not grow with
the backlog: counts come from `queue_counters`, everything else from an index."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Select, func, select, tuple_

from jobs.db.database import Transaction
from jobs.db.tables import IN_LANE, QUEUED, RUNNING, Job, TenantQuota, VariantQueue
from jobs.lifecycle import State
from jobs.service.scheduling.fairness import FairOrder, TenantSlots, missing_slots
from jobs.service.scheduling.queue_counters import queued_by_lane, queued_by_variant
from jobs.service.scheduling.quotas import paused_variants
from jobs.service.scheduling.selection import lane_heads, occupied_slots, tenant_virtual_times

THROUGHPUT_WINDOW_S = 300.0
# Jobs of the same lane that are counted one by one; behind that many the position is estimated from their ages.
COUNTED_PLACES = 1000


def queue_position(tx: Transaction, job: Job) -> int | None:
    """Return a queued job's position: 1 is next. None when it is not queued.

    A forecast from the present priorities, shares and ages; later jobs that go first, tenants' limits and priority
    aging change it. With more than `COUNTED_PLACES` earlier jobs in the lane it is an estimate.
    """
    tx.require_own(job.tenant)
    if job.state is not State.QUEUED:
        return None
    with tx.over_all_tenants() as numbers:
        return _position(numbers, job)


def _position(tx: Transaction, job: Job) -> int:
    enqueued = _enqueued(tx, job.variant)
    if job.published_at is not None:
        before = select(func.count()).select_from(Job)
        before = before.where(Job.variant == job.variant, tuple_(Job.published_at, Job.id) < (job.published_at, job.id))
        return (tx.session.scalar(before) or 0) + 1
    queued = Counter(queued_by_lane(tx, job.variant, up_to_priority=job.priority))
    queued.subtract(enqueued)
    more_urgent = sum(count for (priority, _), count in queued.items() if priority < job.priority)
    own = _before_in_lane(tx, job, queued[job.priority, job.tenant])
    others = _others_before(tx, job, own, queued)
    return enqueued.total() + more_urgent + own + others + 1


def _enqueued(tx: Transaction, variant: str) -> Counter[tuple[int, str]]:
    query = (
        select(Job.priority, Job.tenant, func.count())
        .where(Job.variant == variant, Job.published_at.is_not(None))
        .group_by(Job.priority, Job.tenant)
    )
    return Counter({(row[0], row[1]): row[2] for row in tx.session.execute(query)})


def _before_in_lane(tx: Transaction, job: Job, in_lane: int) -> int:
    lane = (Job.variant == job.variant, Job.priority == job.priority, Job.tenant == job.tenant, IN_LANE)
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


def _others_before(tx: Transaction, job: Job, own: int, queued: Counter[tuple[int, str]]) -> int:
    """Return how many jobs of other tenants go before the job that has `own` earlier ones in its lane."""
    queue = tx.session.get(VariantQueue, job.variant)
    order = FairOrder(queue.virtual_time if queue else 0.0, 0, tenant_virtual_times(tx, job.variant))
    weights = {row.tenant: row.weight for row in tx.session.scalars(select(TenantQuota))}
    heads = {head.tenant: head for head in lane_heads(tx, job.variant) if head.priority == job.priority}
    occupied = occupied_slots(tx)
    rivals = {
        tenant: TenantSlots(weights.get(tenant, 1.0), occupied=occupied[job.variant, tenant])
        for tenant in {*heads, job.tenant}
    }
    # The slots that a tenant lacks of its share go before all turns by virtual time.
    missing = {tenant: max(0, math.ceil(slots)) for tenant, slots in missing_slots(rivals, free_slots=0).items()}
    by_turn = own - missing[job.tenant]
    own_time = order.tenant_time(job.tenant) + (own if by_turn < 0 else by_turn) / rivals[job.tenant].weight
    before = 0
    for (priority, tenant), count in queued.items():
        if priority != job.priority or tenant == job.tenant or tenant not in heads:
            continue
        turns = (own_time - order.tenant_time(tenant)) * rivals[tenant].weight
        # At the same virtual time the older job goes first.
        older = heads[tenant].created_at < job.created_at
        earlier = max(0, math.floor(turns) + 1 if older else math.ceil(turns))
        before += min(count, min(earlier, missing[tenant]) if by_turn < 0 else earlier + missing[tenant])
    return before


@dataclass(frozen=True)
class QueueStats:
    """Statistics of a variant's queue. Ages and ETA in seconds, throughput over the last five minutes."""

    variant: str
    paused: bool
    queued: int
    running: int
    oldest_queued_age_s: float | None
    throughput_per_min: float
    eta_s: float | None
    """Seconds until all queued jobs are done at this throughput; None without throughput, or while paused."""


def queue_stats(tx: Transaction, variants: tuple[str, ...], *, of_tenant: str | None = None) -> list[QueueStats]:
    """Return the statistics of `variants` and of all variants with queued or running jobs.

    Args:
        of_tenant: count its jobs alone; None: those of all tenants.

    Raises:
        TenantUnboundError: the transaction is not the platform's.
    """
    tx.require_platform()
    own = () if of_tenant is None else (Job.tenant == of_tenant,)
    queued = queued_by_variant(tx, of_tenant=of_tenant)
    running = _counts(tx, select(Job.variant, func.count()).where(RUNNING, *own).group_by(Job.variant))
    paused = paused_variants(tx)
    return [
        _stats(tx, variant, queued.get(variant, 0), running.get(variant, 0), variant in paused, of_tenant)
        for variant in dict.fromkeys([*variants, *sorted(queued), *sorted(running)])
    ]


def _stats(tx: Transaction, variant: str, queued: int, running: int, paused: bool, of_tenant: str | None) -> QueueStats:
    since = tx.now - timedelta(seconds=THROUGHPUT_WINDOW_S)
    done = select(func.count()).where(
        Job.variant == variant, Job.finished_at.is_not(None), Job.finished_at > since, Job.state == State.SUCCEEDED
    )
    first = select(Job.created_at).where(Job.variant == variant, QUEUED).limit(1)
    if of_tenant is None:
        first = first.order_by(Job.created_at)
    else:
        done = done.where(Job.tenant == of_tenant)
        # In the order of the index of a tenant's jobs by state: ids sort by the time of creation.
        first = first.where(Job.tenant == of_tenant).order_by(Job.id)
    per_min = (tx.session.scalar(done) or 0) / (THROUGHPUT_WINDOW_S / 60)
    oldest = tx.session.scalar(first)
    return QueueStats(
        variant=variant,
        paused=paused,
        queued=queued,
        running=running,
        oldest_queued_age_s=(tx.now - oldest).total_seconds() if oldest else None,
        throughput_per_min=round(per_min, 3),
        eta_s=round(queued / per_min * 60, 1) if per_min and not paused else None,
    )


def _counts(tx: Transaction, query: Select[str, int]) -> dict[str, int]:
    return {row[0]: int(row[1]) for row in tx.session.execute(query)}
