"""Retention: which objects are deleted when, and which are kept."""

from __future__ import annotations

import io
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from jobs.lifecycle import ArtifactKind
from jobs.service import attempts
from jobs.service.attempts import NewArtifact
from jobs.service.cancellation import cancel
from jobs.service.maintenance import fail_overdue_jobs, rescue_expired_leases
from jobs.service.retention import ATTEMPT_GRACE_S, UPLOAD_GRACE_S, prune
from jobs.service.running_attempts import renew_leases
from jobs.service.uploads import get_upload, store_upload
from jobs.storage.errors import StorageError, StorageUnavailableError, WriteRefusedError
from jobs.storage.local import LocalStore
from tests.conftest import FakeClock
from tests.contract.domain.conftest import TENANT, Steps


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "objects")


def put(store: LocalStore, key: str) -> str:
    store.put_stream(key, io.BytesIO(b"sound"), content_type="audio/flac", max_bytes=5)
    return key


def nowhere(output: str, job_id: str, attempt: int) -> int:
    raise AssertionError(f"nothing was delivered to {output} by attempt {attempt} of {job_id}")


def upload(steps: Steps, store: LocalStore) -> str:
    return store_upload(steps.db.of_tenant(TENANT), store, b"video", filename="v", content_type="video/mp4", ttl_s=60)


def test_artifacts_go_when_their_time_is_over_and_the_rows_say_so(
    steps: Steps, store: LocalStore, clock: FakeClock
) -> None:
    job_id = steps.submit().id
    claim = steps.claimed(job_id)
    key = put(store, f"jobs/{job_id}/1/audio.flac")
    artifact = NewArtifact("audio.flac", ArtifactKind.AUDIO, "flac", "audio/flac", key, 5, "0" * 64, 8.0, 0, 7)
    with steps.db.transaction() as tx:
        attempts.complete(tx, claim, [artifact], warnings=[], timings={}, artifact_ttl_s=60)
    clock.advance(59)
    assert prune(steps.db, store, nowhere).artifacts == 0
    clock.advance(2)
    assert prune(steps.db, store, nowhere).artifacts == 1
    assert prune(steps.db, store, nowhere).artifacts == 0
    assert list(store.list_keys("jobs/")) == []


def test_an_upload_that_a_job_still_needs_outlives_its_time(steps: Steps, store: LocalStore, clock: FakeClock) -> None:
    needed, other = upload(steps, store), upload(steps, store)
    job_id = steps.submit(video=needed).id
    clock.advance(60 + UPLOAD_GRACE_S - 1)
    assert prune(steps.db, store, nowhere).uploads == 0
    clock.advance(2)
    assert prune(steps.db, store, nowhere).uploads == 1
    with steps.db.reading() as tx:
        assert get_upload(tx, other).deleted_at is not None
        assert get_upload(tx, needed).deleted_at is None
    steps.complete(steps.claimed(job_id))
    assert prune(steps.db, store, nowhere).uploads == 1
    assert list(store.list_keys("uploads/")) == []


def test_what_a_dead_worker_left_is_removed_and_the_result_stays(
    steps: Steps, store: LocalStore, clock: FakeClock
) -> None:
    job_id = steps.submit().id
    steps.claimed(job_id)
    put(store, f"jobs/{job_id}/1/audio.flac")
    clock.advance(13)
    rescue_expired_leases(steps.db)
    kept = put(store, f"jobs/{job_id}/2/audio.flac")
    steps.complete(steps.claimed(job_id))
    assert prune(steps.db, store, nowhere).attempts == 0  # a stopped worker might still come back
    clock.advance(ATTEMPT_GRACE_S + 1)
    assert prune(steps.db, store, nowhere).attempts == 1
    assert prune(steps.db, store, nowhere).attempts == 0
    assert list(store.list_keys("jobs/")) == [kept]


class TheirBucket:
    """Notes what was to be withdrawn; refuses as long as `refusals` say."""

    def __init__(self, *refusals: StorageError) -> None:
        self.refusals = list(refusals)
        self.asked: list[tuple[str, str, int]] = []

    def withdraw(self, output: str, job_id: str, attempt: int) -> int:
        self.asked.append((output, job_id, attempt))
        if self.refusals:
            raise self.refusals.pop(0)
        return 1


def canceled_behind_a_delivery(steps: Steps, clock: FakeClock) -> str:
    """Two attempts are lost; the job waits for a third one and is canceled."""
    job_id = steps.submit(deliver_to="s3://theirs/out/").id
    for _ in range(2):
        steps.claimed(job_id)
        clock.advance(13)
        rescue_expired_leases(steps.db)
    clock.advance(ATTEMPT_GRACE_S + 1)
    return job_id


def test_what_dead_attempts_delivered_is_withdrawn_when_the_job_has_ended(
    steps: Steps, store: LocalStore, clock: FakeClock
) -> None:
    theirs = TheirBucket()
    job_id = canceled_behind_a_delivery(steps, clock)
    assert prune(steps.db, store, theirs.withdraw).attempts == 0  # a third attempt would write to the same names
    with steps.db.transaction() as tx:
        cancel(tx, job_id)
    clock.advance(ATTEMPT_GRACE_S + 1)
    assert prune(steps.db, store, theirs.withdraw).attempts == 2
    assert prune(steps.db, store, theirs.withdraw).attempts == 0
    assert theirs.asked == [("s3://theirs/out/", job_id, 1), ("s3://theirs/out/", job_id, 2)]


def test_a_callers_bucket_that_is_away_is_asked_again_and_one_that_refuses_is_not(
    steps: Steps, store: LocalStore, clock: FakeClock
) -> None:
    theirs = TheirBucket(StorageUnavailableError("No answer.", "s3"), WriteRefusedError("403.", "s3"))
    job_id = canceled_behind_a_delivery(steps, clock)
    with steps.db.transaction() as tx:
        cancel(tx, job_id)
    clock.advance(ATTEMPT_GRACE_S + 1)
    assert [prune(steps.db, store, theirs.withdraw).attempts for _ in range(3)] == [1, 1, 0]
    assert [attempt for _, _, attempt in theirs.asked] == [1, 2, 1]


@pytest.mark.parametrize(("why", "code"), [("timeout", "run_timeout"), ("cancel", None)])
def test_a_worker_that_renews_its_lease_but_never_stops_loses_the_job(
    steps: Steps, clock: FakeClock, why: str, code: str | None
) -> None:
    job_id = steps.submit(run_timeout_s=100).id
    claim = steps.claimed(job_id)
    if why == "cancel":
        with steps.db.transaction() as tx:
            cancel(tx, job_id)
    late_s = 35 if why == "cancel" else 135
    for elapsed_s in range(5, late_s + 5, 5):
        clock.advance(5)
        with steps.db.transaction() as tx:
            renew_leases(tx, [(job_id, claim.attempt)], worker_id="worker-1", lease_s=12)
        if elapsed_s < late_s:
            assert fail_overdue_jobs(steps.db, overdue_grace_s=30) == 0
    assert fail_overdue_jobs(steps.db, overdue_grace_s=30) == 1
    job = steps.job(job_id)
    assert (str(job.state), job.error_code) == ("canceled" if why == "cancel" else "failed", code)
    with steps.db.transaction() as tx:
        assert renew_leases(tx, [(job_id, claim.attempt)], worker_id="worker-1", lease_s=12) == {job_id}


def test_a_disk_too_full_to_record_removals_is_freed_all_the_same(
    steps: Steps, store: LocalStore, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.service.retention.BATCH", 2)
    for _ in range(5):
        upload(steps, store)
    clock.advance(60 + UPLOAD_GRACE_S + 1)

    def full(*_: object, **__: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise OperationalError("UPDATE", {}, error)

    with monkeypatch.context() as patch:
        patch.setattr(steps.db, "run", full)
        with pytest.raises(OperationalError):
            prune(steps.db, store, nowhere)
    assert list(store.list_keys("uploads/")) == []
    assert [prune(steps.db, store, nowhere).uploads for _ in range(4)] == [2, 2, 1, 0]
