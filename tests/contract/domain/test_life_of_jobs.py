"""In whatever order things happen, an accepted job ends once and is published once: 2,500 random steps of
submit, publish, deliver (twice), claim, heartbeat, cancel, crash, maintenance and late results, with SQLite, a clock
that the state machine moves and a queue in memory; drawn from one seed, and different where other modules are loaded
(Hypothesis draws from their constants, too), so each end of an attempt has a rule that brings it about often."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select

from jobs.db.database import Database
from jobs.db.tables import Artifact, Job, JobAttempt, JobEvent
from jobs.errors import Failure, JobEndedError, LeaseLostError
from jobs.lifecycle import TRANSITIONS, ArtifactKind, Stage, State
from jobs.request import JobRequest
from jobs.service import attempts
from jobs.service.attempts import Claim, NewArtifact
from jobs.service.cancellation import cancel
from jobs.service.maintenance import MaintenancePolicy
from jobs.service.running_attempts import Progress, record_progress, renew_leases
from jobs.service.scheduling import quotas
from jobs.service.scheduling.dispatch import dispatch
from jobs.service.scheduling.selection import DispatchPolicy
from jobs.service.submission import SubmitPolicy, submit
from jobs.service.workers import record_heartbeat, register_worker
from tests.conftest import FakeClock
from tests.contract.domain.conftest import FakeQueue
from tests.databases import migrated_sqlite
from tests.maintenance import run_maintenance
from tests.queue_counts import ended_counts, recount, recount_ended, stored_counts

STEPS = int(os.environ.get("MMAUDIO_TEST_STEPS", "2500"))
"""Set MMAUDIO_TEST_STEPS for a longer search."""
STEPS_A_RUN = 50
LEASE_S = 12.0
VARIANT = "tiny_16k"
WORKERS = ("w1", "w2")
TENANTS = ("a", "b", "c")
POLICY = SubmitPolicy(variants=(VARIANT,), default_run_timeout_s=60, draw_seed=lambda: 7)
MAINTENANCE = MaintenancePolicy(lost_after_s=LEASE_S, overdue_grace_s=20, dispatch=DispatchPolicy(priority_aging_s=30))
HICCUP = Failure("storage_unavailable", "No answer.", "fetch", retryable=True)
BROKEN = Failure("media_invalid", "Not a video.", "decode", retryable=False)


class ProcessDiedError(BaseException):
    """Raised where a process dies: nothing of ours may catch it."""


class DyingQueue(FakeQueue):
    """Its process dies before the messages are out."""

    def publish(self, job_ids: list[str], *, variant: str) -> None:
        raise ProcessDiedError


class LifeOfJobs(RuleBasedStateMachine):
    db: ClassVar[Database]
    clock: ClassVar[FakeClock]
    steps_taken: ClassVar[int] = 0
    outcomes: ClassVar[Counter[str | None]] = Counter()
    """How attempts ended in all runs, so that a machine that never gets anywhere is noticed."""

    jobs: Bundle[str] = Bundle("jobs")
    held: Bundle[Claim] = Bundle("held")
    """Claims of workers that live."""
    lost: Bundle[Claim] = Bundle("lost")
    """Claims of workers that were killed or stopped; a stopped one may come back."""

    def __init__(self) -> None:
        super().__init__()
        with self.db.transaction() as tx:
            for table in reversed(Job.metadata.sorted_tables):
                tx.session.execute(table.delete())
            for name in WORKERS:
                register_worker(tx, worker_id=name, hostname="h", pid=1, device="cpu:0", slots=2, variants=[VARIANT])
        self.queue = FakeQueue()
        self.accepted: set[str] = set()
        self.published: dict[str, int] = {}
        """The attempt whose `complete` returned True."""

    # What callers do.

    @rule(
        target=jobs,
        tenant=st.sampled_from(TENANTS),
        priority=st.sampled_from(["low", "normal", "high"]),
        queue_ttl_s=st.sampled_from([None, None, None, 40]),
    )
    def submit(self, tenant: str, priority: str, queue_ttl_s: int | None) -> str:
        request = JobRequest(prompt="rain", priority=priority, queue_ttl_s=queue_ttl_s)  # type: ignore[arg-type]
        with self.db.of_tenant(tenant).transaction() as tx:
            job_id = submit(tx, request, policy=POLICY).job.id
        self.accepted.add(job_id)
        return job_id

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        self.cancel_job(job_id)

    def cancel_job(self, job_id: str) -> None:
        with self.db.transaction() as tx:
            job = tx.session.get_one(Job, job_id)
            ended = job.state.is_terminal and job.state is not State.CANCELED
            try:
                cancel(tx, job_id)
            except JobEndedError:
                assert ended

    # What happens to messages.

    @rule()
    def publish(self) -> None:
        dispatch(self.db, self.queue, policy=MAINTENANCE.dispatch)

    @rule()
    def die_between_mark_and_message(self) -> None:
        with contextlib.suppress(ProcessDiedError):
            dispatch(self.db, DyingQueue(), policy=MAINTENANCE.dispatch)

    @rule(target=held, worker=st.sampled_from(WORKERS), twice=st.booleans())
    def deliver(self, worker: str, twice: bool) -> Any:
        self.heartbeat_of_idle_workers()
        if not self.queue.down:
            dispatch(self.db, self.queue, policy=MAINTENANCE.dispatch)
        job_id = self.queue.take(VARIANT)
        if job_id is None:
            return multiple()
        claim = self._claim(job_id, worker)
        if twice:
            assert self._claim(job_id, "w3") is None
        return claim if claim is not None else multiple()

    @rule(target=held, job_id=jobs, worker=st.sampled_from(WORKERS))
    def deliver_an_old_message(self, job_id: str, worker: str) -> Any:
        claim = self._claim(job_id, worker)
        return claim if claim is not None else multiple()

    @rule()
    def wipe_the_belt(self) -> None:
        self.queue.messages.clear()

    @rule(down=st.booleans())
    def switch_the_broker(self, down: bool) -> None:
        self.queue.down = down

    # What workers do.

    @rule(claims=st.lists(held, max_size=4))
    def heartbeat(self, claims: list[Claim]) -> None:
        with self.db.transaction() as tx:
            for worker in WORKERS:
                pairs = [(claim.job_id, claim.attempt) for claim in claims if claim.worker_id == worker]
                renew_leases(tx, pairs, worker_id=worker, lease_s=LEASE_S)
                record_heartbeat(tx, worker, state="ready", variants_loaded=[VARIANT], memory_bytes=None)
            record_progress(tx, [Progress(c.job_id, c.attempt, Stage.SAMPLE, 0.5, step=3) for c in claims])

    def heartbeat_of_idle_workers(self) -> None:
        with self.db.transaction() as tx:
            for worker in WORKERS:
                record_heartbeat(tx, worker, state="ready", variants_loaded=[VARIANT], memory_bytes=None)

    @rule(claim=held)
    def cancel_what_runs(self, claim: Claim) -> None:
        self.cancel_job(claim.job_id)

    @rule(claim=consumes(held))
    def succeed(self, claim: Claim) -> None:
        self._complete(claim)

    @rule(claim=consumes(held), failure=st.sampled_from([HICCUP, BROKEN]))
    def fail(self, claim: Claim, failure: Failure) -> None:
        self._end(claim, lambda tx: attempts.fail(tx, claim, failure, rng=lambda: 0.5))

    @rule(claim=consumes(held))
    def release(self, claim: Claim) -> None:
        self._end(claim, lambda tx: attempts.release(tx, claim))

    @rule(claim=consumes(held))
    def let_go_of_a_canceled_job(self, claim: Claim) -> None:
        self._end(claim, lambda tx: attempts.acknowledge_cancel(tx, claim))

    @rule(claim=consumes(held))
    def cancel_and_let_go(self, claim: Claim) -> None:
        self.cancel_job(claim.job_id)
        self._end(claim, lambda tx: attempts.acknowledge_cancel(tx, claim))

    @rule(target=lost, claim=consumes(held), found=st.booleans())
    def crash(self, claim: Claim, found: bool) -> Claim:
        if found:
            self.clock.advance(LEASE_S + 1)
            self.maintain()
        return claim

    @rule(claim=lost, well=st.booleans())
    def late_result(self, claim: Claim, well: bool) -> None:
        if well:
            self._complete(claim)
        else:
            self._end(claim, lambda tx: attempts.fail(tx, claim, HICCUP, rng=lambda: 0.5))

    # What time and operators do.

    @rule(seconds=st.sampled_from([1.0, 1.0, 5.0, 5.0, 13.0, 45.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def maintain(self) -> None:
        run_maintenance(self.db, self.queue, MAINTENANCE)

    @rule(paused=st.sampled_from([False, False, False, True]))
    def pause_or_resume(self, paused: bool) -> None:
        with self.db.transaction() as tx:
            (quotas.pause if paused else quotas.resume)(tx, VARIANT)

    @rule(tenant=st.sampled_from(TENANTS), limit=st.sampled_from([0, 1, 2, 3]), weight=st.sampled_from([0.5, 1.0, 4.0]))
    def limit(self, tenant: str, limit: int, weight: float) -> None:
        with self.db.transaction() as tx:
            quotas.set_quota(tx, tenant, weight=weight, max_running=limit)

    # What must hold after every step.

    @invariant()
    def nothing_is_lost_doubled_or_miscounted(self) -> None:
        type(self).steps_taken += 1
        with self.db.reading() as tx:
            states = {row.id: row for row in tx.session.execute(select(Job.id, Job.state, Job.attempt))}
            assert set(states) == self.accepted
            for job_id, attempt in self.published.items():
                assert (states[job_id].state, states[job_id].attempt) == (State.SUCCEEDED, attempt)
            assert sum(1 for row in states.values() if row.state is State.SUCCEEDED) == len(self.published)
            assert stored_counts(tx) == recount(tx)
            assert ended_counts(tx) == recount_ended(tx)

    def teardown(self) -> None:
        """From wherever things stand, workers that work bring every job to its end."""
        self.queue.down = False
        with self.db.transaction() as tx:
            quotas.resume(tx, VARIANT)
            for tenant in TENANTS:
                quotas.clear_quota(tx, tenant)
        for _ in range(60):
            self.heartbeat([])
            run_maintenance(self.db, self.queue, MAINTENANCE)
            while (job_id := self.queue.take(VARIANT)) is not None:
                claim = self._claim(job_id, "w1")
                if claim is not None:
                    self._complete(claim)
            if self._all_ended():
                break
            self.clock.advance(5)
        assert self._all_ended()
        self._check_stories()

    def _claim(self, job_id: str, worker: str) -> Claim | None:
        with self.db.transaction() as tx:
            return attempts.claim(tx, job_id, worker_id=worker, lease_s=LEASE_S)

    def _complete(self, claim: Claim) -> None:
        artifact = NewArtifact(
            name="audio.flac", kind=ArtifactKind.AUDIO, format="flac", content_type="audio/flac",
            storage_key=f"jobs/{claim.job_id}/{claim.attempt}/audio.flac", size_bytes=1, sha256="0" * 64,
            duration_s=8.0, take=0, seed=7,
        )  # fmt: skip

        def step(tx: Any) -> None:
            if attempts.complete(tx, claim, [artifact], warnings=[], timings={}, artifact_ttl_s=60):
                assert self.published.setdefault(claim.job_id, claim.attempt) == claim.attempt

        self._end(claim, step)

    def _end(self, claim: Claim, step: Any) -> None:
        """End an attempt; one whose lease was lost gets `LeaseLostError` and changes nothing."""
        with self.db.reading() as tx:
            job = tx.session.get_one(Job, claim.job_id)
            current = (job.state, job.attempt, job.worker_id) == (State.RUNNING, claim.attempt, claim.worker_id)
            before = job.version
        try:
            with self.db.transaction() as tx:
                step(tx)
        except LeaseLostError:
            with self.db.reading() as tx:
                job = tx.session.get_one(Job, claim.job_id)
                assert job.version == before
                assert not current or job.cancel_requested_at is None

    def _all_ended(self) -> bool:
        with self.db.reading() as tx:
            return all(state.is_terminal for state in tx.session.scalars(select(Job.state)))

    def _check_stories(self) -> None:
        with self.db.reading() as tx:
            histories: dict[str, list[str]] = {job_id: [] for job_id in self.accepted}
            for event in tx.session.scalars(select(JobEvent).order_by(JobEvent.id)):
                if event.kind in set(State):
                    histories[event.job_id].append(event.kind)
            for history in histories.values():
                assert history[0] == State.QUEUED
                for current, following in itertools.pairwise(history):
                    assert State(following) in TRANSITIONS[State(current)], history
                assert State(history[-1]).is_terminal
            outcomes = Counter(tx.session.scalars(select(JobAttempt.outcome)))
            assert None not in outcomes
            assert outcomes["succeeded"] == len(self.published)
            self.outcomes.update(outcomes)
            pointed = {row.job_id: row.storage_key for row in tx.session.scalars(select(Artifact))}
            assert pointed == {job: f"jobs/{job}/{n}/audio.flac" for job, n in self.published.items()}


@pytest.fixture
def life_of_jobs() -> Any:
    """The machine, on a database that lies in memory where the system has such a folder."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="mmaudio-life-", dir=memory if memory.is_dir() else None))
    url = migrated_sqlite(folder / "life.db")
    LifeOfJobs.clock = FakeClock()
    LifeOfJobs.db = Database(url, clock=LifeOfJobs.clock).of_platform()
    LifeOfJobs.steps_taken = 0
    LifeOfJobs.outcomes = Counter()
    yield LifeOfJobs
    LifeOfJobs.db.close()
    shutil.rmtree(folder)


@pytest.mark.timeout(900)
def test_thousands_of_random_steps_lose_nothing_and_publish_nothing_twice(life_of_jobs: type[LifeOfJobs]) -> None:
    run_state_machine_as_test(
        life_of_jobs,
        settings=settings(
            max_examples=STEPS // STEPS_A_RUN * 6 // 5,  # some runs end early
            stateful_step_count=STEPS_A_RUN,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert life_of_jobs.steps_taken >= STEPS
    assert min(life_of_jobs.outcomes[name] for name in ("succeeded", "failed", "canceled", "requeued", "lost")) > 0
