"""Retries the ended jobs that match a filter, a bounded page at a time; no job is retried twice.

A job counts as retried once another job's `retry_of` names it, so that a request that is repeated, or sent again after
a lost answer, makes nothing twice. A retry that itself ended is a job of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from sqlalchemy import func, select

from jobs.cursor import place_of
from jobs.db.database import Database, Transaction
from jobs.db.tables import Job
from jobs.errors import DomainError, QueueFullError, RequestInvalidError
from jobs.service.audit import record_action
from jobs.service.cancellation import submit_again
from jobs.service.queries import (
    JOB_ID,
    MAX_PAGE,
    JobFilter,
    indexed_conditions,
    other_conditions,
)
from jobs.service.request_changes import stored_request
from jobs.service.submission import SubmitPolicy, check_backlog, check_request

RETRY_PLACE = re.compile(rf"{JOB_ID.pattern}:{JOB_ID.pattern}")
SCANNED_JOBS = 5_000
"""Jobs that a page compares with the conditions that no index answers: bounds its time where few of them match."""


@dataclass(frozen=True)
class Retried:
    """A job and its retry; None in a dry run."""

    retry_of: str
    job_id: str | None
    variant: str


@dataclass(frozen=True)
class Skipped:
    """A job that cannot be retried, and why."""

    job_id: str
    error: DomainError


@dataclass
class RetryPage:
    """What a page did with the jobs that match, oldest first.

    Attributes:
        already_retried: how many had been retried before.
        stopped: why it ended before its last job; the cursor then leads to the first job that is left.
        next_cursor: of the next page; None: no job is left.
    """

    retried: list[Retried] = field(default_factory=list)
    already_retried: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    stopped: QueueFullError | None = None
    next_cursor: str | None = None


def retry_matching(
    db: Database,
    *,
    wanted: JobFilter,
    policy: SubmitPolicy,
    cursor: str | None,
    limit: int,
    dry_run: bool = False,
    actor: str | None = None,
) -> RetryPage:
    """Retry up to `limit` matching jobs in one transaction.

    Args:
        wanted: its state is a final one.
        dry_run: write nothing; tell what would be done.
        actor: who asks for it, for the audit; None: it is not recorded.

    Raises:
        InvalidCursorError: the cursor was not issued by this function.
        QueueFullError: the queue has no place for the first job, and nothing was done.
    """
    assert wanted.state is not None, wanted
    assert wanted.state.is_terminal, wanted

    def step(tx: Transaction) -> RetryPage:
        page = _retry_page(tx, wanted, policy, cursor, min(max(limit, 1), MAX_PAGE), dry_run=dry_run)
        if page.retried and actor is not None and not dry_run:
            record_action(tx, actor, "jobs.retry", tx.tenant, state=wanted.state, jobs=len(page.retried))
        return page

    return db.run_reading(step) if dry_run else db.run(step, repeatable=True)


def _retry_page(
    tx: Transaction,
    wanted: JobFilter,
    policy: SubmitPolicy,
    cursor: str | None,
    limit: int,
    *,
    dry_run: bool,
) -> RetryPage:
    if cursor is not None:
        last_id, end_id = place_of(cursor, RETRY_PLACE).split(":")
    else:
        # Jobs that come later, such as retries that fail at once, are not of this bulk retry: it would never end.
        last_id, end_id = "", tx.session.scalar(select(func.max(Job.id)).where(Job.deleted_at.is_(None))) or ""
    jobs, last_scanned_id = _next_jobs(tx, wanted, last_id, end_id, limit, lock=not dry_run)
    retried_before = _retried_before(tx, [job.id for job in jobs])
    page = RetryPage()
    for job in jobs:
        try:
            if job.id in retried_before:
                page.already_retried += 1
            elif dry_run:
                check_backlog(tx, policy, more=len(page.retried))
                check_request(tx, stored_request(job), policy=policy)
                page.retried.append(Retried(job.id, None, job.variant))
            else:
                made = submit_again(tx, job, policy=policy).job
                page.retried.append(Retried(job.id, made.id, made.variant))
        except RequestInvalidError as exc:
            page.skipped.append(Skipped(job.id, exc))
        except QueueFullError as exc:
            if job is jobs[0]:
                raise
            page.stopped, last_scanned_id = exc, last_id
            break
        last_id = job.id
    if last_scanned_id is not None:
        page.next_cursor = f"{last_scanned_id}:{end_id}"
    return page


def _next_jobs(
    tx: Transaction, wanted: JobFilter, last_id: str, end_id: str, limit: int, *, lock: bool
) -> tuple[list[Job], str | None]:
    """Return the next matching jobs after `last_id`, and up to which id all were looked at (None: to the end)."""
    indexed = (*indexed_conditions(wanted), Job.id > last_id, Job.id <= end_id)
    edge_id = tx.session.scalar(select(Job.id).where(*indexed).order_by(Job.id).offset(SCANNED_JOBS - 1).limit(1))
    query = select(Job).where(*indexed, *other_conditions(tx, wanted)).order_by(Job.id).limit(limit + 1)
    if edge_id is not None:
        query = query.where(Job.id <= edge_id)
    if lock:  # in the order of the ids, so that two bulk retries do not deadlock
        query = query.with_for_update(key_share=True)  # as `cancellation.LOCK_ROW`
    jobs = list(tx.session.scalars(query))
    if len(jobs) > limit:
        return jobs[:limit], jobs[limit - 1].id
    return jobs, edge_id


def _retried_before(tx: Transaction, job_ids: list[str]) -> set[str]:
    """Return which jobs have a retry. Asked after the jobs are locked: a concurrent bulk retry has then committed."""
    if not job_ids:
        return set()
    return set(tx.session.scalars(select(Job.retry_of).where(Job.retry_of.in_(job_ids)).distinct()))
