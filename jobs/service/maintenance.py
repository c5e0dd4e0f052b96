"""Periodic maintenance. `rescue` needs only the database, `dispatch_backlog` also the broker: neither delays the
other."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, or_, select

from jobs.db.database import Database, Transaction
from jobs.db.tables import QUEUED, RUNNING, IdempotencyKey, Job
from jobs.errors import Failure
from jobs.lifecycle import State
from jobs.service.attempts import fail_overdue, rescue_expired
from jobs.service.batches import finish_batches
from jobs.service.event_log import sequence_events
from jobs.service.scheduling.dispatch import DEFAULT_DISPATCH_POLICY, Publisher, dispatch, republish_lost
from jobs.service.scheduling.queue_counters import prune_empty_lanes
from jobs.service.scheduling.selection import DispatchPolicy
from jobs.service.transitions import change_state
from jobs.service.workers import mark_lost_workers, prune_workers
from jobs.settings import Settings

log = logging.getLogger(__name__)

IDEMPOTENCY_KEPT_S = 24 * 3600.0
WORKERS_KEPT_S = 30 * 24 * 3600.0
BATCH = 200

MayJudge = Callable[[Transaction], bool]


@dataclass(frozen=True)
class MaintenancePolicy:
    """The part of the settings that decides when a job or a worker is stuck."""

    lost_after_s: float = 12.0
    overdue_grace_s: float = 30.0
    dispatch: DispatchPolicy = DEFAULT_DISPATCH_POLICY

    @classmethod
    def from_settings(cls, settings: Settings) -> MaintenancePolicy:
        return cls(settings.lease_s, settings.overdue_grace_s, DispatchPolicy.from_settings(settings))


DEFAULT_POLICY = MaintenancePolicy()


@dataclass(frozen=True)
class MaintenanceReport:
    """How many jobs and workers one round of maintenance changed."""

    lost: int = 0
    overdue: int = 0
    queue_timeouts: int = 0
    lost_workers: int = 0
    republished: int = 0
    dispatched: int = 0


def rescue(
    db: Database, policy: MaintenancePolicy = DEFAULT_POLICY, *, may_judge: MayJudge = lambda _: True
) -> MaintenanceReport:
    """Requeue or end jobs that their workers no longer will; mark lost workers; prune old rows.

    Args:
        may_judge: see `jobs.service.lease_judgement`; called in each transaction that judges workers by their silence.
    """
    lost = rescue_expired_leases(db, may_judge)
    overdue = fail_overdue_jobs(db, policy.overdue_grace_s, may_judge)
    timeouts = fail_expired_queued(db)
    finish_batches(db)
    silent = db.run(lambda tx: _tidy(tx, policy.lost_after_s if may_judge(tx) else None), repeatable=True)
    sequence_events(db)  # for readers of events such as webhooks, also where no API runs
    for worker_id in silent:
        log.warning("worker %s is lost: it sends no heartbeats", worker_id)
    return MaintenanceReport(lost=lost, overdue=overdue, queue_timeouts=timeouts, lost_workers=len(silent))


def dispatch_backlog(
    db: Database, publisher: Publisher, policy: MaintenancePolicy = DEFAULT_POLICY
) -> MaintenanceReport:
    """Publish again the jobs whose message was lost, then jobs for the remaining free slots.

    Raises:
        BrokerUnavailableError: the broker does not answer.
    """
    republished = republish_lost(db, publisher, policy=policy.dispatch)
    dispatched = dispatch(db, publisher, policy=policy.dispatch).published
    return MaintenanceReport(republished=republished, dispatched=dispatched)


def _tidy(tx: Transaction, lost_after_s: float | None) -> list[str]:
    """Mark lost workers (None: none) and delete old rows; return the ids of the lost workers."""
    silent = mark_lost_workers(tx, lost_after_s=lost_after_s) if lost_after_s is not None else []
    prune_workers(tx, kept_s=WORKERS_KEPT_S)
    prune_empty_lanes(tx)
    kept_from = tx.now - timedelta(seconds=IDEMPOTENCY_KEPT_S)
    tx.session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < kept_from))
    return silent


def rescue_expired_leases(db: Database, may_judge: MayJudge = lambda _: True) -> int:
    """Requeue running jobs whose lease has expired, or fail them with `worker_lost`; return how many."""
    return _in_batches(db, lambda tx: _rescue_some_expired(tx) if may_judge(tx) else 0)


def fail_expired_queued(db: Database) -> int:
    """Fail queued jobs that waited longer than their `queue_ttl_s`; return how many."""
    return _in_batches(db, _fail_some_expired_queued)


def fail_overdue_jobs(db: Database, overdue_grace_s: float, may_judge: MayJudge = lambda _: True) -> int:
    """End running jobs that a live worker has not stopped in time; return how many."""
    return _in_batches(db, lambda tx: _fail_some_overdue(tx, overdue_grace_s) if may_judge(tx) else 0)


def _in_batches(db: Database, step: Callable[[Transaction], int]) -> int:
    """Run a step until it changes less than a batch. It is repeatable: it does not find again what it has changed."""
    total = 0
    while True:
        changed = db.run(step, repeatable=True)
        total += changed
        if changed < BATCH:
            return total


def _rescue_some_expired(tx: Transaction) -> int:
    query = select(Job).where(RUNNING, Job.lease_expires_at < tx.now).order_by(Job.lease_expires_at)
    expired = list(tx.session.scalars(query.limit(BATCH).with_for_update(skip_locked=True)))
    for job in expired:
        worker, attempt, state = job.worker_id, job.attempt, rescue_expired(tx, job)
        log.warning("worker %s lost job %s in attempt %d; the job is now %s", worker, job.id, attempt, state)
    return len(expired)


def _fail_some_overdue(tx: Transaction, overdue_grace_s: float) -> int:
    horizon = tx.now - timedelta(seconds=overdue_grace_s)
    query = (
        select(Job)
        .where(RUNNING, or_(Job.run_deadline_at < horizon, Job.cancel_requested_at < horizon))
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    )
    overdue = list(tx.session.scalars(query))
    for job in overdue:
        worker, attempt, state = job.worker_id, job.attempt, fail_overdue(tx, job)
        log.warning("worker %s did not stop job %s in attempt %d; the job is now %s", worker, job.id, attempt, state)
    return len(overdue)


def _fail_some_expired_queued(tx: Transaction) -> int:
    query = (
        select(Job)
        .where(QUEUED, Job.queue_expires_at.is_not(None), Job.queue_expires_at < tx.now)
        .order_by(Job.queue_expires_at)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    )
    late = list(tx.session.scalars(query))
    for job in late:
        ttl_s = job.request["queue_ttl_s"]
        failure = Failure("queue_timeout", f"No worker was free within the {ttl_s} s that the request allows.")
        change_state(
            tx,
            job.id,
            current=State.QUEUED,
            following=State.FAILED,
            attempt=job.attempt,
            values={"error_code": failure.code, "error": failure.as_json()},
            event={"error": failure.as_json()},
        )
    return len(late)
