"""Deletes jobs and uploads at their owner's request.

A transaction takes the content out of the rows and marks their objects as expired; then the objects are deleted. What
cannot be deleted now, `jobs.service.retention` deletes: it finds the mark.
"""

from __future__ import annotations

from sqlalchemy import exists, null, select, update

from jobs.db.database import Database, Transaction
from jobs.db.tables import Artifact, Job, JobAttempt, JobEvent, Upload
from jobs.errors import JobNotEndedError, JobNotFoundError, UploadInUseError, UploadNotFoundError
from jobs.lifecycle import AttemptOutcome, EventKind
from jobs.service.ended_counters import adjust_ended
from jobs.storage.protocol import ObjectStore
from jobs.webhooks.job_url import forget_webhook

_UNSYNCHRONIZED = {"synchronize_session": False}


def delete_job(tx: Transaction, job_id: str) -> None:
    """Delete the content of an ended job; its row stays, so that its id says so. Idempotent.

    Copies in the caller's own bucket stay: they are the caller's.

    Raises:
        JobNotFoundError: the tenant has no such job.
        JobNotEndedError: it has not ended.
    """
    job = tx.session.get(Job, job_id, populate_existing=True, with_for_update=True)
    if job is None:
        raise JobNotFoundError(f"There is no job {job_id}.")
    if job.deleted_at is not None:
        return
    if not job.state.is_terminal:
        raise JobNotEndedError(
            f"Job {job_id} is {job.state}; only an ended job can be deleted. Cancel it first.", job_id
        )
    tx.session.execute(
        update(Job)
        .where(Job.id == job_id)
        .values(
            request=_kept_request(tx, job),
            input_key=None,
            input_pin=null(),
            error=null(),
            warnings=[],
            timings={},
            deleted_at=tx.now,
            version=Job.version + 1,
        ),
        execution_options=_UNSYNCHRONIZED,
    )
    tx.session.execute(
        update(JobAttempt).where(JobAttempt.job_id == job_id).values(error=null()), execution_options=_UNSYNCHRONIZED
    )
    tx.session.execute(
        update(JobEvent)
        .where(JobEvent.job_id == job_id, JobEvent.kind != EventKind.BATCH_FINISHED)  # has numbers of the batch only
        .values(data={}),
        execution_options=_UNSYNCHRONIZED,
    )
    artifacts = update(Artifact).where(Artifact.job_id == job_id)
    tx.session.execute(artifacts.values(delivered_to=None, detail=null()), execution_options=_UNSYNCHRONIZED)
    tx.session.execute(
        artifacts.where(Artifact.deleted_at.is_(None)).values(expires_at=tx.now), execution_options=_UNSYNCHRONIZED
    )
    forget_webhook(tx, job_id)
    adjust_ended(tx, job.tenant, job.state, job_id, -1)


def _kept_request(tx: Transaction, job: Job) -> dict[str, str]:
    """Return what is still needed of a request: where unsuccessful attempts may have delivered files to."""
    unclean = exists().where(
        JobAttempt.job_id == job.id,
        JobAttempt.outcome != AttemptOutcome.SUCCEEDED,
        JobAttempt.cleaned_up_at.is_(None),
    )
    target = job.request.get("deliver_to")
    return {"deliver_to": target} if target is not None and tx.session.scalar(select(unclean)) else {}


def delete_job_objects(db: Database, store: ObjectStore, job_id: str) -> None:
    """Delete the objects of a deleted job.

    Raises:
        StorageError, DBAPIError: they stay until the next pruning.
    """
    wanted = (Artifact.job_id == job_id, Artifact.deleted_at.is_(None), Artifact.expires_at <= Job.deleted_at)
    query = select(Artifact.storage_key).join(Job, Job.id == Artifact.job_id).where(*wanted)
    keys = list(db.run_reading(lambda tx: tx.session.scalars(query).all()))
    if not keys:
        return
    store.delete(keys)

    def mark(tx: Transaction) -> None:
        rows = update(Artifact).where(Artifact.job_id == job_id, Artifact.storage_key.in_(keys))
        tx.session.execute(rows.values(deleted_at=tx.now), execution_options=_UNSYNCHRONIZED)

    db.run(mark, repeatable=True)


def delete_upload(tx: Transaction, upload_id: str) -> None:
    """Delete an upload that no queued or running job needs. Idempotent.

    A submit that names it holds a lock of its row until its job can be seen here, or comes after this and is refused.

    Raises:
        UploadNotFoundError: the tenant has no such upload.
        UploadInUseError: a job needs it.
    """
    upload = tx.session.get(Upload, upload_id, populate_existing=True, with_for_update=True)
    if upload is None:
        raise UploadNotFoundError(f"There is no upload {upload_id}.")
    if upload.delete_requested_at is not None:
        return
    using = select(Job.id).where(Job.input_key == upload.storage_key, Job.finished_at.is_(None)).limit(1)
    user = tx.session.scalar(using)
    if user is not None:
        raise UploadInUseError(f"Upload {upload_id} is the input of job {user}, which has not ended; cancel it first.")
    upload.delete_requested_at, upload.expires_at = tx.now, min(upload.expires_at, tx.now)
    upload.filename, upload.sha256 = "", None


def delete_upload_object(db: Database, store: ObjectStore, upload_id: str) -> None:
    """Delete the object of a deleted upload; what is sent later nevertheless goes as with an expired upload.

    Raises:
        StorageError, DBAPIError: it stays until the next pruning.
    """

    def find(tx: Transaction) -> Upload | None:
        upload = tx.session.get(Upload, upload_id)
        return upload if upload is not None and upload.delete_requested_at is not None else None

    upload = db.run_reading(find)
    if upload is not None and upload.checked_at is not None and upload.deleted_at is None:
        delete_content_of(db, store, [upload])


def delete_content_of(db: Database, store: ObjectStore, uploads: list[Upload]) -> None:
    """Delete the objects of deleted uploads and record that they have none.

    Raises:
        StorageError, DBAPIError: nothing is recorded; they are found again.
    """
    store.delete([upload.storage_key for upload in uploads])
    ids = [upload.id for upload in uploads]
    without = update(Upload).where(Upload.id.in_(ids), Upload.delete_requested_at.is_not(None)).values(checked_at=None)
    db.run(lambda tx: tx.session.execute(without, execution_options=_UNSYNCHRONIZED), repeatable=True)
