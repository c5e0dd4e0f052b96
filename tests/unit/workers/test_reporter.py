"""What the reporter does at each tick, on a migrated SQLite database whose clock the test moves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from jobs.db.database import Database, Transaction
from jobs.db.tables import Job, Worker
from jobs.lifecycle import Stage, State, overall_progress
from jobs.request import JobRequest
from jobs.service import work
from jobs.service.cancel import cancel
from jobs.service.queries import get_job, job_events
from jobs.service.submission import SubmitPolicy, submit
from jobs.service.workers import register_worker, request_drain
from migrations.upgrade import upgrade
from tests.conftest import FakeClock
from tests.servers.commands import wait_until
from workers.in_hand import HeldJob, JobsInHand, StopReason
from workers.reporter import FLUSH_S, Reporter

TENANT, WORKER = "default", "worker-1"
LEASE_S, HEARTBEAT_S = 12.0, 4.0


class UnsteadyDatabase(Database):
    """A database that does not answer while it is `away`; writing alone may be away as well."""

    def __init__(self, url: str, clock: FakeClock) -> None:
        super().__init__(url, clock=clock)
        self.away = self.writes_away = False
        self.refused = threading.Event()
        self.when_refused: Callable[[], None] = lambda: None

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
            raise OperationalError("anything", {}, ConnectionError("switched off by the test"))


@dataclass
class Post:
    """One worker's reporter and the time it lives in."""

    db: UnsteadyDatabase
    clock: FakeClock
    in_hand: JobsInHand = field(default_factory=JobsInHand)
    seconds: float = 1000.0
    drains: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reporter = Reporter(
            self.db,
            self.in_hand,
            worker_id=WORKER,
            lease_s=LEASE_S,
            heartbeat_s=HEARTBEAT_S,
            state=lambda: "ready",
            loaded=lambda: ["tiny_16k"],
            memory=lambda: 123,
            gpu=lambda: {"temperature_c": 61},
            drain=lambda: self.drains.append(self.seconds),
            monotonic=lambda: self.seconds,
        )

    def later(self, seconds: float) -> None:
        """Let time pass, on the worker's clock and on the database's, and tick."""
        self.seconds += seconds
        self.clock.advance(seconds)
        self.reporter.tick()

    def hold(self) -> HeldJob:
        """Submit a job, claim it, and take it in hand."""
        policy = SubmitPolicy(variants=("tiny_16k",))
        with self.db.transaction() as tx:
            job_id = submit(tx, JobRequest(prompt="rain", run_timeout_s=60), tenant=TENANT, policy=policy).job.id
            claim = work.claim(tx, job_id, worker_id=WORKER, lease_s=LEASE_S)
        assert claim is not None
        held = HeldJob(claim, on_stop=lambda job_id: None)
        self.in_hand.add(held)
        return held

    def job(self, held: HeldJob) -> Job:
        with self.db.reading() as tx:
            return get_job(tx, held.claim.job_id, tenant=TENANT)

    def stages(self, held: HeldJob) -> list[str]:
        with self.db.reading() as tx:
            return [e.data["stage"] for e in job_events(tx, held.claim.job_id) if e.kind == "stage"]


@pytest.fixture
def post(tmp_path: Path, clock: FakeClock) -> Iterator[Post]:
    url = f"sqlite:///{tmp_path / 'mmaudio.db'}"
    upgrade(url)
    db = UnsteadyDatabase(url, clock)
    with db.transaction() as tx:
        register_worker(
            tx, worker_id=WORKER, hostname="here", pid=1, device="cpu:0", slots=4, variants=["tiny_16k", "small_16k"]
        )
    yield Post(db, clock)
    db.close()


def test_a_heartbeat_renews_leases_and_says_how_the_worker_is(post: Post) -> None:
    held = post.hold()
    for _ in range(10):
        post.later(HEARTBEAT_S)

    assert post.job(held).lease_expires_at == post.clock.time + timedelta(seconds=LEASE_S)
    assert not held.stopped
    with post.db.reading() as tx:
        worker = tx.session.get_one(Worker, WORKER)
    assert (worker.state, worker.variants_loaded, worker.memory_bytes) == ("ready", ["tiny_16k"], 123)
    assert worker.gpu == {"temperature_c": 61}
    assert post.drains == []
    assert worker.heartbeat_at == post.clock.time


def test_a_drain_that_was_asked_for_is_heard_with_the_next_heartbeat(post: Post) -> None:
    post.later(0)
    with post.db.transaction() as tx:
        request_drain(tx, WORKER)
    post.later(HEARTBEAT_S - 0.1)
    assert post.drains == []
    post.later(0.1)
    assert post.drains == [post.seconds]


def test_between_heartbeats_no_lease_is_written(post: Post) -> None:
    post.later(0)
    held = post.hold()
    before = post.job(held).lease_expires_at
    post.later(HEARTBEAT_S - 0.1)

    assert post.job(held).lease_expires_at == before
    post.later(0.1)
    assert post.job(held).lease_expires_at != before


def test_a_cancel_is_heard_at_the_next_tick_and_by_its_own_job_alone(post: Post) -> None:
    held, other = post.hold(), post.hold()
    with post.db.transaction() as tx:
        cancel(tx, held.claim.job_id, tenant=TENANT)
    post.later(0.05)

    assert (held.reason, other.reason) == (StopReason.CANCELED, None)


def test_a_job_that_somebody_else_has_by_now_is_stopped(post: Post) -> None:
    held = post.hold()
    with post.db.transaction() as tx:
        work.lose(tx, tx.session.get_one(Job, held.claim.job_id))
    post.later(0.05)

    assert held.reason is StopReason.CANCELED
    assert post.job(held).state is State.QUEUED


def test_an_attempt_may_run_as_long_as_its_request_allows_and_no_longer(post: Post) -> None:
    held = post.hold()
    for _ in range(15):
        post.later(HEARTBEAT_S)
    assert held.reason is None
    post.later(0.05)

    assert held.reason is StopReason.TIMED_OUT


def test_jobs_are_dropped_when_their_leases_could_not_be_renewed_in_time(post: Post) -> None:
    held, other = post.hold(), post.hold()
    post.later(0)
    post.db.away = True
    for _ in range(3):
        with pytest.raises(OperationalError):
            post.later(LEASE_S / 3)
        assert not held.stopped
    with pytest.raises(OperationalError):
        post.later(0.1)

    assert (held.reason, other.reason) == (StopReason.SILENT, StopReason.SILENT)


def test_a_job_that_is_there_when_the_reporter_starts_late_is_not_dropped(post: Post) -> None:
    post.seconds += 2 * LEASE_S
    held = post.hold()
    post.reporter.start()
    post.reporter.close()
    post.later(0)

    assert not held.stopped


def test_a_database_that_comes_back_in_time_costs_no_job(post: Post) -> None:
    held = post.hold()
    post.later(0)
    post.db.away = True
    with pytest.raises(OperationalError):
        post.later(LEASE_S - 1)
    post.db.away = False
    post.later(0.5)
    post.later(LEASE_S - 1)

    assert not held.stopped
    assert post.job(held).lease_expires_at == post.clock.time + timedelta(seconds=LEASE_S)


def test_a_worker_that_was_idle_for_long_does_not_drop_its_next_job(post: Post) -> None:
    post.db.away = True
    with pytest.raises(OperationalError):
        post.later(100 * LEASE_S)
    post.db.away = False
    held = post.hold()
    post.later(1)

    assert not held.stopped


def test_only_the_latest_progress_is_written_and_not_at_every_tick(post: Post) -> None:
    held = post.hold()
    post.later(0)
    post.reporter.report(held, Stage.ENCODE, 0.0)
    post.reporter.report(held, Stage.SAMPLE, 0.4, 10)
    post.later(FLUSH_S - 0.1)
    assert post.job(held).progress == 0.0
    post.later(0.1)

    assert post.job(held).progress == overall_progress(Stage.SAMPLE, 0.4)
    assert (post.job(held).stage, post.job(held).step) == (Stage.SAMPLE, 10)
    assert post.stages(held) == ["sample"]


def test_progress_is_written_once(post: Post) -> None:
    held = post.hold()
    post.reporter.report(held, Stage.SAMPLE, 0.4, 10)
    post.later(FLUSH_S)
    version = post.job(held).version
    post.later(FLUSH_S)

    assert post.job(held).version == version


def test_progress_of_a_job_that_has_ended_is_forgotten(post: Post) -> None:
    held = post.hold()
    post.reporter.report(held, Stage.SAMPLE, 0.4, 10)
    post.reporter.forget(held)
    post.later(FLUSH_S)

    assert post.job(held).progress == 0.0


def test_progress_that_could_not_be_written_is_written_later(post: Post) -> None:
    held, other = post.hold(), post.hold()
    post.later(0)
    for job in (held, other):
        post.reporter.report(job, Stage.SAMPLE, 0.4, 10)
    post.db.writes_away = True
    post.db.when_refused = lambda: post.reporter.report(other, Stage.VOCODE, 0.0)
    with pytest.raises(OperationalError):
        post.later(FLUSH_S)
    post.db.writes_away = False
    post.later(0.05)

    assert (post.job(held).stage, post.job(held).step) == (Stage.SAMPLE, 10)
    assert post.job(other).stage is Stage.VOCODE
    assert post.stages(other) == ["vocode"]


def test_the_thread_outlives_a_database_that_is_away(post: Post) -> None:
    def state() -> str:
        with post.db.reading() as tx:
            return tx.session.get_one(Worker, WORKER).state

    post.db.away = True
    post.reporter.start()
    assert post.db.refused.wait(10)
    post.db.away = False
    wait_until(lambda: state() == "ready", within_s=10, what="a heartbeat")
    post.reporter.close()
