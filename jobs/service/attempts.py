"""What a worker may do with a job: claim it, keep it, tell of it, end it.

Every write names the attempt. A worker that lost its lease gets `LeaseLostError` and has changed nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select, update

from jobs.db.database import Transaction
from jobs.db.tables import Artifact, Job, JobAttempt
from jobs.errors import Failure, LeaseLostError, RunTimeoutError
from jobs.lifecycle import Stage, State, overall_progress
from jobs.service.scheduling.quotas import is_paused
from jobs.service.transitions import append_event, change_state, update_where
from jobs.storage.protocol import ObjectPin

RETRY_BASE_S = 2.0
RETRY_MAX_S = 300.0


@dataclass(frozen=True)
class Claim:
    """A job that this worker holds, and the attempt that says so."""

    job_id: str
    attempt: int
    worker_id: str
    tenant: str
    variant: str
    request: dict[str, Any]
    input_key: str | None
    started_at: datetime
    queued_s: float
    """How long it waited for this claim, in seconds."""
    input_pin: ObjectPin | None = None
    """Which version of the input is meant; None: whatever lies there."""


@dataclass(frozen=True)
class Progress:
    """How far an attempt is: `fraction` (0..1) of `stage`, the sampling step where there is one, seconds to the end."""

    job_id: str
    attempt: int
    stage: Stage
    fraction: float
    step: int | None = None
    eta_s: float | None = None


@dataclass(frozen=True)
class NewArtifact:
    """A stored file that the job will point at when it succeeds."""

    name: str
    kind: str
    format: str
    content_type: str
    storage_key: str
    size_bytes: int
    sha256: str
    duration_s: float
    sample_index: int
    seed: int
    delivered_to: str | None = None
    """`s3://bucket/key` in the caller's own bucket, where the request wants it there too."""


def claim(tx: Transaction, job_id: str, *, worker_id: str, lease_s: float) -> Claim | None:
    """Take a queued job; None when it is not there to take.

    It is not after a message delivered twice, after a cancel, while it backs off, and while its variant is paused: then
    the message is used up, and the job waits in its lane for another.
    """
    job = tx.session.get(Job, job_id)
    if job is None or job.state is not State.QUEUED or job.available_at > tx.now:
        return None
    if is_paused(tx, job.variant):
        update_where(tx, job_id, Job.state == State.QUEUED, values={"published_at": None})
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
    tx.session.add(JobAttempt(job_id=job_id, attempt=job.attempt + 1, worker_id=worker_id, started_at=tx.now))
    return Claim(
        job_id=job.id,
        attempt=job.attempt + 1,
        worker_id=worker_id,
        tenant=job.tenant,
        variant=job.variant,
        request=dict(job.request),
        input_key=job.input_key,
        input_pin=ObjectPin(**job.input_pin) if job.input_pin is not None else None,
        started_at=tx.now,
        queued_s=(tx.now - job.available_at).total_seconds(),
    )


def renew_leases(tx: Transaction, held: Iterable[tuple[str, int]], *, worker_id: str, lease_s: float) -> set[str]:
    """Push the leases of the held (job, attempt) pairs on; return the ids of those that are no longer this worker's."""
    lost = set()
    for job_id, attempt in held:
        if not update_where(
            tx,
            job_id,
            Job.state == State.RUNNING,
            Job.attempt == attempt,
            Job.worker_id == worker_id,
            values={"lease_expires_at": tx.now + timedelta(seconds=lease_s)},
        ):
            lost.add(job_id)
    return lost


def cancel_requests(tx: Transaction, held: Sequence[tuple[str, int]]) -> set[str]:
    """Return the ids of held jobs whose work is in vain: cancel was asked for, or the attempt is no longer current."""
    if not held:
        return set()
    rows = tx.session.execute(
        select(Job.id, Job.attempt, Job.state, Job.cancel_requested_at).where(
            Job.id.in_([job_id for job_id, _ in held])
        )
    )
    current = {row.id: row for row in rows}
    stop = set()
    for job_id, attempt in held:
        row = current.get(job_id)
        if row is None or row.state is not State.RUNNING or row.attempt != attempt or row.cancel_requested_at:
            stop.add(job_id)
    return stop


def record_progress(tx: Transaction, reports: Iterable[Progress]) -> None:
    """Write how far attempts are. Never goes back within an attempt; a report of a lost attempt changes nothing."""
    for report in reports:
        progress = overall_progress(report.stage, report.fraction)
        before = tx.session.execute(
            select(Job.stage).where(Job.id == report.job_id, Job.state == State.RUNNING, Job.attempt == report.attempt)
        ).scalar_one_or_none()
        changed = update_where(
            tx,
            report.job_id,
            Job.state == State.RUNNING,
            Job.attempt == report.attempt,
            Job.progress <= progress,
            values={
                "stage": report.stage,
                "progress": progress,
                "step": report.step,
                "eta_s": None if report.eta_s is None else round(report.eta_s, 1),
                "version": Job.version + 1,
            },
        )
        if changed and before != report.stage:
            append_event(tx, report.job_id, "stage", report.attempt, {"stage": str(report.stage)})


def record_resolved_request(tx: Transaction, claim: Claim, resolved: dict[str, Any]) -> None:
    """Add to the reported request what only the worker could find out (the length of the video, say)."""
    job = _held(tx, claim)
    if not update_where(
        tx,
        claim.job_id,
        Job.state == State.RUNNING,
        Job.attempt == claim.attempt,
        values={"request": {**job.request, **resolved}, "version": Job.version + 1},
    ):
        raise LeaseLostError(f"Attempt {claim.attempt} of {claim.job_id} is no longer held by {claim.worker_id}.")


def complete(
    tx: Transaction,
    claim: Claim,
    artifacts: Iterable[NewArtifact],
    *,
    warnings: list[dict[str, Any]],
    timings: dict[str, float],
    artifact_ttl_s: int,
) -> bool:
    """End a job well: state and artifacts in one transaction.

    Returns False when cancel was asked for meanwhile: cancel wins, the job is now canceled, and the caller deletes
    the stored objects.

    Raises:
        LeaseLostError: the attempt is no longer held; the caller deletes the stored objects.
    """
    total = (tx.now - claim.started_at).total_seconds()
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
    )
    if not published:
        if _already_completed(tx, claim):
            return True  # the commit went through and only its answer was lost; this is the second try
        acknowledge_cancel(tx, claim)
        return False
    expires_at = tx.now + timedelta(seconds=artifact_ttl_s)
    tx.session.add_all(Artifact(job_id=claim.job_id, expires_at=expires_at, **vars(artifact)) for artifact in artifacts)
    _end_attempt(tx, claim.job_id, claim.attempt, "succeeded", None)
    return True


def _already_completed(tx: Transaction, claim: Claim) -> bool:
    job = tx.session.get(Job, claim.job_id, populate_existing=True)
    return (
        job is not None
        and job.state is State.SUCCEEDED
        and job.attempt == claim.attempt
        and job.worker_id == claim.worker_id
    )


def acknowledge_cancel(tx: Transaction, claim: Claim) -> None:
    """Say that the device has let go of a job whose cancel was asked for.

    Raises:
        LeaseLostError: the attempt is no longer held, or nobody asked for a cancel.
    """
    done = change_state(
        tx,
        claim.job_id,
        current=State.RUNNING,
        following=State.CANCELED,
        attempt=claim.attempt,
        where=(Job.worker_id == claim.worker_id, Job.cancel_requested_at.is_not(None)),
    )
    if not done:
        raise LeaseLostError(f"Attempt {claim.attempt} of {claim.job_id} is no longer held by {claim.worker_id}.")
    _end_attempt(tx, claim.job_id, claim.attempt, "canceled", None)


def fail(tx: Transaction, claim: Claim, failure: Failure, *, rng: Callable[[], float] = random.random) -> State:
    """End an attempt badly; return where the job stands now.

    A retryable failure goes back to the queue with a pause (exponential, with jitter) while attempts are left.

    Raises:
        LeaseLostError: the attempt is no longer held.
    """
    job = _held(tx, claim)
    return _finish_unsuccessful(tx, job, failure, outcome="failed", pause_s=_pause(job.attempt, rng))


def release(tx: Transaction, claim: Claim) -> State:
    """Return a job to the queue at once because its worker stops; the attempt does not count against it.

    Raises:
        LeaseLostError: the attempt is no longer held.
    """
    job = _held(tx, claim)
    failure = Failure("mark_worker_stopped", "The worker was stopped while it ran this job.", retryable=True)
    return _finish_unsuccessful(tx, job, failure, outcome="requeued", pause_s=0.0, counts=False)


def rescue_expired(tx: Transaction, job: Job) -> State:
    """Take a running job from a worker whose lease has run out."""
    failure = Failure(
        "worker_lost",
        f"The worker that ran this job was lost in each of {job.attempt} attempts.",
        stage=str(job.stage) if job.stage else None,
        retryable=True,
    )
    return _finish_unsuccessful(tx, job, failure, outcome="lost", pause_s=0.0)


def fail_overdue(tx: Transaction, job: Job) -> State:
    """End a running job that should have stopped long ago, because of its run timeout or a cancel, and has not.

    Its worker still renews the lease, so the thread that runs the job hangs; whatever it writes later is fenced off.
    """
    limit = job.request["run_timeout_s"]
    error = RunTimeoutError(f"The attempt ran longer than the {limit} s that the request allows, and did not stop.")
    return _finish_unsuccessful(tx, job, error.failure(str(job.stage)), outcome="failed", pause_s=0.0)


def _finish_unsuccessful(
    tx: Transaction, job: Job, failure: Failure, *, outcome: str, pause_s: float, counts: bool = True
) -> State:
    """The one way out of `running` that is not success: canceled, queued again, or failed."""
    values: dict[str, Any] = {}
    event: dict[str, Any] = {"error": failure.as_json()}
    if job.cancel_requested_at is not None:
        following, outcome, event = State.CANCELED, "canceled", {}
    elif failure.retryable and (job.attempt < job.max_attempts or not counts):
        following = State.QUEUED
        available_at = tx.now + timedelta(seconds=pause_s)
        # A job that does not have to back off keeps the place in its lane that its age gives it.
        values = {"available_at": available_at, "retry_at": available_at if pause_s else None}
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
        raise LeaseLostError(f"Attempt {job.attempt} of {job.id} was changed by somebody else meanwhile.")
    _end_attempt(tx, job.id, job.attempt, outcome, failure)
    return following


def _pause(attempt: int, rng: Callable[[], float]) -> float:
    """Seconds before the next attempt: doubling, capped, with full jitter over the upper half."""
    ceiling = min(RETRY_BASE_S * 2.0 ** (attempt - 1), RETRY_MAX_S)
    return ceiling * (0.5 + 0.5 * rng())


def _held(tx: Transaction, claim: Claim) -> Job:
    job = tx.session.get(Job, claim.job_id, populate_existing=True, with_for_update=True)
    if (
        job is None
        or job.state is not State.RUNNING
        or job.attempt != claim.attempt
        or job.worker_id != claim.worker_id
    ):
        raise LeaseLostError(f"Attempt {claim.attempt} of {claim.job_id} is no longer held by {claim.worker_id}.")
    return job


def _end_attempt(tx: Transaction, job_id: str, attempt: int, outcome: str, failure: Failure | None) -> None:
    tx.session.execute(
        update(JobAttempt)
        .where(JobAttempt.job_id == job_id, JobAttempt.attempt == attempt)
        .values(finished_at=tx.now, outcome=outcome, error=failure.as_json() if failure else None)
    )
