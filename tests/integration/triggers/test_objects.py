"""What is looked at and fetched is the very version that the event told of."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jobs.storage.errors import BucketMissingError, ObjectChangedError, ObjectFaultError, StorageUnavailableError
from jobs.storage.protocol import ObjectPin
from jobs.storage.s3.bucket_reader import S3BucketReader
from jobs.storage.s3.client import ClientOptions
from jobs.storage.s3.store import S3Store
from tests.integration.triggers.conftest import Harness


def test_a_look_tells_version_marker_and_absence(platform: Harness) -> None:
    reader = S3BucketReader(platform.options)
    etag = platform.put("in/ü +%.mp4", Metadata={"mmaudio-job-id": "job_1"})
    seen = reader.head_object(platform.bucket, "in/ü +%.mp4")
    assert seen is not None
    assert (seen.etag, seen.version_id, seen.size_bytes, seen.made_by_job) == (etag, None, 5, "job_1")
    assert reader.head_object(platform.bucket, "in/other.mp4") is None
    assert reader.head_object("no-such-bucket", "a") is None


def test_a_look_into_a_versioned_bucket_sees_each_version(platform: Harness) -> None:
    platform.s3.put_bucket_versioning(Bucket=platform.bucket, VersioningConfiguration={"Status": "Enabled"})
    first = platform.s3.put_object(Bucket=platform.bucket, Key="a", Body=b"1")
    platform.s3.put_object(Bucket=platform.bucket, Key="a", Body=b"2")
    seen = S3BucketReader(platform.options).head_object(platform.bucket, "a", first["VersionId"])
    assert seen is not None
    assert (f'"{seen.etag}"', seen.version_id) == (first["ETag"], first["VersionId"])
    assert S3BucketReader(platform.options).head_object(platform.bucket, "a", "never-was") is None


def test_a_store_that_does_not_answer_is_told_apart_from_absence() -> None:
    with pytest.raises(StorageUnavailableError):
        S3BucketReader(ClientOptions("http://127.0.0.1:9", addressing_style="path")).head_object("bucket", "a")


@pytest.mark.parametrize("size", [5, 9 * 1024**2])
def test_a_pinned_object_that_was_overwritten_is_not_fetched(platform: Harness, tmp_path: Path, size: int) -> None:
    store = S3Store(f"s3://{platform.bucket}", platform.options)
    pin = ObjectPin(platform.put("a", b"1" * size))
    store.download_from(platform.bucket, "a", tmp_path / "a", pin=pin)
    assert (tmp_path / "a").read_bytes() == b"1" * size
    platform.put("a", b"2" * size)
    with pytest.raises(ObjectChangedError):
        store.download_from(platform.bucket, "a", tmp_path / "b", pin=pin)


def test_a_pinned_version_is_fetched_though_another_was_written_since(platform: Harness, tmp_path: Path) -> None:
    platform.s3.put_bucket_versioning(Bucket=platform.bucket, VersioningConfiguration={"Status": "Enabled"})
    first = platform.s3.put_object(Bucket=platform.bucket, Key="a", Body=b"1")
    platform.s3.put_object(Bucket=platform.bucket, Key="a", Body=b"2")
    store = S3Store(f"s3://{platform.bucket}", platform.options)
    pin = ObjectPin(first["ETag"].strip('"'), first["VersionId"])
    store.download_from(platform.bucket, "a", tmp_path / "a", pin=pin)
    assert (tmp_path / "a").read_bytes() == b"1"


def test_a_listing_goes_page_by_page_in_the_order_of_keys(platform: Harness) -> None:
    keys = sorted(["in/ü +%.mp4", "in/a b.mp4", "in/&?#=.mp4", "in/a.mp4", "in/日本.mp4"], key=str.encode)
    for key in [*keys, "out/other.mp4"]:
        platform.put(key)
    reader, found, after, more = S3BucketReader(platform.options), [], "", True
    while more:
        page = reader.list_objects(platform.bucket, "in/", after=after, limit=2)
        found += [one.key for one in page.objects]
        after, more = page.objects[-1].key, page.more
    assert found == keys


def test_a_listing_of_no_bucket_is_told_apart_from_a_store_that_does_not_answer(platform: Harness) -> None:
    with pytest.raises(BucketMissingError):
        S3BucketReader(platform.options).list_objects("no-such-bucket", "", after="", limit=2)
    away = ClientOptions("http://127.0.0.1:9", addressing_style="path")
    with pytest.raises(StorageUnavailableError):
        S3BucketReader(away).list_objects("bucket", "", after="", limit=2)


class _Answers500(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_error(500)

    def log_message(self, *_: object) -> None:
        pass


def test_an_internal_error_for_one_object_is_told_apart_from_an_outage() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answers500) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        options = ClientOptions(f"http://127.0.0.1:{server.server_port}", addressing_style="path")
        with pytest.raises(ObjectFaultError):
            S3BucketReader(options).head_object("bucket", "a")
        server.shutdown()
