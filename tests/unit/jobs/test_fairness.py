"""The order of dispatch: the arithmetic alone, without a database."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.service.scheduling.fairness import AGING_INTERVAL, FairOrder, QueuedJob, TenantSlots, select_in_order

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HIGH, NORMAL, LOW = 0, 1, 2


class Backlog:
    """Lanes in memory."""

    def __init__(self) -> None:
        self.lanes: dict[tuple[int, str], list[QueuedJob]] = {}
        self.made = 0

    def add(self, tenant: str, count: int = 1, *, priority: int = NORMAL, at: datetime = NOON) -> None:
        for _ in range(count):
            self.made += 1
            job = QueuedJob(f"job_{self.made:06d}", priority, tenant, at)
            self.lanes.setdefault((priority, tenant), []).append(job)

    def pick(
        self,
        order: FairOrder,
        free_slots: int,
        *,
        shares: dict[str, TenantSlots] | None = None,
        now: datetime = NOON,
        priority_aging_s: float = 600,
    ) -> list[QueuedJob]:
        places = {job.job_id: (lane, place) for lane, jobs in self.lanes.items() for place, job in enumerate(jobs)}

        def following(job: QueuedJob) -> QueuedJob | None:
            lane, place = places[job.job_id]
            return self.lanes[lane][place + 1] if place + 1 < len(self.lanes[lane]) else None

        picked = select_in_order(
            order,
            [jobs[0] for jobs in self.lanes.values() if jobs],
            free_slots=free_slots,
            slots_of=lambda tenant: (shares or {}).get(tenant, TenantSlots()),
            now=now,
            priority_aging_s=priority_aging_s,
            following=following,
        )
        for job in picked:
            self.lanes[job.priority, job.tenant].remove(job)
        return picked


def test_a_tenant_that_comes_late_takes_every_other_turn() -> None:
    backlog, order = Backlog(), FairOrder()
    backlog.add("a", 1000)
    backlog.pick(order, 16)  # running before the other tenant submits
    backlog.add("b", 10)
    tenants = [job.tenant for job in backlog.pick(order, 60)]
    last_of_b = max(place for place, tenant in enumerate(tenants) if tenant == "b")
    assert 16 + tenants[:last_of_b].count("a") < 40
    assert tenants[:20].count("b") == 10


def slots_over_time(order: FairOrder, *, slots: int, waiting: dict[str, TenantSlots], jobs: int) -> Counter[str]:
    """Let endless backlogs share so many slots, jobs ending in the order they began; return how many each started."""
    backlog, running, started = Backlog(), [], Counter[str]()
    for tenant in waiting:
        backlog.add(tenant, jobs)
    while started.total() < jobs:
        held = Counter(running)
        shares = {tenant: replace(share, occupied=held[tenant]) for tenant, share in waiting.items()}
        picked = [job.tenant for job in backlog.pick(order, slots - len(running), shares=shares)]
        running += picked
        started.update(picked)
        running.pop(0)
    return started


def test_a_new_tenant_gets_the_next_free_slots_up_to_its_share() -> None:
    backlog, order = Backlog(), FairOrder()
    backlog.add("a", 1000)
    backlog.pick(order, 32)
    backlog.add("b", 1000)
    for b_has in range(16):
        shares = {"a": TenantSlots(occupied=31 - b_has), "b": TenantSlots(occupied=b_has)}
        assert [job.tenant for job in backlog.pick(order, 1, shares=shares)] == ["b"]
    shares = {"a": TenantSlots(occupied=15), "b": TenantSlots(occupied=16)}
    assert [job.tenant for job in backlog.pick(order, 1, shares=shares)] == ["a"]


def test_fractions_of_slots_are_shared_by_turns() -> None:
    heavy = {"heavy": TenantSlots(weight=3), "light": TenantSlots()}
    for slots in (1, 2):
        started = slots_over_time(FairOrder(), slots=slots, waiting=heavy, jobs=400)
        assert abs(started["heavy"] - 300) <= 2, (slots, started)
    three = {tenant: TenantSlots() for tenant in "abc"}
    for slots in (1, 2, 3, 4):
        started = slots_over_time(FairOrder(), slots=slots, waiting=three, jobs=300)
        assert all(abs(number - 100) <= 2 for number in started.values()), (slots, started)


def test_turns_follow_the_weights() -> None:
    backlog, order = Backlog(), FairOrder()
    backlog.add("light", 1000)
    backlog.add("heavy", 1000)
    picked = Counter(job.tenant for job in backlog.pick(order, 400, shares={"heavy": TenantSlots(weight=3)}))
    assert picked == {"heavy": 300, "light": 100}


def test_idling_earns_no_credit() -> None:
    backlog, order = Backlog(), FairOrder()
    backlog.add("busy", 500)
    backlog.pick(order, 300)
    backlog.add("idle", 500)
    assert Counter(job.tenant for job in backlog.pick(order, 100)) == {"busy": 50, "idle": 50}


def test_an_urgent_job_is_next_and_then_its_tenant_waits_its_turn() -> None:
    backlog, order = Backlog(), FairOrder()
    for tenant in "ab":
        backlog.add(tenant, 10)
    backlog.add("a", 1, priority=HIGH)
    assert [(job.tenant, job.priority) for job in backlog.pick(order, 3)] == [("a", HIGH), ("b", NORMAL), ("a", NORMAL)]


def test_old_jobs_get_every_fourth_pick_and_an_urgent_one_waits_for_one_at_most() -> None:
    backlog, order = Backlog(), FairOrder()
    later = NOON + timedelta(hours=1)
    backlog.add("a", 100, priority=LOW)
    backlog.add("b", 100, priority=HIGH, at=later)
    picked = [job.priority for job in backlog.pick(order, 40, now=later)]
    assert picked.count(LOW) == 40 // AGING_INTERVAL
    assert all(HIGH in picked[place : place + 2] for place in range(39))


def test_young_jobs_of_low_priority_wait() -> None:
    backlog, order = Backlog(), FairOrder()
    backlog.add("a", 100, priority=LOW)
    backlog.add("b", 100, priority=HIGH)
    assert {job.priority for job in backlog.pick(order, 40, now=NOON + timedelta(seconds=599))} == {HIGH}


def test_a_tenant_at_its_limit_is_passed_over() -> None:
    backlog, order = Backlog(), FairOrder()
    backlog.add("a", 10, priority=HIGH)
    backlog.add("b", 10)
    shares = {"a": TenantSlots(startable=2), "b": TenantSlots(startable=None)}
    assert Counter(job.tenant for job in backlog.pick(order, 8, shares=shares)) == {"a": 2, "b": 6}
    assert backlog.pick(order, 8, shares={"a": TenantSlots(startable=0), "b": TenantSlots(startable=-3)}) == []


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    lanes=st.dictionaries(
        st.tuples(st.sampled_from([HIGH, NORMAL, LOW]), st.sampled_from("abcd")),
        st.tuples(st.integers(1, 30), st.integers(0, 3600)),
        min_size=1,
    ),
    weights=st.dictionaries(st.sampled_from("abcd"), st.sampled_from([0.25, 1.0, 2.0, 5.0])),
    free_slots=st.lists(st.integers(1, 9), min_size=1, max_size=40),
)
def test_every_job_is_picked_once_oldest_first_in_its_lane(
    lanes: dict[tuple[int, str], tuple[int, int]], weights: dict[str, float], free_slots: list[int]
) -> None:
    backlog, order = Backlog(), FairOrder()
    for (priority, tenant), (count, age_s) in lanes.items():
        backlog.add(tenant, count, priority=priority, at=NOON - timedelta(seconds=age_s))
    shares = {tenant: TenantSlots(weight) for tenant, weight in weights.items()}
    picked: list[QueuedJob] = []
    for slots in [*free_slots, backlog.made]:
        before = order.virtual_time
        got = backlog.pick(order, slots, shares=shares)
        assert len(got) == min(slots, backlog.made - len(picked))
        assert order.virtual_time >= before
        picked += got
    assert sorted(job.job_id for job in picked) == [f"job_{n:06d}" for n in range(1, backlog.made + 1)]
    for lane in lanes:
        ids = [job.job_id for job in picked if (job.priority, job.tenant) == lane]
        assert ids == sorted(ids)
