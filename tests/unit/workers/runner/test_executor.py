"""What the executor logs of an attempt, and how a full disk ends one."""

from __future__ import annotations

import errno
import logging
import os
import re
import sqlite3
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from jobs.db.tables import Artifact
from jobs.errors import StorageFailedError
from jobs.lifecycle import Stage, State
from jobs.service import attempts
from jobs.service.artifact_metadata import artifact_from_object
from jobs.service.artifacts import artifacts_by_job
from jobs.service.cancellation import cancel
from jobs.storage.errors import StorageFullError
from mmaudio_model.media.audio import WrittenAudio
from tests.unit.workers.runner.executor_harness import TENANT, ExecutorHarness
from workers.runner.active_jobs import ActiveJob, StopReason
from workers.runner.availability import Availability


def no_space(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def database_full(*_: Any, **__: Any) -> Any:
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    raise OperationalError("UPDATE jobs", {}, full)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level("INFO")
    return caplog


def job_lines(log: pytest.LogCaptureFixture) -> list[str]:
    """Return the messages of the lines about attempts."""
    return [record.getMessage() for record in log.records if record.name == "workers.runner.job_log"]


def disk_full_lines(log: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in log.records if record.getMessage().startswith("disk full: ")]


def test_an_attempt_has_one_line_when_it_starts_and_one_when_it_ends(
    platform: ExecutorHarness, log: pytest.LogCaptureFixture
) -> None:
    job_id = platform.submit()
    platform.run(job_id)

    started, ended = job_lines(log)
    common = f"attempt=1 tenant={TENANT} variant=tiny_16k"
    assert re.fullmatch(rf"job {job_id} started: {common} queue_s=[\d.]+", started)
    assert ended.startswith(f"job {job_id} ended: {common} outcome=succeeded state=succeeded error=- ")
    for stage in Stage:
        assert f" {stage}_s=" in ended
    assert re.search(r" device_wait_s=[\d.]+ ", ended)
    assert re.search(r" total_s=[\d.]+$", ended)
    assert {record.levelno for record in log.records if record.name == "workers.runner.job_log"} == {logging.INFO}


@pytest.mark.parametrize(
    ("reason", "ending"),
    [
        (StopReason.DRAINED, "outcome=requeued state=queued error=- "),
        (StopReason.TIMED_OUT, "outcome=failed state=failed error=run_timeout "),
        (StopReason.CANCELED, "outcome=canceled state=canceled error=- "),
    ],
)
def test_the_line_of_a_stopped_attempt_says_why(
    platform: ExecutorHarness, log: pytest.LogCaptureFixture, reason: StopReason, ending: str
) -> None:
    def stop(active_job: ActiveJob, stage: Stage, *_: Any) -> None:
        if stage is Stage.SAMPLE:
            if reason is StopReason.CANCELED:
                with platform.db.transaction() as tx:
                    cancel(tx, active_job.claim.job_id)
            active_job.stop(reason)

    platform.report = stop
    platform.run(platform.submit())

    assert ending in job_lines(log)[-1]
    assert " encode_s=" in job_lines(log)[-1]


def test_the_line_of_a_failed_attempt_has_the_error_code(
    platform: ExecutorHarness, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr("workers.runner.attempt_files.write_audio", fails)
    platform.run(platform.submit())

    assert "outcome=failed state=queued error=internal_error " in job_lines(log)[-1]
    assert "ZeroDivisionError: a fault of ours" in log.text


def test_the_line_of_an_attempt_that_another_worker_has_taken_over_says_lost(
    platform: ExecutorHarness, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = platform.submit()

    def loses(*_: Any, **__: Any) -> WrittenAudio:
        with platform.db.transaction() as tx:
            attempts.rescue_expired(tx, platform.job(job_id))
        return WrittenAudio(16_000, "mono")

    monkeypatch.setattr("workers.runner.attempt_files.write_audio", loses)
    monkeypatch.setattr("workers.runner.attempt.AttemptPipeline._upload", lambda *_: None)
    platform.run(job_id)

    assert "outcome=lost " in job_lines(log)[-1]


def test_a_full_scratch_disk_ends_the_attempt_with_its_code_and_one_line(
    platform: ExecutorHarness, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.runner.attempt_files.write_audio", no_space)
    jobs = [platform.submit() for _ in range(3)]
    for job_id in jobs:
        assert platform.run(job_id).state is State.QUEUED
        platform.availability = Availability({}, variants=["tiny_16k"], worker_id="w1")

    assert [platform.error_codes(job_id) for job_id in jobs] == [["disk_full"]] * 3
    assert [line.split(",")[0] for line in disk_full_lines(log)] == [f"disk full: {platform.settings.scratch_dir}"]
    assert all("error=disk_full " in line for line in job_lines(log)[1::2])
    assert "Traceback" not in log.text


def test_a_full_object_folder_ends_the_attempt_with_disk_full(
    platform: ExecutorHarness, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.storage.local.os.fsync", no_space)
    job_id = platform.submit()
    platform.run(job_id)

    assert platform.error_codes(job_id) == ["disk_full"]
    assert disk_full_lines(log)[0].startswith(f"disk full: {platform.settings.data_dir / 'objects'}, ")
    assert list(platform.store.list_keys("jobs/")) == []


def test_a_scratch_disk_that_is_full_while_the_input_is_fetched_is_named(
    platform: ExecutorHarness, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*_: Any) -> None:
        raise StorageFailedError("no input") from StorageFullError("Could not copy: no room.", "local")

    monkeypatch.setattr("workers.runner.attempt.fetch_input", fetch)
    job_id = platform.submit()
    platform.run(job_id)

    assert platform.error_codes(job_id) == ["disk_full"]
    assert disk_full_lines(log)[0].startswith(f"disk full: {platform.settings.scratch_dir}, ")


def test_a_database_that_is_full_when_a_job_is_claimed_leaves_the_job_queued(
    platform: ExecutorHarness, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = platform.submit()
    monkeypatch.setattr(attempts, "claim", database_full)

    assert platform.run(job_id).state is State.QUEUED
    assert disk_full_lines(log)[0].startswith(f"disk full: {platform.settings.data_dir / 'mmaudio.db'}, ")
    assert job_lines(log) == []


def test_a_database_that_is_full_when_a_job_succeeds_costs_no_attempt_and_its_objects_are_deleted(
    platform: ExecutorHarness, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "complete", database_full)
    job_id = platform.submit()

    assert platform.run(job_id).state is State.QUEUED
    assert platform.error_codes(job_id) == ["disk_full"]
    assert list(platform.store.list_keys("jobs/")) == []
    assert len(disk_full_lines(log)) == 1


def test_a_database_that_stays_full_leaves_the_end_to_maintenance(
    platform: ExecutorHarness, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in ("complete", "give_back"):
        monkeypatch.setattr(attempts, step, database_full)

    assert platform.run(platform.submit()).state is State.RUNNING
    assert "outcome=unknown state=unknown error=disk_full " in job_lines(log)[-1]
    assert len(disk_full_lines(log)) == 1
    assert "Traceback" not in log.text


def test_a_stored_file_describes_its_artifact_so_that_a_lost_row_can_be_restored(platform: ExecutorHarness) -> None:
    job = platform.run(platform.submit(num_samples=2))
    with platform.db.reading() as tx:
        rows = artifacts_by_job(tx, [job.id])[job.id]
    columns = [column.name for column in Artifact.__table__.columns]
    for row in rows:
        restored = artifact_from_object(job, platform.store.head(row.storage_key))
        assert {name: getattr(restored, name) for name in columns} == {name: getattr(row, name) for name in columns}
    assert len(rows) == 2
