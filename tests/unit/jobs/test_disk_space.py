"""The reserve: how large it is, on which disks, and what it refuses."""

from __future__ import annotations

import errno
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from jobs.disk_space import DEFAULT_RESERVE_BYTES, DiskReserve, disk_problem
from jobs.errors import DiskFullError, DiskReserveError
from jobs.settings import Settings
from jobs.storage.errors import StorageFullError
from jobs.storage.local import LocalStore
from workers.checks import check_disks
from workers.disk_full import is_disk_full

Usage = namedtuple("Usage", ["total", "used", "free"])
MIB = 1024**2


def disk_of(monkeypatch: pytest.MonkeyPatch, *, total: int, free: int) -> None:
    monkeypatch.setattr("jobs.disk_space.shutil.disk_usage", lambda _: Usage(total, total - free, free))


@pytest.mark.parametrize(
    ("reserve", "total", "free", "needed", "refused"),
    [
        (None, 10**12, DEFAULT_RESERVE_BYTES, 0, False),
        (None, 10**12, DEFAULT_RESERVE_BYTES - 1, 0, True),
        (None, 100 * MIB, 5 * MIB, 0, False),  # a small disk: 5 %
        (None, 100 * MIB, 5 * MIB - 1, 0, True),
        (40 * MIB, 100 * MIB, 39 * MIB, 0, True),  # what was chosen is kept, whatever the disk
        (MIB, 100 * MIB, 3 * MIB, 2 * MIB, False),
        (MIB, 100 * MIB, 3 * MIB, 2 * MIB + 1, True),
        (0, 100 * MIB, 0, 10**9, False),
        (None, 0, 0, 0, False),  # a file system that tells nothing
    ],
)
def test_new_work_is_refused_below_the_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reserve: int | None, total: int, free: int, needed: int,
    refused: bool,
) -> None:  # fmt: skip
    disk_of(monkeypatch, total=total, free=free)
    assert (DiskReserve((tmp_path,), reserve).shortage(needed) is not None) is refused


def test_the_disks_are_those_of_database_objects_and_temporary_files(tmp_path: Path) -> None:
    embedded = Settings(data_dir=tmp_path, scratch_dir=tmp_path / "scratch")
    assert DiskReserve.of_platform(embedded).folders == (tmp_path / "mmaudio.db", tmp_path / "objects")
    assert tmp_path / "scratch" in DiskReserve.of_worker(embedded).folders
    servers = Settings(
        data_dir=tmp_path, scratch_dir=tmp_path, database_url="postgresql+psycopg://u@h/d", storage_url="s3://bucket"
    )
    assert DiskReserve.of_platform(servers).folders == ()
    assert DiskReserve.of_worker(servers).folders == (tmp_path,)


def test_a_refusal_is_a_full_disk_for_whoever_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk_of(monkeypatch, total=100 * MIB, free=MIB)
    with pytest.raises(DiskReserveError, match=f"the disk of {tmp_path} has {MIB} bytes free") as raised:
        DiskReserve((tmp_path,)).check()
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(tmp_path))
    assert is_disk_full(raised.value)


def test_a_worker_is_told_why_it_should_take_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data_dir=tmp_path, scratch_dir=tmp_path / "scratch")
    disk_of(monkeypatch, total=100 * MIB, free=50 * MIB)
    assert disk_problem(settings) is None
    disk_of(monkeypatch, total=100 * MIB, free=MIB)
    assert f"the disk of {tmp_path / 'scratch'} has" in str(disk_problem(settings))
    with pytest.raises(DiskFullError, match="are its reserve"):
        check_disks([tmp_path], DiskReserve.of_worker(settings))


def test_a_folder_that_cannot_be_looked_at_is_left_to_the_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> Any:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr("jobs.disk_space.shutil.disk_usage", refuse)
    DiskReserve((tmp_path,)).check()


def test_an_object_folder_takes_nothing_that_uses_the_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path / "objects", reserve_bytes=MIB)
    (tmp_path / "sound").write_bytes(bytes(2 * MIB))
    free = iter([10 * MIB, 10 * MIB, int(1.5 * MIB)])
    monkeypatch.setattr("jobs.disk_space.shutil.disk_usage", lambda _: Usage(100 * MIB, 0, next(free, MIB)))
    with pytest.raises(StorageFullError, match="are its reserve"):  # noticed in the middle of the write
        store.put_file("k", tmp_path / "sound", content_type="audio/flac")
    assert list(store.unfinished_writes(older_than_s=-60)) == []
    monkeypatch.undo()
    store.put_file("k", tmp_path / "sound", content_type="audio/flac")
    store.delete(["k"])
