"""A full disk, of the worker or of the object folder: the job is retried, and nothing half-written is visible."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from jobs.lifecycle import State
from jobs.storage.errors import StorageFullError
from tests.integration.worker_harness import WorkerHarness


def refuse(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_scratch_disk_says_so_and_the_job_goes_back_unspent(
    impatient: WorkerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = impatient
    monkeypatch.setattr("workers.runner.attempt_files.write_audio", refuse)
    job_id = worker.submit()
    worker.runner.run(job_id)
    job = worker.job(job_id)
    assert job.state is State.QUEUED
    assert job.max_attempts - job.attempt == worker.settings.max_attempts
    assert worker.failures(job_id) == [("disk_full", "mux")]
    assert worker.kept() == []


def test_a_full_object_folder_says_so_and_keeps_nothing_of_the_write(
    impatient: WorkerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = impatient
    monkeypatch.setattr("jobs.storage.local.os.fsync", refuse)
    path = worker.settings.data_dir / "x"
    path.write_bytes(b"sound")
    with pytest.raises(StorageFullError, match=f"disk full at {worker.settings.data_dir}"):
        worker.store.put_file("k", path, content_type="audio/flac")
    job_id = worker.submit()
    worker.runner.run(job_id)
    assert worker.job(job_id).state is State.QUEUED
    assert worker.failures(job_id) == [("disk_full", "upload")]
    assert worker.kept() == []
    assert list(worker.store.unfinished_writes(older_than_s=-60)) == []
