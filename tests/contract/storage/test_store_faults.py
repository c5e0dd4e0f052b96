"""What the bucket store does when calls to the server break, each fault by its name."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest

from jobs.storage.errors import (
    BucketMissingError,
    ChecksumMismatchError,
    ObjectExistsError,
    ObjectForbiddenError,
    ObjectNotFoundError,
    ServerRefusedError,
    StorageUnavailableError,
    WriteRefusedError,
)
from jobs.storage.s3.client import ClientOptions
from jobs.storage.s3.store import Encryption, S3Store
from local_services.faulty_http import Fault, FaultSchedule, faulty_proxy

BIG = 9 * 1024 * 1024  # two parts


@dataclass
class FaultyStore:
    store: S3Store
    schedule: FaultSchedule
    bucket: str
    endpoint: str

    def put(self, key: str, path: Path, **more: bool) -> None:
        self.store.put_file(key, path, content_type="audio/flac", **more)

    def unfinished(self) -> int:
        client = boto3.client("s3", endpoint_url=self.endpoint)
        return len(client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", []))


@pytest.fixture
def faulty(s3_endpoint: str) -> Iterator[FaultyStore]:
    bucket = f"bucket-{uuid.uuid4().hex}"
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket=bucket)
    schedule = FaultSchedule()
    with faulty_proxy(s3_endpoint, schedule) as url:
        store = S3Store(f"s3://{bucket}/p", ClientOptions(url, addressing_style="path", max_attempts=4))
        yield FaultyStore(store, schedule, bucket, s3_endpoint)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small"
    path.write_bytes(b"hello")
    return path


@pytest.fixture
def big(tmp_path: Path) -> Path:
    path = tmp_path / "big"
    path.write_bytes(os.urandom(BIG))
    return path


@pytest.mark.parametrize("fault", [Fault.ERROR_500, Fault.ERROR_503, Fault.RESET, Fault.SLOW, Fault.DAMAGED])
def test_a_call_that_breaks_once_is_made_again(faulty: FaultyStore, small: Path, fault: Fault) -> None:
    faulty.schedule.next_calls_fail("PUT", fault)
    faulty.put("k", small, if_absent=True)
    assert faulty.schedule.injected[str(fault)] == 1
    assert b"".join(faulty.store.open_read("k")) == b"hello"


def test_an_exclusive_write_whose_answer_is_lost_is_known_as_our_own(faulty: FaultyStore, small: Path) -> None:
    faulty.schedule.next_calls_fail("PUT", Fault.ANSWER_LOST)
    faulty.put("k", small, if_absent=True)
    with pytest.raises(ObjectExistsError):
        faulty.put("k", small, if_absent=True)


def test_a_part_that_breaks_is_sent_again_and_nothing_else(faulty: FaultyStore, big: Path, tmp_path: Path) -> None:
    faulty.schedule.next_calls_fail("PUT", Fault.RESET)
    faulty.put("k", big, if_absent=True)
    assert sum(method == "PUT" for method, _, _ in faulty.schedule.requests) == 3
    faulty.schedule.next_calls_fail("GET", Fault.CUT)
    faulty.store.download_to("k", tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == big.read_bytes()


def test_a_large_exclusive_write_finds_the_key_taken_and_takes_its_parts_back(faulty: FaultyStore, big: Path) -> None:
    faulty.put("k", big, if_absent=True)
    with pytest.raises(ObjectExistsError):
        faulty.put("k", big, if_absent=True)
    assert faulty.unfinished() == 0


def test_a_store_that_stays_broken_is_said_and_no_parts_stay(faulty: FaultyStore, big: Path) -> None:
    faulty.schedule.next_calls_fail("PUT", *[Fault.ERROR_503] * 8)
    with pytest.raises(StorageUnavailableError):
        faulty.put("k", big)
    assert faulty.unfinished() == 0


def test_bytes_that_change_on_the_way_up_again_and_again_are_refused(faulty: FaultyStore, small: Path) -> None:
    faulty.schedule.next_calls_fail("PUT", *[Fault.DAMAGED] * 3)
    with pytest.raises(ChecksumMismatchError):
        faulty.put("k", small)


def test_every_byte_that_goes_up_carries_its_checksum(faulty: FaultyStore, small: Path, big: Path) -> None:
    faulty.put("small", small)
    faulty.put("big", big)
    puts = [{name.lower() for name in headers} for method, _, headers in faulty.schedule.requests if method == "PUT"]
    assert len(puts) == 3
    assert all("content-md5" in names for names in puts)


def test_a_server_without_conditional_writes_is_asked_whether_the_key_is_free(faulty: FaultyStore, small: Path) -> None:
    faulty.schedule.next_calls_fail("PUT", Fault.NOT_IMPLEMENTED)
    faulty.put("k", small, if_absent=True)
    with pytest.raises(ObjectExistsError):
        faulty.put("k", small, if_absent=True)
    conditional = [h for m, _, h in faulty.schedule.requests if m == "PUT" and "If-None-Match" in h]
    assert len(conditional) == 1  # it is not asked again


def test_a_bucket_that_refuses_or_is_not_there_is_no_passing_fault(faulty: FaultyStore, small: Path) -> None:
    faulty.schedule.next_calls_fail("PUT", Fault.FORBIDDEN)
    with pytest.raises(WriteRefusedError):
        faulty.put("k", small)
    missing = S3Store(f"s3://no-{uuid.uuid4().hex}", ClientOptions(faulty.endpoint, addressing_style="path"))
    with pytest.raises(WriteRefusedError):
        missing.put_file("k", small, content_type="a/b", if_absent=True)


def test_a_refused_head_names_the_reason_that_only_a_get_tells(faulty: FaultyStore, small: Path) -> None:
    faulty.put("k", small)
    faulty.schedule.refuse_key = "test"
    with pytest.raises(ServerRefusedError, match="InvalidAccessKeyId"):
        faulty.store.head("k")
    with pytest.raises(ServerRefusedError, match="InvalidAccessKeyId"):
        list(faulty.store.open_read("k"))
    with pytest.raises(ServerRefusedError, match="InvalidAccessKeyId"):
        faulty.put("other", small)


def test_an_object_that_may_not_be_read_is_not_a_missing_one(faulty: FaultyStore, small: Path, tmp_path: Path) -> None:
    faulty.put("k", small)
    faulty.schedule.next_calls_fail("HEAD", Fault.FORBIDDEN)
    faulty.schedule.next_calls_fail("GET", Fault.FORBIDDEN)
    with pytest.raises(ObjectForbiddenError, match="AccessDenied"):
        faulty.store.download_to("k", tmp_path / "down")


def test_a_missing_bucket_says_nothing_about_a_key(faulty: FaultyStore) -> None:
    missing = S3Store(f"s3://no-{uuid.uuid4().hex}", ClientOptions(faulty.endpoint, addressing_style="path"))
    with pytest.raises(BucketMissingError):
        missing.head("k")
    with pytest.raises(ObjectNotFoundError):
        faulty.store.head("k")


def test_parts_that_cannot_be_discarded_are_a_storage_error(faulty: FaultyStore) -> None:
    client = boto3.client("s3", endpoint_url=faulty.endpoint)
    upload = client.create_multipart_upload(Bucket=faulty.bucket, Key="p/k")
    (write,) = faulty.store.unfinished_writes(older_than_s=-60)
    faulty.schedule.next_calls_fail("DELETE", Fault.FORBIDDEN)
    with pytest.raises(WriteRefusedError, match="Could not discard the parts of 'p/k': AccessDenied"):
        write.discard()
    client.abort_multipart_upload(Bucket=faulty.bucket, Key="p/k", UploadId=upload["UploadId"])
    write.discard()  # already gone: nothing to do


def test_a_server_that_deletes_only_one_by_one_is_served_so(faulty: FaultyStore, small: Path) -> None:
    faulty.put("a", small)
    faulty.put("b", small)
    faulty.schedule.next_calls_fail("POST", Fault.NOT_IMPLEMENTED)
    faulty.store.delete(["a", "b"])
    assert list(faulty.store.list_keys("")) == []


@pytest.mark.parametrize("method", ["AES256", "aws:kms"])
def test_objects_are_encrypted_as_the_operator_says(s3_endpoint: str, small: Path, big: Path, method: str) -> None:
    client = boto3.client("s3", endpoint_url=s3_endpoint)
    bucket = f"bucket-{uuid.uuid4().hex}"
    client.create_bucket(Bucket=bucket)
    encryption = Encryption(method, "key-1" if method == "aws:kms" else "")
    store = S3Store(f"s3://{bucket}", ClientOptions(s3_endpoint, addressing_style="path"), encryption=encryption)
    for key, path in (("small", small), ("big", big)):
        store.put_file(key, path, content_type="a/b")
        found = client.head_object(Bucket=bucket, Key=key)
        assert found["ServerSideEncryption"] == method
        assert method == "AES256" or found["SSEKMSKeyId"].endswith("key-1")
