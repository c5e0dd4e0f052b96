"""`POST /v1/jobs/retry` and the filter `code` of lists, over HTTP."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from api.schemas.bulk_retry import BulkRetryView
from jobs.errors import Failure
from jobs.service import attempts
from mmaudio_client import Client
from tests.unit.api.conftest import Harness
from tests.unit.api.test_documents import check

PATH = "/v1/jobs/retry"


def failed(harness: Harness, code: str = "storage_unavailable", **fields: Any) -> str:
    job_id = str(harness.submit(**fields)["id"])
    claim = harness.claim(job_id)
    with harness.db.transaction() as tx:
        attempts.fail(tx, claim, Failure(code, "No answer.", "upload", retryable=False))
    return job_id


def retried(harness: Harness, **body: Any) -> dict[str, Any]:
    answer = harness.client.post(PATH, json={"state": "failed", **body})
    assert answer.status_code == 200, answer.json
    return dict(answer.json or {})


def test_jobs_are_retried_by_filter_and_published(harness: Harness) -> None:
    harness.add_worker()
    old = failed(harness, seed=3, metadata={"batch": "7"})
    failed(harness, "media_invalid", metadata={"batch": "7"})
    failed(harness)
    harness.queue.published.clear()
    document = retried(
        harness, code="storage_unavailable", metadata={"batch": "7"}, variant="tiny_16k",
        created_after="2020-01-01T00:00:00Z", created_before="2030-01-01T00:00:00+02:00",
    )  # fmt: skip
    check(document, BulkRetryView)
    (one,) = document["retried"]
    assert one["retry_of"] == old
    assert harness.queue.published == [one["id"]]
    new = harness.client.get(f"/v1/jobs/{one['id']}").json or {}
    assert (new["state"], new["retry_of"], new["request"]["seed"]) == ("queued", old, 3)
    assert document["counts"] == {"matched": 1, "retried": 1, "already_retried": 0, "skipped": 0}
    again = retried(harness, code="storage_unavailable", metadata={"batch": "7"})
    assert (again["retried"], again["counts"]["already_retried"], again["next_cursor"]) == ([], 1, None)


def test_canceled_jobs_are_retried_too(harness: Harness) -> None:
    job = harness.submit()
    harness.client.post(job["links"]["cancel"])
    assert [one["retry_of"] for one in retried(harness, state="canceled")["retried"]] == [job["id"]]


def test_a_dry_run_makes_and_publishes_nothing(harness: Harness) -> None:
    old = failed(harness)
    harness.queue.published.clear()
    document = retried(harness, dry_run=True)
    assert (document["dry_run"], document["retried"]) == (True, [{"retry_of": old, "id": None}])
    assert (document["counts"]["retried"], harness.queue.published) == (1, [])
    assert retried(harness)["counts"]["retried"] == 1


def test_pages_follow_each_other_by_the_cursor(harness: Harness) -> None:
    old = [failed(harness) for _ in range(3)]
    first = retried(harness, limit=2)
    second = retried(harness, limit=2, cursor=first["next_cursor"])
    assert [one["retry_of"] for page in (first, second) for one in page["retried"]] == old
    assert second["next_cursor"] is None


def test_an_expired_input_is_skipped_with_the_reason(harness: Harness) -> None:
    old = failed(harness, video=harness.upload())
    harness.clock.advance(30 * 86_400)
    document = retried(harness)
    assert document["counts"] == {"matched": 1, "retried": 0, "already_retried": 0, "skipped": 1}
    (one,) = document["skipped"]
    assert (one["job"], one["code"]) == (old, "invalid_request")
    assert "upload the file again" in one["message"]


def test_a_full_queue_says_what_was_done_and_then_is_429(harness: Harness) -> None:
    for _ in range(3):
        failed(harness)
    for _ in range(18):  # of 20
        harness.submit()
    document = retried(harness)
    assert (document["counts"]["retried"], document["stopped"]["code"]) == (2, "queue_full")
    answer = harness.client.post(PATH, json={"state": "failed", "cursor": document["next_cursor"]})
    assert (answer.status_code, (answer.json or {})["code"], answer.headers["Retry-After"]) == (429, "queue_full", "30")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "state"),
        ({"state": "succeeded"}, "state"),
        ({"state": "queued"}, "state"),
        ({"state": "canceled", "code": "media_invalid"}, "code"),
        ({"state": "failed", "code": "No Code"}, "code"),
        ({"state": "failed", "code": "a\u0000"}, "code"),
        ({"state": "failed", "code": "a\n"}, "code"),
        ({"state": "failed", "variant": "a\u0000"}, "variant"),
        ({"state": "failed", "limit": 0}, "limit"),
        ({"state": "failed", "limit": 201}, "limit"),
        ({"state": "failed", "limit": "all"}, "limit"),
        ({"state": "failed", "dry_run": "yes"}, "dry_run"),
        ({"state": "failed", "created_after": "yesterday"}, "created_after"),
        ({"state": "failed", "created_before": "0001-01-01T00:00:00+10:00"}, "created_before"),
        ({"state": "failed", "metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"state": "failed", "colour": "red"}, "colour"),
        ({"state": "failed", "cursor": "nonsense"}, "cursor"),
    ],
)
def test_a_wrong_body_is_422_and_named(harness: Harness, body: dict[str, Any], field: str) -> None:
    answer = harness.client.post(PATH, json=body)
    assert answer.status_code == 422
    assert [error["field"].partition(".")[0] for error in (answer.json or {})["errors"]] == [field]
    assert answer.mimetype == "application/problem+json"


def test_metadata_with_a_nul_character_is_422(harness: Harness) -> None:
    answer = harness.client.post(PATH, json={"state": "failed", "metadata": {"a": "\u0000"}})
    assert answer.status_code == 422


def test_lists_are_filtered_by_error_code_and_time(harness: Harness) -> None:
    old = failed(harness)
    failed(harness, "media_invalid")
    listed = harness.client.get("/v1/jobs?state=failed&code=storage_unavailable").json or {}
    assert [job["id"] for job in listed["data"]] == [old]
    before = harness.client.get("/v1/jobs?created_before=2020-01-01T00:00:00Z").json or {}
    assert before["data"] == []
    for wrong in ("code=No%20Code", "code=a%00", "created_before=yesterday"):
        answer = harness.client.get(f"/v1/jobs?{wrong}")
        assert (answer.status_code, [e["field"] for e in (answer.json or {})["errors"]]) == (422, [wrong.split("=")[0]])


def test_the_openapi_document_describes_body_answer_and_errors(harness: Harness) -> None:
    document = harness.client.get("/openapi.json").json or {}
    operation = document["paths"][PATH]["post"]
    assert set(operation["responses"]) >= {"200", "422", "429", "503", "507"}
    schemas = document["components"]["schemas"]
    for name in ("BulkRetryBody", "BulkRetryView"):
        assert schemas[name]["example"]
    for field, schema in schemas["BulkRetryBody"]["properties"].items():
        assert schema.get("description"), field
    BulkRetryView.model_validate(schemas["BulkRetryView"]["example"])


def test_the_client_and_the_api_agree(harness: Harness) -> None:
    expired = failed(harness, video=harness.upload())
    harness.clock.advance(30 * 86_400)
    old = [failed(harness) for _ in range(3)]
    failed(harness, "media_invalid")
    transport = httpx.WSGITransport(app=harness.app)
    with Client("http://127.0.0.1:8000", transport=transport, sleep=lambda _: None) as client:
        result = client.retry_all(state="failed", code="storage_unavailable", limit=2)
        assert [one.retry_of for one in result.retried] == old[:2]
        assert [one.job_id for one in result.skipped] == [expired]
        rest = client.retry_all(state="failed", code="storage_unavailable", created_before="2100-01-01T00:00:00Z")
        assert ([one.retry_of for one in rest.retried], rest.already_retried) == (old[2:], 2)
        assert len(list(client.list(code="storage_unavailable"))) == 4


def test_a_bulk_retry_is_in_the_audit(harness: Harness) -> None:
    job_id = str(harness.submit()["id"])
    harness.client.post(f"/v1/jobs/{job_id}/cancel")
    for dry_run in (True, False, False):
        assert harness.client.post("/v1/jobs/retry", json={"state": "canceled", "dry_run": dry_run}).status_code == 200
    (entry,) = (harness.client.get("/v1/audit").json or {})["data"]
    assert (entry["actor"], entry["action"], entry["subject"]) == ("local", "jobs.retry", "default")
    assert entry["detail"]["jobs"] == 1
