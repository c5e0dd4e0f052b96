"""An attempt whose input is a URL: whose hosts count, and how its trouble ends the attempt."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.db.key_tables import TenantSettings
from jobs.db.tables import Job
from jobs.errors import InputRefusedError, InputUnreachableError
from jobs.lifecycle import State
from jobs.service.attempts import Claim
from jobs.settings import Settings
from tests.unit.workers.runner.executor_harness import TENANT, ExecutorHarness
from workers.runner.active_jobs import StopReason

URL = "https://cdn.example.org/walk.mp4?signature=secret"


def submit(platform: ExecutorHarness) -> str:
    job_id = platform.submit()
    with platform.db.transaction() as tx:
        tx.session.get_one(Job, job_id).input_key = URL
    return job_id


def patched(monkeypatch: pytest.MonkeyPatch, step: Callable[..., None]) -> None:
    monkeypatch.setattr("workers.runner.attempt.fetch_url", step)


def test_the_hosts_of_the_jobs_tenant_count_at_the_time_of_the_attempt(
    platform: ExecutorHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, tuple[str, ...]]] = []

    def fetch(url: str, claim: Claim, settings: Settings, target: Path, *, hosts: tuple[str, ...], **_: Any) -> None:
        asked.append((url, hosts))
        raise InputRefusedError("not allowed")

    patched(monkeypatch, fetch)
    job_id = submit(platform)
    with platform.db.transaction() as tx:
        tx.session.add(TenantSettings(tenant=TENANT, input_hosts=["*.example.org", "*"], updated_at=tx.now))
    assert platform.run(job_id).state is State.FAILED
    assert asked == [(URL, ("*.example.org", "*"))]
    assert platform.error_codes(job_id) == ["input_refused"]


def test_a_host_in_trouble_costs_an_attempt_and_is_asked_again(
    platform: ExecutorHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise InputUnreachableError("did not answer in time")

    patched(monkeypatch, away)
    job_id = submit(platform)
    assert platform.run(job_id).state is State.QUEUED
    assert platform.error_codes(job_id) == ["input_unreachable"]


def test_a_full_scratch_disk_is_the_platforms_trouble(
    platform: ExecutorHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    patched(monkeypatch, full)
    job_id = submit(platform)
    assert platform.run(job_id).state is State.QUEUED
    assert platform.error_codes(job_id) == ["disk_full"]


def test_a_stopped_job_ends_its_download(platform: ExecutorHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: Any, check_stop: Callable[[], None], **__: Any) -> None:
        check_stop()
        for active_job in executor._active_jobs.all():
            active_job.stop(StopReason.DRAINED)
        check_stop()
        raise AssertionError("not stopped")

    patched(monkeypatch, fetch)
    job_id = submit(platform)
    executor = platform.executor()
    executor.run(job_id)
    assert platform.job(job_id).state is State.QUEUED
    assert platform.error_codes(job_id) in ([], ["worker_stopped"])
