"""No file of the inbox ends its thread or keeps others from becoming jobs; every file that is not taken says why."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from jobs.db.database import Database
from jobs.errors import DomainError
from jobs.storage.errors import StorageUnavailableError
from tests.databases import migrated_sqlite
from tests.unit.workers.event_sources.test_inbox import Harness
from workers.event_sources import inbox as module
from workers.event_sources import inbox_folder
from workers.event_sources.source import run_source

NOT_UTF8 = b"caf\xe9.mp4"
LONG_ASCII = b"0" * 240 + b".mp4"
LONG_UTF8 = "é".encode() * 125 + b".mp4"
ESCAPES = b"\x1b[2Jred\r\n.mp4"


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    db = Database(migrated_sqlite(tmp_path / "mmaudio.db")).of_platform()
    yield Harness(tmp_path, db)
    db.close()


def put(harness: Harness, name: bytes, data: bytes = b"video") -> None:
    path = harness.folder / os.fsdecode(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def below(folder: Path) -> list[bytes]:
    """All regular files below a folder, as bytes."""
    found = [Path(inside, name) for inside, _, names in os.walk(folder) for name in names]
    return sorted(os.fsencode(path.relative_to(folder)) for path in found)


def parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def videos(harness: Harness) -> list[str]:
    return [job.request["metadata"]["inbox_path"] for job in harness.jobs()]


@pytest.mark.parametrize("name", [NOT_UTF8, LONG_ASCII, LONG_UTF8, ESCAPES, b"a\xff/\xfe b/c.mp4"])
def test_a_file_of_any_name_becomes_a_job_and_so_do_those_after_it(
    harness: Harness, name: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    put(harness, name)
    put(harness, b"zz.mp4")
    harness.scan(3)
    jobs = harness.jobs()
    assert len(jobs) == 2
    assert below(harness.folder / "refused") == []
    (moved,) = [path for path in below(harness.folder / "done") if not path.endswith(b"zz.mp4")]
    assert parent(moved) == parent(name)
    (job,) = [job for job in jobs if job.request["metadata"]["inbox_path"] != "zz.mp4"]
    assert moved.rpartition(b"/")[2].startswith(job.id.encode())
    assert moved.endswith(b".mp4")
    assert all(text.isprintable() for text in caplog.messages)
    assert job.request["metadata"]["inbox_path"].isprintable()


def test_the_thread_goes_on_whatever_one_scan_raises(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checked on a real thread: names of bytes and a fault of the program itself."""
    put(harness, NOT_UTF8)
    stop, scans = threading.Event(), []
    real = harness.source.scan

    def scan(stop_: Any = None) -> None:
        scans.append(1)
        harness.time += 4
        if len(scans) == 1:
            raise RuntimeError("a fault of the program")
        real(stop_)
        if len(scans) > 4:
            stop.set()

    monkeypatch.setattr(harness.source, "scan", scan)
    monkeypatch.setattr("workers.event_sources.source.RETRY_S", 0.01)
    monkeypatch.setattr(module, "INTERVAL_S", 0.01)
    thread = threading.Thread(target=run_source, args=(harness.source, stop))
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert len(harness.jobs()) == 1


@pytest.mark.parametrize(
    "exc",
    [
        UnicodeEncodeError("utf-8", "\udce9", 0, 1, "surrogates not allowed"),
        KeyError("anything"),
        PermissionError(errno.EACCES, "Permission denied"),
    ],
)
def test_what_one_file_causes_refuses_that_file_only(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, exc: Exception
) -> None:
    real = module.store_upload

    def store(*arguments: Any, filename: str, **fields: Any) -> str:
        if filename == "a.mp4":
            raise exc
        return real(*arguments, filename=filename, **fields)

    monkeypatch.setattr(module, "store_upload", store)
    put(harness, b"a.mp4")
    put(harness, b"b.mp4")
    harness.scan(3)
    assert videos(harness) == ["b.mp4"]
    assert below(harness.folder / "refused") == [b"a.mp4", b"a.mp4.reason.txt"]
    assert "could not be taken" in (harness.folder / "refused" / "a.mp4.reason.txt").read_text()


def test_a_file_that_this_user_may_not_read_is_refused(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    real = inbox_folder._open

    def open_(folder: Path, path: str) -> int:
        if path == "a.mp4":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(folder, path)

    monkeypatch.setattr(inbox_folder, "_open", open_)
    put(harness, b"a.mp4")
    put(harness, b"b.mp4")
    harness.scan(3)
    assert videos(harness) == ["b.mp4"]
    assert "Permission denied" in (harness.folder / "refused" / "a.mp4.reason.txt").read_text()


@pytest.mark.parametrize(
    "exc",
    [
        StorageUnavailableError("no answer", "s3"),
        OperationalError("INSERT", {}, Exception("the server went away")),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
)
def test_trouble_of_the_platform_refuses_no_file(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, exc: Exception
) -> None:
    def fails(*_: Any, **__: Any) -> str:
        raise exc

    put(harness, b"a.mp4")
    harness.scan(1)
    with monkeypatch.context() as patched:
        patched.setattr(module, "store_upload", fails)
        for _ in range(5):
            with pytest.raises(type(exc)):
                harness.scan(1)
    assert (harness.jobs(), harness.names(), harness.names("refused")) == ([], ["a.mp4"], [])
    harness.scan(1)
    assert videos(harness) == ["a.mp4"]


def test_a_file_that_always_meets_trouble_does_not_stop_those_after_it(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.store_upload

    def store(*arguments: Any, filename: str, **fields: Any) -> str:
        if filename == "a.mp4":
            raise StorageUnavailableError("no answer", "s3")
        return real(*arguments, filename=filename, **fields)

    monkeypatch.setattr(module, "store_upload", store)
    for name in (b"a.mp4", b"b.mp4", b"c.mp4"):
        put(harness, name)
    harness.scan(1)
    with pytest.raises(StorageUnavailableError):
        harness.scan(1)
    harness.time += 4
    with pytest.raises(StorageUnavailableError):
        harness.scan(1)
    assert videos(harness) == ["b.mp4", "c.mp4"]


def test_another_limit_of_the_server_leaves_the_file(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: Any, **__: Any) -> Any:
        raise DomainError("the disk has less than its reserve")

    put(harness, b"a.mp4")
    with monkeypatch.context() as patched:
        patched.setattr(module, "submit", refuses)
        harness.scan(4)
    assert (harness.jobs(), harness.names("refused")) == ([], [])
    harness.scan(1)
    assert videos(harness) == ["a.mp4"]


def test_a_file_that_cannot_be_moved_is_one_job_and_is_said_once(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, tried = Path.rename, []

    def rename(path: Path, target: Any) -> Path:
        if path.name == "a.mp4":
            tried.append(1)
            raise PermissionError(errno.EPERM, "Operation not permitted")
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    put(harness, b"a.mp4")
    put(harness, b"b.mp4")
    harness.scan(20)
    assert videos(harness) == ["a.mp4", "b.mp4"]
    assert len(tried) == 1
    assert sum("a.mp4" in text and "cannot be moved" in text for text in caplog.messages) == 1
    assert "cannot be moved" in (harness.folder / "refused" / "not-taken.txt").read_text()


def test_a_file_that_can_neither_be_taken_nor_moved_is_left_and_said_once(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def rename(path: Path, target: Any) -> Path:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "rename", rename)
    put(harness, b"a.mp4", b"")
    harness.scan(20)
    assert harness.names() == ["a.mp4"]
    assert sum("cannot be moved to refused/ either" in text for text in caplog.messages) == 1


def test_a_refused_file_replaces_no_other_of_its_name(harness: Harness) -> None:
    for _ in range(2):
        put(harness, b"a.mp4", b"")
        harness.scan(3)
    assert below(harness.folder / "refused") == [
        b"a (2).mp4",
        b"a (2).mp4.reason.txt",
        b"a.mp4",
        b"a.mp4.reason.txt",
    ]


@pytest.mark.parametrize("name", [LONG_ASCII, LONG_UTF8, b"0" * 251 + b".mp4", b"\xff" * 251 + b".mp4"])
def test_a_long_name_is_refused_under_a_shorter_one(harness: Harness, name: bytes) -> None:
    put(harness, name, b"")
    harness.scan(3)
    moved, reason = below(harness.folder / "refused")
    assert reason == moved + b".reason.txt"
    assert moved.endswith(b".mp4")
    assert len(reason) <= 255


def test_a_full_disk_cannot_keep_a_file_from_being_refused(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(inbox_folder, "write_text", full)
    put(harness, b"a.mp4", b"")
    harness.scan(3)
    assert below(harness.folder / "refused") == [b"a.mp4"]
    assert "No space left" in caplog.text


def test_files_in_sub_folders_are_taken_and_keep_their_path(harness: Harness) -> None:
    put(harness, b"day 1/cam/a.mp4")
    put(harness, b"sub/done/b.mp4")
    put(harness, b"folder.mp4/c.mp4")
    harness.scan(3)
    assert videos(harness) == ["day 1/cam/a.mp4", "folder.mp4/c.mp4", "sub/done/b.mp4"]
    inside = [parent(path) for path in below(harness.folder / "done")]
    assert inside == [b"day 1/cam", b"folder.mp4", b"sub/done"]


def test_what_the_service_put_away_is_not_taken_again(harness: Harness) -> None:
    put(harness, b"done/a.mp4")
    put(harness, b"refused/b.mp4")
    harness.scan(4)
    assert harness.jobs() == []


def test_a_refused_file_of_a_sub_folder_keeps_its_path(harness: Harness) -> None:
    put(harness, b"day 1/a.mp4", b"")
    harness.scan(3)
    assert below(harness.folder / "refused") == [b"day 1/a.mp4", b"day 1/a.mp4.reason.txt"]


def test_a_path_that_is_too_long_below_done_is_moved_without_its_folders(harness: Harness) -> None:
    parts = ["d" * 250] * 15
    folder = os.open(harness.folder, os.O_RDONLY)
    for part in parts:  # each step by its own: the whole path may be longer than the system takes
        os.mkdir(part, dir_fd=folder)
        inner = os.open(part, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    room = 4095 - len(os.fsencode(harness.folder)) - 1 - 15 * 251
    os.close(os.open("a" * min(room - 4, 250) + ".mp4", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)
    put(harness, b"zz.mp4")
    harness.scan(4)
    assert videos(harness) == ["zz.mp4"]
    assert [path for path in below(harness.folder / "refused") if b"/" in path] == []
    assert len(below(harness.folder / "refused")) == 2


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (b"notes.txt", "ends in '.txt'"),
        (b"noending", "no ending"),
        (b".hidden.mp4", "begins with a dot"),
        (b"a.mp4.part", "unfinished download"),
        (b"sub/notes.txt", "ends in '.txt'"),
    ],
)
def test_a_file_that_is_not_taken_says_why_once(
    harness: Harness, name: bytes, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    put(harness, name)
    harness.scan(6)
    said = [text for text in caplog.messages if why in text]
    assert len(said) == 1
    assert name.decode() in said[0]
    assert f"{name.decode()}: " in (harness.folder / "refused" / "not-taken.txt").read_text()
    (harness.folder / name.decode()).unlink()
    harness.scan(1)
    assert not (harness.folder / "refused" / "not-taken.txt").exists()


def test_links_pipes_and_sockets_are_not_taken_and_block_nothing(
    harness: Harness, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.mp4").write_bytes(b"secret")
    (harness.folder / "a.mp4").symlink_to(outside / "secret.mp4")
    (harness.folder / "folder").symlink_to(outside)
    os.mkfifo(harness.folder / "b.mp4")
    os.mknod(harness.folder / "c.mp4", stat.S_IFSOCK | 0o600)
    put(harness, b"z.mp4")
    harness.scan(4)
    assert videos(harness) == ["z.mp4"]
    assert (outside / "secret.mp4").exists()
    assert sum("symbolic link" in text for text in caplog.messages) == 2
    assert sum("not a regular file" in text for text in caplog.messages) == 2


@pytest.mark.parametrize("swap", ["link", "pipe", "parent"])
def test_a_file_that_is_swapped_after_the_look_is_not_read(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swap: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.mp4").write_bytes(b"secret")
    put(harness, b"sub/a.mp4")
    put(harness, b"z.mp4")
    harness.scan(1)
    real, path = module.list_entries, harness.folder / "sub" / "a.mp4"

    def list_and_swap(*arguments: Any, **fields: Any) -> Any:
        found = list(real(*arguments, **fields))
        path.unlink()
        if swap == "link":
            path.symlink_to(outside / "a.mp4")
        elif swap == "pipe":
            os.mkfifo(path)
        else:
            path.parent.rmdir()
            path.parent.symlink_to(outside)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(module, "list_entries", list_and_swap)
        harness.scan(1)
    assert [job for job in videos(harness) if job != "z.mp4"] == []
    stored = [b"".join(harness.store.open_read(key)) for key in harness.store.list_keys("")]
    assert b"secret" not in stored
    assert (outside / "a.mp4").read_bytes() == b"secret"


def test_a_file_that_vanishes_during_the_scan_is_no_fault(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put(harness, b"a.mp4")
    put(harness, b"b.mp4")
    harness.scan(1)
    real = module.list_entries

    def list_and_remove(*arguments: Any, **fields: Any) -> Any:
        found = list(real(*arguments, **fields))
        (harness.folder / "a.mp4").unlink(missing_ok=True)
        return found

    monkeypatch.setattr(module, "list_entries", list_and_remove)
    harness.scan(2)
    assert videos(harness) == ["b.mp4"]
    assert caplog.messages == []


def test_a_file_that_is_replaced_while_it_is_read_becomes_a_job_of_its_own(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, path = module.submit, harness.folder / "a.mp4"

    def submit_and_replace(*arguments: Any, **fields: Any) -> Any:
        if path.read_bytes() == b"first":
            path.write_bytes(b"second!")
        return real(*arguments, **fields)

    monkeypatch.setattr(module, "submit", submit_and_replace)
    put(harness, b"a.mp4", b"first")
    harness.scan(5)
    stored = [b"".join(harness.store.open_read(str(job.input_key))) for job in harness.jobs()]
    assert stored == [b"first", b"second!"]


def test_an_inbox_that_is_removed_and_made_again_goes_on(harness: Harness) -> None:
    put(harness, b"a.mp4")
    harness.scan(2)
    identity = (harness.folder / ".lock").read_text()
    shutil.rmtree(harness.folder)
    harness.scan(1)
    put(harness, b"b.mp4")
    harness.scan(3)
    assert videos(harness) == ["a.mp4", "b.mp4"]
    assert (harness.folder / ".lock").read_text() == identity


def test_an_inbox_that_cannot_be_written_takes_nothing_and_recovers(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def read_only(path: Any, flags: int, *arguments: Any, **fields: Any) -> int:
        if str(path).endswith(".lock") and flags & os.O_CREAT:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return real(path, flags, *arguments, **fields)

    put(harness, b"a.mp4")
    with monkeypatch.context() as patched, pytest.raises(OSError, match="Read-only"):
        patched.setattr(os, "open", read_only)
        harness.scan(1)
    assert harness.jobs() == []
    harness.scan(3)
    assert videos(harness) == ["a.mp4"]


def test_a_lock_that_a_neighbour_made_a_pipe_or_a_link_does_not_block(harness: Harness, tmp_path: Path) -> None:
    os.mkfifo(harness.folder / ".lock")
    with pytest.raises(OSError, match="regular file"):
        harness.scan(1)
    (harness.folder / ".lock").unlink()
    (harness.folder / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        harness.scan(1)
    assert not (tmp_path / "elsewhere").exists()


def test_thousands_of_untaken_files_are_a_few_lines(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(2000):
        (harness.folder / f"{number}.txt").touch()
    harness.scan(3)
    assert len(caplog.messages) < 30
    assert len((harness.folder / "refused" / "not-taken.txt").read_text().splitlines()) == 2000


def test_a_waiting_upload_is_stored_again_before_it_expires(harness: Harness) -> None:
    harness.policy = type(harness.policy)(variants=("tiny_16k",), max_queued_per_tenant=1)
    put(harness, b"a.mp4")
    put(harness, b"b.mp4")
    harness.scan(3)
    first = set(harness.store.list_keys("uploads/"))
    harness.time += harness.settings.upload_ttl_s
    harness.scan(1)
    assert len(set(harness.store.list_keys("uploads/")) - first) == 1
    assert harness.names("refused") == []


def test_an_upgrade_keeps_the_fields_of_the_settings(harness: Harness) -> None:
    fields = {"prompt": "rain", "metadata": {"who": "me"}}
    harness.settings = harness.settings.model_copy(update={"inbox_request": fields})
    harness.source = harness.watcher()
    put(harness, b"a.mp4")
    harness.scan(3)
    (job,) = harness.jobs()
    assert job.request["metadata"] == {"who": "me", "inbox_path": "a.mp4"}
