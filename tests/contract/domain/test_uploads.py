"""Uploads: stored by this process or by the caller, checked against the announcement once."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from jobs.db.database import Database
from jobs.db.tables import Upload
from jobs.errors import RequestInvalidError, UploadCompleteError, UploadExpiredError, UploadMismatchError
from jobs.lifecycle import UploadState
from jobs.request import JobRequest
from jobs.service.uploads import (
    announce_upload,
    check_accepts_content,
    check_upload,
    get_upload,
    receive_content,
    refresh_upload,
    store_upload,
    upload_state,
)
from jobs.storage.errors import ChecksumMismatchError, ObjectTooLargeError
from jobs.storage.local import LocalStore
from tests.conftest import FakeClock
from tests.contract.domain.conftest import TENANT, Steps


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "objects")


def announce(db: Database, *, size_bytes: int = 5, sha256: str | None = None) -> Upload:
    with db.of_tenant(TENANT).transaction() as tx:
        return announce_upload(
            tx, filename="a.mp4", content_type="video/mp4", size_bytes=size_bytes, sha256=sha256,
            ttl_s=60, max_bytes=100,
        )  # fmt: skip


def state(db: Database, upload_id: str) -> UploadState:
    with db.reading() as tx:
        return upload_state(get_upload(tx, upload_id), tx.now)


@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_a_stored_upload_can_be_a_jobs_input_at_once(
    steps: Steps, store: LocalStore, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"video")
    upload_id = store_upload(
        steps.db.of_tenant(TENANT), store, path if kind == "file" else b"video", filename="a.mp4",
        content_type="video/mp4", ttl_s=60,
    )  # fmt: skip
    job = steps.submit(video=upload_id)
    assert job.input_key is not None
    assert b"".join(store.open_read(job.input_key)) == b"video"
    assert state(steps.db, upload_id) is UploadState.READY


def test_a_file_larger_than_allowed_is_not_announced(db: Database) -> None:
    with pytest.raises(ObjectTooLargeError, match="101 bytes, at most 100"):
        announce(db, size_bytes=101)


def test_received_content_makes_the_upload_ready(db: Database, store: LocalStore) -> None:
    upload = announce(db)
    assert state(db, upload.id) is UploadState.PENDING
    receive_content(db, store, upload, io.BytesIO(b"video"))
    assert state(db, upload.id) is UploadState.READY


@pytest.mark.parametrize(
    ("content", "sha256", "error"),
    [(b"vid", None, UploadMismatchError), (b"videos", None, ObjectTooLargeError),
     (b"video", "0" * 64, ChecksumMismatchError)],
)  # fmt: skip
def test_other_content_is_refused_and_not_kept(
    db: Database, store: LocalStore, content: bytes, sha256: str | None, error: type[Exception]
) -> None:
    upload = announce(db, sha256=sha256)
    with pytest.raises(error):
        receive_content(db, store, upload, io.BytesIO(content))
    assert state(db, upload.id) is UploadState.PENDING
    assert list(store.list_keys("uploads/")) == []


def test_content_is_accepted_until_it_is_complete_or_the_upload_expires(
    db: Database, store: LocalStore, clock: FakeClock
) -> None:
    upload = announce(db)
    check_accepts_content(upload, clock.time, None)
    check_accepts_content(upload, clock.time, 5)
    with pytest.raises(ObjectTooLargeError):
        check_accepts_content(upload, clock.time, 6)
    receive_content(db, store, upload, io.BytesIO(b"video"))
    with db.reading() as tx:
        complete = get_upload(tx, upload.id)
    with pytest.raises(UploadCompleteError):
        check_accepts_content(complete, clock.time, 5)
    clock.advance(60)
    with pytest.raises(UploadExpiredError):
        check_accepts_content(upload, clock.time, 5)
    assert state(db, upload.id) is UploadState.EXPIRED


def test_content_sent_directly_to_the_store_is_found(db: Database, store: LocalStore, clock: FakeClock) -> None:
    upload = announce(db)
    request = JobRequest(video=upload.id)
    refresh_upload(db, store, upload, clock.time)
    with pytest.raises(RequestInvalidError, match="no content yet"):
        check_upload(db.of_tenant(TENANT), store, request)
    store.put_stream(upload.storage_key, io.BytesIO(b"vid"), content_type="video/mp4", max_bytes=3)
    with pytest.raises(RequestInvalidError, match="3 bytes, announced were 5"):
        check_upload(db.of_tenant(TENANT), store, request)
    assert list(store.list_keys("uploads/")) == []
    store.put_stream(upload.storage_key, io.BytesIO(b"video"), content_type="video/mp4", max_bytes=5)
    check_upload(db.of_tenant(TENANT), store, request)
    assert state(db, upload.id) is UploadState.READY


def test_an_upload_of_another_tenant_is_not_found(db: Database, store: LocalStore) -> None:
    with pytest.raises(RequestInvalidError, match="there is no upload"):
        check_upload(db.of_tenant("another"), store, JobRequest(video=announce(db).id))
