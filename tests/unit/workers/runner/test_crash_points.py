"""A process that dies between any two steps of upload, row, event and acknowledgement leaves what the sweep mends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from jobs.db.database import Database
from jobs.db.tables import Job
from jobs.lifecycle import State
from jobs.queue import Broker
from jobs.request import JobRequest
from jobs.service import attempts, submission, transitions
from jobs.service.artifacts import artifacts_by_job
from jobs.service.queries import job_attempts, job_events
from jobs.service.retention import ATTEMPT_GRACE_S, prune
from jobs.service.submission import SubmitPolicy, submit_and_commit
from jobs.service.workers import record_heartbeat, register_worker
from jobs.settings import Settings
from jobs.storage.factory import open_store
from jobs.storage.protocol import ObjectStore
from mmaudio_model.media.probe import MediaLimits
from tests.conftest import FakeClock
from tests.contract.domain.conftest import FakeQueue
from tests.databases import migrated_sqlite
from tests.maintenance import run_maintenance
from tests.queue_counts import recount, stored_counts
from tests.unit.workers.models import CountingModel, engine_of
from workers.engine.engine import Engine
from workers.feature_cache.cache import FeatureCache
from workers.feature_cache.disk import DiskFeatureStore
from workers.media.sandbox import MediaSandbox, SandboxLimits
from workers.runner.active_jobs import ActiveJobs
from workers.runner.attempt import WorkerContext
from workers.runner.executor import JobExecutor
from workers.runner.reporter import Reporter

TENANT = "default"


class ProcessDiedError(BaseException):
    """Raised where a process dies: nothing of ours may catch it."""


@dataclass
class AttemptHarness:
    """A platform with one worker that can die and be started again; all but the model and the queue is real."""

    settings: Settings
    db: Database
    store: ObjectStore
    engine: Engine
    clock: FakeClock
    queue: FakeQueue = field(default_factory=FakeQueue)

    def submit(self) -> str:
        request = JobRequest(prompt="rain", num_samples=2, num_steps=2, audio_format="wav")
        policy = SubmitPolicy(variants=("tiny_16k",))
        return submit_and_commit(self.db, request, tenant=TENANT, policy=policy).job.id

    def work_once(self) -> None:
        """Take one message as a new process does; it is acknowledged when the task returns."""
        job_id = self.queue.take()
        assert job_id is not None
        sandbox = MediaSandbox(MediaLimits(), SandboxLimits(), self.settings.data_dir / "scratch")
        features = FeatureCache(
            DiskFeatureStore(self.settings.data_dir / "features", max_bytes=10**6), None, ttl_s=3600
        )
        context = WorkerContext(
            self.settings, self.db, self.store, self.engine, sandbox, lambda *_: None, features, lambda *_: "revision 1"
        )
        active_jobs = ActiveJobs()
        reporter = Reporter(
            self.db, active_jobs, worker_id="w1", lease_s=12, heartbeat_s=4,
            state=lambda: "ready", loaded=list, memory=lambda: None,
        )  # fmt: skip
        try:
            JobExecutor(context, cast(Broker, self.queue), active_jobs, reporter, worker_id="w1").run(job_id)
        except ProcessDiedError:
            self.queue.messages.setdefault("tiny_16k", []).append(job_id)  # it was never acknowledged
            raise

    def recover(self) -> None:
        """Time passes, the sweep runs, another process takes what comes."""
        for _ in range(4):
            self.clock.advance(13)
            with self.db.transaction() as tx:
                record_heartbeat(tx, "w1", state="ready", variants_loaded=[], memory_bytes=None)
            run_maintenance(self.db, self.queue)
            while self.queue.published:
                self.work_once()

    def check_done_once(self, job_id: str) -> None:
        self.clock.advance(ATTEMPT_GRACE_S + 1)
        prune(self.db, self.store, lambda output, job_id, attempt: 0)
        with self.db.reading() as tx:
            assert tx.session.get_one(Job, job_id).state is State.SUCCEEDED
            kinds = [event.kind for event in job_events(tx, job_id)]
            assert kinds.count("succeeded") == 1
            assert [attempt.outcome for attempt in job_attempts(tx, job_id)].count("succeeded") == 1
            keys = sorted(artifact.storage_key for artifact in artifacts_by_job(tx, [job_id])[job_id])
            assert len(keys) == 2
            assert list(self.store.list_keys(f"jobs/{job_id}/")) == keys
            assert stored_counts(tx) == recount(tx) == {}


@pytest.fixture
def bench(tmp_path: Path, clock: FakeClock) -> Iterator[AttemptHarness]:
    settings = Settings(data_dir=tmp_path, scratch_dir=tmp_path / "scratch", max_batch=1)
    db = Database(migrated_sqlite(tmp_path / "mmaudio.db"), clock=clock)
    with db.transaction() as tx:
        register_worker(tx, worker_id="w1", hostname="h", pid=1, device="cpu:0", slots=2, variants=["tiny_16k"])
    model = CountingModel()
    engine = engine_of(lambda _: model, max_batch=1)
    engine.start()
    yield AttemptHarness(settings, db, open_store(settings), engine, clock)
    engine.close()
    db.close()


Die = Callable[[pytest.MonkeyPatch, AttemptHarness], None]


def _dies_before(owner: Any, name: str, *, when: Callable[..., bool] = lambda *_: True) -> Die:
    def arm(patch: pytest.MonkeyPatch, harness: AttemptHarness) -> None:
        target = getattr(harness, owner) if isinstance(owner, str) else owner
        real = getattr(target, name)

        def dying(*args: Any, **kwargs: Any) -> Any:
            if when(*args):
                raise ProcessDiedError
            return real(*args, **kwargs)

        patch.setattr(target, name, dying)

    return arm


def _dies_after(owner: Any, name: str) -> Die:
    def arm(patch: pytest.MonkeyPatch, harness: AttemptHarness) -> None:
        target = getattr(harness, owner) if isinstance(owner, str) else owner
        real = getattr(target, name)

        def dying(*args: Any, **kwargs: Any) -> Any:
            real(*args, **kwargs)
            raise ProcessDiedError

        patch.setattr(target, name, dying)

    return arm


def _tells_of(kind: str) -> Callable[..., bool]:
    return lambda tx, job_id, told, *rest: told == kind


@pytest.mark.parametrize(
    "die",
    [
        pytest.param(_dies_before(transitions, "append_event", when=_tells_of("running")), id="claimed, no event"),
        pytest.param(_dies_after(JobExecutor, "_write"), id="claim committed, nothing begun"),
        pytest.param(_dies_before("store", "put_file", when=lambda *_: True), id="nothing stored"),
        pytest.param(_dies_after("store", "put_file"), id="one of two files stored"),
        pytest.param(_dies_before(attempts, "complete"), id="all stored, no row"),
        pytest.param(_dies_before(transitions, "append_event", when=_tells_of("succeeded")), id="row, no event"),
        pytest.param(_dies_before(attempts, "_end_attempt"), id="row, event, artifacts; the attempt not ended"),
        pytest.param(_dies_after(attempts, "complete"), id="all written, not committed"),
        pytest.param(_dies_after(JobExecutor, "_publish"), id="committed, not acknowledged"),
    ],
)
def test_a_worker_that_dies_anywhere_leaves_one_result(harness: AttemptHarness, die: Die) -> None:
    job_id = harness.submit()
    run_maintenance(harness.db, harness.queue)
    with pytest.MonkeyPatch.context() as patch:
        die(patch, harness)
        with pytest.raises(ProcessDiedError):
            harness.work_once()
    harness.recover()
    harness.check_done_once(job_id)


def test_a_worker_that_dies_in_every_attempt_ends_the_job_with_its_history(harness: AttemptHarness) -> None:
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
            record_heartbeat(tx, "w1", state="ready", variants_loaded=[], memory_bytes=None)
    run_maintenance(harness.db, harness.queue)
    with harness.db.reading() as tx:
        job = tx.session.get_one(Job, job_id)
        assert (job.state, job.error_code) == (State.FAILED, "worker_lost")
        assert [attempt.outcome for attempt in job_attempts(tx, job_id)] == ["lost"] * 3
    harness.clock.advance(ATTEMPT_GRACE_S + 1)
    prune(harness.db, harness.store, lambda output, job_id, attempt: 0)
    assert list(harness.store.list_keys(f"jobs/{job_id}/")) == []


@pytest.mark.parametrize(
    ("die", "accepted"),
    [
        pytest.param(_dies_before(submission, "append_event"), False, id="row, no event"),
        pytest.param(_dies_after(submission, "append_event"), False, id="event, not committed"),
        pytest.param(_dies_after(submission, "commit_once"), True, id="committed, not published"),
        pytest.param(_dies_before("belt", "publish"), True, id="marked, no message"),
    ],
)
def test_a_submit_that_dies_anywhere_is_whole_or_not_there(harness: AttemptHarness, die: Die, accepted: bool) -> None:
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
