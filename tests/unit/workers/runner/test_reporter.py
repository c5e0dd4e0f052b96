"""What the reporter does at each tick, on a migrated SQLite database whose clock the test moves."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from jobs.db.database import Database, Transaction
from jobs.db.tables import Job, Worker
from jobs.db.tenant_scope import PLATFORM
from jobs.lifecycle import EventKind, Stage, State, WorkerState, overall_progress
from jobs.request import JobRequest
from jobs.service import attempts
from jobs.service.cancellation import cancel
from jobs.service.maintenance import fail_overdue_jobs
from jobs.service.queries import get_job, job_events
from jobs.service.submission import SubmitPolicy, submit
from jobs.service.workers import register_worker, request_drain
from local_services.commands import wait_until
from tests.conftest import FakeClock
from tests.databases import migrated_sqlite
from workers.runner.active_jobs import ActiveJob, ActiveJobs, StopReason
from workers.runner.reporter import FLUSH_S, Reporter

TENANT, WORKER = "default", "worker-1"
LEASE_S, HEARTBEAT_S = 12.0, 4.0


class UnsteadyDatabase(Database):
    """A database that does not answer while it is `away`; writing alone may be away as well."""

    def __init__(self, url: str, clock: FakeClock) -> None:
        super().__init__(url, clock=clock)
        self._scope = PLATFORM
        self.away = self.writes_away = False
        self.refused = threading.Event()
        self.when_refused: Callable[[], None] = lambda: None
        self.error: Exception = ConnectionError("switched off by the test")

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        self._answer(self.away or self.writes_away)
        with super().transaction() as tx:
            yield tx

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        self._answer(self.away)
        with super().reading() as tx:
            yield tx

    def _answer(self, away: bool) -> None:
        if away:
            self.refused.set()
            self.when_refused()
            raise OperationalError("anything", {}, self.error)


@dataclass
class ReporterHarness:
    """One worker's reporter and the time it lives in."""

    db: UnsteadyDatabase
    clock: FakeClock
    active_jobs: ActiveJobs = field(default_factory=ActiveJobs)
    seconds: float = 1000.0
    drains: list[float] = field(default_factory=list)
    trouble: dict[str, Any] | None = None
    skew_s: float = 0.0

    def __post_init__(self) -> None:
        self.reporter = Reporter(
            self.db,
            self.active_jobs,
            worker_id=WORKER,
            lease_s=LEASE_S,
            heartbeat_s=HEARTBEAT_S,
            state=lambda: WorkerState.READY,
            loaded=lambda: ["tiny_16k"],
            memory=lambda: 123,
            gpu=lambda: {"temperature_c": 61},
            drain=lambda: self.drains.append(self.seconds),
            unavailable=lambda: self.trouble,
            monotonic=lambda: self.seconds,
            now=lambda: self.clock.time + timedelta(seconds=self.skew_s),
        )

    def later(self, seconds: float) -> None:
        """Let time pass, on the worker's clock and on the database's, and tick."""
        self.seconds += seconds
        self.clock.advance(seconds)
        self.reporter.tick()

    def hold(self) -> ActiveJob:
        """Submit a job, claim it, and register it as running."""
        policy = SubmitPolicy(variants=("tiny_16k",))
        with self.db.of_tenant(TENANT).transaction() as tx:
            job_id = submit(tx, JobRequest(prompt="rain", run_timeout_s=60), policy=policy).job.id
        with self.db.transaction() as tx:
            claim = attempts.claim(tx, job_id, worker_id=WORKER, lease_s=LEASE_S)
        assert claim is not None
        active_job = ActiveJob(claim, on_stop=lambda job_id: None)
        self.active_jobs.add(active_job)
        return active_job

    def job(self, active_job: ActiveJob) -> Job:
        with self.db.reading() as tx:
            return get_job(tx, active_job.claim.job_id)

    def worker(self) -> Worker:
        with self.db.reading() as tx:
            return tx.session.get_one(Worker, WORKER)

    def stages(self, active_job: ActiveJob) -> list[str]:
        with self.db.reading() as tx:
            return [e.data["stage"] for e in job_events(tx, active_job.claim.job_id) if e.kind == EventKind.STAGE]


@pytest.fixture
def harness(tmp_path: Path, clock: FakeClock) -> Iterator[ReporterHarness]:
    db = UnsteadyDatabase(migrated_sqlite(tmp_path / "mmaudio.db"), clock)
    with db.transaction() as tx:
        register_worker(
            tx, worker_id=WORKER, hostname="here", pid=1, device="cpu:0", slots=4, variants=["tiny_16k", "small_16k"]
        )
    yield ReporterHarness(db, clock)
    db.close()


def test_a_heartbeat_renews_leases_and_says_how_the_worker_is(harness: ReporterHarness) -> None:
    active_job = harness.hold()
    for _ in range(10):
        harness.later(HEARTBEAT_S)

    assert harness.job(active_job).lease_expires_at == harness.clock.time + timedelta(seconds=LEASE_S)
    assert not active_job.stopped
    with harness.db.reading() as tx:
        worker = tx.session.get_one(Worker, WORKER)
    assert (worker.state, worker.variants_loaded, worker.memory_bytes) == ("ready", ["tiny_16k"], 123)
    assert worker.gpu == {"temperature_c": 61}
    assert harness.drains == []
    assert worker.heartbeat_at == harness.clock.time


def test_a_drain_that_was_asked_for_is_heard_with_the_next_heartbeat(harness: ReporterHarness) -> None:
    harness.later(0)
    with harness.db.transaction() as tx:
        request_drain(tx, WORKER)
    harness.later(HEARTBEAT_S - 0.1)
    assert harness.drains == []
    harness.later(0.1)
    assert harness.drains == [harness.seconds]


def test_between_heartbeats_no_lease_is_written(harness: ReporterHarness) -> None:
    harness.later(0)
    active_job = harness.hold()
    before = harness.job(active_job).lease_expires_at
    harness.later(HEARTBEAT_S - 0.1)

    assert harness.job(active_job).lease_expires_at == before
    harness.later(0.1)
    assert harness.job(active_job).lease_expires_at != before


def test_a_cancel_is_heard_at_the_next_tick_and_by_its_own_job_alone(harness: ReporterHarness) -> None:
    active_job, other = harness.hold(), harness.hold()
    with harness.db.transaction() as tx:
        cancel(tx, active_job.claim.job_id)
    harness.later(0.05)

    assert (active_job.reason, other.reason) == (StopReason.CANCELED, None)


def test_a_job_that_somebody_else_has_by_now_is_stopped(harness: ReporterHarness) -> None:
    active_job = harness.hold()
    with harness.db.transaction() as tx:
        attempts.rescue_expired(tx, tx.session.get_one(Job, active_job.claim.job_id))
    harness.later(0.05)

    assert active_job.reason is StopReason.CANCELED
    assert harness.job(active_job).state is State.QUEUED


def test_an_attempt_may_run_as_long_as_its_request_allows_and_no_longer(harness: ReporterHarness) -> None:
    active_job = harness.hold()
    for _ in range(15):
        harness.later(HEARTBEAT_S)
    assert active_job.reason is None
    harness.later(0.05)

    assert active_job.reason is StopReason.TIMED_OUT


def test_jobs_are_dropped_when_their_leases_could_not_be_renewed_in_time(
    harness: ReporterHarness, caplog: pytest.LogCaptureFixture
) -> None:
    active_job, other = harness.hold(), harness.hold()
    harness.later(0)
    harness.db.away = True
    for _ in range(3):
        with pytest.raises(OperationalError):
            harness.later(LEASE_S / 3)
        assert not active_job.stopped
    for _ in range(3):
        with pytest.raises(OperationalError):
            harness.later(0.1)

    assert (active_job.reason, other.reason) == (StopReason.LEASE_EXPIRED, StopReason.LEASE_EXPIRED)
    assert caplog.text.count("leases could not be renewed for 12 s; stopping 2 jobs") == 1


def test_a_result_that_waits_is_not_dropped_and_has_no_timeout(harness: ReporterHarness) -> None:
    active_job = harness.hold()
    active_job.has_result = True
    harness.later(0)
    harness.db.away = True
    for _ in range(9):
        with pytest.raises(OperationalError):
            harness.later(LEASE_S)
    harness.db.away = False
    harness.later(1)

    assert active_job.reason is None


def test_the_time_that_the_store_takes_is_no_run_time(harness: ReporterHarness) -> None:
    active_job = harness.hold()
    active_job.fetching = True
    for _ in range(75):
        harness.later(HEARTBEAT_S)
    assert active_job.reason is None
    assert harness.job(active_job).run_deadline_at is not None
    assert fail_overdue_jobs(harness.db, overdue_grace_s=0) == 0
    active_job.fetching, active_job.fetch_s = False, 300.0
    for _ in range(15):
        harness.later(HEARTBEAT_S)
    assert active_job.reason is None
    harness.later(1)
    assert active_job.reason is StopReason.TIMED_OUT


def test_a_heartbeat_says_at_once_why_the_worker_takes_no_jobs(harness: ReporterHarness) -> None:
    harness.later(0)
    harness.trouble = {"code": "storage_refused", "message": "no", "since": "2026-01-01T12:00:00+00:00"}
    harness.later(0.1)
    assert harness.worker().unavailable is None
    harness.reporter.send_heartbeat_now()
    harness.later(0.1)
    assert harness.worker().unavailable == harness.trouble


def test_a_clock_that_is_off_is_measured_and_said_once_an_hour(
    harness: ReporterHarness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.skew_s = 1200.0
    for _ in range(3):
        harness.later(HEARTBEAT_S)
    assert harness.worker().clock_skew_s == 1200.0
    assert caplog.text.count("the clock of this host is 1200 s ahead of the database's; set it right") == 1


def test_a_job_that_is_there_when_the_reporter_starts_late_is_not_dropped(harness: ReporterHarness) -> None:
    harness.seconds += 2 * LEASE_S
    active_job = harness.hold()
    harness.reporter.start()
    harness.reporter.close()
    harness.later(0)

    assert not active_job.stopped


def test_a_database_that_comes_back_in_time_costs_no_job(harness: ReporterHarness) -> None:
    active_job = harness.hold()
    harness.later(0)
    harness.db.away = True
    with pytest.raises(OperationalError):
        harness.later(LEASE_S - 1)
    harness.db.away = False
    harness.later(0.5)
    harness.later(LEASE_S - 1)

    assert not active_job.stopped
    assert harness.job(active_job).lease_expires_at == harness.clock.time + timedelta(seconds=LEASE_S)


def test_a_worker_that_was_idle_for_long_does_not_drop_its_next_job(harness: ReporterHarness) -> None:
    harness.db.away = True
    with pytest.raises(OperationalError):
        harness.later(100 * LEASE_S)
    harness.db.away = False
    active_job = harness.hold()
    harness.later(1)

    assert not active_job.stopped


def test_only_the_latest_progress_is_written_and_not_at_every_tick(harness: ReporterHarness) -> None:
    active_job = harness.hold()
    harness.later(0)
    harness.reporter.report(active_job, Stage.ENCODE, 0.0)
    harness.reporter.report(active_job, Stage.SAMPLE, 0.4, 10)
    harness.later(FLUSH_S - 0.1)
    assert harness.job(active_job).progress == 0.0
    harness.later(0.1)

    assert harness.job(active_job).progress == overall_progress(Stage.SAMPLE, 0.4)
    assert (harness.job(active_job).stage, harness.job(active_job).step) == (Stage.SAMPLE, 10)
    assert harness.stages(active_job) == ["sample"]


def test_progress_is_written_once(harness: ReporterHarness) -> None:
    active_job = harness.hold()
    harness.reporter.report(active_job, Stage.SAMPLE, 0.4, 10)
    harness.later(FLUSH_S)
    version = harness.job(active_job).version
    harness.later(FLUSH_S)

    assert harness.job(active_job).version == version


def test_progress_of_a_job_that_has_ended_is_forgotten(harness: ReporterHarness) -> None:
    active_job = harness.hold()
    harness.reporter.report(active_job, Stage.SAMPLE, 0.4, 10)
    harness.reporter.forget(active_job)
    harness.later(FLUSH_S)

    assert harness.job(active_job).progress == 0.0


def test_progress_that_could_not_be_written_is_written_later(harness: ReporterHarness) -> None:
    active_job, other = harness.hold(), harness.hold()
    harness.later(0)
    for job in (active_job, other):
        harness.reporter.report(job, Stage.SAMPLE, 0.4, 10)
    harness.db.writes_away = True
    harness.db.when_refused = lambda: harness.reporter.report(other, Stage.VOCODE, 0.0)
    with pytest.raises(OperationalError):
        harness.later(FLUSH_S)
    harness.db.writes_away = False
    harness.later(0.05)

    assert (harness.job(active_job).stage, harness.job(active_job).step) == (Stage.SAMPLE, 10)
    assert harness.job(other).stage is Stage.VOCODE
    assert harness.stages(other) == ["vocode"]


def test_the_thread_outlives_a_database_that_is_away(harness: ReporterHarness) -> None:
    def state() -> str:
        with harness.db.reading() as tx:
            return tx.session.get_one(Worker, WORKER).state

    harness.db.away = True
    harness.reporter.start()
    assert harness.db.refused.wait(10)
    harness.db.away = False
    wait_until(lambda: state() == "ready", within_s=10, what="a heartbeat")
    harness.reporter.close()


def test_a_full_database_disk_is_logged_once_and_not_as_a_database_that_is_away(
    harness: ReporterHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("workers.runner.reporter.RETRY_S", 0.0)
    refusals: list[None] = []
    harness.db.error = sqlite3.OperationalError("database or disk is full")
    harness.db.error.sqlite_errorcode = sqlite3.SQLITE_FULL
    harness.db.when_refused = lambda: refusals.append(None)
    harness.db.away = True
    harness.reporter.start()
    wait_until(lambda: len(refusals) > 3, within_s=20, what="several refusals")
    harness.reporter.close()

    assert [record.getMessage()[:11] for record in caplog.records] == ["disk full: "]
