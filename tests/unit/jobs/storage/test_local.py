"""The folder store when the disk is full or files vanish meanwhile."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest

from jobs.storage.errors import StorageFullError, StorageUnavailableError
from jobs.storage.local import LocalStore


def fails_with(number: int) -> Any:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def put(store: LocalStore) -> None:
    store.put_stream("k", io.BytesIO(b"sound"), content_type="audio/flac", max_bytes=5)


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
