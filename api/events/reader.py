"""Reads events, progress and states of jobs for those who wait; the only part of it that calls the database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select

from api.events.updates import PROGRESS, JobUpdate
from jobs.db.database import Database, Transaction
from jobs.db.tables import RUNNING, Job, JobEvent
from jobs.lifecycle import State
from jobs.service.event_log import has_unsequenced, last_position, read_events, sequence_events

PAGE = 500
# Beyond that many jobs, all running ones are read instead: they are as many as the workers have slots.
LISTED_JOBS = 500


@dataclass(frozen=True)
class JobVersion:
    """What a row says of a job that somebody waits for."""

    state: State
    version: int


class EventReader:
    """Reads for all tenants, or for one stream.

    Args:
        db: not bound yet.
    """

    def __init__(self, db: Database) -> None:
        self._db, self._platform = db, db.of_platform()

    def position(self) -> int:
        """Return the last position given to an event."""
        return self._platform.run_reading(last_position, tries=1)

    def new_events(self, after: int) -> list[JobUpdate]:
        """Give positions to new events; return a page of those after a position, of all tenants, in order."""

        def look(tx: Transaction) -> tuple[bool, int]:
            return has_unsequenced(tx), last_position(tx)

        unsequenced, last = self._platform.run_reading(look, tries=1)
        if unsequenced:
            sequence_events(self._platform)
        elif last == after:
            return []
        found = self._platform.run_reading(lambda tx: read_events(tx, after=after, limit=PAGE), tries=1)
        return [_update(event) for event in found]

    def stream_page(self, tenant: str, job_id: str | None, after: int) -> list[JobUpdate]:
        """Return a page of a tenant's events after a position; less than `PAGE` of them: there are no more."""
        db = self._db.of_tenant(tenant)
        found = db.run_reading(lambda tx: read_events(tx, after=after, job_id=job_id, limit=PAGE), tries=1)
        return [_update(event) for event in found]

    def versions(self, job_ids: Iterable[str]) -> dict[str, JobVersion | None]:
        """Return the states of jobs by id; None: there is no such job (any more)."""
        ids = list(job_ids)
        found: dict[str, JobVersion | None] = dict.fromkeys(ids)

        def read(tx: Transaction) -> None:
            for begin in range(0, len(ids), PAGE):
                chunk = ids[begin : begin + PAGE]
                for row in tx.session.execute(select(Job.id, Job.state, Job.version).where(Job.id.in_(chunk))):
                    found[row.id] = JobVersion(row.state, row.version)

        if ids:
            self._platform.run_reading(read, tries=1)
        return found

    def progress(self, job_ids: Iterable[str]) -> list[JobUpdate]:
        """Return the progress of those of the jobs that run."""
        wanted = set(job_ids)
        query = select(Job.id, Job.tenant, Job.attempt, Job.stage, Job.progress, Job.step, Job.eta_s).where(RUNNING)
        if len(wanted) <= LISTED_JOBS:
            query = query.where(Job.id.in_(wanted))

        def read(tx: Transaction) -> list[JobUpdate]:
            return [_progress(row, tx.now) for row in tx.session.execute(query) if row.id in wanted]

        return self._platform.run_reading(read, tries=1) if wanted else []


def _progress(row: Any, now: datetime) -> JobUpdate:
    data = {"stage": str(row.stage), "progress": round(row.progress, 4), "step": row.step, "eta_s": row.eta_s}
    return JobUpdate(None, row.tenant, row.id, PROGRESS, row.attempt, data, now)


def _update(event: JobEvent) -> JobUpdate:
    return JobUpdate(
        event.position, event.tenant, event.job_id, str(event.kind), event.attempt, event.data, event.created_at
    )
