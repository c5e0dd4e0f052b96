"""What the log says of submits and of faults of the database and the object store."""

from __future__ import annotations

import logging
import sqlite3
from typing import Any

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from jobs.log_limit import INTERVAL_S, LogLimit
from jobs.storage.errors import StorageFullError
from tests.unit.api.conftest import Harness, MonotonicClock


def sqlite_full() -> Exception:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    return error


def test_one_line_tells_of_a_submitted_job_and_not_its_prompt(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        job = harness.submit(prompt="a secret wish", priority="high")
        upload = harness.upload()
        picture = harness.submit(image=upload)
        video = harness.submit(video=upload)
    lines = [record.getMessage() for record in caplog.records if record.name == "jobs.service.submission"]
    assert lines == [
        f"job {job['id']} submitted: tenant=default variant=tiny_16k priority=high input=text",
        f"job {picture['id']} submitted: tenant=default variant=tiny_16k priority=normal input=image",
        f"job {video['id']} submitted: tenant=default variant=tiny_16k priority=normal input=video",
    ]
    assert "secret" not in caplog.text


def test_a_refused_or_repeated_submit_is_not_logged(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            harness.client.post("/v1/jobs", json={"prompt": "rain"}, headers={"Idempotency-Key": "k1"})
        harness.client.post("/v1/jobs", json={"variant": "huge"})
    assert sum(record.name == "jobs.service.submission" for record in caplog.records) == 1


@pytest.mark.parametrize("cause", [sqlite_full(), psycopg.errors.DiskFull("could not extend file: No space left")])
def test_a_full_disk_of_the_database_is_507_and_logged_once_a_minute(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, cause: Exception
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OperationalError("INSERT INTO jobs (request) VALUES ('a secret wish')", {}, cause)

    monkeypatch.setattr("api.submission.submit_and_commit", full)

    def send() -> tuple[int, str]:
        answer = harness.client.post("/v1/jobs", json={"prompt": "a secret wish"})
        return answer.status_code, str((answer.json or {})["code"])

    assert [send() for _ in range(3)] == [(507, "database_full")] * 3
    assert [message for message in caplog.messages if "disk full" in message] == [f"disk full (database): {cause}"]
    assert "secret" not in caplog.text
    harness.monotonic.advance(INTERVAL_S)
    send()
    assert sum("disk full" in message for message in caplog.messages) == 2


def test_a_full_disk_of_the_store_is_507_and_logged(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise StorageFullError("no space left on device", "local")

    monkeypatch.setattr(harness.store, "put_stream", full)
    announced = harness.client.post("/v1/uploads", json={"filename": "a.mp4", "size_bytes": 5}).json or {}
    for _ in range(2):
        answer = harness.client.put(announced["upload"]["url"], data=b"video")
        assert (answer.status_code, (answer.json or {})["code"]) == (507, "storage_full")
    assert caplog.messages == ["disk full (storage): no space left on device"]


def test_a_database_that_is_down_is_logged_once_a_minute_without_the_statement(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(*_: Any, **__: Any) -> None:
        raise OperationalError("SELECT prompt", {}, Exception("server closed the connection"))

    monkeypatch.setattr("api.routes.jobs.list_jobs", gone)
    for _ in range(3):
        assert harness.client.get("/v1/jobs").status_code == 503
    assert caplog.messages == ["database: server closed the connection"]


def test_a_limit_counts_each_key_by_itself() -> None:
    clock = MonotonicClock()
    limit = LogLimit(clock)
    assert [limit.allows(key) for key in ("a", "a", "b")] == [True, False, True]
    clock.advance(INTERVAL_S)
    assert limit.allows("a")
