"""A worker's attempt at a job: claim, renew the lease, report progress, complete, fail, release.

Every write names the attempt. A worker that lost its lease gets `LeaseLostError` and has changed nothing. Workers run
the jobs of all tenants, so all of this needs a transaction of the platform.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update

from jobs.db.database import Transaction
from jobs.db.tables import Artifact, Job, JobAttempt
from jobs.errors import Failure, LeaseLostError, RunTimeoutError
from jobs.lifecycle import ArtifactKind, AttemptOutcome, Stage, State
from jobs.service.scheduling.quotas import is_paused
from jobs.service.transitions import change_state, update_where
from jobs.storage.protocol import ObjectPin

RETRY_BASE_S = 2.0
RETRY_MAX_S = 300.0
# Longest pause of a job that went back because of the platform's trouble: its workers wait for the trouble to end.
GIVEN_BACK_MAX_S = 30.0


@dataclass(frozen=True)
class Claim:
    """A job leased by this worker, and the number of the attempt."""

    job_id: str
    attempt: int
    worker_id: str
    tenant: str
    variant: str
    request: dict[str, Any]
    input_key: str | None
    created_at: datetime
    started_at: datetime
    queued_s: float
    """Seconds from when the job could first be dispatched to this claim."""
    input_pin: ObjectPin | None = None
    """The version of the input; None: the current one."""


@dataclass(frozen=True)
class NewArtifact:
    """A stored file that becomes an artifact when the job succeeds."""

    name: str
    kind: ArtifactKind
    format: str
    content_type: str
    storage_key: str
    size_bytes: int
    sha256: str
    duration_s: float
    take: int
    seed: int
    delivered_to: str | None = None
    """`s3://bucket/key` of the copy in the caller's own bucket, if the request has `deliver_to`."""
    detail: dict[str, Any] | None = None
    """Of a preview: see `Artifact.detail`."""


def claim(
    tx: Transaction, job_id: str, *, worker_id: str, lease_s: float, except_variants: Collection[str] = ()
) -> Claim | None:
    """Claim a queued job; return None when it cannot be claimed.

    Reasons are a message delivered twice, a cancel, a retry that backs off, a paused variant, and one of
    `except_variants`. In the last two cases the message is consumed, and the job waits in its lane for another one.
    """
    tx.require_platform()
    job = tx.session.get(Job, job_id)
    if job is None or job.state is not State.QUEUED or job.available_at > tx.now:
        return None
    if job.variant in except_variants or is_paused(tx, job.variant):
        decline(tx, job_id)
        return None
    taken = change_state(
        tx,
        job_id,
        current=State.QUEUED,
        following=State.RUNNING,
        attempt=job.attempt,
        values={
            "attempt": job.attempt + 1,
            "worker_id": worker_id,
            "lease_expires_at": tx.now + timedelta(seconds=lease_s),
            "stage": Stage.FETCH,
            "progress": 0.0,
            "step": None,
            "eta_s": None,
            "started_at": tx.now,
            "run_deadline_at": tx.now + timedelta(seconds=float(job.request["run_timeout_s"])),
        },
        event={"worker": worker_id},
    )
    if not taken:
        return None
    tx.session.add(
        JobAttempt(tenant=job.tenant, job_id=job_id, attempt=job.attempt + 1, worker_id=worker_id, started_at=tx.now)
    )
    return Claim(
        job_id=job.id,
        attempt=job.attempt + 1,
        worker_id=worker_id,
        tenant=job.tenant,
        variant=job.variant,
        request=dict(job.request),
        input_key=job.input_key,
        input_pin=ObjectPin(**job.input_pin) if job.input_pin is not None else None,
        created_at=job.created_at,
        started_at=tx.now,
        queued_s=(tx.now - job.available_at).total_seconds(),
    )


def decline(tx: Transaction, job_id: str) -> None:
    """Record that the message of a queued job was consumed without a claim: the job waits in its lane for another."""
    tx.require_platform()
    update_where(tx, job_id, Job.state == State.QUEUED, values={"published_at": None})


def record_resolved_request(tx: Transaction, claim: Claim, resolved: dict[str, Any]) -> None:
    """Add fields that only the worker can resolve, such as the duration of the video, to the stored request.

    Raises:
        LeaseLostError: the attempt is no longer current.
    """
    job = _leased_job(tx, claim)
    if not update_where(
        tx,
        claim.job_id,
        Job.state == State.RUNNING,
        Job.attempt == claim.attempt,
        values={"request": {**job.request, **resolved}, "version": Job.version + 1},
    ):
        raise _lease_lost(claim)


def complete(
    tx: Transaction,
    claim: Claim,
    artifacts: Iterable[NewArtifact],
    *,
    warnings: list[dict[str, Any]],
    timings: dict[str, float],
    artifact_ttl_s: int,
) -> bool:
    """End a job as succeeded: state and artifacts in one transaction.

    Returns False when a cancel was requested meanwhile: cancel wins, the job is now canceled, and the caller deletes
    the stored objects.

    Raises:
        LeaseLostError: the attempt is no longer current; the caller deletes the stored objects.
    """
    tx.require_platform()
    total, made = (tx.now - claim.started_at).total_seconds(), list(artifacts)
    published = change_state(
        tx,
        claim.job_id,
        current=State.RUNNING,
        following=State.SUCCEEDED,
        attempt=claim.attempt,
        where=(Job.worker_id == claim.worker_id, Job.cancel_requested_at.is_(None)),
        values={
            "progress": 1.0,
            "warnings": warnings,
            "timings": {"queue_s": round(claim.queued_s, 4), **timings, "total_s": round(total, 4)},
        },
        event={"artifacts": [_in_event(file) for file in made if file.kind is not ArtifactKind.PREVIEW]},
    )
    if not published:
        if _already_completed(tx, claim):
            return True  # the first try was committed and only its answer was lost
        acknowledge_cancel(tx, claim)
        return False
    expires_at = tx.now + timedelta(seconds=artifact_ttl_s)
    tx.session.add_all(
        Artifact(tenant=claim.tenant, job_id=claim.job_id, expires_at=expires_at, **vars(artifact)) for artifact in made
    )
    _end_attempt(tx, claim.job_id, claim.attempt, AttemptOutcome.SUCCEEDED, None)
    return True


def _in_event(artifact: NewArtifact) -> dict[str, Any]:
    return {
        "name": artifact.name,
        "kind": artifact.kind.value,
        "content_type": artifact.content_type,
        "size_bytes": artifact.size_bytes,
    }


def _already_completed(tx: Transaction, claim: Claim) -> bool:
    job = tx.session.get(Job, claim.job_id, populate_existing=True)
    return (
        job is not None
        and job.state is State.SUCCEEDED
        and job.attempt == claim.attempt
        and job.worker_id == claim.worker_id
    )


def acknowledge_cancel(tx: Transaction, claim: Claim) -> None:
    """End a job as canceled after its cancel was requested and its work has stopped.

    Raises:
        LeaseLostError: the attempt is no longer current, or no cancel was requested.
    """
    tx.require_platform()
    done = change_state(
        tx,
        claim.job_id,
        current=State.RUNNING,
        following=State.CANCELED,
        attempt=claim.attempt,
        where=(Job.worker_id == claim.worker_id, Job.cancel_requested_at.is_not(None)),
    )
    if not done:
        raise _lease_lost(claim)
    _end_attempt(tx, claim.job_id, claim.attempt, AttemptOutcome.CANCELED, None)


def fail(tx: Transaction, claim: Claim, failure: Failure, *, rng: Callable[[], float] = random.random) -> State:
    """End an attempt as failed; return the job's new state.

    After a retryable failure the job is queued again with a backoff (exponential, with jitter) while attempts are left.

    Raises:
        LeaseLostError: the attempt is no longer current.
    """
    job = _leased_job(tx, claim)
    return _finish_unsuccessful(tx, job, failure, outcome=AttemptOutcome.FAILED, backoff_s=_backoff_s(job.attempt, rng))


def release(tx: Transaction, claim: Claim) -> State:
    """Return a job to the queue at once because its worker stops; the attempt does not count.

    Raises:
        LeaseLostError: the attempt is no longer current.
    """
    job = _leased_job(tx, claim)
    failure = Failure("worker_stopped", "The worker was stopped while it ran this job.", retryable=True)
    return _finish_unsuccessful(tx, job, failure, outcome=AttemptOutcome.REQUEUED, counts=False)


def give_back(tx: Transaction, claim: Claim, failure: Failure, *, rng: Callable[[], float] = random.random) -> State:
    """Return a job to the queue because of trouble of the platform; the attempt does not count.

    The job pauses a little longer each time, so that trouble which no check sees does not make it go round in a circle.

    Raises:
        LeaseLostError: the attempt is no longer current.
    """
    job = _leased_job(tx, claim)
    times = select(func.count()).where(JobAttempt.job_id == job.id, JobAttempt.outcome == AttemptOutcome.REQUEUED)
    pause_s = min(_backoff_s(tx.session.execute(times).scalar_one() + 1, rng), GIVEN_BACK_MAX_S)
    return _finish_unsuccessful(tx, job, failure, outcome=AttemptOutcome.REQUEUED, backoff_s=pause_s, counts=False)


def rescue_expired(tx: Transaction, job: Job) -> State:
    """Take a running job from a worker whose lease has expired; return the job's new state."""
    failure = Failure(
        "worker_lost",
        f"The worker that ran this job was lost in each of {job.attempt} attempts.",
        stage=str(job.stage) if job.stage else None,
        retryable=True,
    )
    return _finish_unsuccessful(tx, job, failure, outcome=AttemptOutcome.LOST)


def fail_overdue(tx: Transaction, job: Job) -> State:
    """End a running job long after its run timeout or its cancel, because its worker has not stopped it.

    The worker still renews the lease, so the thread that runs the job hangs; later writes of it are fenced off.
    """
    limit = job.request["run_timeout_s"]
    error = RunTimeoutError(f"The attempt ran longer than the {limit} s that the request allows, and did not stop.")
    return _finish_unsuccessful(tx, job, error.failure(str(job.stage)), outcome=AttemptOutcome.FAILED)


def _finish_unsuccessful(
    tx: Transaction,
    job: Job,
    failure: Failure,
    *,
    outcome: AttemptOutcome,
    backoff_s: float = 0.0,
    counts: bool = True,
) -> State:
    """End a running attempt other than by success: the job is canceled, queued again, or failed."""
    tx.require_platform()
    values: dict[str, Any] = {}
    event: dict[str, Any] = {"error": failure.as_json()}
    if job.cancel_requested_at is not None:
        following, outcome, event = State.CANCELED, AttemptOutcome.CANCELED, {}
    elif failure.retryable and (job.attempt < job.max_attempts or not counts):
        following = State.QUEUED
        available_at = tx.now + timedelta(seconds=backoff_s)
        # Without backoff the job keeps the place in its lane that its age gives it.
        values = {"available_at": available_at, "retry_at": available_at if backoff_s else None}
        values |= {"progress": 0.0, "worker_id": None}
        if not counts:
            values["max_attempts"] = job.max_attempts + 1
    else:
        following = State.FAILED
        values = {"error_code": failure.code, "error": failure.as_json()}
    changed = change_state(
        tx,
        job.id,
        current=State.RUNNING,
        following=following,
        attempt=job.attempt,
        where=(Job.worker_id == job.worker_id, Job.lease_expires_at == job.lease_expires_at),
        values=values,
        event=event,
    )
    if not changed:
        raise LeaseLostError(f"Attempt {job.attempt} of {job.id} was changed by another process meanwhile.")
    _end_attempt(tx, job.id, job.attempt, outcome, failure)
    return following


def _backoff_s(attempt: int, rng: Callable[[], float]) -> float:
    """Return the seconds before the next attempt: doubling, capped, with jitter over the upper half."""
    ceiling = min(RETRY_BASE_S * 2.0 ** (attempt - 1), RETRY_MAX_S)
    return ceiling * (0.5 + 0.5 * rng())


def _leased_job(tx: Transaction, claim: Claim) -> Job:
    tx.require_platform()
    job = tx.session.get(Job, claim.job_id, populate_existing=True, with_for_update=True)
    if (
        job is None
        or job.state is not State.RUNNING
        or job.attempt != claim.attempt
        or job.worker_id != claim.worker_id
    ):
        raise _lease_lost(claim)
    return job


def _lease_lost(claim: Claim) -> LeaseLostError:
    return LeaseLostError(f"Worker {claim.worker_id} no longer holds attempt {claim.attempt} of {claim.job_id}.")


def _end_attempt(tx: Transaction, job_id: str, attempt: int, outcome: AttemptOutcome, failure: Failure | None) -> None:
    tx.session.execute(
        update(JobAttempt)
        .where(JobAttempt.job_id == job_id, JobAttempt.attempt == attempt)
        .values(finished_at=tx.now, outcome=outcome, error=failure.as_json() if failure else None)
    )
