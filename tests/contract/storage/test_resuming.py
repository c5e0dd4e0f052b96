"""Writes that go on after they broke off, in both kinds of stores."""

from __future__ import annotations

import contextlib
import hashlib
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import httpx
import pytest

from jobs.storage.errors import (
    ChecksumMismatchError,
    ObjectNotFoundError,
    ObjectTooLargeError,
    OffsetMismatchError,
    StorageError,
    StorageFullError,
    WriteBusyError,
    WriteUnknownError,
)
from jobs.storage.local import LocalStore
from jobs.storage.protocol import ObjectStore
from jobs.storage.resuming import PartWrites, RangeWrites
from jobs.storage.s3.part_writes import MIN_PART_BYTES
from jobs.storage.s3.store import S3Store

KEY = "uploads/upl_1/wr_1"
FIRST, LAST = b"a" * MIN_PART_BYTES, b"the end"


@pytest.fixture
def ranges(tmp_path: Path) -> RangeWrites:
    return LocalStore(tmp_path / "store").range_writes


@pytest.fixture
def parts(s3_store: S3Store) -> PartWrites:
    return s3_store.part_writes


def content(store: ObjectStore) -> bytes:
    return b"".join(store.open_read(KEY))


def write_id_of(store: ObjectStore) -> str:
    """Send the two parts of an object; return the id of the write, "" where there are ranges."""
    if store.range_writes is not None:
        assert store.part_writes is None
        there = store.range_writes.append(KEY, io.BytesIO(FIRST), offset=0, max_bytes=len(FIRST))
        store.range_writes.append(KEY, io.BytesIO(LAST), offset=there, max_bytes=len(LAST))
        return ""
    assert store.part_writes is not None
    write_id = store.part_writes.begin(KEY, content_type="video/mp4", sha256=None)
    for number, data in ((2, LAST), (1, FIRST)):
        send(store.part_writes, write_id, number, data)
    return write_id


def send(parts: PartWrites, write_id: str, number: int, data: bytes) -> None:
    url = parts.part_url(KEY, write_id, number, size_bytes=len(data), expires_s=60)
    assert httpx.put(url, content=data).status_code == 200


def finish(store: ObjectStore, write_id: str) -> None:
    if store.range_writes is not None:
        store.range_writes.finish(KEY, content_type="video/mp4", sha256=None)
        store.range_writes.discard(KEY)
    if store.part_writes is not None:
        store.part_writes.finish(KEY, write_id, store.part_writes.stored_parts(KEY, write_id))


def discard(store: ObjectStore, write_id: str) -> None:
    if store.range_writes is not None:
        store.range_writes.discard(KEY)
    if store.part_writes is not None:
        store.part_writes.discard(KEY, write_id)


def test_an_object_exists_only_when_its_parts_are_joined(store: ObjectStore) -> None:
    write_id = write_id_of(store)
    with pytest.raises(ObjectNotFoundError):
        store.head(KEY)
    finish(store, write_id)
    assert content(store) == FIRST + LAST
    assert (store.head(KEY).content_type, list(store.list_keys(""))) == ("video/mp4", [KEY])
    assert list(store.unfinished_writes(older_than_s=-60)) == []


def test_a_write_that_does_not_go_on_is_found_and_discarded(store: ObjectStore) -> None:
    write_id_of(store)
    (found,) = store.unfinished_writes(older_than_s=-60)
    assert found.key == KEY
    found.discard()
    assert list(store.unfinished_writes(older_than_s=-60)) == []


def test_a_discarded_write_leaves_nothing_and_may_be_discarded_again(store: ObjectStore) -> None:
    write_id = write_id_of(store)
    for _ in range(2):
        discard(store, write_id)
    assert list(store.unfinished_writes(older_than_s=-60)) == []
    assert list(store.list_keys("")) == []


def test_a_part_that_is_sent_again_replaces_the_first(parts: PartWrites, s3_store: S3Store) -> None:
    write_id = parts.begin(KEY, content_type="video/mp4", sha256=None)
    send(parts, write_id, 1, b"b" * MIN_PART_BYTES)
    send(parts, write_id, 1, FIRST)
    (stored,) = parts.stored_parts(KEY, write_id)
    assert (stored.number, stored.size_bytes) == (1, len(FIRST))
    assert parts.finish(KEY, write_id, [stored]).size_bytes == len(FIRST)
    assert content(s3_store) == FIRST


def test_a_write_that_is_gone_takes_no_part(parts: PartWrites) -> None:
    write_id = parts.begin(KEY, content_type="video/mp4", sha256=None)
    parts.discard(KEY, write_id)
    with pytest.raises(WriteUnknownError):
        parts.stored_parts(KEY, write_id)
    assert httpx.put(parts.part_url(KEY, write_id, 1, size_bytes=1, expires_s=60), content=b"a").status_code != 200


def test_the_signed_url_of_a_part_names_its_size_and_number(parts: PartWrites) -> None:
    url = httpx.URL(parts.part_url(KEY, "write", 7, size_bytes=123, expires_s=60))
    assert (url.params["partNumber"], url.params["uploadId"]) == ("7", "write")
    assert "content-length" in url.params["X-Amz-SignedHeaders"].split(";")


@pytest.mark.parametrize("offset", [2, 4, 10**15])
def test_bytes_that_leave_a_gap_or_overlap_are_refused(ranges: RangeWrites, offset: int) -> None:
    ranges.append(KEY, io.BytesIO(b"abc"), offset=0, max_bytes=3)
    with pytest.raises(OffsetMismatchError) as caught:
        ranges.append(KEY, io.BytesIO(b"def"), offset=offset, max_bytes=3)
    assert (caught.value.present, ranges.received_bytes(KEY)) == (3, 3)


def test_bytes_of_a_write_that_does_not_exist_begin_at_zero(ranges: RangeWrites, tmp_path: Path) -> None:
    with pytest.raises(OffsetMismatchError) as caught:
        ranges.append(KEY, io.BytesIO(b"def"), offset=3, max_bytes=3)
    assert (caught.value.present, ranges.received_bytes(KEY)) == (0, 0)
    with pytest.raises(ObjectNotFoundError):
        ranges.finish(KEY, content_type="video/mp4", sha256=None)


def test_what_came_before_a_connection_broke_stays(ranges: RangeWrites) -> None:
    class Broken(Exception):
        pass

    class Stream(io.BytesIO):
        def read(self, amount: int | None = -1, /) -> bytes:
            if self.tell() == 3:
                raise Broken
            return super().read(min(amount or 0, 3))

    with pytest.raises(Broken):
        ranges.append(KEY, Stream(b"abcdef"), offset=0, max_bytes=6)
    assert ranges.received_bytes(KEY) == 3
    assert ranges.append(KEY, io.BytesIO(b"def"), offset=3, max_bytes=3) == 6


def test_more_bytes_than_announced_are_not_kept(ranges: RangeWrites) -> None:
    with pytest.raises(ObjectTooLargeError):
        ranges.append(KEY, io.BytesIO(b"abcdef"), offset=0, max_bytes=3)
    assert ranges.received_bytes(KEY) <= 3


def test_a_second_writer_is_refused_while_the_first_sends(ranges: RangeWrites) -> None:
    began, goes_on = threading.Event(), threading.Event()

    class Stream:
        def __init__(self) -> None:
            self.pieces = iter([b"abc", b"def"])

        def read(self, _amount: int) -> bytes:
            began.set()
            goes_on.wait(10)
            return next(self.pieces, b"")

    first = threading.Thread(
        target=ranges.append, args=(KEY, cast("BinaryIO", Stream())), kwargs={"offset": 0, "max_bytes": 6}
    )
    first.start()
    assert began.wait(10)
    try:
        with pytest.raises(WriteBusyError):
            ranges.append(KEY, io.BytesIO(b"xyz"), offset=0, max_bytes=3)
        with pytest.raises(WriteBusyError):
            ranges.finish(KEY, content_type="video/mp4", sha256=None)
    finally:
        goes_on.set()
        first.join()
    assert ranges.received_bytes(KEY) == 6


def test_a_wrong_hash_discards_all_of_it(ranges: RangeWrites) -> None:
    ranges.append(KEY, io.BytesIO(b"abc"), offset=0, max_bytes=3)
    with pytest.raises(ChecksumMismatchError):
        ranges.finish(KEY, content_type="video/mp4", sha256="0" * 64)
    assert ranges.received_bytes(KEY) == 0
    ranges.append(KEY, io.BytesIO(b"abc"), offset=0, max_bytes=3)
    found = ranges.finish(KEY, content_type="video/mp4", sha256=hashlib.sha256(b"abc").hexdigest())
    assert found.size_bytes == 3


def test_the_reserve_of_the_disk_ends_a_range_and_keeps_what_came(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store", reserve_bytes=10**18)
    with pytest.raises(StorageFullError):
        store.range_writes.append(KEY, io.BytesIO(b"abc"), offset=0, max_bytes=3)
    assert store.range_writes.received_bytes(KEY) == 0


@pytest.mark.parametrize("key", ["x" * 300, "../../etc/passwd", "a/../b"])
def test_no_key_leads_out_of_the_folder(ranges: RangeWrites, tmp_path: Path, key: str) -> None:
    before = set(files_of(tmp_path.parent) - files_of(tmp_path))
    with contextlib.suppress(StorageError):
        ranges.append(key, io.BytesIO(b"abc"), offset=0, max_bytes=3)
    assert set(files_of(tmp_path.parent) - files_of(tmp_path)) == before


def files_of(folder: Path) -> set[Path]:
    return set(_walk(folder))


def _walk(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
