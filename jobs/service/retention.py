"""Deletes expired objects from the object store. Objects are deleted before their row is marked, so that after a
crash in between they are only deleted once more."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from sqlalchemy import exists, literal, null, select, update
from sqlalchemy.exc import DBAPIError

from jobs.db.database import Database, Transaction
from jobs.db.faults import is_disk_full
from jobs.db.tables import Artifact, Job, JobAttempt, Upload
from jobs.lifecycle import AttemptOutcome
from jobs.service.deletion import delete_content_of
from jobs.service.upload_content import objects_prefix
from jobs.service.upload_parts import discard_parts
from jobs.storage.errors import StorageError
from jobs.storage.protocol import ObjectStore

log = logging.getLogger(__name__)

Row = TypeVar("Row")
Argument = TypeVar("Argument")
Result = TypeVar("Result")

BATCH = 200
# A submit that read an upload as valid just before it expired may still be running.
UPLOAD_GRACE_S = 3600.0
# A suspended worker may resume and store the files of its lost attempt; none does so later than this.
ATTEMPT_GRACE_S = 3600.0
# The condition of the index `ix_job_attempts_to_clean_up`, with a literal as there.
_SUCCEEDED = literal(AttemptOutcome.SUCCEEDED, JobAttempt.__table__.c.outcome.type, literal_execute=True)

Withdraw = Callable[[str, str, int], int]
"""Deletes an attempt's objects from a caller's bucket, given `deliver_to`, job id and attempt; returns their number."""


@dataclass(frozen=True)
class PruneReport:
    """How many items one round removed."""

    artifacts: int
    uploads: int
    attempts: int


def prune(db: Database, store: ObjectStore, withdraw: Withdraw) -> PruneReport:
    """Remove up to a batch each of expired artifacts, expired uploads, and objects of unsuccessful attempts.

    A full disk may refuse to record a removal: further batches are removed then, until there is space to record one.
    What was not recorded is removed again by the next call, which changes nothing.

    Args:
        withdraw: see `Withdraw`; may raise a StorageError.

    Raises:
        StorageError: the store does not answer; earlier removals are recorded.
        DBAPIError: the database does not answer, or its disk is still full.
    """
    refusals: list[DBAPIError] = []

    def removed(step: Callable[[], int]) -> int:
        try:
            return step()
        except DBAPIError as exc:
            if not is_disk_full(exc):
                raise
            refusals.append(exc)  # the other steps may free space
            return 0

    report = PruneReport(
        removed(lambda: expire_artifacts(db, store)),
        removed(lambda: delete_marked_uploads(db, store) + expire_uploads(db, store)),
        removed(lambda: clean_up_attempts(db, store, withdraw)),
    )
    if refusals:
        raise refusals[0]
    return report


def _bound(step: Callable[[Transaction, Argument], Result], argument: Argument) -> Callable[[Transaction], Result]:
    return lambda tx: step(tx, argument)


def _remove_batch(
    db: Database,
    find: Callable[[Transaction, int], list[Row]],
    remove: Callable[[list[Row]], list[Row]],
    mark: Callable[[Transaction, list[Row]], None],
) -> int:
    """Remove the objects of a batch of rows and mark the rows; return how many.

    Args:
        find: returns up to `BATCH` rows after as many as given.
        remove: deletes their objects; returns the rows to mark.

    Raises:
        DBAPIError: the disk is full, and remained so after the objects of all rows were deleted.
    """
    after = 0
    while True:
        found = db.run_reading(_bound(find, after))
        done = remove(found)
        if not done:
            return 0
        try:
            db.run(_bound(mark, done), repeatable=True)
        except DBAPIError as exc:
            if not is_disk_full(exc) or len(found) < BATCH:
                raise
            after += BATCH
        else:
            return len(done)


def expire_artifacts(db: Database, store: ObjectStore) -> int:
    """Delete the objects of expired artifacts and mark their rows; return how many."""

    def find(tx: Transaction, offset: int) -> list[Artifact]:
        query = select(Artifact).where(Artifact.deleted_at.is_(None), Artifact.expires_at <= tx.now)
        ordered = query.order_by(Artifact.expires_at, Artifact.job_id, Artifact.name)
        return list(tx.session.scalars(ordered.limit(BATCH).offset(offset)))

    def remove(expired: list[Artifact]) -> list[Artifact]:
        store.delete([artifact.storage_key for artifact in expired])
        return expired

    def mark(tx: Transaction, rows: list[Artifact]) -> None:
        for artifact in rows:
            same = (Artifact.job_id == artifact.job_id, Artifact.name == artifact.name)
            tx.session.execute(update(Artifact).where(*same).values(deleted_at=tx.now, detail=null()))

    return _remove_batch(db, find, remove, mark)


def delete_marked_uploads(db: Database, store: ObjectStore) -> int:
    """Delete the objects of uploads that their owners deleted, where the API could not; return how many."""

    def find(tx: Transaction) -> list[Upload]:
        marked = (
            Upload.delete_requested_at.is_not(None),
            Upload.checked_at.is_not(None),
            Upload.deleted_at.is_(None),
        )
        return list(tx.session.scalars(select(Upload).where(*marked).order_by(Upload.delete_requested_at).limit(BATCH)))

    found = db.run_reading(find)
    if found:
        delete_content_of(db, store, found)
    return len(found)


def expire_uploads(db: Database, store: ObjectStore) -> int:
    """Delete the objects of expired uploads that no queued or running job uses; return how many."""

    def find(tx: Transaction, offset: int) -> list[Upload]:
        in_use = exists().where(Job.input_key == Upload.storage_key, Job.finished_at.is_(None))
        horizon = tx.now - timedelta(seconds=UPLOAD_GRACE_S)
        query = select(Upload).where(Upload.deleted_at.is_(None), Upload.expires_at < horizon, ~in_use)
        return list(tx.session.scalars(query.order_by(Upload.expires_at, Upload.id).limit(BATCH).offset(offset)))

    def remove(expired: list[Upload]) -> list[Upload]:
        for upload in expired:  # also what writes left that broke off or were late; an expired upload accepts no more
            discard_parts(store, upload)
            store.delete([upload.storage_key, *store.list_keys(objects_prefix(upload.id))])
        return expired

    def mark(tx: Transaction, rows: list[Upload]) -> None:
        ids = [upload.id for upload in rows]
        tx.session.execute(update(Upload).where(Upload.id.in_(ids)).values(deleted_at=tx.now))

    return _remove_batch(db, find, remove, mark)


@dataclass(frozen=True)
class _Unsuccessful:
    """An unsuccessful attempt at a job that has ended."""

    job_id: str
    attempt: int
    deliver_to: str | None
    """The caller's bucket that the request names, as `s3://bucket/prefix/`."""


def clean_up_attempts(db: Database, store: ObjectStore, withdraw: Withdraw) -> int:
    """Delete what unsuccessful attempts stored and delivered, which a worker that died could not; return how many.

    Covers only attempts at ended jobs: no attempt writes to their keys any more.
    """

    def remove(attempts: list[_Unsuccessful]) -> list[_Unsuccessful]:
        return [attempt for attempt in attempts if _clean_up_attempt(attempt, store, withdraw)]

    def mark(tx: Transaction, rows: list[_Unsuccessful]) -> None:
        for attempt in rows:
            same = (JobAttempt.job_id == attempt.job_id, JobAttempt.attempt == attempt.attempt)
            tx.session.execute(update(JobAttempt).where(*same).values(cleaned_up_at=tx.now))

    return _remove_batch(db, _attempts_to_clean_up, remove, mark)


def _attempts_to_clean_up(tx: Transaction, offset: int) -> list[_Unsuccessful]:
    horizon = tx.now - timedelta(seconds=ATTEMPT_GRACE_S)
    query = (
        select(JobAttempt.job_id, JobAttempt.attempt, Job.request)
        .join(Job, Job.id == JobAttempt.job_id)
        .where(
            JobAttempt.cleaned_up_at.is_(None),
            JobAttempt.outcome != _SUCCEEDED,
            JobAttempt.finished_at < horizon,
            Job.finished_at < horizon,
        )
        .order_by(JobAttempt.finished_at, JobAttempt.job_id, JobAttempt.attempt)
        .limit(BATCH)
        .offset(offset)
    )
    return [_Unsuccessful(row.job_id, row.attempt, row.request.get("deliver_to")) for row in tx.session.execute(query)]


def _clean_up_attempt(attempt: _Unsuccessful, store: ObjectStore, withdraw: Withdraw) -> bool:
    """Delete the objects of one attempt; return False when the caller's bucket does not answer now."""
    number, job_id = attempt.attempt, attempt.job_id
    keys = list(store.list_keys(f"jobs/{job_id}/{number}/"))
    if keys:
        log.info("deleting %d objects of attempt %d of job %s", len(keys), number, job_id)
        store.delete(keys)
    if attempt.deliver_to is None:
        return True
    try:
        withdrawn = withdraw(attempt.deliver_to, job_id, number)
    except StorageError as exc:
        # A refusal is permanent; then the objects are the bucket owner's to delete.
        log.warning("objects that attempt %d of job %s delivered may remain: %s", number, job_id, exc)
        return not exc.retryable
    if withdrawn:
        log.info("deleted %d objects of attempt %d of job %s in %s", withdrawn, number, job_id, attempt.deliver_to)
    return True
