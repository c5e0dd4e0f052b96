"""Dispatch of the backlog to the queue, and maintenance."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs.db.database import Database, Transaction
from jobs.errors import Failure, InvalidCursorError, WorkerNotFoundError
from jobs.lifecycle import State
from jobs.queue import BrokerUnavailableError
from jobs.service.attempts import fail
from jobs.service.job_pages import list_jobs
from jobs.service.maintenance import MaintenancePolicy
from jobs.service.queries import JobFilter
from jobs.service.scheduling.dispatch import DispatchResult, dispatch, republish_lost
from jobs.service.scheduling.queue_stats import queue_position, queue_stats
from jobs.service.scheduling.selection import DispatchLockBusyError
from jobs.service.workers import Capacity, capacities, mark_worker_stopped, record_heartbeat, request_drain
from tests.conftest import FakeClock
from tests.contract.domain.conftest import TENANT, FakeQueue, Steps
from tests.maintenance import run_maintenance


def test_jobs_are_published_for_free_slots_alone_best_first(steps: Steps, queue: FakeQueue, clock: FakeClock) -> None:
    jobs = []
    for number in range(8):
        jobs.append(steps.submit(priority="high" if number == 7 else "normal"))
        clock.advance(1)
    assert dispatch(steps.db, queue).published == 0  # nobody is there to take one
    steps.add_worker(slots=3)
    assert dispatch(steps.db, queue).published == 3
    assert queue.published == [jobs[7].id, jobs[0].id, jobs[1].id]
    assert dispatch(steps.db, queue).published == 0
    claims = [steps.claimed(job.id) for job in (jobs[7], jobs[0], jobs[1])]
    assert dispatch(steps.db, queue).published == 0  # all slots are busy now
    steps.complete(claims[1])
    assert dispatch(steps.db, queue).published == 1
    assert queue.published[-1] == jobs[2].id


def test_slots_count_while_their_worker_is_heard(steps: Steps, queue: FakeQueue, clock: FakeClock) -> None:
    for _ in range(20):
        steps.submit()
    for number in range(3):
        steps.add_worker(f"w{number}", variants=("tiny_16k",))
    with steps.db.transaction() as tx:
        mark_worker_stopped(tx, "w2")
    assert dispatch(steps.db, queue).published == 8
    clock.advance(13)
    assert run_maintenance(steps.db, queue, MaintenancePolicy(lost_after_s=12)).lost_workers == 2
    with steps.db.transaction() as tx:
        assert capacities(tx, heard_within_s=60) == {}
        record_heartbeat(tx, "w0", state="ready", variants_loaded=[], memory_bytes=None)
        assert capacities(tx, heard_within_s=60) == {"tiny_16k": Capacity(slots=4, free=4, busy_with_variant=0)}
    clock.advance(61)  # without maintenance
    with steps.db.reading() as tx:
        assert capacities(tx, heard_within_s=60) == {}


def test_a_worker_that_shall_drain_has_no_free_slots(steps: Steps, queue: FakeQueue) -> None:
    steps.add_worker("w0", slots=3)
    steps.submit()
    with steps.db.transaction() as tx:
        request_drain(tx, "w0")
        assert record_heartbeat(tx, "w0", state="ready", variants_loaded=[], memory_bytes=None) is True
        with pytest.raises(WorkerNotFoundError):
            request_drain(tx, "w1")
    assert dispatch(steps.db, queue).published == 0


def test_a_variant_stands_in_line_when_others_keep_all_slots_busy(steps: Steps, queue: FakeQueue) -> None:
    steps.add_worker(slots=2)
    for _ in range(3):
        steps.submit()
    dispatch(steps.db, queue)
    for job_id in queue.messages.pop("tiny_16k"):
        steps.claimed(job_id)
    small = [steps.submit(variant="small_16k").id for _ in range(3)]
    dispatch(steps.db, queue)
    assert queue.messages == {"small_16k": small[:1]}


def test_variants_have_queues_of_their_own(steps: Steps, queue: FakeQueue) -> None:
    steps.add_worker(slots=8)
    tiny, small = steps.submit().id, steps.submit(variant="small_16k").id
    dispatch(steps.db, queue, variants=("small_16k",))
    assert queue.messages == {"small_16k": [small]}
    dispatch(steps.db, queue)
    assert queue.messages == {"small_16k": [small], "tiny_16k": [tiny]}


def test_racing_dispatchers_publish_each_job_once(steps: Steps, queue: FakeQueue) -> None:
    steps.add_worker(slots=8)
    for _ in range(6):
        steps.submit()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: dispatch(steps.db, queue), range(8)))
    assert len(queue.published) == len(set(queue.published)) == 6


def test_a_broker_that_is_down_loses_nothing(steps: Steps, queue: FakeQueue, clock: FakeClock) -> None:
    steps.add_worker(slots=8)
    job_id = steps.submit().id
    queue.down = True
    assert dispatch(steps.db, queue) == DispatchResult(published=0, broker_ok=False)
    assert run_maintenance(steps.db, queue).dispatched == 0
    assert steps.job(job_id).published_at is None
    queue.down = False
    clock.advance(1)
    assert run_maintenance(steps.db, queue).dispatched == 1
    assert queue.published == [job_id]


def test_the_result_of_a_dispatch_counts_only_accepted_jobs(steps: Steps) -> None:
    class HalfDownQueue(FakeQueue):
        def publish(self, job_ids: list[str], *, variant: str) -> None:
            if variant == "small_16k":
                raise BrokerUnavailableError("refused by the test")
            super().publish(job_ids, variant=variant)

    steps.add_worker(slots=8)
    assert dispatch(steps.db, FakeQueue()) == DispatchResult()
    steps.submit()
    steps.submit(variant="small_16k")
    assert dispatch(steps.db, HalfDownQueue()) == DispatchResult(published=1, broker_ok=False)


def test_a_dispatch_behind_a_busy_lock_says_so(steps: Steps, queue: FakeQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(tx: Transaction) -> None:
        raise DispatchLockBusyError("another process has held the dispatch lock for 5 s")

    steps.add_worker()
    steps.submit()
    monkeypatch.setattr("jobs.service.scheduling.dispatch.acquire_dispatch_lock", busy)
    assert dispatch(steps.db, queue) == DispatchResult(published=0, broker_ok=True, lock_busy=True)
    assert queue.published == []


def test_a_wiped_queue_is_filled_again_without_doubling_messages(
    steps: Steps, queue: FakeQueue, clock: FakeClock
) -> None:
    steps.add_worker(slots=8)
    jobs = [steps.submit().id for _ in range(4)]
    dispatch(steps.db, queue)
    clock.advance(5)
    assert republish_lost(steps.db, queue) == 0
    queue.messages["tiny_16k"] = jobs[:1]
    assert republish_lost(steps.db, queue) == 3
    assert sorted(queue.published) == sorted(jobs)


def test_a_job_published_by_a_process_that_died_before_sending_is_found(
    steps: Steps, queue: FakeQueue, clock: FakeClock
) -> None:
    steps.add_worker(slots=8)

    class DyingQueue(FakeQueue):
        def publish(self, job_ids: list[str], *, variant: str) -> None:
            raise KeyboardInterrupt

    job_id = steps.submit().id
    with pytest.raises(KeyboardInterrupt):
        dispatch(steps.db, DyingQueue())
    assert steps.job(job_id).published_at is not None
    clock.advance(5)
    run_maintenance(steps.db, queue)
    assert queue.published == [job_id]


def test_a_job_that_backs_off_is_not_published_before_its_time(
    steps: Steps, queue: FakeQueue, clock: FakeClock
) -> None:
    steps.add_worker(slots=8)
    job_id = steps.submit().id
    claim = steps.claimed(job_id)
    with steps.db.transaction() as tx:
        fail(tx, claim, Failure("storage_unavailable", "No answer.", retryable=True))
    assert run_maintenance(steps.db, queue).dispatched == 0
    clock.advance(3)
    assert run_maintenance(steps.db, queue).dispatched == 1


def test_a_job_that_waits_too_long_fails_with_queue_timeout(steps: Steps, queue: FakeQueue, clock: FakeClock) -> None:
    late, patient = steps.submit(queue_ttl_s=10).id, steps.submit().id
    clock.advance(11)
    assert run_maintenance(steps.db, queue).queue_timeouts == 1
    job = steps.job(late)
    assert (job.state, job.error_code) == (State.FAILED, "queue_timeout")
    assert steps.job(patient).state is State.QUEUED


def test_pages_hold_every_job_once_newest_first_while_jobs_arrive(steps: Steps, db: Database) -> None:
    jobs = [steps.submit().id for _ in range(7)]
    listed: list[str] = []
    cursor = None
    while True:
        with db.of_tenant(TENANT).reading() as tx:
            page = list_jobs(tx, wanted=JobFilter(), cursor=cursor, limit=3)
        listed += [job.id for job in page.jobs]
        steps.submit()  # arrives while somebody turns the pages
        cursor = page.next_cursor
        if cursor is None:
            break
    assert listed == jobs[::-1]


def test_lists_filter_by_state_variant_time_and_metadata(steps: Steps, db: Database, clock: FakeClock) -> None:
    old = steps.submit(metadata={"album": 'quo"te', "n": "1"}).id
    clock.advance(10)
    new = steps.submit(variant="small_16k", metadata={"album": "other"}).id
    steps.submit(tenant="somebody_else", metadata={"album": "other"})
    steps.claimed(new)
    for wanted, expected in [
        (JobFilter(state=State.QUEUED), [old]),
        (JobFilter(variant="small_16k"), [new]),
        (JobFilter(created_after=clock.time.replace(second=5)), [new]),
        (JobFilter(metadata=(("album", 'quo"te'), ("n", "1"))), [old]),
        (JobFilter(metadata=(("missing", "x"),)), []),
    ]:
        with db.of_tenant(TENANT).reading() as tx:
            page = list_jobs(tx, wanted=wanted, cursor=None, limit=10)
        assert [job.id for job in page.jobs] == expected, wanted


@pytest.mark.parametrize(
    "key",
    ['quo"te', "com,ma", "{brace}", "back\\slash", "ünï çode", "a.b", "0", "[0]", "$", "it's", "line\nbreak", "%"],
)
def test_a_list_filters_by_any_metadata_key(steps: Steps, db: Database, key: str) -> None:
    wanted = steps.submit(metadata={key: "ü\"'x", "other": "y"}).id
    steps.submit(metadata={"other": "ü\"'x"})
    steps.submit(metadata={key: "z"})
    with db.of_tenant(TENANT).reading() as tx:
        metadata = ((key, "ü\"'x"),)
        page = list_jobs(tx, wanted=JobFilter(metadata=metadata), cursor=None, limit=10)
    assert [job.id for job in page.jobs] == [wanted]


@pytest.mark.parametrize("cursor", ["", "!!!", "bm90IGFuIGlk", "é", "am9iXwA"])
def test_a_cursor_that_is_not_ours_is_refused(db: Database, cursor: str) -> None:
    with db.of_tenant(TENANT).reading() as tx, pytest.raises(InvalidCursorError):
        list_jobs(tx, wanted=JobFilter(), cursor=cursor, limit=10)


def test_queue_positions_and_sums(steps: Steps, db: Database, clock: FakeClock) -> None:
    first, second = steps.submit().id, steps.submit().id
    urgent = steps.submit(priority="high").id
    running = steps.submit().id
    clock.advance(30)
    steps.claimed(running)
    with db.reading() as tx:
        places = [queue_position(tx, steps.job(job_id)) for job_id in (urgent, first, second, running)]
        sums = queue_stats(tx, ("tiny_16k", "small_16k"))
    assert places == [1, 2, 3, None]
    assert [(s.variant, s.queued, s.running, s.oldest_queued_age_s) for s in sums] == [
        ("tiny_16k", 3, 1, 30.0),
        ("small_16k", 0, 0, None),
    ]
