"""Whether the document of a job is still what it was: one statement, for callers that poll."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Boolean, Integer

from jobs.db.database import Database
from jobs.db.single_read import SingleRead
from jobs.db.types import UtcDateTime, enum_column
from jobs.errors import GoneReason, JobDeletedError, JobNotFoundError
from jobs.lifecycle import State

_LOOK = SingleRead(
    """
    SELECT true AS found, job.version, job.state, job.variant, job.priority, job.created_at, job.published_at,
        job.deleted_at,
        CASE WHEN job.state = 'succeeded' THEN (
            SELECT count(*) * 1000 + count(file.deleted_at) FROM artifacts AS file
            WHERE file.tenant = :tenant AND file.job_id = job.id) END AS files,
        CASE WHEN job.state = 'succeeded' THEN (
            SELECT min(file.expires_at) FROM artifacts AS file
            WHERE file.tenant = :tenant AND file.job_id = job.id AND file.deleted_at IS NULL) END AS expires_at,
        CASE WHEN job.state = 'queued' THEN (
            SELECT queue.dispatch_count FROM variant_queues AS queue
            WHERE queue.variant = job.variant) END AS dispatched,
        CASE WHEN job.state = 'queued' THEN (
            SELECT sum(lane.queued) FROM queued_counts AS lane
            WHERE lane.tenant = :tenant AND lane.variant = job.variant) END AS queued
    FROM jobs AS job WHERE job.tenant = :tenant AND job.id = :job_id
    """,
    (
        ("found", Boolean()),
        ("state", enum_column(State)),
        ("created_at", UtcDateTime()),
        ("published_at", UtcDateTime()),
        ("deleted_at", UtcDateTime()),
        ("expires_at", UtcDateTime()),
        ("dispatched", Integer()),
        ("queued", Integer()),
    ),
)


@dataclass(frozen=True)
class JobLook:
    """What decides about the document of a job, beside the parts that never change.

    Attributes:
        version: of the row; every change of what is shown increments it.
        files: changes with the number of artifacts and of deleted ones; None: it has not succeeded.
        expires_at: when the next artifact expires.
        queue: changes with dispatches of the variant and the tenant's own queue; None: not queued.
        now: the time of the database.
    """

    id: str
    tenant: str
    version: int
    state: State
    variant: str
    priority: int
    created_at: datetime
    published_at: datetime | None
    files: int | None
    expires_at: datetime | None
    queue: tuple[int | None, int | None] | None
    now: datetime


def look_at_job(db: Database, tenant: str, job_id: str) -> JobLook:
    """Look at a job of a tenant, in one statement.

    Raises:
        JobNotFoundError: the tenant has none of this id.
        JobDeletedError: it was deleted.
    """
    row, now = db.of_tenant(tenant).read_row(_LOOK, job_id=job_id)
    if row is None:
        raise JobNotFoundError(f"There is no job {job_id}.")
    if row.deleted_at is not None:
        raise JobDeletedError(f"Job {job_id} was deleted.", GoneReason.DELETED, deleted_at=row.deleted_at)
    state = State(row.state)
    queue = (row.dispatched, row.queued) if state is State.QUEUED else None
    return JobLook(
        job_id, tenant, row.version, state, row.variant, row.priority, row.created_at, row.published_at, row.files,
        row.expires_at, queue, now,
    )  # fmt: skip
