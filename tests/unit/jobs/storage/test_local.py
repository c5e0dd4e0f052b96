"""The folder store when the disk is full or files vanish meanwhile."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.storage.errors import StorageFullError, StorageUnavailableError
from jobs.storage.local import LocalStore
from jobs.storage.protocol import MARKER_KEY


def fails_with(number: int) -> Any:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def put(store: LocalStore, key: str = "k") -> None:
    store.put_stream(key, io.BytesIO(b"sound"), content_type="audio/flac", max_bytes=5)


@pytest.mark.parametrize(("number", "text"), [(errno.ENOSPC, "disk full"), (errno.EDQUOT, "disk quota exceeded")])
def test_a_write_to_a_full_disk_names_the_folder(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, text: str
) -> None:
    monkeypatch.setattr("jobs.storage.local.os.fsync", fails_with(number))
    with pytest.raises(StorageFullError, match=f"Could not write 'k': {text} at {tmp_path}/store"):
        put(store)
    assert list(store.list_keys("")) == []


def test_a_download_to_a_full_disk_names_the_file(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store)
    target = tmp_path / "scratch" / "input"
    open_path = Path.open

    def open_full(path: Path, *arguments: Any, **more: Any) -> Any:
        if path == target:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return open_path(path, *arguments, **more)

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(StorageFullError, match=f"disk full at {target}"):
        store.download_to("k", target)


def test_the_check_of_a_full_disk_says_disk_full(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.storage.local.tempfile.TemporaryFile", fails_with(errno.ENOSPC))
    with pytest.raises(StorageFullError, match=f"disk full at {tmp_path}/store"):
        store.check()


def test_a_draft_that_is_published_while_the_folder_is_listed_is_skipped(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.check()
    draft = store._drafts / "tmpabc"
    draft.write_bytes(b"half")
    stat = Path.stat

    def stat_after_publishing(path: Path, **more: Any) -> os.stat_result:
        if path == draft:
            draft.unlink(missing_ok=True)
        return stat(path, **more)

    monkeypatch.setattr(Path, "stat", stat_after_publishing)
    assert list(store.unfinished_writes(older_than_s=-60)) == []


def test_a_draft_that_cannot_be_discarded_is_a_storage_error(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.check()
    (store._drafts / "tmpabc").write_bytes(b"half")
    (write,) = store.unfinished_writes(older_than_s=-60)
    monkeypatch.setattr(Path, "unlink", fails_with(errno.EACCES))
    with pytest.raises(StorageUnavailableError, match="Could not discard tmpabc: Permission denied"):
        write.discard()


def test_keys_are_listed_in_their_order_and_below_a_prefix_only(store: LocalStore) -> None:
    keys = ["a", "a-b/c", "a.b", "a/b", "a/b-/c", "a/b/c", "ab", "é/ü%2F", "z"]
    for key in keys:
        if key not in {"a", "a/b"}:  # a folder cannot be a file as well
            put(store, key)
    listed = [key for key in sorted(keys) if key not in {"a", "a/b"}]
    assert list(store.list_keys("")) == listed
    assert list(store.list_keys("a/")) == ["a/b-/c", "a/b/c"]
    assert list(store.list_keys("a/b")) == ["a/b-/c", "a/b/c"]
    assert list(store.list_keys("a/b/")) == ["a/b/c"]
    assert list(store.list_keys("é/ü%")) == ["é/ü%2F"]
    assert list(store.list_keys("a/b/c/d")) == []
    assert list(store.list_keys("x/y/")) == []


def test_a_folder_that_cannot_be_read_is_not_an_empty_one(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, "jobs/a/1")
    put(store, "jobs/b/1")
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("/jobs/b"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StorageUnavailableError, match="Could not list 'jobs/b/': Permission denied"):
        list(store.list_keys("jobs/"))


def test_damaged_metadata_is_said_and_is_not_a_missing_object(store: LocalStore) -> None:
    put(store, "a")
    (store._metadata / "a").write_text("{", encoding="utf-8")
    with pytest.raises(StorageUnavailableError, match="The metadata of 'a' at"):
        store.head("a")


def test_a_folder_whose_disk_is_unmounted_is_no_empty_store(store: LocalStore, tmp_path: Path) -> None:
    put(store, MARKER_KEY)
    put(store)
    store.check()
    root, away = tmp_path / "store", tmp_path / "away"
    root.rename(away)
    # A store that was opened later, as by a worker's next job, knows it too.
    for reader in (store, LocalStore(root)):
        calls: list[Callable[[], object]] = [
            lambda: put(reader, "new"),  # noqa: B023 - called within the loop
            lambda: reader.head("k"),  # noqa: B023
            lambda: reader.open_read("k"),  # noqa: B023
            lambda: reader.open_read(MARKER_KEY),  # noqa: B023
            lambda: reader.copy("k", "copy", etag="", content_type="audio/flac"),  # noqa: B023
            lambda: reader.delete(["k"]),  # noqa: B023
            lambda: reader.list_keys(""),  # noqa: B023
            reader.check,
        ]
        for call in calls:
            with pytest.raises(StorageUnavailableError, match=r"has no platform\.json any more.*is its disk mounted"):
                call()
    assert not root.exists()
    away.rename(root)
    assert sorted(store.list_keys("")) == ["k", MARKER_KEY]


def test_a_marker_may_be_deleted_and_written_again(store: LocalStore) -> None:
    put(store, MARKER_KEY)
    store.check()
    store.delete([MARKER_KEY])
    put(store)
    put(store, MARKER_KEY)
    assert store.head("k").size_bytes == 5
