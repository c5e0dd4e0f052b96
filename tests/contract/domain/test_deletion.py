"""Deleting jobs and uploads: what stays, what goes, and that objects go though the process died after the commit."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from sqlalchemy import select

from jobs.db.database import Database
from jobs.db.tables import Artifact, Job, JobAttempt, JobEvent, Upload
from jobs.errors import (
    JobDeletedError,
    JobNotEndedError,
    JobNotFoundError,
    RequestInvalidError,
    UploadDeletedError,
    UploadInUseError,
    UploadNotFoundError,
)
from jobs.lifecycle import ArtifactKind
from jobs.service import attempts
from jobs.service.attempts import NewArtifact
from jobs.service.bulk_retry import retry_matching
from jobs.service.cancellation import cancel
from jobs.service.deletion import delete_job, delete_job_objects, delete_upload, delete_upload_object
from jobs.service.queries import JobFilter, get_job
from jobs.service.retention import prune
from jobs.service.uploads import get_upload, store_upload
from jobs.storage.local import LocalStore
from tests.contract.domain.conftest import TENANT, Steps

SECRET = "a prompt that nobody should find again"


@pytest.fixture
def bound(db: Database) -> Database:
    return db.of_tenant(TENANT)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "objects")


def succeeded(steps: Steps, store: LocalStore, **fields: object) -> str:
    job = steps.submit(prompt=SECRET, metadata={"who": SECRET}, **fields)
    claim = steps.claimed(job.id)
    key = f"jobs/{job.id}/1/audio.flac"
    stored = store.put_stream(key, io.BytesIO(b"sound"), content_type="audio/flac", max_bytes=5)
    artifact = NewArtifact(
        "audio.flac", ArtifactKind.AUDIO, "flac", "audio/flac", key, 5, str(stored.sha256), 8.0, take=0, seed=7
    )
    with steps.db.transaction() as tx:
        attempts.complete(tx, claim, [artifact], warnings=[], timings={}, artifact_ttl_s=60)
    return job.id


def prune_all(db: Database, store: LocalStore) -> None:
    prune(db, store, lambda *_: 0)


def keys(store: LocalStore) -> list[str]:
    return [key for key in store.list_keys("") if key.startswith(("jobs/", "uploads/"))]


def test_a_deleted_job_keeps_its_id_and_nothing_of_its_content(
    bound: Database, steps: Steps, store: LocalStore
) -> None:
    job_id = succeeded(steps, store)
    with bound.transaction() as tx:
        delete_job(tx, job_id)
    delete_job_objects(bound, store, job_id)
    assert keys(store) == []
    with bound.reading() as tx:
        job = tx.session.get_one(Job, job_id)
        rows = [job, *tx.session.scalars(select(JobEvent)), *tx.session.scalars(select(JobAttempt))]
        rows += list(tx.session.scalars(select(Artifact)))
        assert SECRET not in repr([{**vars(row)} for row in rows])
        with pytest.raises(JobDeletedError):
            get_job(tx, job_id)


def test_objects_go_by_maintenance_when_the_process_died_after_the_commit(
    bound: Database, steps: Steps, store: LocalStore, db: Database
) -> None:
    job_id = succeeded(steps, store)
    upload_id = store_upload(bound, store, b"video", filename=SECRET, content_type="video/mp4", ttl_s=3600)
    assert len(keys(store)) == 2
    with bound.transaction() as tx:
        delete_job(tx, job_id)
        delete_upload(tx, upload_id)
    prune_all(db, store)
    assert keys(store) == []
    with bound.reading() as tx:
        assert tx.session.get_one(Upload, upload_id).filename == ""
        assert tx.session.scalars(select(Artifact.deleted_at)).one() is not None


def test_a_job_that_has_not_ended_is_not_deleted(bound: Database, steps: Steps) -> None:
    queued, running = steps.submit().id, steps.submit().id
    steps.claimed(running)
    for job_id in (queued, running):
        with pytest.raises(JobNotEndedError), bound.transaction() as tx:
            delete_job(tx, job_id)
    with pytest.raises(JobNotFoundError), bound.transaction() as tx:
        delete_job(tx, steps.submit("other").id)


def test_a_bulk_retry_passes_over_deleted_jobs(bound: Database, steps: Steps, db: Database) -> None:
    from jobs.lifecycle import State

    kept, deleted = steps.submit().id, steps.submit().id
    with bound.transaction() as tx:
        cancel(tx, kept)
        cancel(tx, deleted)
        delete_job(tx, deleted)
    page = retry_matching(bound, wanted=JobFilter(State.CANCELED), policy=steps.policy, cursor=None, limit=10)
    assert [one.retry_of for one in page.retried] == [kept]
    assert page.skipped == []


def test_an_upload_is_deleted_once_no_job_needs_it(
    bound: Database, steps: Steps, store: LocalStore, db: Database
) -> None:
    upload_id = store_upload(bound, store, b"video", filename="a.mp4", content_type="video/mp4", ttl_s=3600)
    job_id = steps.submit(video=upload_id).id
    with pytest.raises(UploadInUseError, match=job_id), bound.transaction() as tx:
        delete_upload(tx, upload_id)
    with bound.transaction() as tx:
        cancel(tx, job_id)
        delete_upload(tx, upload_id)
    delete_upload_object(bound, store, upload_id)
    assert keys(store) == []
    with bound.transaction() as tx:
        delete_upload(tx, upload_id)  # idempotent
    with bound.reading() as tx, pytest.raises(UploadDeletedError):
        get_upload(tx, upload_id)
    with pytest.raises(RequestInvalidError, match="deleted"):
        steps.submit(video=upload_id)
    with pytest.raises(UploadNotFoundError), db.of_tenant("other").transaction() as tx:
        delete_upload(tx, upload_id)
