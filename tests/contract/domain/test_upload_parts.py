"""Resumable uploads, on a folder and on a bucket: what is missing is known, and only the whole content counts."""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from jobs.db.database import Database
from jobs.db.tables import Upload
from jobs.doctor.unfinished_writes import own_unfinished_writes
from jobs.errors import (
    RequestInvalidError,
    UploadCompleteError,
    UploadExpiredError,
    UploadIncompleteError,
    UploadMismatchError,
    UploadNotResumableError,
    UploadOffsetError,
)
from jobs.lifecycle import UploadState
from jobs.request import JobRequest
from jobs.service import upload_parts
from jobs.service.retention import UPLOAD_GRACE_S, expire_uploads
from jobs.service.upload_parts import (
    Part,
    complete_parts,
    find_parts,
    part_bytes_for,
    part_url,
    parts_key,
    receive_range,
)
from jobs.service.uploads import announce_upload, check_upload, get_upload, receive_content, upload_state
from jobs.settings import MIB
from jobs.storage.local import LocalStore
from jobs.storage.protocol import ObjectStore
from jobs.storage.s3.client import ClientOptions
from jobs.storage.s3.store import S3Store
from tests.conftest import FakeClock
from tests.contract.domain.conftest import TENANT, Steps
from tests.databases import migrated_postgres, migrated_sqlite

PART = 5 * MIB
CONTENT = b"a" * PART + b"the end"


FOLDER, BUCKET = "sqlite+folder", "postgresql+bucket"
on_folder = pytest.mark.parametrize("kinds", [FOLDER], indirect=True)
on_bucket = pytest.mark.parametrize("kinds", [BUCKET], indirect=True)


@pytest.fixture(params=[FOLDER, BUCKET])
def kinds(request: pytest.FixtureRequest) -> str:
    """The database and the store: each kind of both, but not every pair, as parts of a bucket are large."""
    return str(request.param)


@pytest.fixture
def migrated_url(kinds: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if kinds == FOLDER:
        yield migrated_sqlite(tmp_path / "mmaudio.db")
    else:
        with migrated_postgres(request.getfixturevalue("postgres_uri")) as url:
            yield url


@pytest.fixture
def store(kinds: str, request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if kinds == FOLDER:
        return LocalStore(tmp_path / "objects")
    endpoint = request.getfixturevalue("s3_endpoint")
    bucket = f"bucket-{uuid.uuid4().hex}"
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=bucket)
    return S3Store(f"s3://{bucket}/some/prefix", ClientOptions(endpoint, addressing_style="path"))


def announce(db: Database, content: bytes = CONTENT, **fields: Any) -> Upload:
    given = {"sha256": hashlib.sha256(content).hexdigest(), "ttl_s": 60, "part_bytes": PART, **fields}
    with db.of_tenant(TENANT).transaction() as tx:
        return announce_upload(tx, filename="a.mp4", content_type="video/mp4", size_bytes=len(content), **given)


def fresh(db: Database, upload: Upload) -> Upload:
    with db.reading() as tx:
        return get_upload(tx, upload.id)


def send(db: Database, store: ObjectStore, upload: Upload, part: Part, content: bytes = CONTENT) -> None:
    """Send a part as a client does."""
    data = content[part.start : part.end]
    url = part_url(store, fresh(db, upload), part, expires_s=60)
    if url is None:
        receive_range(db, store, fresh(db, upload), io.BytesIO(data), start=part.start, end=part.end)
    else:
        assert httpx.put(url, content=data).status_code == 200


def send_all(db: Database, store: ObjectStore, upload: Upload, content: bytes = CONTENT) -> None:
    for part in find_parts(db, store, fresh(db, upload)).missing:
        send(db, store, upload, part, content)


def state(db: Database, upload: Upload) -> UploadState:
    with db.reading() as tx:
        return upload_state(get_upload(tx, upload.id), tx.now)


def content_of(db: Database, store: ObjectStore, upload: Upload) -> bytes:
    return b"".join(store.open_read(fresh(db, upload).storage_key))


def test_missing_parts_are_known_until_all_are_there(db: Database, store: ObjectStore) -> None:
    upload = announce(db)
    parts = find_parts(db, store, upload)
    whole = [Part(1, 0, PART), Part(2, PART, len(CONTENT))]
    assert (parts.received, parts.received_bytes, parts.missing, parts.part_count) == ([], 0, whole, 2)
    send(db, store, upload, whole[0])
    parts = find_parts(db, store, fresh(db, upload))
    assert (parts.received, parts.received_bytes, parts.missing) == ([1], PART, [whole[1]])
    with pytest.raises(UploadIncompleteError):
        complete_parts(db, store, fresh(db, upload))
    with pytest.raises(RequestInvalidError, match=r"of 2 parts|bytes; send"):
        check_upload(db, store, JobRequest(video=upload.id))
    send(db, store, upload, whole[1])
    for _ in range(2):
        complete_parts(db, store, fresh(db, upload))
    assert (state(db, upload), content_of(db, store, upload)) == (UploadState.READY, CONTENT)
    parts = find_parts(db, store, fresh(db, upload))
    assert (parts.received, parts.received_bytes, parts.missing) == ([1, 2], len(CONTENT), [])
    assert list(store.unfinished_writes(older_than_s=-60)) == []


def test_a_job_may_name_an_upload_whose_parts_are_all_there(steps: Steps, store: ObjectStore) -> None:
    upload = announce(steps.db, sha256=None)
    send_all(steps.db, store, upload)
    check_upload(steps.db, store, JobRequest(video=upload.id))
    assert steps.submit(video=upload.id).input_key == fresh(steps.db, upload).storage_key


def test_other_content_than_announced_is_not_kept_and_can_be_sent_again(db: Database, store: ObjectStore) -> None:
    upload = announce(db)
    with pytest.raises(UploadMismatchError):
        send_all(db, store, upload, CONTENT[:-1] + b"X")
        complete_parts(db, store, fresh(db, upload))
    assert (state(db, upload), list(store.list_keys(""))) == (UploadState.PENDING, [])
    assert find_parts(db, store, fresh(db, upload)).received == []
    send_all(db, store, upload)
    complete_parts(db, store, fresh(db, upload))
    assert content_of(db, store, upload) == CONTENT


def test_a_completion_whose_record_was_lost_is_repeated(
    db: Database, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = announce(db)

    def lost(*_: Any) -> None:
        raise ConnectionError

    with monkeypatch.context() as patched, pytest.raises(ConnectionError):
        patched.setattr(upload_parts, "publish_write", lost)
        send_all(db, store, upload)
        complete_parts(db, store, fresh(db, upload))
    assert state(db, upload) is UploadState.PENDING
    if store.part_writes is not None:
        # The test's server answers 500 for a write that is finished where S3 says that there is none.
        assert store.head(parts_key(upload.id)).size_bytes == len(CONTENT)
    complete_parts(db, store, fresh(db, upload))
    assert (state(db, upload), content_of(db, store, upload)) == (UploadState.READY, CONTENT)


def test_what_never_became_whole_goes_with_its_upload(db: Database, clock: FakeClock, store: ObjectStore) -> None:
    upload = announce(db)
    send(db, store, upload, find_parts(db, store, upload).missing[0])
    assert len(list(store.unfinished_writes(older_than_s=-60))) == 1
    clock.advance(61)
    with pytest.raises((UploadExpiredError, UploadIncompleteError)):
        complete_parts(db, store, fresh(db, upload))
    clock.advance(UPLOAD_GRACE_S + 1)
    assert expire_uploads(db, store) == 1
    assert list(store.unfinished_writes(older_than_s=-60)) == []


def test_the_doctor_leaves_parts_alone_until_their_upload_has_expired(
    db: Database, clock: FakeClock, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.doctor.unfinished_writes.UNFINISHED_AFTER_S", -60.0)
    upload = announce(db)
    send(db, store, upload, find_parts(db, store, upload).missing[0])
    assert list(own_unfinished_writes(db, store)) == []
    clock.advance(61)
    assert len(list(own_unfinished_writes(db, store))) == 1


def test_an_upload_that_was_announced_as_one_whole_has_no_parts(db: Database, store: ObjectStore) -> None:
    upload = announce(db, part_bytes=None)
    with pytest.raises(UploadNotResumableError):
        find_parts(db, store, upload)
    with pytest.raises((UploadNotResumableError, UploadIncompleteError)):
        complete_parts(db, store, upload)


def test_content_sent_as_one_whole_wins_over_parts(db: Database, store: ObjectStore) -> None:
    upload = announce(db)
    send(db, store, upload, find_parts(db, store, upload).missing[0])
    receive_content(db, store, fresh(db, upload), io.BytesIO(CONTENT))
    assert content_of(db, store, upload) == CONTENT
    assert find_parts(db, store, fresh(db, upload)).missing == []


def test_parts_are_larger_where_there_would_be_too_many() -> None:
    assert part_bytes_for(10, 16 * MIB) == 16 * MIB
    large = part_bytes_for(10**13, 16 * MIB)
    assert 10**13 / large <= 10_000
    assert large % MIB == 0


@on_folder
def test_ranges_are_taken_in_order_only(db: Database, store: ObjectStore) -> None:
    upload = announce(db, b"abcdef")
    assert receive_range(db, store, upload, io.BytesIO(b"abc"), start=0, end=3) == 3
    for start in (0, 2, 4):
        with pytest.raises(UploadOffsetError) as caught:
            receive_range(db, store, upload, io.BytesIO(b"ef"), start=start, end=start + 2)
        assert caught.value.offset == 3
    (rest,) = find_parts(db, store, upload).missing
    assert rest == Part(1, 3, 6), "a part that is not whole goes on where its bytes end"
    assert receive_range(db, store, upload, io.BytesIO(b"def"), start=3, end=6) == 6
    assert content_of(db, store, upload) == b"abcdef"


@on_folder
def test_a_range_whose_answer_was_lost_is_accepted_again_if_it_is_the_same(db: Database, store: ObjectStore) -> None:
    upload = announce(db, b"abcdef")
    receive_range(db, store, upload, io.BytesIO(b"abcdef"), start=0, end=6)
    ready = fresh(db, upload)
    assert receive_range(db, store, ready, io.BytesIO(b"def"), start=3, end=6) == 6
    for other in (b"deX", b"de", b""):
        with pytest.raises(UploadCompleteError):
            receive_range(db, store, ready, io.BytesIO(other), start=3, end=6)


@on_bucket
def test_parts_may_come_in_any_order_and_one_of_another_size_is_missing(db: Database, store: ObjectStore) -> None:
    upload = announce(db)
    first, last = find_parts(db, store, upload).missing
    send(db, store, upload, last)
    send(db, store, upload, replace(first, end=first.end - 1))
    parts = find_parts(db, store, fresh(db, upload))
    assert (parts.received, parts.missing) == ([2], [first])
    send(db, store, upload, first)
    complete_parts(db, store, fresh(db, upload))
    assert content_of(db, store, upload) == CONTENT


@on_bucket
def test_parts_that_the_bucket_has_removed_are_sent_again(db: Database, store: ObjectStore) -> None:
    upload = announce(db)
    send_all(db, store, upload)
    (write,) = store.unfinished_writes(older_than_s=-60)
    write.discard()
    with pytest.raises(UploadIncompleteError):
        complete_parts(db, store, fresh(db, upload))
    assert len(find_parts(db, store, fresh(db, upload)).missing) == 2
    send_all(db, store, upload)
    complete_parts(db, store, fresh(db, upload))
    assert content_of(db, store, upload) == CONTENT


@on_bucket
def test_two_calls_that_begin_at_once_use_one_write(db: Database, store: ObjectStore) -> None:
    upload = announce(db)
    first, second = fresh(db, upload), fresh(db, upload)
    find_parts(db, store, first)
    find_parts(db, store, second)
    assert first.write_id == second.write_id == fresh(db, upload).write_id
    assert len(list(store.unfinished_writes(older_than_s=-60))) == 1


@on_bucket
def test_a_bucket_takes_no_ranges_through_the_api(db: Database, store: ObjectStore) -> None:
    with pytest.raises(UploadNotResumableError):
        receive_range(db, store, announce(db), io.BytesIO(b"a"), start=0, end=1)
