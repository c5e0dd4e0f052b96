"""Changes the state of a job: compare-and-set on state and attempt, with an event in the same transaction."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import CursorResult, update

from jobs.db.database import Transaction
from jobs.db.tables import Job, JobEvent
from jobs.lifecycle import EventKind, State, check_transition
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
    columns: dict[str, Any] = {"state": following, "version": Job.version + 1}
    if following is not State.RUNNING:
        columns |= {"lease_expires_at": None, "run_deadline_at": None, "stage": None, "step": None}
    if following is not State.QUEUED:
        columns |= {"published_at": None, "retry_at": None}
    if following.is_terminal:
        columns["finished_at"] = tx.now
    columns |= values or {}
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
    # A claim begins the next attempt: its event belongs to that one.
    event_attempt = attempt + 1 if following is State.RUNNING else attempt
    append_event(tx, job_id, EventKind.entered(following), event_attempt, event or {}, tenant=row.tenant)
    return True


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
