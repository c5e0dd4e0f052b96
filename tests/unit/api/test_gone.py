"""Content that no longer exists: 410 says when and why, and no caller is sent on to an object store's XML."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from jobs.service.artifacts import mark_artifact_missing
from jobs.service.uploads import mark_upload_missing
from jobs.storage.errors import StorageUnavailableError
from tests.unit.api.conftest import Harness

STORE_URL = "https://store.example/audio.flac?X-Amz-Signature=0"


@pytest.fixture
def redirecting(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> Harness:
    """The app with a store that callers reach by themselves."""
    monkeypatch.setattr(harness.store, "presigned_get", lambda *_, **__: STORE_URL)
    return harness


def finished_job(harness: Harness) -> tuple[str, str]:
    """Return the id of a job that has made a file, and the file's path."""
    job_id = str(harness.submit()["id"])
    harness.succeed(job_id)
    return job_id, f"/v1/jobs/{job_id}/artifacts/audio.flac"


def problem(answer: Any, status: int) -> dict[str, Any]:
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json"), answer.data
    return dict(answer.json)


def ask(client: FlaskClient, method: str, path: str) -> Any:
    return client.open(path, method=method)


def test_an_artifact_past_its_time_says_since_when(harness: Harness) -> None:
    _, path = finished_job(harness)
    harness.clock.advance(3601)
    gone = problem(harness.client.get(path), 410)

    assert (gone["code"], gone["reason"]) == ("artifact_expired", "retention_time_passed")
    assert (gone["expired_at"], gone["deleted_at"]) == ("2026-01-01T13:00:00.000Z", None)
    assert "was kept until 2026-01-01 13:00 UTC, when its retention time passed; retry the job" in gone["detail"]


def test_an_artifact_that_was_found_missing_is_not_said_to_have_expired(harness: Harness) -> None:
    job_id, path = finished_job(harness)
    harness.clock.advance(60)
    with harness.db.transaction() as tx:
        mark_artifact_missing(tx, job_id, "audio.flac")
    harness.clock.advance(60)
    gone = problem(harness.client.get(path), 410)

    assert (gone["code"], gone["reason"]) == ("artifact_expired", "object_missing")
    assert (gone["expired_at"], gone["deleted_at"]) == (None, "2026-01-01T12:01:00.000Z")
    assert "has been missing in the object store since 2026-01-01 12:01 UTC; retry the job" in gone["detail"]


def test_an_upload_past_its_time_says_since_when(harness: Harness) -> None:
    body = {"filename": "a.mp4", "size_bytes": 5}
    announced = harness.client.post("/v1/uploads", json=body).json or {}
    with harness.db.transaction() as tx:
        mark_upload_missing(tx, announced["id"])
    gone = problem(harness.client.put(announced["upload"]["url"], data=b"video"), 410)
    assert (gone["code"], gone["reason"]) == ("upload_expired", "object_missing")
    assert gone["deleted_at"] == "2026-01-01T12:00:00.000Z"

    refused = problem(harness.client.post("/v1/jobs", json={"video": announced["id"]}), 422)
    assert "missing in the object store since 2026-01-01 12:00 UTC" in refused["errors"][0]["message"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_nobody_is_sent_to_an_object_that_is_gone(redirecting: Harness, method: str) -> None:
    job_id, path = finished_job(redirecting)
    assert redirecting.client.get(path).headers["Location"] == STORE_URL
    redirecting.store.delete([f"jobs/{job_id}/1/audio.flac"])
    answer = ask(redirecting.client, method, path)

    assert (answer.status_code, answer.mimetype) == (410, "application/problem+json")
    if method == "GET":
        gone = problem(answer, 410)
        assert (gone["code"], gone["reason"]) == ("object_gone", "object_missing")
        assert "retry the job to make it again" in gone["detail"]


def test_a_folder_without_the_object_answers_alike(harness: Harness) -> None:
    job_id, path = finished_job(harness)
    harness.store.delete([f"jobs/{job_id}/1/audio.flac"])
    assert problem(harness.client.get(path), 410)["code"] == "object_gone"


def test_a_missing_object_is_not_recorded_by_asking_for_it(redirecting: Harness) -> None:
    job_id, path = finished_job(redirecting)
    content = b"".join(redirecting.store.open_read(f"jobs/{job_id}/1/audio.flac"))
    redirecting.store.delete([f"jobs/{job_id}/1/audio.flac"])
    assert redirecting.client.get(path).status_code == 410
    (redirecting.store._objects / f"jobs/{job_id}/1").mkdir(parents=True, exist_ok=True)
    (redirecting.store._objects / f"jobs/{job_id}/1/audio.flac").write_bytes(content)
    shown = redirecting.client.get(f"/v1/jobs/{job_id}").json or {}

    assert shown["artifacts"][0]["expired"] is False


def test_nobody_is_sent_to_a_store_that_does_not_answer(redirecting: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    _, path = finished_job(redirecting)

    def refuse(key: str) -> None:
        raise StorageUnavailableError("timed out", "s3")

    monkeypatch.setattr(redirecting.store, "head", refuse)
    answer = redirecting.client.get(path)

    assert problem(answer, 503)["code"] == "storage_unavailable"
    assert answer.headers["Retry-After"]


def test_a_range_beyond_the_file_is_not_left_to_the_store(redirecting: Harness) -> None:
    _, path = finished_job(redirecting)
    answer = redirecting.client.get(path, headers={"Range": "bytes=10-"})
    assert problem(answer, 416)["code"] == "range_not_satisfiable"
    assert answer.headers["Content-Range"] == "bytes */10"
    assert redirecting.client.get(path, headers={"Range": "bytes=2-4"}).status_code == 302
