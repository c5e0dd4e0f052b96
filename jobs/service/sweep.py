"""What periodic maintenance mends: lost leases, jobs that waited too long, messages that went missing."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, select

from jobs.db.database import Database
from jobs.db.tables import IdempotencyKey, Job
from jobs.errors import Failure
from jobs.lifecycle import State
from jobs.queue import BrokerUnavailableError
from jobs.service.changes import change_state
from jobs.service.dispatch import Publisher, dispatch, republish_lost
from jobs.service.work import lose

log = logging.getLogger(__name__)

IDEMPOTENCY_KEPT_S = 24 * 3600.0
BATCH = 200


@dataclass(frozen=True)
class SweepReport:
    """What one sweep did, as counts."""

    lost: int
    queue_timeouts: int
    republished: int
    dispatched: int


def sweep(db: Database, publisher: Publisher) -> SweepReport:
    """Mend what is stuck, then fill the belt. Safe to run by several at once, and to die at any point of."""
    lost = expire_leases(db)
    timeouts = expire_waiting(db)
    with db.transaction() as tx:
        kept_from = tx.now - timedelta(seconds=IDEMPOTENCY_KEPT_S)
        tx.session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < kept_from))
    try:
        republished = republish_lost(db, publisher)
    except BrokerUnavailableError as exc:
        log.warning("%s; the belt is filled when it is back", exc)
        return SweepReport(lost, timeouts, 0, 0)
    return SweepReport(lost, timeouts, republished, dispatch(db, publisher))


def expire_leases(db: Database) -> int:
    """Take running jobs from workers that fell silent: queued again, or failed with `worker_lost`."""
    with db.transaction() as tx:
        query = (
            select(Job)
            .where(Job.state == State.RUNNING, Job.lease_expires_at < tx.now)
            .limit(BATCH)
            .with_for_update(skip_locked=True)
        )
        expired = list(tx.session.scalars(query))
        for job in expired:
            worker, attempt = job.worker_id, job.attempt
            log.warning("worker %s lost job %s in attempt %d; it is now %s", worker, job.id, attempt, lose(tx, job))
    return len(expired)


def expire_waiting(db: Database) -> int:
    """Fail queued jobs that waited longer than their `queue_ttl_s`."""
    with db.transaction() as tx:
        ttl = Job.request["queue_ttl_s"].as_integer().label("ttl_s")
        query = select(Job.id, Job.attempt, Job.created_at, ttl).where(Job.state == State.QUEUED, ttl.is_not(None))
        late = [row for row in tx.session.execute(query) if row.created_at + timedelta(seconds=row.ttl_s) < tx.now]
        for row in late:
            failure = Failure("queue_timeout", f"No worker was free within the {row.ttl_s} s that the request allows.")
            change_state(
                tx,
                row.id,
                current=State.QUEUED,
                following=State.FAILED,
                attempt=row.attempt,
                values={"error_code": failure.code, "error": failure.as_json()},
                event={"error": failure.as_json()},
            )
    return len(late)
