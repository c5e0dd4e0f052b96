"""What is removed from the object store when its time is over. Objects go first and the row says so after, so that
a crash in between only means that they are removed once more."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import exists, literal, select, update

from jobs.db.database import Database
from jobs.db.tables import Artifact, Job, JobAttempt, Upload
from jobs.storage.protocol import ObjectStore

log = logging.getLogger(__name__)

BATCH = 200
# Whoever read an upload as valid just before it expired may still be submitting a job with it.
UPLOAD_GRACE_S = 3600.0
# A stopped worker may come back and store what its lost attempt made; later than this, nobody does.
ATTEMPT_GRACE_S = 3600.0


@dataclass(frozen=True)
class RetentionReport:
    """What one round removed, as counts."""

    artifacts: int
    uploads: int
    attempts: int


def retain(db: Database, store: ObjectStore) -> RetentionReport:
    """Remove up to a batch each of expired artifacts, expired uploads, and what attempts without success left behind.

    Raises:
        StorageError: the store does not answer; what was removed before is noted.
    """
    return RetentionReport(expire_artifacts(db, store), expire_uploads(db, store), sweep_attempts(db, store))


def expire_artifacts(db: Database, store: ObjectStore) -> int:
    """Remove the bytes of artifacts whose time is over; the rows stay and say so."""
    with db.reading() as tx:
        query = select(Artifact).where(Artifact.deleted_at.is_(None), Artifact.expires_at < tx.now)
        expired = list(tx.session.scalars(query.order_by(Artifact.expires_at).limit(BATCH)))
    store.delete([artifact.storage_key for artifact in expired])
    with db.transaction() as tx:
        for artifact in expired:
            same = (Artifact.job_id == artifact.job_id, Artifact.name == artifact.name)
            tx.session.execute(update(Artifact).where(*same).values(deleted_at=tx.now))
    return len(expired)


def expire_uploads(db: Database, store: ObjectStore) -> int:
    """Remove uploads whose time is over, but none that a job still waits for or works with."""
    with db.reading() as tx:
        in_use = exists().where(Job.input_key == Upload.storage_key, Job.finished_at.is_(None))
        query = (
            select(Upload)
            .where(Upload.deleted_at.is_(None), Upload.expires_at < tx.now - timedelta(seconds=UPLOAD_GRACE_S), ~in_use)
            .order_by(Upload.expires_at)
            .limit(BATCH)
        )
        expired = list(tx.session.scalars(query))
    store.delete([upload.storage_key for upload in expired])
    with db.transaction() as tx:
        ids = [upload.id for upload in expired]
        tx.session.execute(update(Upload).where(Upload.id.in_(ids)).values(deleted_at=tx.now))
    return len(expired)


def sweep_attempts(db: Database, store: ObjectStore) -> int:
    """Remove what attempts that did not succeed have stored: a worker that died could not."""
    with db.reading() as tx:
        query = (
            select(JobAttempt)
            .where(
                JobAttempt.swept_at.is_(None),
                JobAttempt.outcome != literal("succeeded", literal_execute=True),  # as the index says it
                JobAttempt.finished_at < tx.now - timedelta(seconds=ATTEMPT_GRACE_S),
            )
            .order_by(JobAttempt.finished_at)
            .limit(BATCH)
        )
        ended = list(tx.session.scalars(query))
    for attempt in ended:
        left = list(store.list_keys(f"jobs/{attempt.job_id}/{attempt.attempt}/"))
        if left:
            log.info("attempt %d of %s left %d objects; removing them", attempt.attempt, attempt.job_id, len(left))
            store.delete(left)
        with db.transaction() as tx:
            same = (JobAttempt.job_id == attempt.job_id, JobAttempt.attempt == attempt.attempt)
            tx.session.execute(update(JobAttempt).where(*same).values(swept_at=tx.now))
    return len(ended)
