"""Retries by filter: each matching job once, a page at a time, whatever stands in the way of single ones."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from jobs.db.tables import Job
from jobs.errors import Failure, InvalidCursorError, QueueFullError
from jobs.lifecycle import State
from jobs.service import attempts, bulk_retry
from jobs.service.bulk_retry import RetryPage, retry_matching
from jobs.service.cancellation import cancel, retry
from jobs.service.job_pages import list_jobs
from jobs.service.queries import JobFilter
from jobs.service.scheduling.queue_counters import queued_of_tenant
from jobs.service.uploads import announce_upload, mark_upload_checked
from tests.conftest import FakeClock
from tests.contract.domain.conftest import TENANT, Steps

AWAY = Failure("storage_unavailable", "The object store did not answer.", "upload", retryable=False)
BROKEN = Failure("media_invalid", "The file is not a video.", "decode")
FAILED = JobFilter(State.FAILED)


def failed(steps: Steps, failure: Failure = AWAY, tenant: str = TENANT, **fields: Any) -> str:
    """Submit a job and let it fail."""
    job_id = steps.submit(tenant, **fields).id
    fail(steps, job_id, failure)
    return job_id


def fail(steps: Steps, job_id: str, failure: Failure = AWAY) -> None:
    claim = steps.claimed(job_id)
    with steps.db.transaction() as tx:
        attempts.fail(tx, claim, failure)


def retried(steps: Steps, wanted: JobFilter = FAILED, **options: Any) -> RetryPage:
    options = {"policy": steps.policy, "cursor": None, "limit": 100, **options}
    return retry_matching(steps.db.of_tenant(TENANT), wanted=wanted, **options)


def sources(page: RetryPage) -> list[str]:
    return [one.retry_of for one in page.retried]


def upload(steps: Steps, ttl_s: int) -> str:
    with steps.db.of_tenant(TENANT).transaction() as tx:
        made = announce_upload(tx, filename="v", content_type="video/mp4", size_bytes=1, sha256=None, ttl_s=ttl_s)
        mark_upload_checked(tx, made.id)
    return made.id


def test_each_matching_job_gets_one_new_job_with_its_request_and_seed(steps: Steps) -> None:
    old = [failed(steps, seed=seed) for seed in (1, 2, 3)]
    page = retried(steps)
    assert sources(page) == old
    for one in page.retried:
        assert one.job_id is not None
        new = steps.job(one.job_id)
        assert (new.state, new.retry_of, new.request) == (State.QUEUED, one.retry_of, steps.job(one.retry_of).request)
    assert (page.skipped, page.already_retried, page.stopped, page.next_cursor) == ([], 0, None, None)
    with steps.db.reading() as tx:
        assert queued_of_tenant(tx, TENANT) == 3


def test_the_same_filter_twice_makes_nothing_twice_but_a_retry_that_failed_is_a_job_of_its_own(steps: Steps) -> None:
    old = failed(steps)
    by_hand = failed(steps)
    with steps.db.of_tenant(TENANT).transaction() as tx:
        retry(tx, by_hand, policy=steps.policy)
    (one,) = retried(steps).retried
    assert one.retry_of == old
    again = retried(steps)
    assert (again.retried, again.already_retried) == ([], 2)
    assert one.job_id is not None
    fail(steps, one.job_id)
    assert sources(retried(steps)) == [one.job_id]


def test_only_jobs_that_meet_every_condition_are_retried(steps: Steps, clock: FakeClock) -> None:
    failed(steps)  # too early
    clock.advance(10)
    after = clock.time
    clock.advance(10)
    wanted = failed(steps, metadata={"batch": "7", "x": "y"})
    failed(steps, BROKEN, metadata={"batch": "7"})
    failed(steps, variant="small_16k", metadata={"batch": "7"})
    failed(steps, metadata={"batch": "8"})
    failed(steps, tenant="somebody_else", metadata={"batch": "7"})
    canceled = steps.submit(metadata={"batch": "7"}).id
    with steps.db.transaction() as tx:
        cancel(tx, canceled)
    steps.complete(steps.claimed(steps.submit(metadata={"batch": "7"}).id))
    clock.advance(10)
    before = clock.time
    failed(steps, metadata={"batch": "7"})  # too late
    conditions = JobFilter(State.FAILED, "tiny_16k", after, (("batch", "7"),), "storage_unavailable", before)
    assert sources(retried(steps, conditions)) == [wanted]
    assert sources(retried(steps, JobFilter(State.CANCELED))) == [canceled]
    with steps.db.of_tenant(TENANT).reading() as tx:
        listed = list_jobs(tx, wanted=JobFilter(error_code="media_invalid"), cursor=None, limit=10)
    assert [job.error_code for job in listed.jobs] == ["media_invalid"]


def test_pages_lead_through_all_jobs_and_leave_out_those_that_came_later(steps: Steps) -> None:
    old = [failed(steps) for _ in range(5)]
    found, cursor, pages = [], None, 0
    while pages == 0 or cursor is not None:
        page = retried(steps, cursor=cursor, limit=2)
        for one in page.retried:
            assert one.job_id is not None
            fail(steps, one.job_id)  # at once: without a bound this would never end
        found += sources(page)
        cursor, pages = page.next_cursor, pages + 1
    assert (found, pages) == (old, 3)


def test_a_page_that_is_sent_again_after_a_lost_answer_makes_nothing_twice(steps: Steps) -> None:
    old = [failed(steps) for _ in range(4)]
    first = retried(steps, limit=2)
    assert (sources(first), sources(retried(steps, limit=2))) == (old[:2], [])
    assert retried(steps, limit=2).already_retried == 2
    assert sources(retried(steps, cursor=first.next_cursor, limit=2)) == old[2:]


def test_a_page_looks_at_a_bounded_number_of_jobs(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_retry, "SCANNED_JOBS", 3)
    for _ in range(4):
        failed(steps)
    last = failed(steps, variant="small_16k")
    first = retried(steps, JobFilter(State.FAILED, "small_16k"))
    assert (first.retried, first.next_cursor is not None) == ([], True)
    second = retried(steps, JobFilter(State.FAILED, "small_16k"), cursor=first.next_cursor)
    assert (sources(second), second.next_cursor) == ([last], None)


def test_jobs_that_cannot_be_retried_are_skipped_with_the_reason_and_the_others_go_on(
    steps: Steps, clock: FakeClock
) -> None:
    expired = failed(steps, video=upload(steps, ttl_s=60))
    gone = failed(steps, video="s3://inbox/a.mp4")
    odd = failed(steps)
    good = failed(steps, video=upload(steps, ttl_s=86_400))
    with steps.db.transaction() as tx:
        tx.session.execute(update(Job).where(Job.id == odd).values(request={"prompt": "rain", "tempo": 3}))
    clock.advance(120)
    strict = replace(steps.policy, input_buckets=frozenset())
    for dry_run in (True, False):
        page = retried(steps, policy=strict, dry_run=dry_run)
        assert sources(page) == [good]
        assert [one.job_id for one in page.skipped] == [expired, gone, odd]
        reasons = [one.error.message for one in page.skipped]
        assert "upload the file again" in reasons[0]
        assert "does not read from bucket 'inbox'" in reasons[1]
        assert "tempo" in reasons[2]


def test_a_full_queue_ends_the_page_and_says_where_to_go_on(steps: Steps) -> None:
    old = [failed(steps) for _ in range(4)]
    small = replace(steps.policy, max_queued_per_tenant=2)
    for dry_run in (True, False):
        page = retried(steps, policy=small, dry_run=dry_run)
        assert sources(page) == old[:2]
        assert page.stopped is not None
        assert "2 jobs are queued" in page.stopped.message
    with pytest.raises(QueueFullError):
        retried(steps, policy=small, cursor=page.next_cursor)
    assert sources(retried(steps, cursor=page.next_cursor)) == old[2:]


def test_a_dry_run_writes_nothing(steps: Steps) -> None:
    old = [failed(steps), failed(steps)]
    page = retried(steps, dry_run=True)
    assert (sources(page), [one.job_id for one in page.retried]) == (old, [None, None])
    assert sources(retried(steps)) == old


def test_concurrent_bulk_retries_retry_each_job_once(steps: Steps) -> None:
    old = {failed(steps) for _ in range(12)}

    with ThreadPoolExecutor(4) as pool:
        pages = list(pool.map(lambda _: retried(steps), range(4)))
    made = [one.retry_of for page in pages for one in page.retried]
    assert (len(made), set(made)) == (12, old)
    with steps.db.reading() as tx:
        assert tx.session.scalar(select(func.count()).where(Job.retry_of.is_not(None))) == 12


@pytest.mark.parametrize("cursor", ["nonsense", "", "job_" + "0" * 32, "job_1:job_2"])
def test_a_cursor_of_something_else_is_refused(steps: Steps, cursor: str) -> None:
    with pytest.raises(InvalidCursorError):
        retried(steps, cursor=cursor)


def test_times_outside_of_what_ids_hold_are_no_error(steps: Steps, clock: FakeClock) -> None:
    old = failed(steps)
    long_ago = clock.time.replace(year=1)
    far = clock.time + timedelta(days=1)
    assert sources(retried(steps, JobFilter(State.FAILED, created_after=long_ago, created_before=far))) == [old]
