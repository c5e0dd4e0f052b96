"""Which waiting jobs are next: reads the lanes of a variant, dispatch_count in fair order, marks what was picked.

Its cost does not grow with the backlog: the lanes are found by jumping through one index from head to head, and
from a lane are read only as many jobs as may be picked.
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
from jobs.service.scheduling.fairness import FairOrder, Share, Waiting, pick_in_order
from jobs.settings import Settings

# Names "who chooses" among PostgreSQL's advisory locks.
DISPATCH_LOCK_ID = 0x6D6D6400
LOCK_NOT_AVAILABLE = "55P03"


class DispatchLockBusyError(Exception):
    """Raised when somebody else chooses for longer than it is worth waiting for."""


@dataclass(frozen=True)
class DispatchPolicy:
    """The part of the settings that says who is next."""

    priority_aging_s: float = 600.0
    max_running_per_tenant: int = 0
    """0: no limit."""

    @classmethod
    def from_settings(cls, settings: Settings) -> DispatchPolicy:
        return cls(settings.priority_aging_s, settings.max_running_per_tenant)


def acquire_dispatch_lock(tx: Transaction) -> None:
    """Wait until nobody else chooses: limits and turns are about all that was chosen before.

    SQLite has one writer anyway. A chooser that is stopped in the middle (SIGSTOP, a lost host) must not stop all
    others: PostgreSQL ends its transaction after a few silent seconds.

    Raises:
        DispatchLockBusyError: the chooser did not get ready in time; what waits is left to the next.
    """
    if tx.session.get_bind().dialect.name != "sqlite":
        tx.session.execute(text("SET LOCAL lock_timeout = '5s'"))
        tx.session.execute(text("SET LOCAL idle_in_transaction_session_timeout = '10s'"))
        try:
            tx.session.execute(text(f"SELECT pg_advisory_xact_lock({DISPATCH_LOCK_ID})"))
        except OperationalError as exc:
            if sqlstate(exc) == LOCK_NOT_AVAILABLE:
                raise DispatchLockBusyError("Another process has been choosing for 5 s.") from exc
            raise


def end_retry_backoffs(tx: Transaction) -> None:
    """Put jobs whose retry has backed off long enough into their lanes again."""
    tx.session.execute(update(Job).where(Job.retry_at <= tx.now).values(retry_at=None))


def select_next_jobs(tx: Transaction, variant: str, *, free_slots: int, policy: DispatchPolicy) -> list[str]:
    """Mark up to `room` jobs as published and return their ids, best first. The caller is the chooser."""
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
    known = dict(order.turns)
    picked = pick_in_order(
        order,
        heads,
        free_slots=free_slots,
        share_of=_shares(tx, variant, policy),
        now=tx.now,
        priority_aging_s=policy.priority_aging_s,
        following=_Lanes(tx, variant, free_slots).following,
    )
    queue.virtual_time, queue.dispatch_count = order.virtual_time, order.dispatch_count
    _remember(tx, variant, order, known)
    # Whoever holds the lock of a row is about to cancel it: nobody waits for that, the next round sees how it ended.
    locking = (
        select(Job.id).where(Job.id.in_([job.job_id for job in picked]), IN_LANE).with_for_update(skip_locked=True)
    )
    locked = set(tx.session.scalars(locking))
    tx.session.execute(update(Job).where(Job.id.in_(locked)).values(published_at=tx.now))
    return [job.job_id for job in picked if job.job_id in locked]


def lane_heads(tx: Transaction, variant: str) -> list[Waiting]:
    """Return the oldest job of each lane: jumps from one lane's head to the next, a look into the index each."""
    rows = tx.session.execute(_LANE_HEADS, {"variant": variant})
    return [Waiting(row.id, row.priority, row.tenant, row.created_at) for row in rows]


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
    """  # noqa: S608 - nothing of a caller is in it
).columns(Job.id, Job.priority, Job.tenant, Job.created_at)


class _Lanes:
    """The jobs behind the heads, read when a lane is picked from for the first time."""

    def __init__(self, tx: Transaction, variant: str, free_slots: int) -> None:
        self._tx, self._variant, self._free_slots = tx, variant, free_slots
        self._behind: dict[tuple[int, str], Iterator[Waiting]] = {}

    def following(self, job: Waiting) -> Waiting | None:
        lane = (job.priority, job.tenant)
        if lane not in self._behind:
            self._behind[lane] = iter(self._read(job))
        return next(self._behind[lane], None)

    def _read(self, head: Waiting) -> list[Waiting]:
        query = (
            select(Job.id, Job.created_at)
            .where(Job.variant == self._variant, Job.priority == head.priority, Job.tenant == head.tenant, IN_LANE)
            .where(tuple_(Job.created_at, Job.id) > (head.created_at, head.job_id))
            .order_by(Job.created_at, Job.id)
            .limit(self._free_slots)
        )
        rows = self._tx.session.execute(query)
        return [Waiting(row.id, head.priority, head.tenant, row.created_at) for row in rows]


def tenant_virtual_times(tx: Transaction, variant: str) -> dict[str, float]:
    """Return the virtual times of the tenants that are ahead of their variant's."""
    query = select(TenantVirtualTime.tenant, TenantVirtualTime.virtual_time).where(TenantVirtualTime.variant == variant)
    return {row[0]: row[1] for row in tx.session.execute(query)}


def _remember(tx: Transaction, variant: str, order: FairOrder, known: dict[str, float]) -> None:
    for tenant, virtual_time in order.turns.items():
        if known.get(tenant) != virtual_time:
            tx.session.merge(TenantVirtualTime(variant=variant, tenant=tenant, virtual_time=virtual_time))
    tx.session.flush()
    # Who stands where the variant stands, or before, is as good as not there.
    tx.session.execute(
        delete(TenantVirtualTime).where(
            TenantVirtualTime.variant == variant, TenantVirtualTime.virtual_time <= order.virtual_time
        )
    )


def occupied_slots(tx: Transaction) -> Counter[tuple[str, str]]:
    """Return how many jobs run or are enqueued, by (variant, tenant): never more than there are slots."""
    held: Counter[tuple[str, str]] = Counter()
    for condition in (RUNNING, Job.published_at.is_not(None)):
        query = select(Job.variant, Job.tenant, func.count()).where(condition).group_by(Job.variant, Job.tenant)
        held.update({(row[0], row[1]): row[2] for row in tx.session.execute(query)})
    return held


def _shares(tx: Transaction, variant: str, policy: DispatchPolicy) -> Callable[[str], Share]:
    """Return what each tenant has of this variant's slots, and may have, which is counted over all variants."""
    rows = {row.tenant: row for row in tx.session.scalars(select(TenantQuota))}
    held = occupied_slots(tx)
    in_all: Counter[str] = Counter()
    for (_, tenant), number in held.items():
        in_all[tenant] += number

    def share(tenant: str) -> Share:
        row = rows.get(tenant)
        limit = row.max_running if row is not None else None
        if limit is None:
            limit = policy.max_running_per_tenant or None
        return Share(
            weight=row.weight if row is not None else 1.0,
            free_slots=None if limit is None else limit - in_all[tenant],
            held=held[variant, tenant],
        )

    return share
