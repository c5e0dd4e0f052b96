"""Many writers of one upload: what becomes `ready` is whole, and nothing changes it any more."""

from __future__ import annotations

import hashlib
import io
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import httpx
import pytest

from jobs.db.database import Database
from jobs.db.tables import Upload
from jobs.errors import RequestInvalidError, UploadCompleteError, UploadExpiredError, UploadMismatchError
from jobs.lifecycle import UploadState
from jobs.request import JobRequest
from jobs.service.retention import UPLOAD_GRACE_S, expire_uploads
from jobs.service.upload_content import accept_direct_content, direct_key, new_write_key
from jobs.service.uploads import (
    announce_upload,
    check_upload,
    get_upload,
    mark_upload_missing,
    receive_content,
    refresh_upload,
    upload_state,
)
from jobs.storage.errors import StorageError, StorageUnavailableError
from jobs.storage.local import LocalStore
from jobs.storage.protocol import ObjectStore, UploadTarget
from jobs.storage.s3.client import ClientOptions
from jobs.storage.s3.store import S3Store
from tests.conftest import FakeClock
from tests.contract.domain.conftest import TENANT

SIZE = 5000
GOOD = bytes(range(250)) * 20
WRITERS = 20
PATIENCE_S = 60


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    if request.param == "local":
        yield LocalStore(tmp_path / "store")
    else:
        yield bucket_store(request.getfixturevalue("s3_endpoint"))


@pytest.fixture
def s3_store(s3_endpoint: str) -> S3Store:
    return bucket_store(s3_endpoint)


def bucket_store(endpoint: str) -> S3Store:
    bucket = f"bucket-{uuid.uuid4().hex}"
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=bucket)
    return S3Store(f"s3://{bucket}/p", ClientOptions(endpoint, addressing_style="path"))


def announce(db: Database, *, content: bytes = GOOD, with_hash: bool = True) -> Upload:
    with db.of_tenant(TENANT).transaction() as tx:
        return announce_upload(
            tx, filename="a.mp4", content_type="video/mp4", size_bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest() if with_hash else None, ttl_s=60,
        )  # fmt: skip


def row(db: Database, upload_id: str) -> tuple[UploadState, str]:
    with db.reading() as tx:
        upload = get_upload(tx, upload_id)
        return upload_state(upload, tx.now), upload.storage_key


def keys(store: ObjectStore) -> list[str]:
    return list(store.list_keys("uploads/"))


def content_of(db: Database, store: ObjectStore, upload: Upload) -> bytes:
    """Return the content of an upload that is `ready`."""
    state, key = row(db, upload.id)
    assert state is UploadState.READY
    return b"".join(store.open_read(key))


class CutError(Exception):
    """What the server's side of a connection raises that broke off."""


class Body(io.RawIOBase):
    """A body that waits for `released` before its last byte, then ends or breaks off."""

    def __init__(self, data: bytes, *, released: threading.Event | None = None, cut: bool = False) -> None:
        self._data, self._released, self._cut = io.BytesIO(data), released, cut
        self.stalled = threading.Event()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        chunk = self._data.read(min(size, SIZE // 3) if size > 0 else SIZE // 3)
        if chunk:
            return chunk
        self.stalled.set()
        if self._released is not None:
            assert self._released.wait(PATIENCE_S)
        if self._cut:
            raise CutError
        return b""


def test_a_writer_that_stalls_and_breaks_off_changes_nothing_of_what_another_completed(
    db: Database, store: ObjectStore
) -> None:
    upload, released = announce(db), threading.Event()
    stalling = Body(GOOD[:3000], released=released, cut=True)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(receive_content, db, store, upload, stalling)
        assert stalling.stalled.wait(PATIENCE_S)
        receive_content(db, store, upload, io.BytesIO(GOOD))
        released.set()
        with pytest.raises(CutError):
            first.result()
    assert content_of(db, store, upload) == GOOD
    assert keys(store) == [row(db, upload.id)[1]]


@pytest.mark.parametrize("late", [GOOD, bytes(SIZE)], ids=["the same", "other bytes"])
def test_a_writer_that_stalls_and_comes_second_overwrites_nothing(
    db: Database, store: ObjectStore, late: bytes
) -> None:
    upload, released = announce(db, with_hash=isinstance(store, S3Store) and late == GOOD), threading.Event()
    stalling = Body(late, released=released)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(receive_content, db, store, upload, stalling)
        assert stalling.stalled.wait(PATIENCE_S)
        receive_content(db, store, upload, io.BytesIO(GOOD))
        before = row(db, upload.id)
        released.set()
        if late == GOOD:
            second.result()
        else:
            with pytest.raises(UploadCompleteError):
                second.result()
    assert row(db, upload.id) == before
    assert content_of(db, store, upload) == GOOD
    assert keys(store) == [before[1]]


@pytest.mark.parametrize("with_hash", [True, False])
def test_of_twenty_writers_of_every_kind_one_whole_content_appears(
    db: Database, store: ObjectStore, with_hash: bool
) -> None:
    upload = announce(db, with_hash=with_hash)
    whole = {GOOD} if with_hash else {GOOD, *(bytes([n]) * SIZE for n in range(WRITERS))}
    begin = threading.Barrier(WRITERS)

    def write(number: int) -> bool:
        kinds = [
            lambda: Body(GOOD),
            lambda: Body(GOOD[: number * 100], cut=True),
            lambda: Body(GOOD[:-1]),
            lambda: Body(bytes([number]) * SIZE),
        ]
        begin.wait(PATIENCE_S)
        try:
            receive_content(db, store, upload, kinds[number % len(kinds)]())
        except (CutError, UploadMismatchError, UploadCompleteError, StorageError):
            return False
        return True

    with ThreadPoolExecutor(WRITERS) as pool:
        succeeded = sum(pool.map(write, range(WRITERS)))
    assert succeeded >= 1
    assert content_of(db, store, upload) in whole
    assert keys(store) == [row(db, upload.id)[1]]


def test_the_same_bytes_once_more_are_accepted_and_others_are_not(db: Database, store: ObjectStore) -> None:
    announced = announce(db)
    receive_content(db, store, announced, io.BytesIO(GOOD))
    with db.reading() as tx:
        upload = get_upload(tx, announced.id)
    receive_content(db, store, upload, io.BytesIO(GOOD))
    for other in (bytes(SIZE), GOOD[:-1], GOOD + b"x"):
        with pytest.raises(UploadCompleteError):
            receive_content(db, store, upload, io.BytesIO(other))
    assert content_of(db, store, upload) == GOOD
    assert keys(store) == [upload.storage_key]


@pytest.mark.parametrize("end", ["expired", "deleted"])
def test_a_write_that_ends_after_its_upload_is_not_published(
    db: Database, store: ObjectStore, clock: FakeClock, end: str
) -> None:
    upload = announce(db)

    class Late(Body):
        def read(self, size: int = -1) -> bytes:
            chunk = super().read(size)
            if not chunk and end == "expired":
                clock.advance(60 + UPLOAD_GRACE_S + 1)
                assert expire_uploads(db, store) == 1
            elif not chunk:
                db.run(lambda tx: mark_upload_missing(tx, upload.id), repeatable=True)
            return chunk

    with pytest.raises(UploadExpiredError):
        receive_content(db, store, upload, Late(GOOD))
    assert row(db, upload.id)[0] is UploadState.EXPIRED
    assert keys(store) == []


def test_what_a_killed_writer_left_is_no_content_and_goes_when_the_upload_expires(
    db: Database, store: ObjectStore, clock: FakeClock
) -> None:
    upload = announce(db)
    store.put_stream(new_write_key(upload.id), io.BytesIO(GOOD), content_type="video/mp4", max_bytes=SIZE)
    refresh_upload(db, store, upload, clock.time)
    assert row(db, upload.id)[0] is UploadState.PENDING
    receive_content(db, store, upload, io.BytesIO(GOOD))
    assert content_of(db, store, upload) == GOOD
    clock.advance(60 + UPLOAD_GRACE_S + 1)
    assert expire_uploads(db, store) == 1
    assert keys(store) == []


def test_a_database_that_fails_leaves_the_upload_as_it_was(
    db: Database, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = announce(db)
    with monkeypatch.context() as patch:
        patch.setattr(Database, "run", away)
        with pytest.raises(ConnectionError):
            receive_content(db, store, upload, io.BytesIO(GOOD))
    assert row(db, upload.id)[0] is UploadState.PENDING
    receive_content(db, store, upload, io.BytesIO(GOOD))
    assert content_of(db, store, upload) == GOOD


def away(*_: object, **__: object) -> None:
    raise ConnectionError


# Content that callers send directly to the store.


def form_of(store: S3Store, upload: Upload, clock: FakeClock) -> UploadTarget:
    target = store.upload_target(
        upload.storage_key, size_bytes=upload.size_bytes, content_type=upload.content_type, sha256=upload.sha256,
        expires_s=60, now=clock.time,
    )  # fmt: skip
    assert target is not None
    return target


def post(target: UploadTarget, data: bytes) -> None:
    assert httpx.post(target.url, data=dict(target.fields), files={"file": ("x.mp4", data)}).is_success


def test_a_form_that_is_used_again_changes_nothing_that_a_job_reads(
    db: Database, s3_store: S3Store, clock: FakeClock
) -> None:
    upload = announce(db)
    form = form_of(s3_store, upload, clock)
    post(form, GOOD)
    check_upload(db.of_tenant(TENANT), s3_store, JobRequest(video=upload.id))
    state = row(db, upload.id)
    post(form, bytes(SIZE))
    check_upload(db.of_tenant(TENANT), s3_store, JobRequest(video=upload.id))
    refresh_upload(db, s3_store, upload, clock.time)
    assert row(db, upload.id) == state
    assert content_of(db, s3_store, upload) == GOOD
    clock.advance(60 + UPLOAD_GRACE_S + 1)
    assert expire_uploads(db, s3_store) == 1
    assert keys(s3_store) == []


def test_the_announced_hash_is_part_of_the_form(db: Database, s3_store: S3Store, clock: FakeClock) -> None:
    fields = form_of(s3_store, announce(db), clock).fields
    assert fields["x-amz-checksum-algorithm"] == "SHA256"
    assert len(fields["x-amz-checksum-sha256"]) == 44
    assert "x-amz-checksum-sha256" not in form_of(s3_store, announce(db, with_hash=False), clock).fields


@pytest.mark.parametrize("computes", [True, False], ids=["the server hashes", "the server does not hash"])
def test_other_bytes_of_the_announced_size_are_refused(
    db: Database, s3_store: S3Store, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, computes: bool
) -> None:
    if not computes:
        monkeypatch.setattr("jobs.storage.s3.copy._hexadecimal", lambda _: None)
    upload = announce(db)
    form = form_of(s3_store, upload, clock)
    post(form, bytes(SIZE))
    for _ in range(2):
        with pytest.raises(RequestInvalidError):
            check_upload(db.of_tenant(TENANT), s3_store, JobRequest(video=upload.id))
    assert row(db, upload.id)[0] is UploadState.PENDING
    assert keys(s3_store) == []
    post(form, GOOD)
    check_upload(db.of_tenant(TENANT), s3_store, JobRequest(video=upload.id))
    assert content_of(db, s3_store, upload) == GOOD


def test_content_that_is_replaced_while_it_is_checked_is_never_half_checked(
    db: Database, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = announce(db)
    put(store, direct_key(upload.id), GOOD)
    copy: Callable[..., object] = store.copy

    def replaced_first(*arguments: str, **more: str) -> object:
        put(store, direct_key(upload.id), bytes(SIZE))
        return copy(*arguments, **more)

    monkeypatch.setattr(store, "copy", replaced_first)
    with pytest.raises((UploadMismatchError, StorageError)):
        accept_direct_content(db, store, upload)
    assert row(db, upload.id)[0] is UploadState.PENDING


def put(store: ObjectStore, key: str, data: bytes) -> None:
    store.put_stream(key, io.BytesIO(data), content_type="video/mp4", max_bytes=len(data))


def test_of_many_checks_at_once_all_find_it_ready_and_one_object_stays(db: Database, store: ObjectStore) -> None:
    upload = announce(db)
    put(store, direct_key(upload.id), GOOD)
    begin = threading.Barrier(WRITERS)

    def check(_: int) -> None:
        begin.wait(PATIENCE_S)
        check_upload(db.of_tenant(TENANT), store, JobRequest(video=upload.id))

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(check, range(WRITERS)))
    assert content_of(db, store, upload) == GOOD
    assert keys(store) == [row(db, upload.id)[1]]


def test_a_check_that_breaks_between_copy_and_commit_is_made_again(
    db: Database, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = announce(db)
    put(store, direct_key(upload.id), GOOD)

    def breaks(*_: object, **__: object) -> None:
        raise StorageUnavailableError("killed", "test")

    with monkeypatch.context() as patch:
        patch.setattr("jobs.service.upload_content.publish_write", breaks)
        with pytest.raises(StorageUnavailableError):
            accept_direct_content(db, store, upload)
    assert row(db, upload.id)[0] is UploadState.PENDING
    accept_direct_content(db, store, upload)
    assert content_of(db, store, upload) == GOOD
