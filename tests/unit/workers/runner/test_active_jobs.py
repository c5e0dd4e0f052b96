"""The register of running jobs, and how they are asked to stop."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from jobs.service.attempts import Claim
from workers.runner.active_jobs import ActiveJob, ActiveJobs, StoppedError, StopReason


def claim(job_id: str = "job_1", attempt: int = 1) -> Claim:
    return Claim(
        job_id=job_id,
        attempt=attempt,
        worker_id="worker-1",
        tenant="default",
        variant="tiny_16k",
        request={},
        input_key=None,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        queued_s=0.0,
    )


def active_job(job_id: str = "job_1", attempt: int = 1) -> ActiveJob:
    return ActiveJob(claim(job_id, attempt), on_stop=lambda job_id: None)


def test_a_job_that_nobody_stopped_goes_on() -> None:
    job = active_job()

    job.check()
    assert not job.stopped


def test_a_stopped_job_says_so_when_it_checks_and_the_first_reason_counts() -> None:
    job = active_job()
    job.stop(StopReason.CANCELED)
    job.stop(StopReason.DRAINED)

    assert job.stopped
    assert job.reason is StopReason.CANCELED
    with pytest.raises(StoppedError, match="canceled"):
        job.check()


def test_only_the_jobs_that_wait_for_the_device_are_stopped_when_that_is_asked() -> None:
    active_jobs, waiting, sampled = ActiveJobs(), active_job("job_1"), active_job("job_2")
    waiting.waits_for_device = True
    for job in (waiting, sampled):
        active_jobs.add(job)
    active_jobs.stop_waiting(StopReason.DRAINED)

    assert (waiting.reason, sampled.reason) == (StopReason.DRAINED, None)


def test_what_runs_for_a_job_is_ended_once_however_often_it_is_stopped() -> None:
    ended: list[str] = []
    job = ActiveJob(claim("job_7"), on_stop=ended.append)
    for reason in StopReason:
        job.stop(reason)

    assert ended == ["job_7"]


def test_what_runs_for_a_job_is_ended_after_the_job_says_that_it_is_stopped() -> None:
    seen: list[bool] = []
    job = ActiveJob(claim(), on_stop=lambda job_id: seen.append(job.stopped))
    job.stop(StopReason.DRAINED)

    assert seen == [True]


def test_all_held_jobs_are_stopped_together_and_removed_ones_are_not() -> None:
    active_jobs = ActiveJobs()
    jobs = [active_job(f"job_{number}") for number in range(3)]
    for job in jobs:
        active_jobs.add(job)
    active_jobs.remove(jobs[1])
    active_jobs.stop_all(StopReason.DRAINED)

    assert active_jobs.all() == [jobs[0], jobs[2]]
    assert [job.reason for job in jobs] == [StopReason.DRAINED, None, StopReason.DRAINED]


def test_the_end_of_an_old_attempt_does_not_let_go_of_the_new_one() -> None:
    active_jobs = ActiveJobs()
    old, new = active_job(attempt=1), active_job(attempt=2)
    active_jobs.add(old)
    active_jobs.add(new)
    active_jobs.remove(old)

    assert active_jobs.all() == [new]


def test_a_job_may_be_removed_twice() -> None:
    active_jobs = ActiveJobs()
    job = active_job()
    active_jobs.add(job)
    active_jobs.remove(job)
    active_jobs.remove(job)

    assert active_jobs.all() == []
