"""What is removed from the object store when its time is over. Objects go first and the row says so after, so that
a crash in between only means that they are removed once more."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import exists, literal, select, update

from jobs.db.database import Database, Transaction
from jobs.db.tables import Artifact, Job, JobAttempt, Upload
from jobs.storage.errors import StorageError
from jobs.storage.protocol import ObjectStore

log = logging.getLogger(__name__)

BATCH = 200
# Whoever read an upload as valid just before it expired may still be submitting a job with it.
UPLOAD_GRACE_S = 3600.0
# A stopped worker may come back and store what its lost attempt made; later than this, nobody does.
ATTEMPT_GRACE_S = 3600.0

Withdraw = Callable[[str, str, int], int]
"""Removes an attempt's objects from a caller's bucket, given `deliver_to`, job id and attempt; returns their number."""


@dataclass(frozen=True)
class PruneReport:
    """What one round removed, as counts."""

    artifacts: int
    uploads: int
    attempts: int


def prune(db: Database, store: ObjectStore, withdraw: Withdraw) -> PruneReport:
    """Remove up to a batch each of expired artifacts, expired uploads, and what attempts without success left behind.

    Args:
        withdraw: see `Withdraw`; may raise a StorageError.

    Raises:
        StorageError: the store does not answer; what was removed before is noted.
    """
    return PruneReport(expire_artifacts(db, store), expire_uploads(db, store), clean_up_attempts(db, store, withdraw))


def expire_artifacts(db: Database, store: ObjectStore) -> int:
    """Remove the bytes of artifacts whose time is over; the rows stay and say so."""

    def find(tx: Transaction) -> list[Artifact]:
        query = select(Artifact).where(Artifact.deleted_at.is_(None), Artifact.expires_at < tx.now)
        return list(tx.session.scalars(query.order_by(Artifact.expires_at).limit(BATCH)))

    def note(tx: Transaction) -> None:
        for artifact in expired:
            same = (Artifact.job_id == artifact.job_id, Artifact.name == artifact.name)
            tx.session.execute(update(Artifact).where(*same).values(deleted_at=tx.now))

    expired = db.run_reading(find)
    store.delete([artifact.storage_key for artifact in expired])
    db.run(note, repeatable=True)
    return len(expired)


def expire_uploads(db: Database, store: ObjectStore) -> int:
    """Remove uploads whose time is over, but none that a job still waits for or works with."""

    def find(tx: Transaction) -> list[Upload]:
        in_use = exists().where(Job.input_key == Upload.storage_key, Job.finished_at.is_(None))
        query = (
            select(Upload)
            .where(Upload.deleted_at.is_(None), Upload.expires_at < tx.now - timedelta(seconds=UPLOAD_GRACE_S), ~in_use)
            .order_by(Upload.expires_at)
            .limit(BATCH)
        )
        return list(tx.session.scalars(query))

    def note(tx: Transaction) -> None:
        ids = [upload.id for upload in expired]
        tx.session.execute(update(Upload).where(Upload.id.in_(ids)).values(deleted_at=tx.now))

    expired = db.run_reading(find)
    store.delete([upload.storage_key for upload in expired])
    db.run(note, repeatable=True)
    return len(expired)


@dataclass(frozen=True)
class _Ended:
    """An attempt without success at a job that has ended."""

    job_id: str
    attempt: int
    deliver_to: str | None
    """The caller's bucket that the request names, as `s3://bucket/prefix/`."""


def clean_up_attempts(db: Database, store: ObjectStore, withdraw: Withdraw) -> int:
    """Remove what attempts that did not succeed have stored and delivered: a worker that died could not.

    Only when their job has ended: from then on no attempt writes to the names that are looked at.
    """
    ended = db.run_reading(_attempts_to_clean_up)
    swept = [attempt for attempt in ended if _clean_up_attempt(attempt, store, withdraw)]

    def note(tx: Transaction) -> None:
        for attempt in swept:
            same = (JobAttempt.job_id == attempt.job_id, JobAttempt.attempt == attempt.attempt)
            tx.session.execute(update(JobAttempt).where(*same).values(cleaned_up_at=tx.now))

    db.run(note, repeatable=True)
    return len(swept)


def _attempts_to_clean_up(tx: Transaction) -> list[_Ended]:
    horizon = tx.now - timedelta(seconds=ATTEMPT_GRACE_S)
    query = (
        select(JobAttempt.job_id, JobAttempt.attempt, Job.request)
        .join(Job, Job.id == JobAttempt.job_id)
        .where(
            JobAttempt.cleaned_up_at.is_(None),
            JobAttempt.outcome != literal("succeeded", literal_execute=True),  # as the index says it
            JobAttempt.finished_at < horizon,
            Job.finished_at < horizon,
        )
        .order_by(JobAttempt.finished_at)
        .limit(BATCH)
    )
    return [_Ended(row.job_id, row.attempt, row.request.get("deliver_to")) for row in tx.session.execute(query)]


def _clean_up_attempt(ended: _Ended, store: ObjectStore, withdraw: Withdraw) -> bool:
    """Remove what one attempt left; False when the caller's bucket does not answer just now."""
    left = list(store.list_keys(f"jobs/{ended.job_id}/{ended.attempt}/"))
    if left:
        log.info("attempt %d of %s left %d objects; removing them", ended.attempt, ended.job_id, len(left))
        store.delete(left)
    if ended.deliver_to is None:
        return True
    try:
        withdrawn = withdraw(ended.deliver_to, ended.job_id, ended.attempt)
    except StorageError as exc:
        # What is refused now is refused for ever, and theirs to remove.
        log.warning("what attempt %d of %s delivered may have stayed behind: %s", ended.attempt, ended.job_id, exc)
        return not exc.retryable
    if withdrawn:
        log.info("attempt %d of %s left %d objects in %s", ended.attempt, ended.job_id, withdrawn, ended.deliver_to)
    return True
