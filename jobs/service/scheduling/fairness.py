"""Order of dispatch, as pure arithmetic: priority first, then weighted fair shares of tenants, then age.

A *lane* is the queued jobs of one tenant at one priority for one variant, oldest first. Two rules divide the slots:

- Of the slots that the queued tenants occupy or could get now, each tenant has a share by its weight. Tenants below
  their share go first: when one tenant occupies all slots, a new tenant gets the next free ones.
- Otherwise tenants take turns by start-time fair queueing (Goyal, Vin, Cheng 1996): each has a virtual time that grows
  by 1/weight with every job selected, and the smallest is next. A tenant that returns starts at the variant's virtual
  time, so that idling earns no credit. This rule decides about the fractions of slots that shares leave open.

No job starves: every `AGING_INTERVAL`th selection takes, whatever its priority, a job that has waited longer than
`priority_aging_s`. With a backlog that is old as a whole, an urgent job is delayed by one selection only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

AGING_INTERVAL = 4


@dataclass(frozen=True)
class QueuedJob:
    """A job in a lane, with what decides about its order."""

    job_id: str
    priority: int
    tenant: str
    created_at: datetime


@dataclass(frozen=True)
class TenantSlots:
    """A tenant's weight, the slots that it occupies, and how many more jobs it may start (None: no limit)."""

    weight: float = 1.0
    startable: int | None = None
    occupied: int = 0


@dataclass
class FairOrder:
    """State of fair queueing for one variant.

    Args:
        virtual_time: the variant's virtual time.
        dispatch_count: how many jobs have been selected so far.
        tenant_times: the tenants' virtual times; tenants that are missing are at the variant's.
    """

    virtual_time: float = 0.0
    dispatch_count: int = 0
    tenant_times: dict[str, float] = field(default_factory=dict)

    def tenant_time(self, tenant: str) -> float:
        """Return the virtual time of a tenant's next turn."""
        return max(self.tenant_times.get(tenant, 0.0), self.virtual_time)

    def select(
        self,
        heads: Iterable[QueuedJob],
        *,
        overdue_before: datetime,
        slots_of: Callable[[str], TenantSlots],
        free_slots: int,
    ) -> QueuedJob | None:
        """Return the next job among the heads of lanes; None when there are none.

        Args:
            overdue_before: jobs created before this time count for priority aging.
            slots_of: returns a tenant's slots now.
            free_slots: how many slots are free.
        """
        heads = list(heads)
        if not heads:
            return None
        overdue = [head for head in heads if head.created_at < overdue_before]
        if overdue and self.dispatch_count % AGING_INTERVAL == AGING_INTERVAL - 1:
            rivals = overdue
        else:
            first = min(head.priority for head in heads)
            rivals = [head for head in heads if head.priority == first]
        missing = missing_slots({head.tenant: slots_of(head.tenant) for head in rivals}, free_slots)
        return min(
            rivals,
            key=lambda head: (missing[head.tenant] <= 0, self.tenant_time(head.tenant), head.created_at, head.job_id),
        )

    def charge(self, tenant: str, weight: float) -> None:
        """Advance the virtual times by one selected job of a tenant."""
        began = self.tenant_time(tenant)
        self.virtual_time = began  # never decreases: `tenant_time` is at least the variant's
        self.tenant_times[tenant] = began + 1.0 / weight
        self.dispatch_count += 1


def missing_slots(rivals: Mapping[str, TenantSlots], free_slots: int) -> dict[str, float]:
    """Return how many slots each tenant lacks of its share of those that the rivals occupy or could get now.

    Negative: it occupies more than its share. Fractions are left to virtual times.
    """
    total = free_slots + sum(slots.occupied for slots in rivals.values())
    weights = sum(slots.weight for slots in rivals.values())
    return {tenant: total * slots.weight / weights - slots.occupied for tenant, slots in rivals.items()}


def select_in_order(
    order: FairOrder,
    heads: Iterable[QueuedJob],
    *,
    free_slots: int,
    slots_of: Callable[[str], TenantSlots],
    now: datetime,
    priority_aging_s: float,
    following: Callable[[QueuedJob], QueuedJob | None],
) -> list[QueuedJob]:
    """Return up to `free_slots` jobs, best first, and advance `order`.

    Args:
        heads: the oldest job of each lane.
        slots_of: returns a tenant's slots before anything is selected.
        priority_aging_s: seconds after which a job counts for priority aging.
        following: returns the next job of a job's lane.
    """
    lanes = {(head.priority, head.tenant): head for head in heads}
    slots = {tenant: slots_of(tenant) for _, tenant in lanes}
    used: Counter[str] = Counter()
    selected: list[QueuedJob] = []
    overdue_before = now - timedelta(seconds=priority_aging_s)

    def may_start(tenant: str) -> bool:
        limit = slots[tenant].startable
        return limit is None or used[tenant] < limit

    def slots_now(tenant: str) -> TenantSlots:
        return replace(slots[tenant], occupied=slots[tenant].occupied + used[tenant])

    while len(selected) < free_slots:
        heads_now = [head for head in lanes.values() if may_start(head.tenant)]
        chosen = order.select(
            heads_now, overdue_before=overdue_before, slots_of=slots_now, free_slots=free_slots - len(selected)
        )
        if chosen is None:
            break
        selected.append(chosen)
        used[chosen.tenant] += 1
        order.charge(chosen.tenant, slots[chosen.tenant].weight)
        behind = following(chosen)
        if behind is None:
            del lanes[chosen.priority, chosen.tenant]
        else:
            lanes[chosen.priority, chosen.tenant] = behind
    return selected
