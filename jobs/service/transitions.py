"""Changes the state of a job: compare-and-set on state and attempt, with an event in the same transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import CursorResult, insert, update

from jobs.db.database import Transaction
from jobs.db.tables import Job, JobEvent
from jobs.lifecycle import EventKind, State, check_transition
from jobs.service.ended_counters import adjust_ended
from jobs.service.event_log import sequence_at_commit
from jobs.service.scheduling.queue_counters import Lane, adjust_count


def change_state(
    tx: Transaction,
    job_id: str,
    *,
    current: State,
    following: State,
    attempt: int,
    where: tuple[Any, ...] = (),
    values: dict[str, Any] | None = None,
    event: dict[str, Any] | None = None,
) -> bool:
    """Move a job from `current` to `following` if it is still `current` in `attempt`; return whether it was moved.

    Args:
        where: further conditions of the compare-and-set.
        values: further columns to set in the same statement.
        event: data of the event row.

    Raises:
        IllegalTransitionError: `TRANSITIONS` does not allow the change.
    """
    check_transition(current, following)
    columns = _columns(tx, following) | (values or {})
    row = tx.session.execute(
        update(Job)
        .where(Job.id == job_id, Job.state == current, Job.attempt == attempt, *where)
        .values(**columns)
        .returning(Job.variant, Job.priority, Job.tenant),
        execution_options={"synchronize_session": False},
    ).one_or_none()
    if row is None:
        return False
    if State.QUEUED in {current, following}:
        adjust_count(tx, Lane(*row), job_id, 1 if following is State.QUEUED else -1)
    if following.is_terminal:
        adjust_ended(tx, row.tenant, following, job_id, 1)
    # A claim begins the next attempt: its event belongs to that one.
    event_attempt = attempt + 1 if following is State.RUNNING else attempt
    append_event(tx, job_id, EventKind.entered(following), event_attempt, event or {}, tenant=row.tenant)
    return True


@dataclass(frozen=True)
class Changed:
    """A job that was moved, and its lane."""

    job_id: str
    attempt: int
    variant: str
    priority: int
    tenant: str


def change_states(
    tx: Transaction, job_ids: Sequence[str], *, current: State, following: State, values: dict[str, Any]
) -> list[Changed]:
    """Move those of many jobs that are still `current`, as `change_state` does, in few statements; return them.

    Raises:
        IllegalTransitionError: `TRANSITIONS` does not allow the change.
    """
    check_transition(current, following)
    if not job_ids:
        return []
    statement = (
        update(Job)
        .where(Job.id.in_(job_ids), Job.state == current)
        .values(**_columns(tx, following), **values)
        .returning(Job.id, Job.attempt, Job.variant, Job.priority, Job.tenant)
    )
    changed = [Changed(*row) for row in tx.session.execute(statement, execution_options={"synchronize_session": False})]
    for job in changed:
        if State.QUEUED in {current, following}:
            lane = Lane(job.variant, job.priority, job.tenant)
            adjust_count(tx, lane, job.job_id, 1 if following is State.QUEUED else -1)
        if following.is_terminal:
            adjust_ended(tx, job.tenant, following, job.job_id, 1)
    append_events(tx, [(job.tenant, job.job_id, job.attempt) for job in changed], EventKind.entered(following))
    return changed


def _columns(tx: Transaction, following: State) -> dict[str, Any]:
    """Return the columns that every change to a state sets."""
    columns: dict[str, Any] = {"state": following, "version": Job.version + 1}
    if following is not State.RUNNING:
        columns |= {"lease_expires_at": None, "run_deadline_at": None, "stage": None, "step": None}
    if following is not State.QUEUED:
        columns |= {"published_at": None, "retry_at": None}
    if following.is_terminal:
        columns["finished_at"] = tx.now
    return columns


def update_where(tx: Transaction, job_id: str, *where: Any, values: dict[str, Any]) -> bool:
    """Update a job if all conditions hold; return whether it was updated."""
    statement = update(Job).where(Job.id == job_id, *where).values(**values)
    result = tx.session.execute(statement, execution_options={"synchronize_session": False})
    return cast("CursorResult[Any]", result).rowcount == 1


def append_event(
    tx: Transaction, job_id: str, kind: EventKind, attempt: int, data: dict[str, Any], *, tenant: str
) -> None:
    """Add an event to a job, in the transaction of the change that it records.

    Args:
        tenant: the job's.
    """
    event = JobEvent(tenant=tenant, job_id=job_id, kind=kind, attempt=attempt, data=data, created_at=tx.now)
    tx.session.add(event)
    sequence_at_commit(tx)


def append_events(tx: Transaction, jobs: Sequence[tuple[str, str, int]], kind: EventKind) -> None:
    """Add an event without data to many jobs, given tenant, id and attempt of each."""
    if jobs:
        tx.session.execute(insert(JobEvent), event_rows(jobs, kind, tx.now))
        sequence_at_commit(tx)


def event_rows(jobs: Sequence[tuple[str, str, int]], kind: EventKind, now: datetime) -> list[dict[str, Any]]:
    """Return the columns of events without data, given tenant, id and attempt of each job.

    Who inserts them calls `sequence_at_commit`.
    """
    return [
        {"tenant": tenant, "job_id": job_id, "kind": kind, "attempt": attempt, "data": {}, "created_at": now}
        for tenant, job_id, attempt in jobs
    ]
