"""A full disk is recognised behind every error that it causes, and logged once a minute."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

from jobs.errors import StorageFailedError
from jobs.settings import Settings
from jobs.storage.errors import StorageFullError, StorageUnavailableError
from workers.disk_full import INTERVAL_S, DiskFullLog, is_disk_full
from workers.event_sources.source import run_source
from workers.feature_cache.disk import DiskFeatureStore
from workers.maintenance.control import Control


def no_space(filename: str | None = None) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), filename)


def full_sqlite(folder: Path) -> DBAPIError:
    """Return the error of a SQLite file that may not grow any more."""
    engine = create_engine(f"sqlite:///{folder / 'full.db'}")
    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE t (x BLOB)"))
        connection.execute(text("PRAGMA max_page_count = 2"))
        with pytest.raises(OperationalError, match="database or disk is full") as raised:
            connection.execute(text("INSERT INTO t VALUES (zeroblob(100000))"))
    engine.dispose()
    return raised.value


class FullPostgresError(Exception):
    sqlstate = "53100"


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the messages of the log."""
    return [record.getMessage() for record in caplog.records]


@pytest.fixture
def disk_full(tmp_path: Path) -> DiskFullLog:
    return DiskFullLog(scratch=tmp_path)


def test_every_error_of_a_full_disk_is_recognised(tmp_path: Path) -> None:
    wrapped = StorageFailedError("The object store did not accept the result.")
    wrapped.__cause__ = StorageFullError("no room", "local")
    errors = [
        no_space(),
        OSError(errno.EDQUOT, "quota"),
        StorageFullError("no room", "local"),
        wrapped,
        full_sqlite(tmp_path),
        OperationalError("INSERT", {}, FullPostgresError()),
    ]

    assert [is_disk_full(error) for error in errors] == [True] * len(errors)


def test_other_errors_are_not_a_full_disk() -> None:
    errors = [
        OSError(errno.EACCES, "not allowed"),
        StorageUnavailableError("away", "s3"),
        OperationalError("INSERT", {}, sqlite3.OperationalError("database is locked")),
        ValueError("disk full"),
    ]

    assert [is_disk_full(error) for error in errors] == [False] * len(errors)


def test_the_line_names_the_path_and_the_free_bytes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert DiskFullLog().report(no_space(), tmp_path / "features")

    (message,) = lines(caplog)
    assert message.startswith(f"disk full: {tmp_path / 'features'}, ")
    assert message.endswith(" bytes free")
    assert int(message.split(", ")[1].split()[0]) >= 0


def test_the_path_comes_from_the_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(data_dir=tmp_path, scratch_dir=tmp_path / "scratch")
    for error in (no_space(), StorageFullError("", "local"), full_sqlite(tmp_path), no_space("/dev/full")):
        DiskFullLog.from_settings(settings).report(error)

    assert [line.split(", ")[0].removeprefix("disk full: ") for line in lines(caplog)] == [
        str(tmp_path / "scratch"),
        str(tmp_path / "objects"),
        str(tmp_path / "mmaudio.db"),
        "/dev/full",
    ]


def test_a_full_disk_is_logged_once_a_minute(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = [0.0]
    disk_full = DiskFullLog(scratch=tmp_path, monotonic=lambda: clock[0])
    for clock[0] in (1000.0, 1001.0, 1000.0 + INTERVAL_S - 1, 1000.0 + INTERVAL_S, 1001.0 + INTERVAL_S):
        assert disk_full.report(no_space())
        assert disk_full.report(no_space(), tmp_path / "another folder of the same file system")

    assert len(lines(caplog)) == 2


def test_another_error_is_left_to_the_caller(disk_full: DiskFullLog, caplog: pytest.LogCaptureFixture) -> None:
    assert not disk_full.report(OSError(errno.EACCES, "not allowed"))
    assert lines(caplog) == []


def test_the_feature_cache_logs_a_full_disk_once(
    tmp_path: Path, disk_full: DiskFullLog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise no_space()

    monkeypatch.setattr("workers.feature_cache.disk.tempfile.mkstemp", refuse)
    cache = DiskFeatureStore(tmp_path / "features", max_bytes=10**6, disk_full=disk_full)
    for key in ("a" * 64, "b" * 64):
        cache.write(key, b"features")

    assert [line.split(",")[0] for line in lines(caplog)] == [f"disk full: {tmp_path / 'features'}"]


class Impatient(threading.Event):
    """An event whose `wait` returns at once."""

    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set()


class FullSource:
    """An event source that finds the disk full three times."""

    name = "inbox"

    def __init__(self) -> None:
        self.steps = 0

    def step(self, stop: threading.Event) -> None:
        self.steps += 1
        if self.steps > 3:
            stop.set()
            return
        raise StorageFullError("no room", "local")


def test_an_event_source_logs_a_full_disk_once(disk_full: DiskFullLog, caplog: pytest.LogCaptureFixture) -> None:
    source = FullSource()
    run_source(source, Impatient(), disk_full)

    assert source.steps == 4
    assert [line[:9] for line in lines(caplog)] == ["disk full"]


def test_the_control_process_logs_a_full_database_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    control = Control(Settings(data_dir=tmp_path, broker_url="redis://127.0.0.1:1/0"), threading.Event())
    error = full_sqlite(tmp_path)

    def step() -> None:
        raise error

    for _ in range(3):
        control._guarded("rescue", step)
    control.close()

    assert [line.split(",")[0] for line in lines(caplog)] == [f"disk full: {tmp_path / 'mmaudio.db'}"]


def test_the_control_process_logs_an_outage_once_a_minute(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    control = Control(Settings(data_dir=tmp_path, broker_url="redis://127.0.0.1:1/0"), threading.Event())

    def step() -> None:
        raise OperationalError("SELECT", {}, Exception("connection refused"))

    for name in ("rescue", "rescue", "dispatch", "rescue"):
        control._guarded(name, step)
    control.close()

    assert [line.split(";")[0] for line in lines(caplog)] == [
        "rescue failed (connection refused)",
        "dispatch failed (connection refused)",
    ]
