"""The register of held jobs, and the word to stop one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from jobs.service.work import Claim
from workers.in_hand import HeldJob, JobsInHand, StoppedError, StopReason


def claim(job_id: str = "job_1", attempt: int = 1) -> Claim:
    return Claim(
        job_id=job_id,
        attempt=attempt,
        worker_id="worker-1",
        tenant="default",
        variant="tiny_16k",
        request={},
        input_key=None,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        queued_s=0.0,
    )


def held(job_id: str = "job_1", attempt: int = 1) -> HeldJob:
    return HeldJob(claim(job_id, attempt), on_stop=lambda job_id: None)


def test_a_job_that_nobody_stopped_goes_on() -> None:
    job = held()

    job.check()
    assert not job.stopped


def test_a_stopped_job_says_so_when_it_checks_and_the_first_reason_counts() -> None:
    job = held()
    job.stop(StopReason.CANCELED)
    job.stop(StopReason.DRAINED)

    assert job.stopped
    assert job.reason is StopReason.CANCELED
    with pytest.raises(StoppedError, match="canceled"):
        job.check()


def test_only_the_jobs_that_wait_for_the_device_are_stopped_when_that_is_asked() -> None:
    in_hand, waiting, sampled = JobsInHand(), held("job_1"), held("job_2")
    waiting.waits_for_device = True
    for job in (waiting, sampled):
        in_hand.add(job)
    in_hand.stop_waiting(StopReason.DRAINED)

    assert (waiting.reason, sampled.reason) == (StopReason.DRAINED, None)


def test_what_runs_for_a_job_is_ended_once_however_often_it_is_stopped() -> None:
    ended: list[str] = []
    job = HeldJob(claim("job_7"), on_stop=ended.append)
    for reason in StopReason:
        job.stop(reason)

    assert ended == ["job_7"]


def test_what_runs_for_a_job_is_ended_after_the_job_says_that_it_is_stopped() -> None:
    seen: list[bool] = []
    job = HeldJob(claim(), on_stop=lambda job_id: seen.append(job.stopped))
    job.stop(StopReason.DRAINED)

    assert seen == [True]


def test_all_held_jobs_are_stopped_together_and_removed_ones_are_not() -> None:
    in_hand = JobsInHand()
    jobs = [held(f"job_{number}") for number in range(3)]
    for job in jobs:
        in_hand.add(job)
    in_hand.remove(jobs[1])
    in_hand.stop_all(StopReason.DRAINED)

    assert in_hand.all() == [jobs[0], jobs[2]]
    assert [job.reason for job in jobs] == [StopReason.DRAINED, None, StopReason.DRAINED]


def test_the_end_of_an_old_attempt_does_not_let_go_of_the_new_one() -> None:
    in_hand = JobsInHand()
    old, new = held(attempt=1), held(attempt=2)
    in_hand.add(old)
    in_hand.add(new)
    in_hand.remove(old)

    assert in_hand.all() == [new]


def test_a_job_may_be_removed_twice() -> None:
    in_hand = JobsInHand()
    job = held()
    in_hand.add(job)
    in_hand.remove(job)
    in_hand.remove(job)

    assert in_hand.all() == []
