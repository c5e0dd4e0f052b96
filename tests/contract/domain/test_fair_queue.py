"""The fair queue: tenants, priorities, limits, pauses, queue positions."""

from __future__ import annotations

from collections import Counter

import pytest
from sqlalchemy import select

from jobs.db.database import Database
from jobs.db.tables import Job
from jobs.errors import Failure
from jobs.lifecycle import State
from jobs.queue import BrokerUnavailableError
from jobs.service import attempts
from jobs.service.attempts import Claim
from jobs.service.cancellation import cancel
from jobs.service.scheduling import quotas
from jobs.service.scheduling.dispatch import dispatch
from jobs.service.scheduling.queue_counters import queued_of_tenant
from jobs.service.scheduling.queue_stats import queue_position, queue_stats
from jobs.service.scheduling.selection import DispatchPolicy
from jobs.service.workers import record_heartbeat
from tests.conftest import FakeClock
from tests.contract.domain.conftest import FakeQueue, Steps
from tests.maintenance import run_maintenance
from tests.queue_counts import recount, stored_counts


class Harness:
    """Workers with so many slots each: whoever is free takes the next message; jobs end in the order they began."""

    def __init__(self, steps: Steps, queue: FakeQueue, *, slots: int, workers: int = 1) -> None:
        self.steps, self.queue = steps, queue
        self.free = [f"worker-{number + 1}" for _ in range(slots) for number in range(workers)]
        self.running: list[Claim] = []
        self.started: list[Claim] = []
        for name in sorted(set(self.free)):
            steps.add_worker(name, slots=slots)

    def fill(self) -> None:
        with self.steps.db.transaction() as tx:
            for name in {*self.free, *(claim.worker_id for claim in self.running)}:
                record_heartbeat(tx, name, state="ready", variants_loaded=[], memory_bytes=None)
        dispatch(self.steps.db, self.queue)
        while self.free and (job_id := self.queue.take()) is not None:
            claim = self.steps.claimed(job_id, self.free.pop(0))
            self.running.append(claim)
            self.started.append(claim)

    def end_one(self) -> Claim:
        claim = self.running.pop(0)
        self.steps.complete(claim)
        self.free.append(claim.worker_id)
        self.fill()
        return claim

    def end_all(self) -> list[Claim]:
        self.fill()
        ended = []
        while self.running:
            ended.append(self.end_one())
        return ended


@pytest.mark.parametrize(("workers", "slots"), [(1, 4), (4, 8)])
def test_ten_jobs_of_a_late_tenant_end_before_the_fortieth_of_a_thousand(
    steps: Steps, queue: FakeQueue, clock: FakeClock, workers: int, slots: int
) -> None:
    with steps.db.transaction() as tx:
        steps.submit_many(tx, 1000, tenant="a")
    harness = Harness(steps, queue, slots=slots, workers=workers)
    harness.fill()
    clock.advance(5)
    with steps.db.transaction() as tx:
        steps.submit_many(tx, 10, tenant="b")
    ended: Counter[str] = Counter()
    while ended["b"] < 10:
        ended[harness.end_one().tenant] += 1
    assert ended["a"] < 40
    with steps.db.reading() as tx:
        assert stored_counts(tx) == recount(tx)
        assert queued_of_tenant(tx, "a") == 1000 - len([claim for claim in harness.started if claim.tenant == "a"])


def test_a_tenant_below_its_share_gets_the_next_free_slots(steps: Steps, queue: FakeQueue, clock: FakeClock) -> None:
    with steps.db.transaction() as tx:
        steps.submit_many(tx, 60, tenant="a")
        quotas.set_quota(tx, "b", weight=3)
    harness = Harness(steps, queue, slots=8)
    harness.fill()
    clock.advance(1)
    with steps.db.transaction() as tx:
        steps.submit_many(tx, 60, tenant="b")
        forecast = [queue_position(tx, job) for job in tx.session.scalars(select(Job).where(Job.tenant == "b"))]
    assert sorted(place or 0 for place in forecast)[:6] == [1, 2, 3, 4, 5, 6]
    for _ in range(8):
        harness.end_one()
    assert [claim.tenant for claim in harness.started[8:]] == ["b"] * 6 + ["a"] * 2
    for _ in range(12):
        harness.end_one()
        assert Counter(claim.tenant for claim in harness.running)["a"] in {1, 2, 3}


def test_an_urgent_job_is_the_next_to_start(steps: Steps, queue: FakeQueue, clock: FakeClock) -> None:
    for _ in range(12):
        steps.submit(priority="low")
    harness = Harness(steps, queue, slots=3)
    harness.fill()
    clock.advance(1)
    urgent = steps.submit(priority="high").id
    harness.end_one()
    assert harness.started[3].job_id == urgent


def test_a_low_priority_is_reached_in_time_whatever_comes_before_it(
    steps: Steps, queue: FakeQueue, clock: FakeClock
) -> None:
    low = steps.submit(priority="low").id
    harness = Harness(steps, queue, slots=1)
    for _ in range(3):
        steps.submit(priority="high", tenant="b")
    harness.fill()
    for _ in range(8):
        steps.submit(priority="high", tenant="b")
        harness.end_one()
    assert low not in {claim.job_id for claim in harness.started}
    clock.advance(601)
    for _ in range(5):
        steps.submit(priority="high", tenant="b")
        harness.end_one()
    assert low in {claim.job_id for claim in harness.started}


def test_no_more_of_a_tenant_run_than_it_may_have_over_all_variants(steps: Steps, queue: FakeQueue) -> None:
    steps.add_worker(slots=20)
    for variant in ("tiny_16k", "small_16k"):
        for tenant in ("a", "b"):
            for _ in range(4):
                steps.submit(tenant=tenant, variant=variant)
    with steps.db.transaction() as tx:
        quotas.set_quota(tx, "a", max_running=3)
    dispatch(steps.db, queue, policy=DispatchPolicy(max_running_per_tenant=5))
    claims = [steps.claimed(job_id) for job_id in queue.published]
    assert Counter(claim.tenant for claim in claims) == {"a": 3, "b": 5}
    assert dispatch(steps.db, queue, policy=DispatchPolicy(max_running_per_tenant=5)).published == 0
    steps.complete(next(claim for claim in claims if claim.tenant == "a"))
    assert dispatch(steps.db, queue, policy=DispatchPolicy(max_running_per_tenant=5)).published == 1


def test_a_tenant_with_more_weight_gets_more_turns(steps: Steps, queue: FakeQueue) -> None:
    for tenant in ("light", "heavy"):
        for _ in range(12):
            steps.submit(tenant=tenant)
    with steps.db.transaction() as tx:
        quotas.set_quota(tx, "heavy", weight=3)
    steps.add_worker(slots=12)
    dispatch(steps.db, queue)
    assert Counter(steps.claimed(job_id).tenant for job_id in queue.published) == {"heavy": 9, "light": 3}


@pytest.mark.parametrize(("weight", "running"), [(0.0, None), (-1.0, None), (2000.0, None), (None, -1)])
def test_a_share_that_makes_no_sense_is_refused(steps: Steps, weight: float | None, running: int | None) -> None:
    with pytest.raises(ValueError, match="allowed"), steps.db.transaction() as tx:
        quotas.set_quota(tx, "a", weight=weight, max_running=running)


def test_a_paused_variant_starts_nothing_and_loses_nothing(steps: Steps, queue: FakeQueue) -> None:
    steps.add_worker(slots=2)
    jobs = [steps.submit().id for _ in range(3)]
    dispatch(steps.db, queue)
    with steps.db.transaction() as tx:
        quotas.pause(tx, "tiny_16k")
        quotas.pause(tx, "tiny_16k")
    assert steps.claim(queue.take() or "") is None  # a message that was out already
    assert dispatch(steps.db, queue).published == 0
    steps.submit(variant="small_16k")
    assert dispatch(steps.db, queue).published == 1
    with steps.db.reading() as tx:
        assert [row.variant for row in queue_stats(tx, ("tiny_16k", "small_16k")) if row.paused] == ["tiny_16k"]
    with steps.db.transaction() as tx:
        quotas.resume(tx, "tiny_16k")
    assert dispatch(steps.db, queue).published == 1
    assert queue.messages["tiny_16k"] == [jobs[1], jobs[0]]


def test_a_job_that_lost_its_worker_keeps_its_place_and_one_that_backs_off_has_none_meanwhile(
    steps: Steps, queue: FakeQueue, clock: FakeClock
) -> None:
    steps.add_worker(slots=2)
    lost, retried = steps.submit().id, steps.submit().id
    claims = [steps.claimed(lost), steps.claimed(retried)]
    clock.advance(1)
    later = [steps.submit().id for _ in range(2)]
    with steps.db.transaction() as tx:
        attempts.release(tx, claims[0])
        attempts.fail(tx, claims[1], Failure("storage_unavailable", "No answer.", retryable=True), rng=lambda: 1.0)
    dispatch(steps.db, queue)
    assert queue.published == [lost, later[0]]
    clock.advance(2)
    steps.claimed(queue.take() or "")
    steps.complete(steps.claimed(queue.take() or ""))
    dispatch(steps.db, queue)
    assert queue.published == [retried]


def test_places_in_the_queue_are_those_in_which_jobs_start(steps: Steps, queue: FakeQueue, clock: FakeClock) -> None:
    ids = []
    for tenant, priority, count in [("a", "normal", 6), ("b", "normal", 3), ("c", "low", 2), ("b", "high", 2)]:
        for _ in range(count):
            ids.append(steps.submit(tenant=tenant, priority=priority))
            clock.advance(1)
    harness = Harness(steps, queue, slots=1)
    with steps.db.reading() as tx:
        places = {job.id: queue_position(tx, job) for job in ids}
    order = [claim.job_id for claim in harness.end_all()]
    started = {job_id: place for place, job_id in enumerate(order, start=1)}
    assert len(order) == len(ids)
    # A forecast: b's urgent jobs use up turns of b that the forecast for its other jobs does not see.
    assert all(abs((places[job_id] or 0) - started[job_id]) <= 3 for job_id in started), (places, started)
    assert sorted(place or 0 for place in places.values())[:3] == [1, 2, 3]


def test_the_counts_are_right_after_all_that_can_happen_to_a_waiting_job(
    steps: Steps, queue: FakeQueue, db: Database, clock: FakeClock
) -> None:
    jobs = [steps.submit(queue_ttl_s=5 if number == 0 else None).id for number in range(4)]
    with db.transaction() as tx:
        cancel(tx, jobs[1])
    claim = steps.claimed(jobs[2])
    clock.advance(6)
    run_maintenance(db, queue)
    with db.reading() as tx:
        assert stored_counts(tx) == recount(tx)
        assert queued_of_tenant(tx, "default") == 1
        with pytest.raises(RuntimeError), db.transaction() as failing:
            cancel(failing, jobs[3])
            raise RuntimeError("whatever")
    clock.advance(7)
    run_maintenance(db, queue)  # the lease of the claim is over
    assert steps.job(claim.job_id).state is State.QUEUED
    with db.reading() as tx:
        assert stored_counts(tx) == recount(tx)
        assert queued_of_tenant(tx, "default") == 2


def test_what_the_broker_did_not_take_is_published_when_it_is_back(steps: Steps, queue: FakeQueue) -> None:
    steps.add_worker(slots=4)
    jobs = [steps.submit().id for _ in range(3)]
    queue.down = True
    assert dispatch(steps.db, queue).published == 0
    with pytest.raises(BrokerUnavailableError):
        queue.enqueued_job_ids("tiny_16k")
    queue.down = False
    assert dispatch(steps.db, queue).published == 3
    assert sorted(queue.published) == sorted(jobs)
