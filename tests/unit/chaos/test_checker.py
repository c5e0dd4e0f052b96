"""The checker names each job that failed for the platform's own trouble, and each attempt that was spent on it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from chaos.checker import Checker, CheckResult
from chaos.ledger import Entry, Kind, Ledger, inbox_entry, small_entry
from jobs.db.database import Database
from jobs.db.tables import Job
from jobs.errors import Failure
from jobs.lifecycle import ArtifactKind, State
from jobs.request import JobRequest
from jobs.service import attempts
from jobs.service.attempts import Claim, NewArtifact
from jobs.service.submission import SubmitPolicy, submit
from jobs.service.uploads import store_upload
from jobs.service.workers import register_worker
from jobs.storage.local import LocalStore
from tests.conftest import FakeClock
from tests.databases import migrated_sqlite

MAX_ATTEMPTS = 3
AWAY = Failure("storage_unavailable", "The object store did not answer.", "upload", retryable=True)
HIT_PID, OTHER_PID = 11, 12


@dataclass
class Run:
    """A run in which the platform's parts are played by the test."""

    db: Database
    clock: FakeClock
    folder: Path
    ledger: Ledger = field(default_factory=lambda: Ledger([]))

    def __post_init__(self) -> None:
        self.store = LocalStore(self.folder / "store")
        self.policy = SubmitPolicy(variants=("tiny_16k",), max_attempts=MAX_ATTEMPTS)
        for worker, pid in (("hit", HIT_PID), ("other", OTHER_PID)):
            with self.db.transaction() as tx:
                register_worker(
                    tx, worker_id=worker, hostname="h", pid=pid, device="cpu:0", slots=1, variants=["tiny_16k"]
                )

    def submit(self, entry: Entry, **fields: Any) -> str:
        self.ledger.add(entry)
        return self.submit_fields({**entry.fields, **fields}, entry)

    def submit_fields(self, fields: dict[str, Any], entry: Entry | None = None) -> str:
        with self.db.of_tenant("default").transaction() as tx:
            job_id = submit(tx, JobRequest(**fields), policy=self.policy).job.id
        if entry is not None and not entry.from_inbox:
            entry.job_id = job_id
        return job_id

    def upload(self, name: str) -> str:
        path = self.folder / "content.mp4"
        path.write_bytes(b"video")
        return store_upload(
            self.db.of_tenant("default"), self.store, path, filename=name, content_type="video/mp4", ttl_s=60
        )

    def claim(self, job_id: str, worker: str = "other") -> Claim:
        with self.db.transaction() as tx:
            claim = attempts.claim(tx, job_id, worker_id=worker, lease_s=12)
        assert claim is not None
        return claim

    def fail(self, job_id: str, failure: Failure = AWAY, worker: str = "other") -> State:
        claim = self.claim(job_id, worker)
        with self.db.transaction() as tx:
            state = attempts.fail(tx, claim, failure)
        self.clock.advance(600)  # past the backoff
        return state

    def lose(self, job_id: str, worker: str) -> None:
        self.claim(job_id, worker)
        with self.db.transaction() as tx:
            job = tx.session.get(Job, job_id)
            assert job is not None
            attempts.rescue_expired(tx, job)
        self.clock.advance(600)

    def release(self, job_id: str) -> None:
        claim = self.claim(job_id)
        with self.db.transaction() as tx:
            attempts.release(tx, claim)

    def succeed(self, job_id: str, *files: tuple[str, ArtifactKind]) -> None:
        claim = self.claim(job_id)
        made = []
        for name, kind in files or (("audio.wav", ArtifactKind.AUDIO),):
            path = self.folder / "made"
            path.write_bytes(b"sound")
            key = f"jobs/{job_id}/{claim.attempt}/{name}"
            sha256 = hashlib.sha256(b"sound").hexdigest()
            self.store.put_file(key, path, content_type="audio/wav")
            made.append(NewArtifact(name, kind, "wav", "audio/wav", key, 5, sha256, 1.0, 0, 7))
        with self.db.transaction() as tx:
            assert attempts.complete(tx, claim, made, warnings=[], timings={}, artifact_ttl_s=60)

    def check(self) -> CheckResult:
        checker = Checker(self.db, self.store, None, self.ledger, max_attempts=MAX_ATTEMPTS, hit={HIT_PID})
        return checker.check()


@pytest.fixture
def run(tmp_path: Path, clock: FakeClock) -> Iterator[Run]:
    db = Database(migrated_sqlite(tmp_path / "mmaudio.db"), clock=clock).of_platform()
    yield Run(db, clock, tmp_path)
    db.close()


def test_jobs_that_succeed_at_once_or_after_releases_leave_nothing_to_report(run: Run) -> None:
    run.succeed(run.submit(small_entry("a")))
    given_back = run.submit(small_entry("b"))
    run.release(given_back)
    run.release(given_back)
    run.succeed(given_back)
    result = run.check()
    assert result.valid, result
    assert (result.submitted, result.recovered) == (2, 1)


def test_a_valid_request_that_failed_is_named_with_its_code_whatever_the_code(run: Run) -> None:
    away, gone = run.submit(small_entry("away")), run.submit(small_entry("gone"))
    for _ in range(MAX_ATTEMPTS):
        run.fail(away)
    assert run.fail(gone, Failure("input_missing", "The input is gone.", "fetch")) is State.FAILED
    result = run.check()
    assert [line.partition(" ended")[0] for line in result.failed] == [
        f"away (prompt, {away})",
        f"gone (prompt, {gone})",
    ]
    assert ["storage_unavailable" in line for line in result.failed] == [True, False]
    assert len(result.spent) == 1
    assert f"{away}): 3 of 3 counted attempts" in result.spent[0]
    assert not result.valid


def test_an_attempt_spent_on_the_store_is_named_also_when_the_job_succeeds_later(run: Run) -> None:
    job_id = run.submit(small_entry("a"))
    run.fail(job_id)
    run.succeed(job_id)
    result = run.check()
    assert result.failed == []
    assert result.spent == [
        f"a (prompt, {job_id}): 1 of 2 counted attempts spent on infrastructure "
        "(attempts: 1 failed (storage_unavailable), 2 succeeded)"
    ]
    assert not result.valid


def test_an_attempt_is_lost_rightly_only_with_a_worker_that_was_killed(run: Run) -> None:
    killed, silent = run.submit(small_entry("killed")), run.submit(small_entry("silent"))
    run.lose(killed, "hit")
    run.succeed(killed)
    run.lose(silent, "other")
    run.succeed(silent)
    assert [line.partition(" ")[0] for line in run.check().spent] == ["silent"]


def test_a_failure_that_the_request_earns_is_neither_failed_nor_spent(run: Run) -> None:
    upload = run.upload("broken.mp4")
    job_id = run.submit(Entry("broken", "default", Kind.BROKEN_VIDEO, {"metadata": {"ledger": "broken"}}), video=upload)
    run.fail(job_id, Failure("media_invalid", "The file is no video.", "decode"))
    assert run.check().valid


def test_files_of_the_inbox_are_told_apart_by_their_names(run: Run) -> None:
    run.ledger.add(inbox_entry("good.mp4", Kind.VIDEO), inbox_entry("never-taken.mp4", Kind.VIDEO), odd_files=1)
    both = (("audio.wav", ArtifactKind.AUDIO), ("video.mp4", ArtifactKind.VIDEO))
    for name in ("good.mp4", "odd name.mp4"):
        run.succeed(run.submit_fields({"video": run.upload(name), "metadata": {"ledger": "inbox"}}), *both)
    result = run.check()
    assert result.lost == ["never-taken.mp4 was put into the inbox and has no job"]
    assert (result.duplicated, result.unexpected, result.failed) == ([], [], [])
    run.submit_fields({"video": run.upload("another odd name.mp4"), "metadata": {"ledger": "inbox"}})
    assert run.check().duplicated == ["1 files with odd names made 2 jobs"]


def test_what_callers_could_not_do_makes_a_run_invalid(run: Run) -> None:
    run.succeed(run.submit(small_entry("a")))
    run.ledger.add_caller_error("a: the client gave up")
    result = run.check()
    assert (result.valid, result.caller_errors) == (False, ["a: the client gave up"])
