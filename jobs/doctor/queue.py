"""Compares rows with the queue: a published job needs a message, a running job needs a valid lease."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Protocol

from sqlalchemy import select

from jobs.db.database import Database
from jobs.db.tables import Job
from jobs.doctor.brake import Population
from jobs.doctor.finding import Action, Finding, Kind
from jobs.lifecycle import State
from jobs.service.scheduling.dispatch import Publisher

# The control worker repairs these within seconds; older ones mean that none runs, or that it cannot.
OVERDUE_S = 10.0


class CheckedPublisher(Publisher, Protocol):
    """A publisher that can be asked whether it answers."""

    def check(self) -> None:
        """Raise `BrokerUnavailableError` unless the broker answers."""
        ...


class QueueCheck:
    """Finds published jobs without a message and running jobs with an expired lease.

    Args:
        examined: counts what was looked at.
    """

    def __init__(
        self, db: Database, publisher: CheckedPublisher, *, examined: Counter[Population] | None = None
    ) -> None:
        self._db, self._publisher = db, publisher
        self._examined = examined if examined is not None else Counter()

    def run(self) -> Iterator[Finding]:
        """Yield the inconsistencies between rows and queue.

        Raises:
            BrokerUnavailableError, SQLAlchemyError: the check could not be finished.
        """
        self._publisher.check()  # with nothing published, nothing below would ask it
        with self._db.reading() as tx:
            overdue = tx.now - timedelta(seconds=OVERDUE_S)
            published = list(
                tx.session.execute(
                    select(Job.variant, Job.id).where(Job.state == State.QUEUED, Job.published_at < overdue)
                )
            )
            running = list(
                tx.session.execute(
                    select(Job.id, Job.worker_id, (Job.lease_expires_at < overdue).label("expired")).where(
                        Job.state == State.RUNNING
                    )
                )
            )
        self._examined[Population.PUBLISHED_JOBS] += len(published)
        self._examined[Population.RUNNING_JOBS] += len(running)
        enqueued = {variant: self._publisher.enqueued_job_ids(variant) for variant in {row[0] for row in published}}
        for variant, job_id in published:
            if job_id not in enqueued[variant]:
                detail = f"published for {variant}, but the queue has no message for it"
                yield Finding(Kind.MESSAGE_MISSING, job_id, detail, Action.REPUBLISH, job_id)
        for job_id, worker_id, expired in running:
            if expired:
                detail = f"the lease of worker {worker_id} expired and no control worker rescued the job"
                yield Finding(Kind.LEASE_EXPIRED, job_id, detail, Action.RESCUE, job_id)
