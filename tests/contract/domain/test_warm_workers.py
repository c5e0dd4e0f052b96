"""Which variants other workers have loaded, so that a worker can leave their jobs to them."""

from __future__ import annotations

from jobs.service.scheduling.dispatch import dispatch
from jobs.service.workers import oldest_enqueued_age_s, record_heartbeat, register_worker, variants_loaded_elsewhere
from tests.conftest import FakeClock
from tests.contract.domain.conftest import FakeQueue, Steps

BOTH = ["tiny_16k", "small_16k"]


def enter(steps: Steps, worker_id: str, *, loaded: list[str], state: str = "ready") -> None:
    with steps.db.transaction() as tx:
        register_worker(tx, worker_id=worker_id, hostname="h", pid=1, device="cpu:0", slots=4, variants=BOTH)
        record_heartbeat(tx, worker_id, state=state, variants_loaded=loaded, memory_bytes=None)


def held_by_others(steps: Steps, worker_id: str) -> set[str]:
    with steps.db.reading() as tx:
        return variants_loaded_elsewhere(tx, worker_id)


def test_only_other_workers_that_live_and_take_jobs_count_as_warm(steps: Steps, clock: FakeClock) -> None:
    enter(steps, "me", loaded=["tiny_16k"])
    enter(steps, "drains", loaded=["tiny_16k"], state="draining")
    assert held_by_others(steps, "me") == set()

    enter(steps, "other", loaded=["small_16k"])
    assert held_by_others(steps, "me") == {"small_16k"}
    assert held_by_others(steps, "other") == {"tiny_16k"}
    clock.advance(16)  # silent for longer than a lease
    assert held_by_others(steps, "me") == set()


def test_the_oldest_message_of_each_variant_is_timed(steps: Steps, queue: FakeQueue, clock: FakeClock) -> None:
    steps.add_worker(slots=8)
    first = steps.submit(variant="tiny_16k").id
    steps.submit(variant="small_16k")
    dispatch(steps.db, queue)
    clock.advance(4)
    steps.submit(variant="tiny_16k")
    dispatch(steps.db, queue)
    clock.advance(1)
    with steps.db.reading() as tx:
        assert oldest_enqueued_age_s(tx) == {"tiny_16k": 5.0, "small_16k": 5.0}

    steps.claimed(first)
    with steps.db.reading() as tx:
        assert oldest_enqueued_age_s(tx) == {"tiny_16k": 1.0, "small_16k": 5.0}
