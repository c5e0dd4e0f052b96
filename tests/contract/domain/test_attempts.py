"""Claims, leases, fencing, and the ends of attempts."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from jobs.db.tables import Job
from jobs.errors import Failure, JobEndedError, JobNotEndedError, JobNotFoundError, LeaseLostError
from jobs.lifecycle import ArtifactKind, AttemptOutcome, Stage, State, WorkerState
from jobs.service import attempts
from jobs.service.artifacts import get_artifact
from jobs.service.attempts import Claim, NewArtifact
from jobs.service.cancellation import cancel, retry
from jobs.service.maintenance import fail_expired_queued, fail_overdue_jobs, rescue_expired_leases
from jobs.service.queries import job_attempts, job_events
from jobs.service.running_attempts import Progress, cancel_requests, record_progress, renew_leases
from jobs.service.workers import Capacity, capacities, record_heartbeat, register_worker
from tests.conftest import FakeClock
from tests.contract.domain.conftest import TENANT, Steps

BROKEN = Failure("media_invalid", "The file is not a video.", "decode", retryable=False)
HICCUP = Failure("storage_unavailable", "The object store did not answer.", "fetch", retryable=True)


def ask_cancel(steps: Steps, job_id: str) -> Job:
    with steps.db.transaction() as tx:
        return cancel(tx, job_id)


def failed(steps: Steps, claim: Claim, failure: Failure) -> State:
    with steps.db.transaction() as tx:
        return attempts.fail(tx, claim, failure, rng=lambda: 1.0)


def event_kinds(steps: Steps, job_id: str) -> list[str]:
    with steps.db.reading() as tx:
        return [event.kind for event in job_events(tx, job_id)]


def an_artifact(job_id: str) -> NewArtifact:
    return NewArtifact(
        name="audio.flac", kind=ArtifactKind.AUDIO, format="flac", content_type="audio/flac",
        storage_key=f"jobs/{job_id}/1/audio.flac", size_bytes=1, sha256="0" * 64,
        duration_s=8.0, take=0, seed=7,
    )  # fmt: skip


def test_a_claim_sets_the_lease_and_counts_the_attempt(steps: Steps, clock: FakeClock) -> None:
    job_id = steps.submit().id
    clock.advance(3)
    claim = steps.claimed(job_id)
    job = steps.job(job_id)
    assert (claim.attempt, claim.queued_s) == (1, 3.0)
    assert (job.state, job.attempt, job.worker_id, job.stage) == (State.RUNNING, 1, "worker-1", Stage.FETCH)
    assert job.lease_expires_at is not None
    assert (job.lease_expires_at - clock.time).total_seconds() == 12


def test_a_message_delivered_twice_claims_nothing_the_second_time(steps: Steps) -> None:
    job_id = steps.submit().id
    steps.claimed(job_id)
    assert steps.claim(job_id, "worker-2") is None
    assert steps.claim("job_" + "0" * 32) is None


def test_of_many_racing_claims_one_wins(steps: Steps) -> None:
    job_id = steps.submit().id
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda n: steps.claim(job_id, f"worker-{n}"), range(16)))
    assert len([claim for claim in claims if claim is not None]) == 1


def test_success_publishes_the_artifacts_with_the_state(steps: Steps) -> None:
    job_id = steps.submit().id
    claim = steps.claimed(job_id)
    with steps.db.transaction() as tx:
        done = attempts.complete(
            tx, claim, [an_artifact(job_id)],
            warnings=[{"code": "model_limits", "message": "noise"}], timings={"sample_s": 1.0}, artifact_ttl_s=60,
        )  # fmt: skip
    assert done
    job = steps.job(job_id)
    assert (job.state, job.progress, job.stage, job.lease_expires_at) == (State.SUCCEEDED, 1.0, None, None)
    assert set(job.timings) == {"queue_s", "sample_s", "total_s"}
    with steps.db.reading() as tx:
        assert get_artifact(tx, job_id, "audio.flac").storage_key == f"jobs/{job_id}/1/audio.flac"
        assert [(a.attempt, a.outcome) for a in job_attempts(tx, job_id)] == [(1, "succeeded")]
    assert event_kinds(steps, job_id) == ["queued", "running", "succeeded"]


def late_writes(steps: Steps, claim: Claim) -> list[Callable[[Any], object]]:
    return [
        lambda tx: attempts.complete(
            tx, claim, [an_artifact(claim.job_id)], warnings=[], timings={}, artifact_ttl_s=60
        ),
        lambda tx: attempts.fail(tx, claim, BROKEN),
        lambda tx: attempts.release(tx, claim),
        lambda tx: attempts.acknowledge_cancel(tx, claim),
        lambda tx: attempts.record_resolved_request(tx, claim, {"duration_s": 1.0}),
    ]


def test_a_worker_that_lost_its_lease_can_change_nothing(steps: Steps, clock: FakeClock) -> None:
    job_id = steps.submit().id
    stale = steps.claimed(job_id, "worker-1")
    clock.advance(13)
    assert rescue_expired_leases(steps.db) == 1
    current = steps.claimed(job_id, "worker-2")
    before = steps.job(job_id).version
    for write in late_writes(steps, stale):
        with pytest.raises(LeaseLostError), steps.db.transaction() as tx:
            write(tx)
    with steps.db.transaction() as tx:
        record_progress(tx, [Progress(job_id, stale.attempt, Stage.UPLOAD, 1.0)])
        assert renew_leases(tx, [(job_id, stale.attempt)], worker_id="worker-1", lease_s=12) == {job_id}
        assert cancel_requests(tx, [(job_id, stale.attempt)]) == {job_id}
    job = steps.job(job_id)
    assert (job.version, job.progress, job.worker_id) == (before, 0.0, "worker-2")
    assert steps.complete(current)
    with steps.db.reading() as tx:
        assert [(a.attempt, a.outcome) for a in job_attempts(tx, job_id)] == [(1, "lost"), (2, "succeeded")]


def test_a_renewed_lease_outlives_the_sweep(steps: Steps, clock: FakeClock) -> None:
    job_id = steps.submit().id
    claim = steps.claimed(job_id)
    for _ in range(4):
        clock.advance(8)
        with steps.db.transaction() as tx:
            assert renew_leases(tx, [(job_id, claim.attempt)], worker_id="worker-1", lease_s=12) == set()
        assert rescue_expired_leases(steps.db) == 0
    assert steps.job(job_id).state is State.RUNNING


def test_a_job_that_loses_every_worker_fails_with_worker_lost(steps: Steps, clock: FakeClock) -> None:
    job_id = steps.submit().id
    for attempt in range(1, steps.policy.max_attempts + 1):
        assert steps.claimed(job_id).attempt == attempt
        clock.advance(13)
        assert rescue_expired_leases(steps.db) == 1
    job = steps.job(job_id)
    assert (job.state, job.error_code, job.finished_at) == (State.FAILED, "worker_lost", clock.time)
    with steps.db.reading() as tx:
        assert [a.outcome for a in job_attempts(tx, job_id)] == ["lost"] * 3


def test_an_input_error_is_never_retried(steps: Steps) -> None:
    job_id = steps.submit().id
    assert failed(steps, steps.claimed(job_id), BROKEN) is State.FAILED
    assert steps.job(job_id).error == BROKEN.as_json()
    assert event_kinds(steps, job_id) == ["queued", "running", "failed"]


def test_a_retryable_error_waits_longer_each_time_and_then_fails(steps: Steps, clock: FakeClock) -> None:
    job_id = steps.submit().id
    for pause in (2.0, 4.0):
        assert failed(steps, steps.claimed(job_id), HICCUP) is State.QUEUED
        assert steps.claim(job_id) is None  # not before its time
        clock.advance(pause)
    assert failed(steps, steps.claimed(job_id), HICCUP) is State.FAILED


def test_a_job_handed_back_is_queued_at_once_and_loses_no_attempt(steps: Steps) -> None:
    job_id = steps.submit().id
    for _ in range(5):
        claim = steps.claimed(job_id)
        with steps.db.transaction() as tx:
            assert attempts.release(tx, claim) is State.QUEUED
    assert steps.complete(steps.claimed(job_id))
    with steps.db.reading() as tx:
        outcomes = [(one.outcome, (one.error or {}).get("code")) for one in job_attempts(tx, job_id)]
    assert outcomes == [(AttemptOutcome.REQUEUED, "worker_stopped")] * 5 + [(AttemptOutcome.SUCCEEDED, None)]


def test_trouble_of_the_platform_costs_no_attempt_and_pauses_longer_each_time(steps: Steps, clock: FakeClock) -> None:
    job_id = steps.submit().id
    for pause_s in (2.0, 4.0, 8.0, 16.0, 30.0, 30.0):
        claim = steps.claimed(job_id)
        with steps.db.transaction() as tx:
            assert attempts.give_back(tx, claim, HICCUP, rng=lambda: 1.0) is State.QUEUED
        assert steps.claim(job_id) is None  # not before its time
        clock.advance(pause_s)
    job = steps.job(job_id)
    assert job.max_attempts - job.attempt == 3
    for _ in range(3):
        assert failed(steps, steps.claimed(job_id), HICCUP) is not State.SUCCEEDED
        clock.advance(300)
    assert steps.job(job_id).state is State.FAILED


def test_a_worker_that_lost_its_lease_gives_nothing_back(steps: Steps, clock: FakeClock) -> None:
    claim = steps.claimed(steps.submit().id)
    clock.advance(13)
    rescue_expired_leases(steps.db)
    with pytest.raises(LeaseLostError), steps.db.transaction() as tx:
        attempts.give_back(tx, claim, HICCUP)


def test_a_job_that_waits_too_long_for_the_platform_ends_with_its_queue_ttl(steps: Steps, clock: FakeClock) -> None:
    job_id = steps.submit(queue_ttl_s=60).id
    claim = steps.claimed(job_id)
    with steps.db.transaction() as tx:
        attempts.give_back(tx, claim, HICCUP)
    clock.advance(61)
    fail_expired_queued(steps.db)
    assert steps.job(job_id).error_code == "queue_timeout"


def test_a_declined_job_waits_in_its_lane_for_another_message(steps: Steps) -> None:
    job_id = steps.submit().id
    with steps.db.transaction() as tx:
        tx.session.get_one(Job, job_id).published_at = tx.now
    with steps.db.transaction() as tx:
        attempts.decline(tx, job_id)
    job = steps.job(job_id)
    assert (job.state, job.published_at, job.attempt) == (State.QUEUED, None, 0)


def test_a_worker_leaves_jobs_of_a_variant_that_it_cannot_load(steps: Steps) -> None:
    job = steps.submit()
    with steps.db.transaction() as tx:
        refused = attempts.claim(tx, job.id, worker_id="worker-1", lease_s=12, except_variants={job.variant})
    assert refused is None
    assert steps.claimed(job.id).attempt == 1


def test_a_result_that_waits_has_no_run_timeout(steps: Steps, clock: FakeClock) -> None:
    claim = steps.claimed(steps.submit(run_timeout_s=20).id)
    for _ in range(20):
        clock.advance(6)
        with steps.db.transaction() as tx:
            held = [(claim.job_id, claim.attempt)]
            left_s = {claim.job_id: 900.0}
            assert not renew_leases(tx, held, worker_id="worker-1", lease_s=12, run_time_left_s=left_s)
        assert fail_overdue_jobs(steps.db, 30) == 0
    assert steps.complete(claim)


def test_leases_that_nobody_could_renew_are_not_judged(steps: Steps, clock: FakeClock) -> None:
    job_id = steps.submit().id
    steps.claimed(job_id)
    clock.advance(300)
    assert rescue_expired_leases(steps.db, lambda _: False) == 0
    assert steps.job(job_id).state is State.RUNNING
    assert rescue_expired_leases(steps.db, lambda _: True) == 1


def test_a_worker_that_takes_no_jobs_is_no_capacity(steps: Steps) -> None:
    with steps.db.transaction() as tx:
        register_worker(tx, worker_id="w9", hostname="h", pid=9, device="cpu:0", slots=4, variants=["only_here"])
    facts: dict[str, Any] = {"state": WorkerState.READY, "variants_loaded": [], "memory_bytes": None}
    trouble = {"code": "storage_unavailable", "message": "away", "since": "2026-01-01T12:00:00+00:00"}
    slots = []
    for unavailable in (None, trouble, None):
        with steps.db.transaction() as tx:
            record_heartbeat(tx, "w9", **facts, unavailable=unavailable, clock_skew_s=-1200.0)
        with steps.db.reading() as tx:
            slots.append(capacities(tx, heard_within_s=60).get("only_here", Capacity()).slots)
    assert slots == [4, 0, 4]


def test_cancel_of_a_queued_job_is_immediate_and_idempotent(steps: Steps) -> None:
    job_id = steps.submit().id
    assert ask_cancel(steps, job_id).state is State.CANCELED
    assert ask_cancel(steps, job_id).state is State.CANCELED
    assert steps.claim(job_id) is None
    assert event_kinds(steps, job_id) == ["queued", "canceled"]


def test_cancel_of_a_running_job_waits_for_the_device(steps: Steps) -> None:
    job_id = steps.submit().id
    claim = steps.claimed(job_id)
    assert ask_cancel(steps, job_id).state is State.RUNNING
    assert ask_cancel(steps, job_id).state is State.RUNNING
    with steps.db.transaction() as tx:
        assert cancel_requests(tx, [(job_id, claim.attempt)]) == {job_id}
        attempts.acknowledge_cancel(tx, claim)
    assert steps.job(job_id).state is State.CANCELED
    assert event_kinds(steps, job_id) == ["queued", "running", "cancel_requested", "canceled"]


@pytest.mark.parametrize("ending", ["complete", "fail", "retryable", "release", "lost"])
def test_cancel_wins_over_every_other_ending(steps: Steps, clock: FakeClock, ending: str) -> None:
    job_id = steps.submit().id
    claim = steps.claimed(job_id)
    ask_cancel(steps, job_id)
    if ending == "complete":
        assert steps.complete(claim) is False
    elif ending == "lost":
        clock.advance(13)
        rescue_expired_leases(steps.db)
    elif ending == "release":
        with steps.db.transaction() as tx:
            attempts.release(tx, claim)
    else:
        failed(steps, claim, BROKEN if ending == "fail" else HICCUP)
    assert steps.job(job_id).state is State.CANCELED


def test_an_ended_job_cannot_be_canceled(steps: Steps) -> None:
    job_id = steps.submit().id
    steps.complete(steps.claimed(job_id))
    with pytest.raises(JobEndedError):
        ask_cancel(steps, job_id)


def test_another_tenants_job_is_not_found(steps: Steps) -> None:
    job_id = steps.submit(tenant="somebody_else").id
    with pytest.raises(JobNotFoundError), steps.db.of_tenant(TENANT).transaction() as tx:
        cancel(tx, job_id)


def test_a_retry_is_a_new_job_with_the_same_seed_and_a_link(steps: Steps) -> None:
    old = steps.submit(seed=42, metadata={"a": "b"})
    with pytest.raises(JobNotEndedError), steps.db.of_tenant(TENANT).transaction() as tx:
        retry(tx, old.id, policy=steps.policy)
    ask_cancel(steps, old.id)
    with steps.db.of_tenant(TENANT).transaction() as tx:
        new = retry(tx, old.id, policy=steps.policy).job
    assert (new.retry_of, new.state, new.request) == (old.id, State.QUEUED, old.request)


def test_the_estimated_end_belongs_to_the_attempt_that_reported_it(steps: Steps, clock: FakeClock) -> None:
    job_id = steps.submit().id
    claim = steps.claimed(job_id)
    with steps.db.transaction() as tx:
        record_progress(tx, [Progress(job_id, claim.attempt, Stage.SAMPLE, 0.5, step=12, eta_s=4.26)])
    assert steps.job(job_id).eta_s == 4.3
    clock.advance(13)
    rescue_expired_leases(steps.db)
    steps.claimed(job_id, "worker-2")
    assert steps.job(job_id).eta_s is None


def test_progress_never_goes_back_within_an_attempt_and_starts_again_in_the_next(
    steps: Steps, clock: FakeClock
) -> None:
    job_id = steps.submit().id
    claim = steps.claimed(job_id)
    reported = []
    for stage, fraction in [(Stage.DECODE, 0.5), (Stage.SAMPLE, 0.4), (Stage.SAMPLE, 0.2), (Stage.FETCH, 1.0)]:
        with steps.db.transaction() as tx:
            record_progress(tx, [Progress(job_id, claim.attempt, stage, fraction, step=3)])
        reported.append(steps.job(job_id).progress)
    assert reported == sorted(reported)
    assert steps.job(job_id).stage is Stage.SAMPLE
    clock.advance(13)
    rescue_expired_leases(steps.db)
    assert steps.job(job_id).progress == 0.0
    assert event_kinds(steps, job_id) == ["queued", "running", "stage", "stage", "queued"]


@pytest.mark.parametrize(
    "nonsense",
    [
        {"state": "asleep"},
        {"state": State.SUCCEEDED},
        {"state": State.RUNNING},
        {"progress": 1.5},
        {"attempt": 9},
        {"error_code": "x"},
        {"worker_id": "w"},
    ],
)
def test_the_database_itself_refuses_a_row_that_makes_no_sense(steps: Steps, nonsense: dict[str, Any]) -> None:
    job_id = steps.submit().id
    table = Job.__table__
    with pytest.raises((IntegrityError, LookupError)), steps.db.transaction() as tx:
        tx.session.execute(update(table).where(table.c.id == job_id).values(**nonsense))  # type: ignore[arg-type]
