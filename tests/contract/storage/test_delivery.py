"""Delivery to a caller's own bucket: each file once, whoever dies or comes late."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import pytest

from jobs.storage.delivery import Delivery, KeyTakenError, SupersededError
from jobs.storage.errors import StorageError, WriteRefusedError
from jobs.storage.s3.client import ClientOptions
from jobs.storage.s3.store import S3Store
from local_services.faulty_http import Fault, FaultSchedule, faulty_proxy

JOB = "job_1"


@dataclass
class Bucket:
    store: S3Store
    name: str
    folder: Path
    files: dict[str, Path] = field(default_factory=dict)

    def delivery(self, attempt: int, job_id: str = JOB) -> Delivery:
        return Delivery(self.store, f"s3://{self.name}/out put/", job_id=job_id, attempt=attempt)

    def file(self, text: str) -> Path:
        path = self.folder / text
        path.write_text(text)
        return path

    def put(self, delivery: Delivery, text: str) -> str:
        return delivery.put("audio.flac", self.file(text), content_type="audio/flac")

    def there(self) -> dict[str, bytes]:
        return {key: b"".join(self.store.open_read(key)) for key in self.store.list_keys("")}


KEY = f"out put/{JOB}/audio.flac"


@pytest.fixture
def bucket(s3_endpoint: str, tmp_path: Path) -> Bucket:
    name = f"theirs-{uuid.uuid4().hex}"
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket=name)
    return Bucket(S3Store(f"s3://{name}", ClientOptions(s3_endpoint, addressing_style="path")), name, tmp_path)


def test_a_file_lies_below_the_jobs_id_and_says_whose_it_is(bucket: Bucket) -> None:
    assert bucket.put(bucket.delivery(2), "sound") == f"s3://{bucket.name}/{KEY}"
    assert bucket.there() == {KEY: b"sound"}
    metadata = bucket.store.head(KEY)
    assert metadata.user_metadata == {"mmaudio-job-id": JOB, "mmaudio-attempt": "2"}
    assert metadata.content_type == "audio/flac"


def test_a_later_attempt_replaces_what_a_dead_one_left(bucket: Bucket) -> None:
    bucket.put(bucket.delivery(1), "first")
    bucket.put(bucket.delivery(2), "second")
    assert bucket.there() == {KEY: b"second"}


def test_an_attempt_that_comes_back_from_the_dead_changes_nothing(bucket: Bucket) -> None:
    late = bucket.delivery(1)
    bucket.put(bucket.delivery(2), "second")
    with pytest.raises(SupersededError):
        bucket.put(late, "late")
    late.withdraw()
    assert bucket.there() == {KEY: b"second"}


def test_a_write_that_was_under_way_meanwhile_loses(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """The late attempt has looked, and is frozen before it writes; the new one delivers; the late one wakes up."""
    bucket.put(bucket.delivery(1), "first")
    late, new = bucket.delivery(2), bucket.delivery(3)
    looked = late._etag_to_replace

    def look_then_freeze(key: str, path: Path) -> str | None:
        etag = looked(key, path)
        monkeypatch.setattr(late, "_etag_to_replace", looked)
        bucket.put(new, "third")
        return etag

    monkeypatch.setattr(late, "_etag_to_replace", look_then_freeze)
    with pytest.raises(SupersededError):
        bucket.put(late, "second")
    assert bucket.there() == {KEY: b"third"}


def test_somebody_elses_object_is_left_as_it_is(bucket: Bucket) -> None:
    bucket.store.put_file(KEY, bucket.file("theirs"), content_type="text/plain")
    delivery = bucket.delivery(1)
    with pytest.raises(KeyTakenError, match="not of this job"):
        bucket.put(delivery, "ours")
    delivery.withdraw()
    assert bucket.there() == {KEY: b"theirs"}


def test_a_delivery_whose_job_comes_to_nothing_is_withdrawn(bucket: Bucket) -> None:
    delivery = bucket.delivery(1)
    bucket.put(delivery, "ours")
    delivery.withdraw()
    delivery.withdraw()
    assert bucket.there() == {}


def test_what_a_dead_attempt_delivered_is_withdrawn_and_nothing_else(bucket: Bucket) -> None:
    bucket.put(bucket.delivery(1), "dead")
    bucket.delivery(1).put("video.mp4", bucket.file("dead too"), content_type="video/mp4")
    bucket.put(bucket.delivery(2), "alive")
    bucket.put(bucket.delivery(1, "job_10"), "of another job")
    bucket.store.put_file(f"out put/{JOB}/notes.txt", bucket.file("theirs"), content_type="text/plain")
    assert bucket.delivery(1).withdraw_abandoned() == 1
    assert bucket.delivery(1).withdraw_abandoned() == 0
    assert sorted(bucket.there().values()) == [b"alive", b"of another job", b"theirs"]


def test_delivering_the_same_file_twice_is_delivering_it_once(bucket: Bucket) -> None:
    delivery = bucket.delivery(1)
    assert bucket.put(delivery, "ours") == bucket.put(delivery, "ours")
    assert bucket.there() == {KEY: b"ours"}


def test_a_lost_answer_is_no_clash(bucket: Bucket, s3_endpoint: str) -> None:
    schedule = FaultSchedule()
    with faulty_proxy(s3_endpoint, schedule) as url:
        bucket.store = S3Store(f"s3://{bucket.name}", ClientOptions(url, addressing_style="path"))
        schedule.next_calls_fail("PUT", Fault.ANSWER_LOST)
        bucket.put(bucket.delivery(1), "ours")
        assert schedule.injected == {"answer_lost": 1}
        assert bucket.there() == {KEY: b"ours"}


def test_a_bucket_that_is_not_there_refuses(bucket: Bucket, s3_endpoint: str) -> None:
    store = S3Store(f"s3://no-{uuid.uuid4().hex}", ClientOptions(s3_endpoint, addressing_style="path"))
    with pytest.raises(WriteRefusedError):
        bucket.put(Delivery(store, "s3://anything/", job_id=JOB, attempt=1), "ours")


def test_what_may_not_be_read_does_not_count_as_withdrawn(bucket: Bucket, s3_endpoint: str) -> None:
    bucket.put(bucket.delivery(1), "sound")
    schedule = FaultSchedule()
    with faulty_proxy(s3_endpoint, schedule) as url:
        refused = Bucket(
            S3Store(f"s3://{bucket.name}", ClientOptions(url, addressing_style="path")), bucket.name, bucket.folder
        )
        schedule.next_calls_fail("HEAD", *[Fault.FORBIDDEN] * 10)
        with pytest.raises(StorageError):
            refused.delivery(1).withdraw_abandoned()
    assert bucket.there() == {KEY: b"sound"}
