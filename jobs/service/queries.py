"""Reads jobs, their events and attempts, and the workers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, exists, func, literal, select

from jobs.db.database import Transaction
from jobs.db.tables import RUNNING, Job, JobAttempt, JobEvent, Worker
from jobs.errors import GoneReason, JobDeletedError, JobNotFoundError
from jobs.lifecycle import DisplayedWorkerState, State, WorkerState

JOB_ID = re.compile(r"job_[0-9a-f]{32}")
MAX_PAGE = 200
ID_CLOCK_SKEW_MS = 3600 * 1000


def get_job(tx: Transaction, job_id: str) -> Job:
    """Return the tenant's job.

    Raises:
        JobNotFoundError: the tenant has none of this id.
        JobDeletedError: it was deleted.
    """
    job = tx.session.get(Job, job_id, populate_existing=True)
    if job is None:
        raise JobNotFoundError(f"There is no job {job_id}.")
    if job.deleted_at is not None:
        raise JobDeletedError(f"Job {job_id} was deleted.", GoneReason.DELETED, deleted_at=job.deleted_at)
    return job


@dataclass(frozen=True)
class JobFilter:
    """Conditions of a list of jobs; None means any."""

    state: State | None = None
    variant: str | None = None
    created_after: datetime | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    error_code: str | None = None
    created_before: datetime | None = None
    states: tuple[State, ...] = ()
    """In one of these states; empty: in any."""
    ids: tuple[str, ...] | None = None
    batch_id: str | None = None
    text: str | None = None
    """Begins the id, or is contained in the prompt, the name of the input or the metadata, whatever its case."""


def indexed_conditions(wanted: JobFilter) -> list[ColumnElement[bool]]:
    """Return the conditions of a filter that an index answers, with the tenant's, in the order of the ids."""
    # State and code are literals in the statement: PostgreSQL plans a statement that it has seen often for a value of
    # average frequency, and with a rare one scans the whole table.
    table = Job.__table__.c
    conditions: list[ColumnElement[bool]] = [Job.deleted_at.is_(None)]
    if wanted.state is not None:
        conditions.append(Job.state == literal(wanted.state, table.state.type, literal_execute=True))
    if wanted.error_code is not None:
        conditions.append(Job.error_code == literal(wanted.error_code, table.error_code.type, literal_execute=True))
    if wanted.created_after is not None:
        # Ids begin with their creation time, by the clock of the host that made them: this bounds the index scan.
        earliest_ms = max(0, int(wanted.created_after.timestamp() * 1000) - ID_CLOCK_SKEW_MS)
        conditions.append(Job.id > f"job_{earliest_ms:012x}")
    return conditions


def other_conditions(tx: Transaction, wanted: JobFilter) -> list[ColumnElement[bool]]:
    """Return the conditions of a filter that each row is checked against."""
    conditions = [_metadata_is(tx, key, value) for key, value in wanted.metadata]
    if wanted.variant is not None:
        conditions.append(Job.variant == wanted.variant)
    if wanted.created_after is not None:
        conditions.append(Job.created_at > wanted.created_after)
    if wanted.created_before is not None:
        conditions.append(Job.created_at < wanted.created_before)
    return conditions


def _metadata_is(tx: Transaction, key: str, value: str) -> ColumnElement[bool]:
    if tx.session.get_bind().dialect.name == "sqlite":
        # A JSON path of SQLite cannot name every key (quotes, escapes), so the pairs are compared one by one.
        pair = func.json_each(Job.request, "$.metadata").table_valued("key", "value", name="pair")
        return exists().select_from(pair).where(pair.c.key == key, pair.c.value == value)
    same: ColumnElement[bool] = Job.request["metadata"][key].as_string() == value
    return same


def job_events(tx: Transaction, job_id: str, *, after_id: int = 0) -> list[JobEvent]:
    """Return the events of a job after event `after_id`, oldest first."""
    query = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.id > after_id).order_by(JobEvent.id)
    return list(tx.session.scalars(query))


def job_attempts(tx: Transaction, job_id: str) -> list[JobAttempt]:
    """Return the attempts at a job, in order."""
    return attempts_by_job(tx, [job_id])[job_id]


def attempts_by_job(tx: Transaction, job_ids: list[str]) -> dict[str, list[JobAttempt]]:
    """Return the attempts at several jobs, by job id, in order."""
    found: dict[str, list[JobAttempt]] = {job_id: [] for job_id in job_ids}
    query = select(JobAttempt).where(JobAttempt.job_id.in_(job_ids)).order_by(JobAttempt.attempt)
    for attempt in tx.session.scalars(query):
        found[attempt.job_id].append(attempt)
    return found


def list_workers(tx: Transaction, *, keep_s: float = 3600.0) -> list[Worker]:
    """Return the workers that have not stopped and sent a heartbeat within `keep_s` seconds, by start time."""
    horizon = tx.now - timedelta(seconds=keep_s)
    query = select(Worker).where(Worker.heartbeat_at > horizon, Worker.stopped_at.is_(None)).order_by(Worker.started_at)
    return list(tx.session.scalars(query))


def is_lost(worker: Worker, now: datetime, lost_after_s: float) -> bool:
    """Return whether a worker has sent no heartbeat for `lost_after_s` seconds."""
    return worker.heartbeat_at < now - timedelta(seconds=lost_after_s)


def displayed_worker_state(worker: Worker, *, busy: bool, lost: bool) -> DisplayedWorkerState:
    """Return a worker's state as callers see it.

    Args:
        busy: it has running jobs.
        lost: see `is_lost`.
    """
    if worker.stopped_at is not None:
        return DisplayedWorkerState.STOPPED
    if lost:
        return DisplayedWorkerState.LOST
    if worker.state is not WorkerState.DRAINING and worker.unavailable is not None:
        return DisplayedWorkerState.UNAVAILABLE
    if worker.state is WorkerState.READY:
        return DisplayedWorkerState.BUSY if busy else DisplayedWorkerState.IDLE
    return DisplayedWorkerState(worker.state.value)


def running_jobs(tx: Transaction) -> dict[str, list[str]]:
    """Return the ids of the running jobs of all tenants by worker, in order of start.

    Raises:
        TenantUnboundError: the transaction is not the platform's.
    """
    tx.require_platform()
    found: dict[str, list[str]] = {}
    query = select(Job.worker_id, Job.id).where(RUNNING).order_by(Job.started_at)
    for row in tx.session.execute(query):
        found.setdefault(row.worker_id, []).append(row.id)
    return found
