"""Cancels and retries existing jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.db.database import Database, Transaction
from jobs.db.tables import Job
from jobs.errors import JobEndedError, JobNotEndedError
from jobs.lifecycle import EventKind, State
from jobs.service.queries import get_job
from jobs.service.request_changes import changed_request
from jobs.service.submission import Idempotency, SubmitPolicy, Submitted, commit_once, submit
from jobs.service.transitions import append_event, change_state, update_where
from jobs.storage.protocol import ObjectPin
from jobs.webhooks.job_url import body_kind_of

LOCK_ROW = {"key_share": True}
"""FOR NO KEY UPDATE: other retries of the job wait, rows that refer to it do not. SQLite has one writer anyway."""


def cancel(tx: Transaction, job_id: str) -> Job:
    """Cancel a job. A queued job ends at once, a running one when its worker has stopped it. Idempotent.

    Raises:
        JobNotFoundError: the tenant has no such job.
        JobEndedError: it has already succeeded or failed.
    """
    job = get_job(tx, job_id)
    if job.state is State.QUEUED and change_state(
        tx, job_id, current=State.QUEUED, following=State.CANCELED, attempt=job.attempt,
        values={"cancel_requested_at": tx.now},
    ):  # fmt: skip
        return _fresh(tx, job)
    job = _fresh(tx, job)  # a worker may have claimed or ended it since it was read
    if job.state is State.CANCELED:
        return job
    if job.state.is_terminal:
        raise JobEndedError(
            f"Job {job_id} has already {job.state}; only a job that has not ended can be canceled.", job_id
        )
    if job.cancel_requested_at is None and update_where(
        tx, job_id, Job.state == State.RUNNING, Job.attempt == job.attempt, Job.cancel_requested_at.is_(None),
        values={"cancel_requested_at": tx.now, "version": Job.version + 1},
    ):  # fmt: skip
        append_event(tx, job_id, EventKind.CANCEL_REQUESTED, job.attempt, {}, tenant=job.tenant)
    return _fresh(tx, job)


def retry(
    tx: Transaction,
    job_id: str,
    *,
    policy: SubmitPolicy,
    changes: Mapping[str, Any] | None = None,
    idempotency: Idempotency | None = None,
) -> Submitted:
    """Queue a new job with the request of an ended one (same seed), linked to it.

    Args:
        changes: see `jobs.service.request_changes.changed_request`.

    Raises:
        JobNotFoundError: the tenant has no such job.
        JobNotEndedError: it has not ended.
        RequestInvalidError: its input has expired, or its request is no longer allowed.
        IdempotencyMismatchError, QueueFullError: as `submit`.
    """
    job = get_job(tx, job_id)
    if not job.state.is_terminal:
        raise JobNotEndedError(f"Job {job_id} is {job.state}; only an ended job can be retried.", job_id)
    tx.session.refresh(job, with_for_update=LOCK_ROW)  # a bulk retry looks, under this lock, for retries
    return submit_again(tx, job, policy=policy, changes=changes, idempotency=idempotency)


def submit_again(
    tx: Transaction,
    job: Job,
    *,
    policy: SubmitPolicy,
    changes: Mapping[str, Any] | None = None,
    idempotency: Idempotency | None = None,
) -> Submitted:
    """Queue a new job with the request of an ended one; raises what `retry` raises for it."""
    tx.require_own(job.tenant)
    request = changed_request(job, changes or {})
    has_same_source = request.source == (job.request.get("video") or job.request.get("image"))
    pin = ObjectPin(**job.input_pin) if job.input_pin is not None and has_same_source else None
    return submit(
        tx,
        request,
        policy=policy,
        idempotency=idempotency,
        retry_of=job.id,
        input_pin=pin,
        preset=job.request.get("preset") if "preset" not in (changes or {}) else None,
        webhook_body=body_kind_of(tx, job.id),
    )


def retry_and_commit(
    db: Database,
    job_id: str,
    *,
    policy: SubmitPolicy,
    changes: Mapping[str, Any] | None = None,
    idempotency: Idempotency | None = None,
) -> Submitted:
    """Retry a job in a transaction of its own; raises what `retry` raises."""
    return commit_once(
        db,
        lambda tx: retry(tx, job_id, policy=policy, changes=changes, idempotency=idempotency),
        repeatable=idempotency is not None,
    )


def _fresh(tx: Transaction, job: Job) -> Job:
    tx.session.refresh(job)
    return job
