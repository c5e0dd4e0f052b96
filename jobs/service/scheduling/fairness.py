"""Who is next, as pure arithmetic: priority first, then weighted fair share across tenants, then age.

A *lane* is what one tenant has waiting at one priority for one variant, oldest first. Two rules share it out:

- Of the slots that the waiting tenants hold or could get now, each has a share by its weight. Who holds less than its
  share goes before who does not: a tenant that comes when another has all slots gets the next free ones.
- Among equals tenants take turns by start-time fair queueing (Goyal, Vin, Cheng 1996): each has a virtual time that
  grows by 1/weight with every job picked, the least is next, and who comes back after a pause starts at the variant's
  own virtual time, so that idling saves up nothing. It settles what shares leave open: the fractions of slots.

Nothing starves: every `AGING_INTERVAL`th pick goes, whatever its priority, to a job that has waited longer than
`priority_aging_s`. A backlog that is old as a whole therefore delays an urgent job by one pick, not by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

AGING_INTERVAL = 4


@dataclass(frozen=True)
class Waiting:
    """A job at the head of its lane."""

    job_id: str
    priority: int
    tenant: str
    created_at: datetime


@dataclass(frozen=True)
class Share:
    """What a tenant may have. `room`: jobs that may still start; None: no limit. `held`: the slots it has now."""

    weight: float = 1.0
    free_slots: int | None = None
    held: int = 0


@dataclass
class FairOrder:
    """Where the turns of one variant stand; `charge` moves it on.

    Args:
        virtual_time: the variant's own.
        dispatch_count: how many jobs were ever picked.
        turns: the tenants' virtual times; who is missing stands at the variant's.
    """

    virtual_time: float = 0.0
    dispatch_count: int = 0
    turns: dict[str, float] = field(default_factory=dict)

    def turn(self, tenant: str) -> float:
        """Return when the tenant is next, as a virtual time."""
        return max(self.turns.get(tenant, 0.0), self.virtual_time)

    def pick(
        self, heads: Iterable[Waiting], *, overdue_before: datetime, share_of: Callable[[str], Share], free_slots: int
    ) -> Waiting | None:
        """Choose among the heads of lanes; None when there is none.

        Args:
            share_of: says what a tenant has now and may have.
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
        missing = missing_slots({head.tenant: share_of(head.tenant) for head in rivals}, free_slots)
        return min(
            rivals,
            key=lambda head: (missing[head.tenant] <= 0, self.turn(head.tenant), head.created_at, head.job_id),
        )

    def charge(self, tenant: str, weight: float) -> None:
        """Count one picked job of a tenant."""
        began = self.turn(tenant)
        self.virtual_time = began  # never goes back: `turn` is at least the variant's
        self.turns[tenant] = began + 1.0 / weight
        self.dispatch_count += 1


def missing_slots(rivals: Mapping[str, Share], free_slots: int) -> dict[str, float]:
    """Return how many slots each tenant lacks for its share of those that the rivals hold or could get now.

    Less than 0: it has more than its share. Fractions are left to turns.
    """
    slots = free_slots + sum(share.held for share in rivals.values())
    weights = sum(share.weight for share in rivals.values())
    return {tenant: slots * share.weight / weights - share.held for tenant, share in rivals.items()}


def pick_in_order(
    order: FairOrder,
    heads: Iterable[Waiting],
    *,
    free_slots: int,
    share_of: Callable[[str], Share],
    now: datetime,
    priority_aging_s: float,
    following: Callable[[Waiting], Waiting | None],
) -> list[Waiting]:
    """Pick up to `room` jobs, best first, and move `order` on.

    Args:
        heads: the first job of each lane.
        share_of: says what a tenant has and may have before anything is picked.
        priority_aging_s: how long a job waits before ageing turns see it, in seconds.
        following: gives the job behind one in its lane.
    """
    lanes = {(head.priority, head.tenant): head for head in heads}
    shares = {tenant: share_of(tenant) for _, tenant in lanes}
    used: Counter[str] = Counter()
    picked: list[Waiting] = []
    overdue_before = now - timedelta(seconds=priority_aging_s)

    def may_start(tenant: str) -> bool:
        limit = shares[tenant].free_slots
        return limit is None or used[tenant] < limit

    def share_now(tenant: str) -> Share:
        return replace(shares[tenant], held=shares[tenant].held + used[tenant])

    while len(picked) < free_slots:
        heads_now = [head for head in lanes.values() if may_start(head.tenant)]
        chosen = order.pick(
            heads_now, overdue_before=overdue_before, share_of=share_now, free_slots=free_slots - len(picked)
        )
        if chosen is None:
            break
        picked.append(chosen)
        used[chosen.tenant] += 1
        order.charge(chosen.tenant, shares[chosen.tenant].weight)
        behind = following(chosen)
        if behind is None:
            del lanes[chosen.priority, chosen.tenant]
        else:
            lanes[chosen.priority, chosen.tenant] = behind
    return picked
