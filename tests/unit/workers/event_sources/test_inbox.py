"""The watched folder: complete files become one job each, incomplete ones are ignored, refused ones have a reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from jobs.db.database import Database
from jobs.db.tables import Job
from jobs.service.submission import SubmitPolicy
from jobs.settings import Settings
from jobs.storage.local import LocalStore
from tests.databases import migrated_sqlite
from workers.event_sources import inbox as module
from workers.event_sources.inbox import InboxSource


class Harness:
    """A folder that is watched, with a clock that the test moves."""

    def __init__(self, folder: Path, db: Database, **settings: Any) -> None:
        self.folder, self.db, self.time = folder / "inbox", db, 0.0
        self.settings = Settings(data_dir=folder, inbox_request={"prompt": "rain"}, max_upload_bytes=100, **settings)
        self.store = LocalStore(folder / "objects")
        self.policy = SubmitPolicy(variants=("tiny_16k",))
        self.published: list[str] = []
        self.source = self.watcher()
        self.folder.mkdir()

    def watcher(self) -> InboxSource:
        return InboxSource(
            self.folder,
            self.settings,
            self.db,
            self.store,
            lambda: self.policy,
            self.published.append,
            monotonic=lambda: self.time,
        )

    def scan(self, times: int = 2) -> None:
        for _ in range(times):
            self.source.scan()
            self.time += 4

    def put(self, name: str, data: bytes = b"video") -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def jobs(self) -> list[Job]:
        with self.db.reading() as tx:
            return list(tx.session.scalars(select(Job).order_by(Job.id)))

    def names(self, folder: str = ".") -> list[str]:
        path = self.folder / folder
        return sorted(p.name for p in path.iterdir() if p.is_file() and p.name != ".lock") if path.is_dir() else []


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Harness]:
    db = Database(migrated_sqlite(tmp_path / "mmaudio.db")).of_platform()
    yield Harness(tmp_path, db)
    db.close()


@pytest.mark.parametrize("name", ["a b+ü%.mp4", "two\nlines.MOV", "picture.JPG"])
def test_a_file_becomes_one_job_and_moves_to_done(harness: Harness, name: str) -> None:
    harness.put(name)
    harness.scan(4)
    (job,) = harness.jobs()
    assert job.request["prompt"] == "rain"
    assert ("image" in job.request) == name.endswith("JPG")
    assert harness.names() == []
    assert harness.names("done") == [f"{job.id}-{name}"]
    assert b"".join(harness.store.open_read(str(job.input_key))) == b"video"
    assert harness.published == ["tiny_16k"]


def test_a_file_that_still_grows_is_not_taken(harness: Harness) -> None:
    path = harness.put("a.mp4", b"1")
    for _ in range(3):
        harness.scan(1)
        with path.open("ab") as file:
            file.write(b"2")
    assert harness.jobs() == []
    harness.scan(2)
    assert len(harness.jobs()) == 1


def test_a_file_that_somebody_holds_open_for_writing_is_not_taken_however_long(harness: Harness) -> None:
    with (harness.folder / "a.mp4").open("wb") as file:
        file.write(b"half")
        file.flush()
        harness.scan(5)
        assert harness.jobs() == []
    harness.scan(2)
    assert len(harness.jobs()) == 1


@pytest.mark.parametrize("name", [".a.mp4", "a.mp4.part", "a.mp4.crdownload", "a.mp4~", "notes.txt", "noending"])
def test_other_names_are_left_alone(harness: Harness, name: str) -> None:
    harness.put(name)
    harness.scan(4)
    assert (harness.jobs(), harness.names()) == ([], [name])


def test_a_finished_download_is_taken_by_its_new_name(harness: Harness) -> None:
    path = harness.put("a.mp4.part")
    harness.scan(3)
    path.rename(harness.folder / "a.mp4")
    harness.scan(2)
    assert len(harness.jobs()) == 1


def test_a_crash_between_commit_and_move_makes_no_second_job(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.put("a.mp4")

    def dies(*_: Any) -> None:
        raise OSError("the power went")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="power"):
        patched.setattr(Path, "rename", dies)
        harness.scan(2)
    assert len(harness.jobs()) == 1
    harness.source = harness.watcher()
    harness.scan(3)
    (job,) = harness.jobs()
    assert harness.names("done") == [f"{job.id}-a.mp4"]


def test_a_new_file_of_the_same_name_is_a_new_job(harness: Harness) -> None:
    for data in (b"one", b"two!"):
        harness.put("a.mp4", data)
        harness.scan(3)
    assert len(harness.jobs()) == len(harness.names("done")) == 2


@pytest.mark.parametrize(("data", "why"), [(b"", "0 bytes"), (b"x" * 101, "101 bytes")])
def test_a_file_of_no_use_is_refused_with_the_reason(harness: Harness, data: bytes, why: str) -> None:
    harness.put("a.mp4", data)
    harness.scan(3)
    assert (harness.jobs(), harness.names("refused")) == ([], ["a.mp4", "a.mp4.reason.txt"])
    assert why in (harness.folder / "refused" / "a.mp4.reason.txt").read_text()


def test_a_request_that_cannot_be_made_refuses_the_file(tmp_path: Path, harness: Harness) -> None:
    harness.settings = harness.settings.model_copy(update={"inbox_request": {"num_steps": 0}})
    harness.source = harness.watcher()
    harness.put("a.mp4")
    harness.scan(3)
    assert "num_steps" in (harness.folder / "refused" / "a.mp4.reason.txt").read_text()


def test_a_full_queue_leaves_the_file_until_there_is_room(harness: Harness) -> None:
    harness.policy = SubmitPolicy(variants=("tiny_16k",), max_queued_per_tenant=1)
    for name in ("a.mp4", "b.mp4"):
        harness.put(name)
    harness.scan(3)
    assert (len(harness.jobs()), harness.names()) == (1, ["b.mp4"])
    stored = list(harness.store.list_keys("uploads/"))
    harness.scan(2)
    assert list(harness.store.list_keys("uploads/")) == stored, "waiting stores no second copy"
    harness.policy = SubmitPolicy(variants=("tiny_16k",))
    harness.scan(1)
    assert (len(harness.jobs()), harness.names()) == (2, [])


def test_two_watchers_of_one_folder_make_one_job(harness: Harness) -> None:
    other = harness.watcher()
    harness.put("a.mp4")
    for _ in range(3):
        harness.source.scan()
        other.scan()
        harness.time += 4
    assert len(harness.jobs()) == 1


def test_a_link_and_a_folder_are_no_files(harness: Harness) -> None:
    (harness.folder / "link.mp4").symlink_to("/etc/hostname")
    (harness.folder / "folder.mp4").mkdir()
    harness.scan(3)
    assert harness.jobs() == []


def test_who_opens_a_file_in_the_moment_of_the_look_does_not_end_the_process(harness: Harness) -> None:
    """The kernel signals the holder of a lease; the default signal would end it."""
    path = harness.put("a.mp4")
    assert not module._open_for_writing(path)
    with path.open("ab"):
        assert module._open_for_writing(path)


def test_jobs_of_the_folder_belong_to_the_tenant_of_the_setting(harness: Harness) -> None:
    harness.settings = harness.settings.model_copy(update={"inbox_tenant": "studio"})
    harness.source = harness.watcher()
    harness.put("a.mp4")
    harness.scan()
    assert [job.tenant for job in harness.jobs()] == ["studio"]
