"""Compares rows with the queue: a published job needs a message, a running job needs a valid lease."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy import select

from jobs.db.database import Database
from jobs.db.tables import Job
from jobs.doctor.finding import Finding, Kind
from jobs.lifecycle import State
from jobs.service.maintenance import rescue_expired_leases
from jobs.service.scheduling.dispatch import Publisher, republish_lost

# The control worker repairs these within seconds; older ones mean that none runs, or that it cannot.
OVERDUE_S = 10.0


class QueueCheck:
    """Finds published jobs without a message and running jobs with an expired lease."""

    def __init__(self, db: Database, publisher: Publisher) -> None:
        self._db, self._publisher = db, publisher

    def run(self) -> Iterator[Finding]:
        """Yield the inconsistencies between rows and queue."""
        with self._db.reading() as tx:
            overdue = tx.now - timedelta(seconds=OVERDUE_S)
            published = list(
                tx.session.execute(
                    select(Job.variant, Job.id).where(Job.state == State.QUEUED, Job.published_at < overdue)
                )
            )
            expired = list(
                tx.session.execute(
                    select(Job.id, Job.worker_id).where(Job.state == State.RUNNING, Job.lease_expires_at < overdue)
                )
            )
        enqueued = {variant: self._publisher.enqueued_job_ids(variant) for variant in {row[0] for row in published}}
        for variant, job_id in published:
            if job_id not in enqueued[variant]:
                detail = f"published for {variant}, but the queue has no message for it"
                yield Finding(Kind.MESSAGE_MISSING, job_id, detail, self._republish)
        for job_id, worker_id in expired:
            detail = f"the lease of worker {worker_id} expired and no control worker rescued the job"
            yield Finding(Kind.LEASE_EXPIRED, job_id, detail, self._rescue)

    def _republish(self) -> None:
        republish_lost(self._db, self._publisher)

    def _rescue(self) -> None:
        rescue_expired_leases(self._db)
