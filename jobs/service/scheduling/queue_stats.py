"""Statistics of the queues, for operators and autoscalers, and a job's queue position. Their cost does not grow with
the backlog: counts come from `queue_counters`, everything else from an index."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Select, func, select

from jobs.db.database import Transaction
from jobs.db.tables import QUEUED, RUNNING, Job
from jobs.lifecycle import State
from jobs.service.scheduling.queue_counters import queued_by_variant
from jobs.service.scheduling.queue_positions import QueueSnapshot, before_in_lane
from jobs.service.scheduling.quotas import paused_variants

THROUGHPUT_WINDOW_S = 300.0


def queue_position(tx: Transaction, job: Job) -> int | None:
    """Return a queued job's position: 1 is next. None when it is not queued.

    A forecast from the present priorities, shares and ages; later jobs that go first, tenants' limits and priority
    aging change it. With more than `COUNTED_PLACES` earlier jobs in the lane it is an estimate.
    """
    tx.require_own(job.tenant)
    if job.state is not State.QUEUED:
        return None
    with tx.over_all_tenants() as numbers:
        queue = QueueSnapshot.read(numbers, job.variant)
        return queue.position(job, lambda: before_in_lane(numbers, job.variant, job, queue.in_lane(job)))


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
