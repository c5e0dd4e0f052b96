"""How the queues stand: a job's place, and the sums that an operator or an autoscaler reads. Their cost does not
grow with the backlog: counts are kept as they change (`backlog`), everything else is a look into an index."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Select, func, select, tuple_

from jobs.db.database import Transaction
from jobs.db.tables import IN_LANE, QUEUED, RUNNING, Job, TenantQuota, VariantQueue
from jobs.lifecycle import State
from jobs.service.scheduling.fairness import FairOrder, Share, missing_slots
from jobs.service.scheduling.queue_counters import queued_by_lane, queued_by_variant
from jobs.service.scheduling.quotas import paused_variants
from jobs.service.scheduling.selection import lane_heads, occupied_slots, tenant_virtual_times

THROUGHPUT_WINDOW_S = 300.0
# Jobs of one's own lane that are counted one by one; behind that many the place is estimated by age.
COUNTED_PLACES = 1000


def queue_position(tx: Transaction, job: Job) -> int | None:
    """Return when a queued job's turn is: 1 is next. None when it is not queued.

    A forecast from priorities, shares and ages as they are: what comes later with more right to be next, tenants'
    limits and ageing turns move it. In a lane of more than `COUNTED_PLACES` jobs before this one it is an estimate.
    """
    if job.state is not State.QUEUED:
        return None
    enqueued = _enqueued(tx, job.variant)
    if job.published_at is not None:
        before = select(func.count()).select_from(Job)
        before = before.where(Job.variant == job.variant, tuple_(Job.published_at, Job.id) < (job.published_at, job.id))
        return (tx.session.scalar(before) or 0) + 1
    waiting = Counter(queued_by_lane(tx, job.variant, up_to_priority=job.priority))
    waiting.subtract(enqueued)
    more_urgent = sum(number for (priority, _), number in waiting.items() if priority < job.priority)
    own = _before_in_lane(tx, job, waiting[job.priority, job.tenant])
    others = _others_before(tx, job, own, waiting)
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
        return max(counted, in_lane // 2)  # all of one moment
    share = (job.created_at - oldest) / (newest - oldest)
    return min(max(counted, round(in_lane * share)), max(counted, in_lane - 1))


def _others_before(tx: Transaction, job: Job, own: int, waiting: Counter[tuple[int, str]]) -> int:
    """Return how many jobs of other tenants have their turn before the job behind `own` ones of its lane."""
    queue = tx.session.get(VariantQueue, job.variant)
    order = FairOrder(queue.virtual_time if queue else 0.0, 0, tenant_virtual_times(tx, job.variant))
    weights = {row.tenant: row.weight for row in tx.session.scalars(select(TenantQuota))}
    heads = {head.tenant: head for head in lane_heads(tx, job.variant) if head.priority == job.priority}
    held = occupied_slots(tx)
    rivals = {
        tenant: Share(weights.get(tenant, 1.0), held=held[job.variant, tenant]) for tenant in {*heads, job.tenant}
    }
    # What a tenant lacks for its share of the slots starts before all turns.
    lacks = {tenant: max(0, math.ceil(slots)) for tenant, slots in missing_slots(rivals, free_slots=0).items()}
    by_turn = own - lacks[job.tenant]
    my_turn = order.turn(job.tenant) + (own if by_turn < 0 else by_turn) / rivals[job.tenant].weight
    before = 0
    for (priority, tenant), number in waiting.items():
        if priority != job.priority or tenant == job.tenant or tenant not in heads:
            continue
        turns = (my_turn - order.turn(tenant)) * rivals[tenant].weight
        # A turn at the same virtual time goes to the older job.
        older = heads[tenant].created_at < job.created_at
        had = max(0, math.floor(turns) + 1 if older else math.ceil(turns))
        before += min(number, min(had, lacks[tenant]) if by_turn < 0 else had + lacks[tenant])
    return before


@dataclass(frozen=True)
class QueueStats:
    """How one variant's queue stands. Ages and ETA in seconds, throughput over the last five minutes."""

    variant: str
    paused: bool
    queued: int
    running: int
    oldest_queued_age_s: float | None
    throughput_per_min: float
    eta_s: float | None
    """When a job that comes now would be done, at this throughput; None while nothing is done or all is paused."""


def queue_stats(tx: Transaction, variants: tuple[str, ...]) -> list[QueueStats]:
    """Return the sums that an operator or an autoscaler reads, one a variant."""
    waiting = queued_by_variant(tx)
    running = _counts(tx, select(Job.variant, func.count()).where(RUNNING).group_by(Job.variant))
    paused = paused_variants(tx)
    return [
        _sum(tx, variant, waiting.get(variant, 0), running.get(variant, 0), variant in paused)
        for variant in dict.fromkeys([*variants, *sorted(waiting), *sorted(running)])
    ]


def _sum(tx: Transaction, variant: str, queued: int, running: int, paused: bool) -> QueueStats:
    since = tx.now - timedelta(seconds=THROUGHPUT_WINDOW_S)
    done = select(func.count()).where(
        Job.variant == variant, Job.finished_at.is_not(None), Job.finished_at > since, Job.state == State.SUCCEEDED
    )
    per_min = (tx.session.scalar(done) or 0) / (THROUGHPUT_WINDOW_S / 60)
    oldest = tx.session.scalar(
        select(Job.created_at).where(Job.variant == variant, QUEUED).order_by(Job.created_at).limit(1)
    )
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
