"""Maintenance recovers from a process that dies between any two steps of upload, row, event and acknowledgement."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from jobs.db.tables import Job
from jobs.lifecycle import AttemptOutcome, EventKind, State, WorkerState
from jobs.service import attempts, submission, transitions
from jobs.service.artifacts import artifacts_by_job, previews_of_job
from jobs.service.queries import job_attempts, job_events
from jobs.service.retention import ATTEMPT_GRACE_S, prune
from jobs.service.workers import record_heartbeat
from tests.maintenance import run_maintenance
from tests.queue_counts import recount, stored_counts
from tests.unit.workers.runner.executor_harness import ExecutorHarness
from workers.runner.executor import JobExecutor


class ProcessDiedError(BaseException):
    """Raised where a process dies; product code must not catch it."""


class CrashHarness(ExecutorHarness):
    """The platform, whose worker can die and be started again."""

    def work_once(self) -> None:
        """Take one message as a new process does; it is acknowledged when the task returns."""
        job_id = self.queue.take()
        assert job_id is not None
        try:
            self.executor().run(job_id)
        except ProcessDiedError:
            self.queue.messages.setdefault("tiny_16k", []).append(job_id)  # it was never acknowledged
            raise

    def recover(self) -> None:
        """Let time pass, run maintenance, and let another process take what it publishes."""
        for _ in range(4):
            self.clock.advance(13)
            with self.db.transaction() as tx:
                record_heartbeat(tx, "w1", state=WorkerState.READY, variants_loaded=[], memory_bytes=None)
            run_maintenance(self.db, self.queue)
            while self.queue.published:
                self.work_once()

    def check_done_once(self, job_id: str) -> None:
        self.clock.advance(ATTEMPT_GRACE_S + 1)
        prune(self.db, self.store, lambda output, job_id, attempt: 0)
        with self.db.reading() as tx:
            assert tx.session.get_one(Job, job_id).state is State.SUCCEEDED
            kinds = [event.kind for event in job_events(tx, job_id)]
            assert kinds.count(EventKind.SUCCEEDED) == 1
            assert [attempt.outcome for attempt in job_attempts(tx, job_id)].count(AttemptOutcome.SUCCEEDED) == 1
            rows = [*artifacts_by_job(tx, [job_id])[job_id], *previews_of_job(tx, job_id)]
            keys = sorted(row.storage_key for row in rows)
            assert len(keys) == 4
            assert list(self.store.list_keys(f"jobs/{job_id}/")) == keys
            assert stored_counts(tx) == recount(tx) == {}


@pytest.fixture
def harness(platform: ExecutorHarness) -> CrashHarness:
    return CrashHarness(**vars(platform))


Die = Callable[[pytest.MonkeyPatch, CrashHarness], None]


def _dies_before(owner: Any, name: str, *, when: Callable[..., bool] = lambda *_: True) -> Die:
    def arm(patch: pytest.MonkeyPatch, harness: CrashHarness) -> None:
        target = getattr(harness, owner) if isinstance(owner, str) else owner
        real = getattr(target, name)

        def dying(*args: Any, **kwargs: Any) -> Any:
            if when(*args):
                raise ProcessDiedError
            return real(*args, **kwargs)

        patch.setattr(target, name, dying)

    return arm


def _dies_after(owner: Any, name: str) -> Die:
    def arm(patch: pytest.MonkeyPatch, harness: CrashHarness) -> None:
        target = getattr(harness, owner) if isinstance(owner, str) else owner
        real = getattr(target, name)

        def dying(*args: Any, **kwargs: Any) -> Any:
            real(*args, **kwargs)
            raise ProcessDiedError

        patch.setattr(target, name, dying)

    return arm


def _is_event(kind: EventKind) -> Callable[..., bool]:
    return lambda tx, job_id, recorded, *rest: recorded == kind


@pytest.mark.parametrize(
    "die",
    [
        pytest.param(
            _dies_before(transitions, "append_event", when=_is_event(EventKind.RUNNING)), id="claimed, no event"
        ),
        pytest.param(_dies_after(JobExecutor, "_write"), id="claim committed, nothing begun"),
        pytest.param(_dies_before("store", "put_file", when=lambda *_: True), id="nothing stored"),
        pytest.param(_dies_after("store", "put_file"), id="one of two files stored"),
        pytest.param(_dies_before(attempts, "complete"), id="all stored, no row"),
        pytest.param(
            _dies_before(transitions, "append_event", when=_is_event(EventKind.SUCCEEDED)), id="row, no event"
        ),
        pytest.param(_dies_before(attempts, "_end_attempt"), id="row, event, artifacts; the attempt not ended"),
        pytest.param(_dies_after(attempts, "complete"), id="all written, not committed"),
        pytest.param(_dies_after(JobExecutor, "_publish"), id="committed, not acknowledged"),
    ],
)
def test_a_worker_that_dies_anywhere_leaves_one_result(harness: CrashHarness, die: Die) -> None:
    job_id = harness.submit()
    run_maintenance(harness.db, harness.queue)
    with pytest.MonkeyPatch.context() as patch:
        die(patch, harness)
        with pytest.raises(ProcessDiedError):
            harness.work_once()
    harness.recover()
    harness.check_done_once(job_id)


def test_a_worker_that_dies_in_every_attempt_ends_the_job_with_its_history(harness: CrashHarness) -> None:
    job_id = harness.submit()
    for _ in range(3):
        run_maintenance(harness.db, harness.queue)
        with pytest.MonkeyPatch.context() as patch:
            _dies_before(attempts, "complete")(patch, harness)
            with pytest.raises(ProcessDiedError):
                harness.work_once()
        harness.queue.messages.clear()
        harness.clock.advance(13)
        with harness.db.transaction() as tx:
            record_heartbeat(tx, "w1", state=WorkerState.READY, variants_loaded=[], memory_bytes=None)
    run_maintenance(harness.db, harness.queue)
    with harness.db.reading() as tx:
        job = tx.session.get_one(Job, job_id)
        assert (job.state, job.error_code) == (State.FAILED, "worker_lost")
        assert [attempt.outcome for attempt in job_attempts(tx, job_id)] == [AttemptOutcome.LOST] * 3
    harness.clock.advance(ATTEMPT_GRACE_S + 1)
    prune(harness.db, harness.store, lambda output, job_id, attempt: 0)
    assert list(harness.store.list_keys(f"jobs/{job_id}/")) == []


@pytest.mark.parametrize(
    ("die", "accepted"),
    [
        pytest.param(_dies_before(submission, "append_event"), False, id="row, no event"),
        pytest.param(_dies_after(submission, "append_event"), False, id="event, not committed"),
        pytest.param(_dies_after(submission, "commit_once"), True, id="committed, not published"),
        pytest.param(_dies_before("queue", "publish"), True, id="marked, no message"),
    ],
)
def test_a_submit_that_dies_anywhere_is_whole_or_not_there(harness: CrashHarness, die: Die, accepted: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        die(patch, harness)
        with contextlib.suppress(ProcessDiedError):
            harness.submit()
        with contextlib.suppress(ProcessDiedError):
            run_maintenance(harness.db, harness.queue)
    with harness.db.reading() as tx:
        jobs = list(tx.session.query(Job))
        assert len(jobs) == int(accepted)
        assert stored_counts(tx) == recount(tx)
    if accepted:
        harness.recover()
        harness.check_done_once(jobs[0].id)
