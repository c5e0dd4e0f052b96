"""Dispatch, maintenance and reporter while the database fails in a statement or behind a commit: the transaction is
repeated as a whole, and the result is the one of a run without failures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import OperationalError

from jobs.db.database import Database, Transaction
from jobs.db.tables import Job, JobAttempt
from jobs.db.tenant_scope import PLATFORM
from jobs.lifecycle import Stage
from jobs.service.cancellation import cancel
from jobs.service.maintenance import rescue
from jobs.service.queries import job_events
from jobs.service.retention import ATTEMPT_GRACE_S, prune
from jobs.service.scheduling.dispatch import dispatch, republish_lost
from jobs.service.submission import SubmitPolicy
from jobs.storage.local import LocalStore
from tests.conftest import FakeClock
from tests.contract.domain.conftest import FakeQueue, Steps
from tests.queue_counts import recount, stored_counts
from workers.runner.active_jobs import ActiveJob, ActiveJobs
from workers.runner.reporter import Reporter

SERIALIZATION_FAILURE = psycopg.errors.SerializationFailure("made by the test")
CONNECTION_LOST = psycopg.OperationalError("server closed the connection unexpectedly")


class BreakingDatabase(Database):
    """Breaks once: at its n-th statement from now, or behind its n-th commit, whose answer is then lost.

    The n-th is counted in `statements` and `commits`, which also say how many there were without a break.
    """

    def __init__(self, url: str, clock: FakeClock) -> None:
        super().__init__(url, clock=clock, sleep=lambda seconds: None)
        self._scope = PLATFORM
        self.break_at_statement = self.break_behind_commit = 0
        self.cause: Exception = SERIALIZATION_FAILURE
        self.statements = self.commits = 0
        event.listen(self.engine, "before_cursor_execute", self._count_statement)

    def begin_counting(self) -> None:
        self.statements = self.commits = 0

    def _count_statement(self, _c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        self.statements += 1
        if self.statements == self.break_at_statement:
            raise OperationalError(statement, {}, self.cause)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        with super().transaction() as tx:
            yield tx
        self.commits += 1
        if self.commits == self.break_behind_commit:
            raise OperationalError("COMMIT", {}, CONNECTION_LOST)


@dataclass
class Scene:
    """A platform in the middle of its work; an act is one tested call, `outcome` describes what it changed."""

    db: BreakingDatabase
    clock: FakeClock
    store: LocalStore
    queue: FakeQueue = field(default_factory=FakeQueue)
    active_jobs: ActiveJobs = field(default_factory=ActiveJobs)

    def __post_init__(self) -> None:
        self.steps = Steps(self.db, SubmitPolicy(variants=("tiny_16k",), draw_seed=lambda: 7))
        self.steps.add_worker(slots=3)
        jobs = []
        for tenant in "aabbc":
            jobs.append(self.steps.submit(tenant=tenant, queue_ttl_s=100 if tenant == "c" else None).id)
            self.clock.advance(1)
        claims = [self.steps.claimed(job_id) for job_id in jobs[:2]]
        for claim in claims:
            self.active_jobs.add(ActiveJob(claim, on_stop=lambda job_id: None))
        with self.db.transaction() as tx:
            cancel(tx, jobs[1])
        self.reporter = Reporter(
            self.db, self.active_jobs, worker_id="worker-1", lease_s=12, heartbeat_s=4,
            state=lambda: "ready", loaded=lambda: ["tiny_16k"], memory=lambda: 1, monotonic=lambda: 1000.0,
        )  # fmt: skip

    def dispatch(self) -> None:
        dispatch(self.db, self.queue)

    def republish(self) -> None:
        dispatch(self.db, self.queue)
        self.queue.messages.clear()
        self.clock.advance(3)
        republish_lost(self.db, self.queue)

    def maintain(self) -> None:
        self.clock.advance(101)
        rescue(self.db)

    def prune(self) -> None:
        self.clock.advance(13)
        rescue(self.db)
        self.clock.advance(ATTEMPT_GRACE_S + 1)
        prune(self.db, self.store, lambda output, job_id, attempt: 0)

    def report(self) -> None:
        for held in self.active_jobs.all():
            self.reporter.report(held, Stage.SAMPLE, 0.5, 3)
        self.reporter.tick()

    def outcome(self) -> list[Any]:
        """Everything that a job tells, without ids. Who is next may change with a lost answer; how many may not, and
        each has its message."""
        found: list[Any] = [len(self.queue.published), [held.reason for held in self.active_jobs.all()]]
        with self.db.reading() as tx:
            assert stored_counts(tx) == recount(tx)
            for job in tx.session.scalars(select(Job).order_by(Job.created_at)):
                events = [(line.kind, line.attempt, line.data.get("stage")) for line in job_events(tx, job.id)]
                found.append(
                    (job.tenant, job.state, job.attempt, job.progress, job.stage, job.lease_expires_at, events)
                )
            marked = set(tx.session.scalars(select(Job.id).where(Job.published_at.is_not(None))))
            assert sorted(self.queue.published) == sorted(marked)
            tried = select(JobAttempt).join(Job, Job.id == JobAttempt.job_id).order_by(Job.created_at)
            found += [(row.outcome, row.cleaned_up_at) for row in tx.session.scalars(tried)]
        return found


Act = Callable[[Scene], None]
ACTS = [Scene.dispatch, Scene.republish, Scene.maintain, Scene.prune, Scene.report]


@pytest.fixture
def make_scene(migrated_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Scene]]:
    """Return what makes the same scene again and again, on the same emptied database."""
    clock = FakeClock()
    began = clock.time
    db = BreakingDatabase(migrated_url, clock)
    tables = ("jobs", "workers", "queued_counts", "variant_queues", "tenant_virtual_times")

    def make() -> Scene:
        db.break_at_statement = db.break_behind_commit = 0
        clock.time = began
        with db.transaction() as tx:
            for table in tables:
                tx.session.connection().exec_driver_sql(f"DELETE FROM {table}")
        scene = Scene(db, clock, LocalStore(tmp_path_factory.mktemp("objects")))
        db.begin_counting()
        return scene

    yield make
    db.close()


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
@pytest.mark.parametrize("cause", [SERIALIZATION_FAILURE, CONNECTION_LOST], ids=["serialisation", "connection"])
def test_a_statement_that_breaks_costs_nothing(make_scene: Callable[[], Scene], act: Act, cause: Exception) -> None:
    scene = make_scene()
    act(scene)
    statements = scene.db.statements
    wanted = scene.outcome()
    assert statements > 3
    for number in (1, statements // 2, statements):
        scene = make_scene()
        scene.db.break_at_statement, scene.db.cause = number, cause
        act(scene)
        assert scene.db.statements > number, "it gave up"
        scene.db.break_at_statement = 0
        assert scene.outcome() == wanted, f"after statement {number} of {statements} broke"


@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_a_commit_with_unknown_result_is_repeated_without_effect(make_scene: Callable[[], Scene], act: Act) -> None:
    scene = make_scene()
    act(scene)
    commits = scene.db.commits
    republish_lost_marks(scene)
    wanted = scene.outcome()
    for number in range(1, commits + 1):
        scene = make_scene()
        scene.db.break_behind_commit = number
        act(scene)
        scene.db.break_behind_commit = 0
        republish_lost_marks(scene)
        assert scene.outcome() == wanted, f"after the answer of commit {number} of {commits} was lost"


def republish_lost_marks(scene: Scene) -> None:
    """What a lost answer leaves marked without a message gets one from the next maintenance."""
    scene.clock.advance(3)
    republish_lost(scene.db, scene.queue)
