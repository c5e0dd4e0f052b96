"""Selects the next jobs of a variant: reads its lanes, selects in fair order, marks the selected jobs as published.

The cost does not grow with the backlog: the heads of the lanes are found by jumping through one index, and from each
lane only as many jobs are read as may be selected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import delete, func, select, text, tuple_, update
from sqlalchemy.exc import OperationalError

from jobs.db.database import Transaction
from jobs.db.faults import sqlstate
from jobs.db.tables import IN_LANE, RUNNING, Job, TenantQuota, TenantVirtualTime, VariantQueue
from jobs.service.scheduling.fairness import FairOrder, QueuedJob, TenantSlots, select_in_order
from jobs.settings import Settings

# Key of the dispatch lock among PostgreSQL's advisory locks.
DISPATCH_LOCK_ID = 0x6D6D6400
LOCK_NOT_AVAILABLE = "55P03"


class DispatchLockBusyError(Exception):
    """Raised when another process holds the dispatch lock for too long."""


@dataclass(frozen=True)
class DispatchPolicy:
    """The part of the settings that decides about the order of dispatch."""

    priority_aging_s: float = 600.0
    max_running_per_tenant: int = 0
    """0: no limit."""

    @classmethod
    def from_settings(cls, settings: Settings) -> DispatchPolicy:
        return cls(settings.priority_aging_s, settings.max_running_per_tenant)


def acquire_dispatch_lock(tx: Transaction) -> None:
    """Wait until no other transaction selects jobs: limits and fair order depend on all earlier selections.

    SQLite has one writer anyway. On PostgreSQL a process that stops in the middle (SIGSTOP, a lost host) must not block
    all others: the server ends its transaction after a few idle seconds.

    Raises:
        DispatchLockBusyError: the lock was not free in time; the next dispatch tries again.
    """
    tx.require_platform()
    if tx.session.get_bind().dialect.name != "sqlite":
        tx.session.execute(text("SET LOCAL lock_timeout = '5s'"))
        tx.session.execute(text("SET LOCAL idle_in_transaction_session_timeout = '10s'"))
        try:
            tx.session.execute(text(f"SELECT pg_advisory_xact_lock({DISPATCH_LOCK_ID})"))
        except OperationalError as exc:
            if sqlstate(exc) == LOCK_NOT_AVAILABLE:
                raise DispatchLockBusyError("another process has held the dispatch lock for 5 s") from exc
            raise


def end_retry_backoffs(tx: Transaction) -> None:
    """Return jobs whose retry backoff is over to their lanes."""
    tx.require_platform()
    tx.session.execute(update(Job).where(Job.retry_at <= tx.now).values(retry_at=None))


def select_next_jobs(tx: Transaction, variant: str, *, free_slots: int, policy: DispatchPolicy) -> list[str]:
    """Mark up to `free_slots` jobs as published and return their ids, best first; needs the dispatch lock."""
    tx.require_platform()
    queue = tx.session.get(VariantQueue, variant)
    if queue is None:
        queue = VariantQueue(variant=variant, virtual_time=0.0, dispatch_count=0)
        tx.session.add(queue)
    if queue.paused_at is not None:
        return []
    heads = lane_heads(tx, variant)
    if not heads:
        return []
    order = FairOrder(queue.virtual_time, queue.dispatch_count, tenant_virtual_times(tx, variant))
    before = dict(order.tenant_times)
    selected = select_in_order(
        order,
        heads,
        free_slots=free_slots,
        slots_of=_slots_of(tx, variant, policy),
        now=tx.now,
        priority_aging_s=policy.priority_aging_s,
        following=_Lanes(tx, variant, free_slots).following,
    )
    queue.virtual_time, queue.dispatch_count = order.virtual_time, order.dispatch_count
    _store_virtual_times(tx, variant, order, before)
    # A locked row is about to be canceled: skip it instead of waiting, the next round sees the outcome.
    locking = (
        select(Job.id).where(Job.id.in_([job.job_id for job in selected]), IN_LANE).with_for_update(skip_locked=True)
    )
    locked = set(tx.session.scalars(locking))
    tx.session.execute(update(Job).where(Job.id.in_(locked)).values(published_at=tx.now))
    return [job.job_id for job in selected if job.job_id in locked]


def lane_heads(tx: Transaction, variant: str) -> list[QueuedJob]:
    """Return the oldest job of each lane: one index lookup per lane."""
    tx.require_platform()
    rows = tx.session.execute(_LANE_HEADS, {"variant": variant})
    return [QueuedJob(row.id, row.priority, row.tenant, row.created_at) for row in rows]


_IN_LANE = "variant = :variant AND state = 'queued' AND published_at IS NULL AND retry_at IS NULL"
_LANE_HEADS = text(
    f"""
    WITH RECURSIVE head (id) AS (
        SELECT (SELECT id FROM jobs WHERE {_IN_LANE} ORDER BY priority, tenant, created_at, id LIMIT 1)
        UNION ALL
        SELECT (SELECT id FROM jobs WHERE {_IN_LANE} AND (priority, tenant) > (last.priority, last.tenant)
                ORDER BY priority, tenant, created_at, id LIMIT 1)
        FROM head JOIN jobs AS last ON last.id = head.id
    )
    SELECT jobs.id, jobs.priority, jobs.tenant, jobs.created_at FROM head JOIN jobs ON jobs.id = head.id
    """  # noqa: S608 - contains no caller's text
).columns(Job.id, Job.priority, Job.tenant, Job.created_at)


class _Lanes:
    """The jobs behind the heads of lanes; a lane is read when its head has been selected."""

    def __init__(self, tx: Transaction, variant: str, free_slots: int) -> None:
        self._tx, self._variant, self._free_slots = tx, variant, free_slots
        self._behind: dict[tuple[int, str], Iterator[QueuedJob]] = {}

    def following(self, job: QueuedJob) -> QueuedJob | None:
        lane = (job.priority, job.tenant)
        if lane not in self._behind:
            self._behind[lane] = iter(self._read(job))
        return next(self._behind[lane], None)

    def _read(self, head: QueuedJob) -> list[QueuedJob]:
        query = (
            select(Job.id, Job.created_at)
            .where(Job.variant == self._variant, Job.priority == head.priority, Job.tenant == head.tenant, IN_LANE)
            .where(tuple_(Job.created_at, Job.id) > (head.created_at, head.job_id))
            .order_by(Job.created_at, Job.id)
            .limit(self._free_slots)
        )
        rows = self._tx.session.execute(query)
        return [QueuedJob(row.id, head.priority, head.tenant, row.created_at) for row in rows]


def tenant_virtual_times(tx: Transaction, variant: str) -> dict[str, float]:
    """Return the virtual times of the tenants that are ahead of their variant's."""
    tx.require_platform()
    query = select(TenantVirtualTime.tenant, TenantVirtualTime.virtual_time).where(TenantVirtualTime.variant == variant)
    return {row[0]: row[1] for row in tx.session.execute(query)}


def _store_virtual_times(tx: Transaction, variant: str, order: FairOrder, before: dict[str, float]) -> None:
    for tenant, virtual_time in order.tenant_times.items():
        if before.get(tenant) != virtual_time:
            tx.session.merge(TenantVirtualTime(variant=variant, tenant=tenant, virtual_time=virtual_time))
    tx.session.flush()
    # A tenant that is not ahead of the variant needs no row.
    tx.session.execute(
        delete(TenantVirtualTime).where(
            TenantVirtualTime.variant == variant, TenantVirtualTime.virtual_time <= order.virtual_time
        )
    )


def occupied_slots(tx: Transaction) -> Counter[tuple[str, str]]:
    """Return how many jobs run or are enqueued, by (variant, tenant): never more than there are slots."""
    tx.require_platform()
    occupied: Counter[tuple[str, str]] = Counter()
    for condition in (RUNNING, Job.published_at.is_not(None)):
        query = select(Job.variant, Job.tenant, func.count()).where(condition).group_by(Job.variant, Job.tenant)
        occupied.update({(row[0], row[1]): row[2] for row in tx.session.execute(query)})
    return occupied


def _slots_of(tx: Transaction, variant: str, policy: DispatchPolicy) -> Callable[[str], TenantSlots]:
    """Return a function for a tenant's slots of this variant; its limit counts the jobs of all variants."""
    quotas = {row.tenant: row for row in tx.session.scalars(select(TenantQuota))}
    occupied = occupied_slots(tx)
    total: Counter[str] = Counter()
    for (_, tenant), count in occupied.items():
        total[tenant] += count

    def slots_of(tenant: str) -> TenantSlots:
        quota = quotas.get(tenant)
        limit = quota.max_running if quota is not None else None
        if limit is None:
            limit = policy.max_running_per_tenant or None
        return TenantSlots(
            weight=quota.weight if quota is not None else 1.0,
            startable=None if limit is None else limit - total[tenant],
            occupied=occupied[variant, tenant],
        )

    return slots_of
