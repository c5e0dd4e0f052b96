"""`/v1/batches` over HTTP: forms of the body, all or nothing, progress, cancel."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobs.service.batches import finish_batches
from tests.unit.api.conftest import Harness

JSONL = "application/x-ndjson"


def create(harness: Harness, body: Any, query: str = "", **headers: str) -> Any:
    return harness.client.post(f"/v1/batches{query}", json=body, headers=headers)


def created(harness: Harness, count: int = 3) -> dict[str, Any]:
    answer = create(harness, {"requests": [{"prompt": f"rain {n}"} for n in range(count)]})
    assert answer.status_code == 202, answer.json
    return dict(answer.json)


def test_an_object_an_array_and_lines_make_the_same_jobs(harness: Harness) -> None:
    requests = [{"prompt": "rain"}, {"prompt": "wind", "seed": 3}]
    lines = "\n".join(json.dumps(request) for request in requests) + "\n\n"
    answers = [
        create(harness, {"requests": requests, "name": "tonight", "metadata": {"a": "b"}}),
        create(harness, requests, "?name=tonight"),
        harness.client.post("/v1/batches?name=tonight", data=lines, content_type=JSONL),
        harness.client.post("/v1/batches?name=tonight", data=lines, content_type="application/jsonl"),
    ]
    assert [answer.status_code for answer in answers] == [202] * 4, answers[0].json
    for answer in answers:
        batch = answer.json
        assert (batch["name"], batch["state"], batch["total"], batch["progress"]) == ("tonight", "active", 2, 0.0)
        assert answer.headers["Location"] == batch["links"]["self"]
        jobs = harness.client.get(batch["links"]["jobs"]).json["data"]
        assert [(job["batch_index"], job["request"]["prompt"]) for job in jobs] == [(1, "wind"), (0, "rain")]
        assert {job["batch"] for job in jobs} == {batch["id"]}
        assert jobs[0]["links"]["batch"] == batch["links"]["self"]
    assert answers[0].json["metadata"] == {"a": "b"}


def test_one_wrong_request_creates_nothing_and_is_named(harness: Harness) -> None:
    requests = [{"prompt": "rain"}, {"prompt": "wind", "num_steps": 0}, 5, {"video": f"upl_{0:032x}"}]
    answer = create(harness, requests)
    assert answer.status_code == 422
    assert [(one["index"], one["field"]) for one in answer.json["errors"]] == [
        (1, "requests.1.num_steps"),
        (2, "requests.2.request"),
    ]
    answer = create(harness, requests[::3])
    assert [(one["index"], one["field"]) for one in answer.json["errors"]] == [(1, "requests.1.video")]
    assert harness.client.get("/v1/jobs").json["data"] == []
    assert harness.client.get("/v1/batches").json["data"] == []


def test_a_wrong_line_is_named_by_its_number(harness: Harness) -> None:
    answer = harness.client.post("/v1/batches", data='\n{"prompt": "a"}\n\n{"seed": -1}\n', content_type=JSONL)
    assert [(one["line"], one["index"]) for one in answer.json["errors"]] == [(4, 1)]
    answer = harness.client.post("/v1/batches", data='{"prompt": "a"}\n{"see', content_type=JSONL)
    assert (answer.status_code, answer.json["code"]) == (400, "malformed_json")
    assert "Line 2" in answer.json["detail"]


def test_at_most_a_hundred_errors_are_listed(harness: Harness) -> None:
    answer = create(harness, [{"seed": -1, "colour": "red"}] * 80)
    assert len(answer.json["errors"]) == 100


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"requests": []}, "requests"),
        ([], "requests"),
        ({"requests": [{}], "colour": 1}, "colour"),
        ({"requests": "x"}, "requests"),
        ("text", "body"),
        ({"requests": [{}], "webhook_url": "ftp://x"}, "webhook_url"),
        ({"requests": [{}] * 10_001}, "requests"),
        ([{}] * 10_001, "requests"),
    ],
)
def test_a_body_that_is_no_batch_is_refused(harness: Harness, body: Any, field: str) -> None:
    answer = create(harness, body)
    assert (answer.status_code, [one["field"] for one in answer.json["errors"]]) == (422, [field])


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_types_that_forms_of_other_sites_can_send_are_refused(harness: Harness, kind: str) -> None:
    answer = harness.client.post("/v1/batches", data='[{"prompt": "a"}]', content_type=kind)
    assert (answer.status_code, answer.json["code"]) == (415, "wrong_media_type")


def test_an_idempotency_key_gives_the_same_batch_again(harness: Harness) -> None:
    first, again = (create(harness, [{"prompt": "a"}], **{"Idempotency-Key": "k"}) for _ in range(2))
    other = create(harness, [{"prompt": "b"}], **{"Idempotency-Key": "k"})
    assert (first.status_code, again.status_code, other.status_code) == (202, 200, 422)
    assert again.json["id"] == first.json["id"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(harness.client.get("/v1/jobs").json["data"]) == 1


def test_the_whole_batch_counts_against_the_limit_of_queued_jobs(harness: Harness) -> None:
    created(harness, 15)
    answer = create(harness, [{}] * 6)  # 20 are allowed
    assert (answer.status_code, answer.json["code"]) == (429, "queue_full")
    assert answer.headers["Retry-After"]
    assert create(harness, [{}] * 21).status_code == 422
    assert create(harness, [{}] * 5).status_code == 202


def test_progress_and_the_end(harness: Harness) -> None:
    batch = created(harness, 2)
    url = batch["links"]["self"]
    jobs = harness.client.get(batch["links"]["jobs"]).json["data"]
    harness.succeed(jobs[0]["id"])
    half = harness.client.get(url).json
    assert (half["progress"], half["state"], half["finished_at"], half["counts"]["succeeded"]) == (
        0.5,
        "active",
        None,
        1,
    )
    harness.client.post(f"/v1/jobs/{jobs[1]['id']}/cancel")
    before = harness.client.get(url).json
    assert finish_batches(harness.db.of_platform()) == 1
    after = harness.client.get(url).json
    assert before == after
    assert (after["progress"], after["state"]) == (1.0, "finished")
    assert after["finished_at"] is not None
    assert after["counts"] == {"queued": 0, "running": 0, "succeeded": 1, "failed": 0, "canceled": 1}
    assert harness.client.get("/v1/batches").json["data"] == [after]


def test_cancel_ends_queued_jobs_and_asks_running_ones(harness: Harness) -> None:
    batch = created(harness)
    url = batch["links"]["self"]
    job_id = harness.client.get(batch["links"]["jobs"]).json["data"][0]["id"]
    harness.claim(job_id)
    answer = harness.client.post(f"{url}/cancel")
    assert (answer.status_code, answer.json["cancel_requested"]) == (202, True)
    assert answer.json["counts"] == {"queued": 0, "running": 1, "succeeded": 0, "failed": 0, "canceled": 2}
    assert harness.client.get(f"/v1/jobs/{job_id}").json["cancel_requested"] is True
    assert harness.client.post(f"{url}/cancel").status_code == 202
    assert harness.client.get("/v1/jobs/counts").json["canceled"] == 2


def test_a_finished_batch_cannot_be_canceled(harness: Harness) -> None:
    batch = created(harness, 1)
    harness.succeed(harness.client.get(batch["links"]["jobs"]).json["data"][0]["id"])
    answer = harness.client.post(batch["links"]["cancel"])
    assert (answer.status_code, answer.json["code"]) == (409, "batch_ended")


def test_batches_page_newest_first(harness: Harness) -> None:
    ids = [created(harness, 1)["id"] for _ in range(3)]
    page = harness.client.get("/v1/batches?limit=2").json
    rest = harness.client.get(page["links"]["next"]).json
    assert [one["id"] for one in page["data"] + rest["data"]] == ids[::-1]
    assert rest["next_cursor"] is None
    assert harness.client.get("/v1/batches/bat_unknown").json["code"] == "batch_not_found"


def test_uploads_of_a_batch_are_checked(harness: Harness) -> None:
    ready = harness.upload()
    pending = harness.client.post("/v1/uploads", json={"filename": "a.mp4", "size_bytes": 5}).json["id"]
    answer = create(harness, [{"video": ready}, {"video": pending}, {"video": ready}])
    assert [(one["index"], one["field"]) for one in answer.json["errors"]] == [(1, "requests.1.video")]
    assert create(harness, [{"video": ready}, {"image": ready}]).status_code == 202


def test_a_file_within_a_batch_is_refused_by_its_place(harness: Harness) -> None:
    answer = create(harness, [{"prompt": "a"}, {"video": "data:video/mp4;base64,AAAA"}])
    assert [(one["index"], one["field"]) for one in answer.json["errors"]] == [(1, "requests.1.video")]
    assert "upload the file" in answer.json["errors"][0]["message"]


def test_a_body_larger_than_a_job_may_have_is_taken(harness: Harness) -> None:
    answer = create(harness, [{"prompt": "x" * 20_000, "negative_prompt": "y" * 20_000}] * 15 + [{"prompt": "x"}])
    assert answer.status_code == 202
    assert (
        create(harness, [{"prompt": "x" * 20_000, "negative_prompt": "y" * 20_000}] * 30).status_code == 422
    )  # 21 > 20


def test_the_end_of_a_batch_is_an_event(harness: Harness) -> None:
    batch = created(harness, 1)
    job_id = harness.client.get(batch["links"]["jobs"]).json["data"][0]["id"]
    harness.succeed(job_id)
    finish_batches(harness.db.of_platform())
    harness.client.delete(f"/v1/jobs/{job_id}")  # which takes the data out of the other events
    events = harness.client.get("/v1/events?kinds=batch_finished", headers={"Accept": "application/json"}).json["data"]
    assert [(one["job_id"], one["state"], one["data"]["batch"]) for one in events] == [
        (job_id, "succeeded", batch["id"])
    ]
    assert events[0]["data"]["counts"]["succeeded"] == 1
