"""DELETE of jobs and uploads over HTTP."""

from __future__ import annotations

import pytest

from jobs.storage.errors import StorageUnavailableError
from jobs.storage.local import LocalStore
from tests.unit.api.conftest import Harness


def test_a_deleted_job_is_410_everywhere_and_its_file_is_gone(harness: Harness) -> None:
    job_id = harness.submit()["id"]
    harness.succeed(job_id)
    url = harness.client.get(f"/v1/jobs/{job_id}").json["artifacts"][0]["url"]
    for _ in range(2):
        assert harness.client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert list(harness.store.list_keys("jobs/")) == []
    answers = [harness.client.get(f"/v1/jobs/{job_id}"), harness.client.get(url)]
    answers += [harness.client.post(f"/v1/jobs/{job_id}/{call}") for call in ("cancel", "retry")]
    assert [(answer.status_code, answer.json["code"]) for answer in answers] == [(410, "job_deleted")] * 4
    assert answers[0].json["reason"] == "deleted_by_owner"
    assert harness.client.get("/v1/jobs").json["data"] == []
    assert harness.client.get("/v1/jobs/counts").json["total"] == 0


def test_a_job_that_has_not_ended_is_409_with_the_job(harness: Harness) -> None:
    job_id = harness.submit()["id"]
    answer = harness.client.delete(f"/v1/jobs/{job_id}")
    assert (answer.status_code, answer.json["code"], answer.json["job"]["id"]) == (409, "job_not_ended", job_id)
    assert harness.client.delete("/v1/jobs/job_unknown").status_code == 404


def test_a_store_that_does_not_answer_does_not_fail_the_deletion(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = harness.submit()["id"]
    harness.succeed(job_id)

    def unavailable(*_: object) -> None:
        raise StorageUnavailableError("away", "local")

    monkeypatch.setattr(LocalStore, "delete", unavailable)
    assert harness.client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert harness.client.get(f"/v1/jobs/{job_id}").status_code == 410


def test_an_upload_is_deleted_and_then_410(harness: Harness) -> None:
    upload_id = harness.upload()
    job_id = harness.submit(video=upload_id)["id"]
    answer = harness.client.delete(f"/v1/uploads/{upload_id}")
    assert (answer.status_code, answer.json["code"]) == (409, "upload_in_use")
    harness.client.post(f"/v1/jobs/{job_id}/cancel")
    for _ in range(2):
        assert harness.client.delete(f"/v1/uploads/{upload_id}").status_code == 204
    assert list(harness.store.list_keys("uploads/")) == []
    gone = harness.client.get(f"/v1/uploads/{upload_id}")
    assert (gone.status_code, gone.json["code"]) == (410, "upload_deleted")
    answer = harness.client.post("/v1/jobs", json={"video": upload_id})
    assert answer.status_code == 422
    assert "deleted" in answer.json["errors"][0]["message"]


def test_content_is_refused_for_a_deleted_upload(harness: Harness) -> None:
    announced = harness.client.post("/v1/uploads", json={"filename": "a.mp4", "size_bytes": 5}).json
    assert harness.client.delete(f"/v1/uploads/{announced['id']}").status_code == 204
    assert harness.client.put(announced["upload"]["url"], data=b"video").status_code == 410


def test_what_is_deleted_no_longer_counts_for_the_tenant(harness: Harness) -> None:
    upload_id, job_id = harness.upload(b"0123456789"), harness.submit()["id"]
    harness.succeed(job_id)
    usage = harness.client.get("/v1/tenants/default").json["usage"]
    assert (usage["upload_bytes"], usage["result_bytes"]) == (10, 10)
    harness.client.delete(f"/v1/uploads/{upload_id}")
    harness.client.delete(f"/v1/jobs/{job_id}")
    usage = harness.client.get("/v1/tenants/default").json["usage"]
    assert (usage["upload_bytes"], usage["result_bytes"]) == (0, 0)
