"""What becomes of an inbox file when its job has ended: refused if unreadable, its results in the outbox, once each."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import select

from jobs.db.database import Database
from jobs.db.tables import InboxFile, Job
from jobs.errors import Failure
from jobs.lifecycle import ArtifactKind, State
from jobs.service import attempts
from jobs.service.attempts import NewArtifact
from jobs.service.workers import register_worker
from jobs.settings import Settings
from jobs.storage.errors import StorageUnavailableError
from tests.databases import migrated_sqlite
from tests.unit.workers.event_sources.test_inbox import Harness
from tests.unit.workers.event_sources.test_inbox_faults import below, put
from workers.event_sources import outbox as outbox_module
from workers.event_sources.inbox_results import InboxResults


class ResultHarness(Harness):
    """An inbox with an outbox, and a worker's part played by the test."""

    def __init__(self, folder: Path, db: Database, outbox: Path | None) -> None:
        super().__init__(folder, db, outbox=outbox)
        with db.transaction() as tx:
            register_worker(tx, worker_id="w", hostname="h", pid=1, device="cpu:0", slots=9, variants=["tiny_16k"])

    def job(self, path: str) -> Job:
        return next(job for job in self.jobs() if job.request["metadata"]["inbox_path"] == path)

    def claim(self, path: str) -> Any:
        with self.db.transaction() as tx:
            claim = attempts.claim(tx, self.job(path).id, worker_id="w", lease_s=60)
        assert claim is not None
        return claim

    def succeed(self, path: str, *artifacts: tuple[str, int]) -> None:
        claim, new = self.claim(path), []
        for name, take in artifacts or (("audio.wav", 0),):
            key, data = f"jobs/{claim.job_id}/1/{name}", f"{name} of {path}".encode()
            stored = self.store.put_stream(key, io.BytesIO(data), content_type="audio/wav", max_bytes=len(data))
            kind = ArtifactKind.VIDEO if name.startswith("video") else ArtifactKind.AUDIO
            new.append(
                NewArtifact(
                    name=name,
                    kind=kind,
                    format=name.rpartition(".")[2],
                    content_type="audio/wav",
                    storage_key=key,
                    size_bytes=len(data),
                    sha256=str(stored.sha256),
                    duration_s=8.0,
                    take=take,
                    seed=7,
                )
            )
        with self.db.transaction() as tx:
            attempts.complete(tx, claim, new, warnings=[], timings={}, artifact_ttl_s=3600)

    def fail(self, path: str, code: str, message: str = "The file is no video.") -> None:
        claim = self.claim(path)
        with self.db.transaction() as tx:
            attempts.fail(tx, claim, Failure(code, message, "decode", False))

    def restart(self) -> None:
        self.source = self.watcher()

    def unsettled(self) -> int:
        with self.db.reading() as tx:
            return len(list(tx.session.scalars(select(InboxFile).where(InboxFile.settled_at.is_(None)))))


@pytest.fixture
def outbox(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


@pytest.fixture
def harness(tmp_path: Path, outbox: Path) -> Iterator[ResultHarness]:
    db = Database(migrated_sqlite(tmp_path / "mmaudio.db")).of_platform()
    yield ResultHarness(tmp_path, db, outbox)
    db.close()


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("code", ["media_invalid", "media_encrypted", "media_too_large", "input_too_large"])
def test_an_unreadable_video_moves_to_refused_when_its_job_fails_so(
    harness: ResultHarness, code: str, restarted: bool
) -> None:
    put(harness, b"day 1/caf\xe9.mp4")
    harness.scan(3)
    harness.fail("day 1/caf\\xe9.mp4", code)
    if restarted:
        harness.restart()
    harness.scan(1)
    assert below(harness.folder / "done") == []
    assert below(harness.folder / "refused") == [b"day 1/caf\xe9.mp4", b"day 1/caf\xe9.mp4.reason.txt"]
    reason = (harness.folder / "refused" / os.fsdecode(b"day 1/caf\xe9.mp4.reason.txt")).read_text()
    assert "The file is no video." in reason
    assert harness.jobs()[0].id in reason
    harness.scan(3)
    assert (len(harness.jobs()), harness.unsettled()) == (1, 0)


def test_another_failure_leaves_the_file_and_is_said(harness: ResultHarness, caplog: pytest.LogCaptureFixture) -> None:
    put(harness, b"a.mp4")
    harness.scan(3)
    harness.fail("a.mp4", "out_of_memory", "The device has too little memory.")
    harness.scan(3)
    assert (len(harness.names("done")), harness.names("refused")) == (1, [])
    assert sum("too little memory" in text for text in caplog.messages) == 1


def test_a_file_that_somebody_took_out_of_done_is_no_fault(harness: ResultHarness) -> None:
    put(harness, b"a.mp4")
    harness.scan(3)
    harness.fail("a.mp4", "media_invalid")
    next((harness.folder / "done").iterdir()).unlink()
    harness.scan(1)
    assert (harness.unsettled(), below(harness.folder / "refused")) == (0, [])


def test_results_are_put_into_the_outbox_under_the_name_of_the_input(harness: ResultHarness, outbox: Path) -> None:
    put(harness, b"day 1/cam/clip.mp4")
    put(harness, b"caf\xe9.mov")
    harness.scan(3)
    harness.succeed(
        "day 1/cam/clip.mp4", ("audio-1.wav", 0), ("video-1.mp4", 0), ("audio-2.wav", 1), ("video-2.mp4", 1)
    )
    harness.succeed("caf\\xe9.mov")
    harness.restart()
    harness.scan(3)
    assert below(outbox) == [
        b"caf\xe9.wav",
        b"day 1/cam/clip-2.mp4",
        b"day 1/cam/clip-2.wav",
        b"day 1/cam/clip.mp4",
        b"day 1/cam/clip.wav",
    ]
    assert (outbox / "day 1/cam/clip-2.wav").read_text() == "audio-2.wav of day 1/cam/clip.mp4"
    assert harness.unsettled() == 0


def test_sounds_with_and_without_the_original_one_are_told_apart_in_the_outbox(
    harness: ResultHarness, outbox: Path
) -> None:
    put(harness, b"clip.mp4")
    harness.scan(3)
    names = [f"{name}-{take}.wav" for take in (1, 2) for name in ("audio-effect", "audio-mix")]
    harness.succeed("clip.mp4", *((name, place // 2) for place, name in enumerate(names)), ("video-1.mov", 0))
    harness.scan(3)
    assert below(outbox) == [
        b"clip-effect-2.wav", b"clip-effect.wav", b"clip-mix-2.wav", b"clip-mix.wav", b"clip.mov"
    ]  # fmt: skip


def test_a_file_in_the_outbox_is_never_replaced(harness: ResultHarness, outbox: Path) -> None:
    outbox.mkdir()
    (outbox / "clip.wav").write_text("of somebody else")
    for name in ("clip.mp4", "clip.mov"):
        put(harness, name.encode())
    harness.scan(3)
    harness.succeed("clip.mp4")
    harness.succeed("clip.mov")
    harness.scan(2)
    assert below(outbox) == [b"clip (2).wav", b"clip (3).wav", b"clip.wav"]
    assert (outbox / "clip.wav").read_text() == "of somebody else"


def test_a_long_name_gets_a_shorter_one_in_the_outbox(harness: ResultHarness, outbox: Path) -> None:
    put(harness, "é".encode() * 125 + b".mp4")
    harness.scan(3)
    harness.succeed("é" * 125 + ".mp4", ("audio-1.flac", 0), ("audio-2.flac", 1))
    harness.scan(1)
    assert len(below(outbox)) == 2
    assert all(name.endswith(b".flac") for name in below(outbox))


@pytest.mark.parametrize("moment", ["before", "after", "drafted"])
def test_a_crash_while_a_result_is_placed_places_it_once(
    harness: ResultHarness, outbox: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    put(harness, b"clip.mp4")
    harness.scan(3)
    harness.succeed("clip.mp4", ("audio.wav", 0), ("video.mp4", 0))
    real_publish, real_record = outbox_module._publish, InboxResults._record

    class Crash(BaseException):
        pass

    def publish(draft: Path, path: Path) -> None:
        if moment == "before":
            raise Crash
        real_publish(draft, path)
        if moment == "after":
            raise Crash

    def record(self: InboxResults, file: InboxFile, artifact: str, name: str, *, placed: bool) -> None:
        if moment == "drafted" and placed:
            raise Crash
        real_record(self, file, artifact, name, placed=placed)

    with monkeypatch.context() as patched, pytest.raises(Crash):
        patched.setattr(outbox_module, "_publish", publish)
        patched.setattr(InboxResults, "_record", record)
        harness.scan(1)
    harness.restart()
    harness.scan(3)
    assert below(outbox) == [b"clip.mp4", b"clip.wav"]
    assert (outbox / "clip.wav").read_text() == "audio.wav of clip.mp4"


def test_a_result_that_somebody_took_away_is_not_placed_again(harness: ResultHarness, outbox: Path) -> None:
    put(harness, b"clip.mp4")
    harness.scan(3)
    harness.succeed("clip.mp4")
    harness.scan(1)
    (outbox / "clip.wav").unlink()
    harness.restart()
    harness.scan(3)
    assert below(outbox) == []


def test_a_name_that_is_taken_between_record_and_crash_is_left_to_its_owner(
    harness: ResultHarness, outbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(harness, b"clip.mp4")
    harness.scan(3)
    harness.succeed("clip.mp4")
    real = outbox_module._publish

    def publish(draft: Path, path: Path) -> None:
        if path.name == "clip.wav":
            path.write_text("of somebody else")
        real(draft, path)

    monkeypatch.setattr(outbox_module, "_publish", publish)
    harness.scan(1)
    assert below(outbox) == [b"clip (2).wav", b"clip.wav"]
    assert (outbox / "clip.wav").read_text() == "of somebody else"


@pytest.mark.parametrize(
    "exc", [OSError(errno.ENOSPC, "No space left on device"), StorageUnavailableError("no answer", "s3")]
)
def test_an_outbox_or_store_that_fails_is_tried_again_and_stops_nothing(
    harness: ResultHarness,
    outbox: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    exc: Exception,
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise exc

    put(harness, b"clip.mp4")
    harness.scan(3)
    harness.succeed("clip.mp4")
    with monkeypatch.context() as patched:
        patched.setattr(harness.store, "download_to", fails)
        harness.scan(10)
        put(harness, b"other.mp4")
        harness.scan(3)
    assert len(harness.jobs()) == 2
    assert below(outbox) == []
    assert sum("tried again" in text for text in caplog.messages) <= 1
    harness.time += 600
    harness.scan(1)
    assert below(outbox) == [b"clip.wav"]


def test_one_result_that_cannot_be_placed_does_not_stop_the_others(
    harness: ResultHarness, outbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.mp4", "b.mp4"):
        put(harness, name.encode())
    harness.scan(3)
    harness.succeed("a.mp4")
    harness.succeed("b.mp4")
    harness.store.delete([f"jobs/{harness.job('a.mp4').id}/1/audio.wav"])
    harness.scan(2)
    assert below(outbox) == [b"b.wav"]


def test_a_result_that_expires_before_it_can_be_placed_is_said(
    harness: ResultHarness, outbox: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put(harness, b"a.mp4")
    harness.scan(3)
    harness.succeed("a.mp4")
    monkeypatch.setattr("workers.event_sources.inbox_results.artifact_expired", lambda *_: True)
    harness.scan(1)
    assert (below(outbox), harness.unsettled()) == ([], 0)
    assert "has expired" in caplog.text


def test_an_outbox_inside_the_inbox_is_not_taken_for_input(tmp_path: Path) -> None:
    db = Database(migrated_sqlite(tmp_path / "mmaudio.db")).of_platform()
    harness = ResultHarness(tmp_path, db, tmp_path / "inbox" / "results")
    put(harness, b"clip.mp4")
    harness.scan(3)
    harness.succeed("clip.mp4", ("audio.wav", 0), ("video.mp4", 0))
    harness.scan(6)
    assert below(harness.folder / "results") == [b"clip.mp4", b"clip.wav"]
    assert len(harness.jobs()) == 1
    db.close()


@pytest.mark.parametrize("outbox", ["inbox", "."])
def test_an_outbox_whose_files_would_be_inputs_is_refused(tmp_path: Path, outbox: str) -> None:
    with pytest.raises(ValidationError, match="results would become jobs"):
        Settings(data_dir=tmp_path, outbox=tmp_path / outbox)


def test_without_an_outbox_results_stay_in_the_store(tmp_path: Path) -> None:
    db = Database(migrated_sqlite(tmp_path / "mmaudio.db")).of_platform()
    harness = ResultHarness(tmp_path, db, None)
    put(harness, b"clip.mp4")
    harness.scan(3)
    harness.succeed("clip.mp4")
    harness.scan(1)
    assert (harness.unsettled(), harness.job("clip.mp4").state) == (0, State.SUCCEEDED)
    db.close()


def test_the_jobs_of_another_inbox_are_left_to_it(tmp_path: Path, harness: ResultHarness, outbox: Path) -> None:
    put(harness, b"clip.mp4")
    harness.scan(3)
    harness.succeed("clip.mp4")
    (tmp_path / "other").mkdir()
    other = Harness(tmp_path / "other", harness.db, outbox=tmp_path / "other-outbox")
    other.scan(2)
    assert not (tmp_path / "other-outbox").exists()
    harness.scan(1)
    assert below(outbox) == [b"clip.wav"]


def test_ended_jobs_behind_many_waiting_ones_are_found(
    harness: ResultHarness, outbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.event_sources.inbox_results.PAGE", 2)
    for number in range(9):
        put(harness, f"{number}.mp4".encode())
    harness.scan(2)
    harness.succeed("8.mp4")
    harness.scan(6)
    assert below(outbox) == [b"8.wav"]
