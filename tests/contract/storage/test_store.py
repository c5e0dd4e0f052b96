"""What every store must do, on every store."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import boto3
import httpx
import pytest

from jobs.storage.errors import (
    ChecksumMismatchError,
    InvalidKeyError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectNotFoundError,
    ObjectTooLargeError,
    StorageError,
    StorageUnavailableError,
)
from jobs.storage.local import LocalStore
from jobs.storage.protocol import ObjectStore
from jobs.storage.s3.client import ClientOptions
from jobs.storage.s3.store import S3Store


def put(store: ObjectStore, key: str, data: bytes) -> str:
    return store.put_stream(key, io.BytesIO(data), content_type="video/mp4", max_bytes=len(data)).key


def read(store: ObjectStore, key: str, **window: int) -> bytes:
    return b"".join(store.open_read(key, **window))


def test_what_was_put_comes_back_with_its_metadata(store: ObjectStore, tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"hello")
    metadata = store.put_file("a/b.flac", path, content_type="audio/flac", user_metadata={"mmaudio-job-id": "job_1"})
    assert metadata == store.head("a/b.flac")
    assert (metadata.size_bytes, metadata.content_type) == (5, "audio/flac")
    assert metadata.sha256 == hashlib.sha256(b"hello").hexdigest()
    assert metadata.user_metadata == {"mmaudio-job-id": "job_1"}
    assert read(store, "a/b.flac") == b"hello"


def test_a_window_of_the_bytes_can_be_read(store: ObjectStore) -> None:
    put(store, "k", b"0123456789")
    assert read(store, "k", start=3) == b"3456789"
    assert read(store, "k", start=3, end=5) == b"34"


@pytest.mark.parametrize(
    "key",
    ["a b.mp4", "plus+plus.mp4", "ünï/日本.mp4", "100%.mp4", "%2e%2e/x", "quote'\".mp4", "-x", "~"],
)
def test_any_text_is_a_key(store: ObjectStore, key: str) -> None:
    put(store, key, b"x")
    assert read(store, key) == b"x"
    assert list(store.list_keys("")) == [key]


def test_a_key_may_hold_a_line_break(tmp_path: Path) -> None:
    # The folder only: moto's routes do not match a line break, real S3's do.
    store = LocalStore(tmp_path)
    put(store, "line\nbreak", b"x")
    assert list(store.list_keys("")) == ["line\nbreak"]


@pytest.mark.parametrize("key", ["", "..", "a/../b", "/a", "a//b", "a/", ".", "a\x00b", "x" * 1025])
def test_keys_that_could_leave_the_store_are_refused(store: ObjectStore, key: str) -> None:
    with pytest.raises(InvalidKeyError):
        put(store, key, b"x")


def test_a_missing_object_is_said_by_every_reader(store: ObjectStore, tmp_path: Path) -> None:
    for attempt in (
        lambda: store.head("missing"),
        lambda: store.open_read("missing"),
        lambda: store.download_to("missing", tmp_path / "x"),
    ):
        with pytest.raises(ObjectNotFoundError):
            attempt()


def test_of_exclusive_writers_one_wins(store: ObjectStore, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x")

    def write(_: int) -> bool:
        try:
            store.put_file("k", path, content_type="a/b", if_absent=True)
        except ObjectExistsError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(write, range(8))) == 1


def test_a_write_replaces_as_a_whole_while_others_read(store: ObjectStore) -> None:
    values = {bytes([n]) * 100_000 for n in range(4)}
    put(store, "k", next(iter(values)))
    with ThreadPoolExecutor(4) as pool:
        writes = [pool.submit(put, store, "k", value) for value in values]
        assert all(read(store, "k") in values for _ in range(10))
        [write.result() for write in writes]


def test_too_many_bytes_stop_the_stream_and_leave_nothing(store: ObjectStore) -> None:
    with pytest.raises(ObjectTooLargeError):
        store.put_stream("k", io.BytesIO(b"x" * 11), content_type="a/b", max_bytes=10)
    assert list(store.list_keys("")) == []


def test_other_bytes_than_announced_leave_nothing(store: ObjectStore) -> None:
    with pytest.raises(ChecksumMismatchError):
        store.put_stream("k", io.BytesIO(b"x"), content_type="a/b", max_bytes=10, sha256="0" * 64)
    assert list(store.list_keys("")) == []


def test_a_large_object_goes_up_and_down_whole(store: ObjectStore, tmp_path: Path) -> None:
    data = os.urandom(12 * 1024 * 1024 + 17)
    (tmp_path / "up").write_bytes(data)
    store.put_file("big", tmp_path / "up", content_type="a/b")
    store.download_to("big", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == data


def test_a_download_larger_than_allowed_is_refused_before_it_begins(store: ObjectStore, tmp_path: Path) -> None:
    put(store, "k", b"0123456789")
    with pytest.raises(ObjectTooLargeError):
        store.download_to("k", tmp_path / "x", max_bytes=9)
    assert not (tmp_path / "x").exists()


def test_a_damaged_object_is_noticed(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"good")
    store.put_file("k", tmp_path / "a", content_type="a/b")
    if isinstance(store, LocalStore):
        next((tmp_path / "store" / "objects").iterdir()).write_bytes(b"evil")
    else:
        assert isinstance(store, S3Store)
        kept = store._client.head_object(Bucket=store._bucket, Key=store._full("k"))["Metadata"]
        store._client.put_object(Bucket=store._bucket, Key=store._full("k"), Body=b"evil", Metadata=kept)
    with pytest.raises(ChecksumMismatchError):
        store.download_to("k", tmp_path / "b")


def test_delete_is_idempotent_and_list_sees_only_the_prefix(store: ObjectStore) -> None:
    for key in ("jobs/1/a", "jobs/1/b", "jobs/10/a"):
        put(store, key, b"x")
    assert list(store.list_keys("jobs/1/")) == ["jobs/1/a", "jobs/1/b"]
    store.delete(["jobs/1/a", "jobs/1/a", "missing"])
    assert list(store.list_keys("")) == ["jobs/1/b", "jobs/10/a"]


def test_a_usable_store_passes_its_check(store: ObjectStore) -> None:
    store.check()


def test_a_bucket_that_does_not_answer_is_said_within_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    dead = S3Store("s3://bucket", ClientOptions("http://127.0.0.1:9", "us-east-1"))
    for attempt in (dead.check, lambda: dead.head("k"), lambda: dead.download_to("k", tmp_path / "x")):
        with pytest.raises(StorageUnavailableError):
            attempt()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageUnavailableError):
        LocalStore(tmp_path / "file").check()


def test_presigned_links_give_the_bytes_under_the_wanted_name(s3_store: S3Store) -> None:
    put(s3_store, "k", b"hello")
    url = s3_store.presigned_get("k", expires_s=60, filename="my ünï.flac", content_type="audio/flac")
    assert url is not None
    answer = httpx.get(url)
    assert (answer.content, answer.headers["content-type"]) == (b"hello", "audio/flac")
    assert "filename*=UTF-8''my%20%C3%BCn%C3%AF.flac" in answer.headers["content-disposition"]


def test_a_presigned_form_takes_the_announced_file_under_its_exact_key(s3_store: S3Store) -> None:
    target = s3_store.upload_target(
        "uploads/u/content", size_bytes=5, content_type="video/mp4", sha256=None, expires_s=60, now=datetime.now(UTC)
    )
    assert target is not None
    answer = httpx.post(target.url, data=dict(target.fields), files={"file": ("x.mp4", b"hello")})
    assert answer.is_success
    assert s3_store.head("uploads/u/content").size_bytes == 5


def test_the_forms_policy_names_key_size_and_type(s3_store: S3Store) -> None:
    # moto enforces no policy, so the policy itself is looked at.
    import base64
    import json

    target = s3_store.upload_target(
        "uploads/u/content", size_bytes=5, content_type="video/mp4", sha256=None, expires_s=60, now=datetime.now(UTC)
    )
    assert target is not None
    policy = json.loads(base64.b64decode(target.fields["policy"]))
    assert ["content-length-range", 5, 5] in policy["conditions"]
    assert {"key": "uploads/u/content"} in policy["conditions"]
    assert {"Content-Type": "video/mp4"} in policy["conditions"]


def test_objects_of_another_bucket_can_be_copied(s3_store: S3Store, s3_endpoint: str, tmp_path: Path) -> None:
    client = boto3.client("s3", endpoint_url=s3_endpoint)
    client.create_bucket(Bucket="inbox")
    client.put_object(Bucket="inbox", Key="red flower+ü%.mp4", Body=b"video")
    s3_store.download_from("inbox", "red flower+ü%.mp4", tmp_path / "x", max_bytes=5)
    assert (tmp_path / "x").read_bytes() == b"video"
    for bucket in ("inbox", "no-such-bucket"):
        with pytest.raises(StorageError, match="there is no such "):
            s3_store.download_from(bucket, "missing", tmp_path / "y")


def test_a_copy_is_of_one_version_and_stays_when_the_source_changes(store: ObjectStore) -> None:
    put(store, "a/sent", b"hello")
    etag = store.head("a/sent").etag
    copied = store.copy("a/sent", "b/kept", etag=etag, content_type="image/png")
    assert (copied.key, copied.size_bytes, copied.content_type) == ("b/kept", 5, "image/png")
    assert copied.sha256 == hashlib.sha256(b"hello").hexdigest()
    put(store, "a/sent", b"other")
    store.delete(["a/sent"])
    assert read(store, "b/kept") == b"hello"
    with pytest.raises(ObjectNotFoundError):
        store.copy("a/sent", "b/more", etag=etag, content_type="image/png")


def test_a_large_object_is_copied_in_parts(s3_store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.storage.s3.copy.MAX_COPY_BYTES", 6 * 1024 * 1024)
    monkeypatch.setattr("jobs.storage.s3.copy.PART_BYTES", 5 * 1024 * 1024)
    data = os.urandom(12 * 1024 * 1024 + 17)
    put(s3_store, "sent", data)
    copied = s3_store.copy("sent", "kept", etag=s3_store.head("sent").etag, content_type="a/b")
    assert (copied.size_bytes, copied.sha256) == (len(data), None)  # the server hashes parts only
    assert read(s3_store, "kept") == data


def test_a_folder_without_hard_links_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    store = LocalStore(tmp_path)
    put(store, "sent", b"hello")
    store.copy("sent", "kept", etag=store.head("sent").etag, content_type="a/b")
    assert read(store, "kept") == b"hello"
    assert list(store.unfinished_writes(older_than_s=-60)) == []
    with pytest.raises(ObjectChangedError):
        store.copy("sent", "more", etag="another", content_type="a/b")
