"""Requests, their statuses and results, and files in fal's shape."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api.context import AppContext
from jobs.errors import TooManyWaitingError
from tests.unit.api.conftest import Harness

WORDS = {"prompt": "rain", "seed": 7, "num_steps": 4, "duration": 2}
TEXT = "/fal-ai/mmaudio-v2/text-to-audio"


def submit(
    harness: Harness, path: str = TEXT, *, headers: dict[str, str] | None = None, **fields: Any
) -> dict[str, Any]:
    answer = harness.client.post(path, json={**WORDS, **fields}, headers=headers)
    assert answer.status_code == 200, answer.json
    return dict(answer.json or {})


@pytest.mark.parametrize("prefix", ["/fal-ai", "/fal/queue/fal-ai"])
def test_a_request_goes_through_the_queue_to_its_result(harness: Harness, prefix: str) -> None:
    made = submit(harness, f"{prefix}/mmaudio-v2/text-to-audio")
    url = f"http://localhost{prefix.removesuffix('/fal-ai')}/fal-ai/mmaudio-v2/requests/{made['request_id']}"
    assert (made["response_url"], made["status_url"], made["cancel_url"]) == (url, f"{url}/status", f"{url}/cancel")

    queued = harness.client.get(made["status_url"])
    assert (queued.status_code, queued.json["status"], queued.json["queue_position"]) == (202, "IN_QUEUE", 0)
    assert queued.json["logs"] is None
    early = harness.client.get(made["response_url"])
    assert (early.status_code, early.json["detail"]) == (400, "Request is still in progress")

    harness.succeed(made["request_id"])
    done = harness.client.get(made["status_url"] + "?logs=1")
    assert (done.status_code, done.json["status"]) == (200, "COMPLETED")
    assert done.json["logs"][0]["message"] == "Using seed: 7"
    assert "inference_time" in done.json["metrics"]
    result = harness.client.get(made["response_url"])
    assert result.headers["x-fal-request-id"] == made["request_id"]
    file = result.json["audio"]
    assert (file["content_type"], file["file_name"], file["file_size"]) == ("audio/flac", "audio.flac", 10)
    assert harness.client.get(file["url"]).data == b"0123456789"


def test_headers_and_input_become_the_jobs_request(harness: Harness) -> None:
    headers = {"X-Fal-Request-Timeout": "1.5", "X-Fal-Queue-Priority": "low"}
    video = {"video_url": "s3://videos/a.mp4", "mask_away_clip": True, "negative_prompt": "music"}
    made = submit(harness, "/fal-ai/mmaudio-v2", headers=headers, **video)

    job = harness.client.get(f"/v1/jobs/{made['request_id']}").json
    assert job is not None
    request = job["request"]
    assert (request["queue_ttl_s"], request["priority"], request["duration_s"]) == (2, "low", 2)
    assert (request["video"], request["mask_away_clip"]) == ("s3://videos/a.mp4", True)


def test_faults_are_told_as_fal_does(harness: Harness) -> None:
    for path, given, loc in (
        (TEXT, {"prompt": "x", "steps": 4}, ["body", "steps"]),
        (TEXT, {}, ["body", "prompt"]),
        (TEXT, {"prompt": "x", "duration": 300}, ["body", "duration"]),
        ("/fal-ai/mmaudio-v2", {"prompt": "x"}, ["body", "video_url"]),
        ("/fal-ai/mmaudio-v2", {"prompt": "x", "video_url": "s3://secret/a"}, ["body", "video_url"]),
        (TEXT + "?x=1", {"prompt": "x"}, ["body", "x"]),
    ):
        answer = harness.client.post(path, json=given)
        assert answer.status_code == 422, answer.json
        assert [each["loc"] for each in answer.json["detail"]] == [loc]
    late = harness.client.post(TEXT, json=WORDS, headers={"X-Fal-Request-Timeout": "soon"})
    assert late.json["detail"][0]["loc"] == ["header", "X-Fal-Request-Timeout"]
    assert harness.client.post("/fal-ai/flux", json=WORDS).status_code == 422
    unknown = harness.client.post("/fal-ai/flux/text-to-audio", json=WORDS)
    assert (unknown.status_code, unknown.json["error_type"]) == (404, "app_not_found")
    assert harness.client.post(TEXT, data="prompt=x").status_code == 415
    assert harness.client.get("/fal-ai/mmaudio-v2/requests/none/status").status_code == 404


def test_cancel_is_requested_once_and_refused_after_the_end(harness: Harness) -> None:
    first, second = submit(harness), submit(harness)
    harness.succeed(second["request_id"])

    assert harness.client.put(first["cancel_url"]).json == {"status": "CANCELLATION_REQUESTED"}
    refused = harness.client.put(second["cancel_url"])
    assert (refused.status_code, refused.json) == (400, {"status": "ALREADY_COMPLETED"})
    status = harness.client.get(first["status_url"]).json
    assert (status["status"], status["error_type"]) == ("COMPLETED", "canceled")
    assert harness.client.get(first["response_url"]).status_code == 400


def test_the_stream_of_statuses_ends_with_completed(harness: Harness) -> None:
    made = submit(harness)
    harness.succeed(made["request_id"])
    text = harness.client.get(made["status_url"] + "/stream?logs=1").get_data(as_text=True)
    statuses = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    assert [each["status"] for each in statuses] == ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]
    assert statuses[-1]["logs"][-1]["message"] == "Stage: upload"


def test_files_of_both_storages_are_named_in_an_input(harness: Harness) -> None:
    token = harness.client.post(
        "/fal/rest/storage/auth/token?storage_type=fal-cdn-v3", json={}, headers={"Authorization": "Key abc"}
    ).json
    assert token is not None
    assert (token["token"], token["token_type"], token["base_url"]) == ("abc", "Key", "http://localhost/fal/cdn")
    sent = harness.client.post(
        "/fal/cdn/files/upload", data=b"a video", headers={"X-Fal-File-Name": "dog.mp4", "Content-Type": "video/mp4"}
    ).json
    announced = harness.client.post(
        "/fal/rest/storage/upload/initiate", json={"file_name": "cat.mp4", "content_type": "video/mp4"}
    ).json
    assert sent is not None
    assert announced is not None
    assert harness.client.put(announced["upload_url"], data=b"another").status_code == 204

    for url, name in ((sent["access_url"], "dog.mp4"), (announced["file_url"], "cat.mp4")):
        file = harness.client.get(url).json
        assert (file["name"], file["content_type"], file["size"]) == (name, "video/mp4", 7)
        made = submit(harness, "/fal-ai/mmaudio-v2", video_url=url)
        assert harness.client.get(f"/v1/jobs/{made['request_id']}").json["request"]["video"] == file["id"]

    assert harness.client.put(announced["upload_url"], data=b"more").status_code == 409
    assert harness.client.post("/fal/cdn/files/upload", data=b"x" * 1001).status_code == 413
    assert harness.client.post("/fal/cdn/files/upload", data=b"").status_code == 422
    assert harness.client.post("/fal/cdn/files/upload/multipart").status_code == 413
    other = {"Sec-Fetch-Site": "cross-site"}
    assert harness.client.post("/fal/cdn/files/upload", data=b"x", headers=other).status_code == 403


def test_nothing_is_run_for_a_caller_who_may_not_wait(harness: Harness, monkeypatch: Any) -> None:
    def refuse(_: AppContext) -> None:
        raise TooManyWaitingError("2 requests wait", 2, retry_s=5)

    monkeypatch.setattr(AppContext, "hold_place", refuse)
    answer = harness.client.post("/fal/run/fal-ai/mmaudio-v2/text-to-audio", json=WORDS)
    assert answer.status_code == 429
    assert (harness.client.get("/v1/jobs").json or {})["data"] == []


def test_the_place_of_a_refused_run_is_free_again(harness: Harness, monkeypatch: Any) -> None:
    freed: list[int] = []
    monkeypatch.setattr(AppContext, "hold_place", lambda _: lambda: freed.append(1))
    assert harness.client.post("/fal/run/fal-ai/flux/text-to-audio", json=WORDS).status_code == 404
    assert freed == [1]
