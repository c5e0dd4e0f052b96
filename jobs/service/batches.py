"""Batches: many jobs created by one call, counted, canceled and finished together.

While it goes on, a batch is counted from its jobs by an index, at most `MAX_REQUESTS` entries, so that jobs that end do
not wait for each other. When the last one has ended, maintenance records that, with an event.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, exists, func, select, update

from jobs.cursor import place_of
from jobs.db.batch_tables import Batch
from jobs.db.database import Database, Transaction
from jobs.db.tables import QUEUED, RUNNING, Job
from jobs.errors import BatchEndedError, BatchNotFoundError
from jobs.lifecycle import EventKind, State
from jobs.service.transitions import append_event, append_events, change_states

MAX_REQUESTS = 10_000
MAX_PAGE = 50
CANCELED_AT_ONCE = 500
BATCH_ID = re.compile(r"bat_[0-9a-f]{32}")
_UNSYNCHRONIZED = {"synchronize_session": False}


@dataclass(frozen=True)
class BatchSummary:
    """A batch and how far its jobs are.

    Attributes:
        counts: its jobs by state.
        progress: 0 to 1: the part of its jobs that has ended, and of those that run what they have done.
        finished_at: when its last job ended; None: some have not.
    """

    batch: Batch
    counts: dict[State, int]
    progress: float
    finished_at: datetime | None


def get_batch(tx: Transaction, batch_id: str) -> Batch:
    """Return the tenant's batch.

    Raises:
        BatchNotFoundError: the tenant has none of this id.
    """
    batch = tx.session.get(Batch, batch_id, populate_existing=True)
    if batch is None:
        raise BatchNotFoundError(f"There is no batch {batch_id}.")
    return batch


def summary_of(tx: Transaction, batch: Batch) -> BatchSummary:
    """Return a batch with the counts of its jobs."""
    tx.require_own(batch.tenant)
    if batch.final_counts is not None:
        return BatchSummary(batch, _all_states(batch.final_counts), 1.0, batch.finished_at)
    counts = counts_of(tx, batch.id)
    ended = sum(count for state, count in counts.items() if state.is_terminal)
    if ended == batch.job_count:  # maintenance will record it in a moment
        last = tx.session.scalar(select(func.max(Job.finished_at)).where(Job.batch_id == batch.id))
        return BatchSummary(batch, counts, 1.0, last)
    running = select(func.sum(Job.progress)).where(Job.batch_id == batch.id, RUNNING)
    done = ended + (tx.session.scalar(running) or 0.0)
    return BatchSummary(batch, counts, min(done / batch.job_count, 1.0), None)


def counts_of(tx: Transaction, batch_id: str) -> dict[State, int]:
    """Return the jobs of a batch by state, also of deleted ones."""
    query = select(Job.state, func.count()).where(Job.batch_id == batch_id).group_by(Job.state)
    return _all_states({row[0]: row[1] for row in tx.session.execute(query)})


def _all_states(counts: Mapping[str, int]) -> dict[State, int]:
    return {state: counts.get(state, 0) for state in State}


def list_batches(tx: Transaction, *, cursor: str | None, limit: int) -> tuple[list[Batch], str | None]:
    """Return a page of the tenant's batches, newest first, and the cursor of the next one.

    Raises:
        InvalidCursorError: the cursor was not issued by this function.
    """
    query = select(Batch)
    if cursor is not None:
        query = query.where(Batch.id < place_of(cursor, BATCH_ID))
    limit = min(max(limit, 1), MAX_PAGE)
    rows = list(tx.session.scalars(query.order_by(Batch.id.desc()).limit(limit + 1)))
    more = len(rows) > limit
    return rows[:limit], rows[limit - 1].id if more else None


def request_cancel(tx: Transaction, batch_id: str) -> None:
    """Record that a batch is to be canceled; `cancel_jobs` does it, or maintenance goes on with it. Idempotent.

    Raises:
        BatchNotFoundError: the tenant has no such batch.
        BatchEndedError: all its jobs have ended, and nobody had asked to cancel it.
    """
    batch = get_batch(tx, batch_id)
    if batch.cancel_requested_at is not None:
        return
    if summary_of(tx, batch).finished_at is not None:
        raise BatchEndedError(f"All jobs of batch {batch_id} have ended; there is nothing to cancel.")
    tx.session.execute(
        update(Batch)
        .where(Batch.id == batch_id, Batch.cancel_requested_at.is_(None))
        .values(cancel_requested_at=tx.now),
        execution_options=_UNSYNCHRONIZED,
    )
    tx.session.expire(batch)


def cancel_jobs(db: Database, batch_id: str) -> set[str]:
    """Cancel the queued jobs of a batch, a page per transaction, and ask the running ones to stop.

    Returns the variants of the canceled jobs.
    """
    variants: set[str] = set()
    while True:
        canceled = db.run(lambda tx: _cancel_some(tx, batch_id), repeatable=True)
        variants |= canceled
        if not canceled:
            break
    db.run(lambda tx: _ask_running(tx, batch_id), repeatable=True)
    return variants


def _cancel_some(tx: Transaction, batch_id: str) -> set[str]:
    # A job that is locked is being claimed; it is asked to stop when it runs.
    query = select(Job.id).where(Job.batch_id == batch_id, QUEUED).order_by(Job.id).limit(CANCELED_AT_ONCE)
    ids = list(tx.session.scalars(query.with_for_update(skip_locked=True)))
    values = {"cancel_requested_at": tx.now}
    return {
        changed.variant
        for changed in change_states(tx, ids, current=State.QUEUED, following=State.CANCELED, values=values)
    }


def _ask_running(tx: Transaction, batch_id: str) -> None:
    asked = (
        update(Job)
        .where(Job.batch_id == batch_id, RUNNING, Job.cancel_requested_at.is_(None))
        .values(cancel_requested_at=tx.now, version=Job.version + 1)
        .returning(Job.tenant, Job.id, Job.attempt)
    )
    rows = tx.session.execute(asked, execution_options=_UNSYNCHRONIZED).all()
    append_events(tx, [(row.tenant, row.id, row.attempt) for row in rows], EventKind.CANCEL_REQUESTED)


def finish_batches(db: Database) -> int:
    """Go on with canceling batches, and record the end of those whose last job has ended; return how many."""

    def to_cancel(tx: Transaction) -> list[str]:
        left = exists().where(Job.batch_id == Batch.id, QUEUED)
        unasked = exists().where(Job.batch_id == Batch.id, RUNNING, Job.cancel_requested_at.is_(None))
        wanted = (Batch.finished_at.is_(None), Batch.cancel_requested_at.is_not(None), left | unasked)
        return list(tx.session.scalars(select(Batch.id).where(*wanted).limit(MAX_PAGE)))

    for batch_id in db.run_reading(to_cancel):
        cancel_jobs(db, batch_id)
    total = 0
    while db.run_reading(lambda tx: tx.session.scalar(_ended().limit(1)) is not None):
        finished = db.run(_finish_some, repeatable=True)
        total += finished
        if not finished:  # another process records them now
            break
    return total


def _ended() -> Select[Batch]:
    """Return the query for batches whose jobs have all ended. An ended job stays ended, so what it finds stays true."""
    open_jobs = exists().where(Job.batch_id == Batch.id, QUEUED) | exists().where(Job.batch_id == Batch.id, RUNNING)
    return select(Batch).where(Batch.finished_at.is_(None), ~open_jobs).order_by(Batch.id)


def _finish_some(tx: Transaction) -> int:
    query = _ended().limit(MAX_PAGE)
    batches = list(tx.session.scalars(query.with_for_update(skip_locked=True)))
    for batch in batches:
        last = select(Job.id, Job.state, Job.attempt, Job.finished_at).where(Job.batch_id == batch.id)
        job = tx.session.execute(last.order_by(Job.finished_at.desc(), Job.id.desc()).limit(1)).one()
        counts = {str(state): count for state, count in counts_of(tx, batch.id).items()}
        batch.finished_at, batch.final_counts = job.finished_at, counts
        data = {"batch": batch.id, "counts": counts, "state": str(job.state)}
        append_event(tx, job.id, EventKind.BATCH_FINISHED, job.attempt, data, tenant=batch.tenant)
    return len(batches)
