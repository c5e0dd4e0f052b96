"""Inputs that are not uploads: `https://` URLs and `data:` URIs."""

from __future__ import annotations

import base64
import json
import logging
from typing import Any

import pytest

from api.body_limits import MAX_DATA_JSON_BYTES
from api.context import EXTENSION
from jobs.data_uris import MAX_DATA_BYTES
from jobs.db.tables import Job, Upload
from tests.unit.api.conftest import Harness

SECRET = "X-Amz-Signature=verysecret"
URL = f"https://cdn.example.com/in/walk.mp4?{SECRET}"
SHOWN = "https://cdn.example.com/in/walk.mp4?..."


def data_uri(content: bytes = b"a video", kind: str = "video/mp4") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


@pytest.fixture
def harness(harness: Harness) -> Harness:
    change(harness, input_hosts=["cdn.example.com", "*.example.net"])
    return harness


def change(harness: Harness, **settings: Any) -> None:
    context = harness.app.extensions[EXTENSION]
    context.settings = context.settings.model_copy(update=settings)


def post(harness: Harness, **fields: Any) -> Any:
    return harness.client.post("/v1/jobs", json={"prompt": "rain", **fields})


def job_row(harness: Harness, job_id: str) -> Job:
    with harness.db.reading() as tx:
        return tx.session.get_one(Job, job_id)


def uploads(harness: Harness) -> list[Upload]:
    with harness.db.reading() as tx:
        return list(tx.session.query(Upload))


def test_a_url_of_an_allowed_host_is_an_input_whose_query_nobody_is_shown(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    job = harness.submit(video=URL)
    assert job["request"]["video"] == SHOWN
    assert job_row(harness, job["id"]).input_key == URL
    harness.claim(job["id"])
    pages = [harness.client.get(path).text for path in (f"/v1/jobs/{job['id']}", "/v1/jobs")]
    assert "verysecret" not in "".join([*pages, json.dumps(job), caplog.text])


def test_a_retry_has_the_whole_url(harness: Harness) -> None:
    job = harness.submit(image=URL.replace("mp4", "png"))
    assert harness.client.post(f"/v1/jobs/{job['id']}/cancel").status_code == 200
    again = harness.client.post(f"/v1/jobs/{job['id']}/retry").json or {}
    assert again["request"]["image"] == SHOWN.replace("mp4", "png")
    assert job_row(harness, again["id"]).input_key == URL.replace("mp4", "png")
    assert harness.client.post(f"/v1/jobs/{again['id']}/cancel").status_code == 200
    (made,) = (harness.client.post("/v1/jobs/retry", json={"state": "canceled"}).json or {})["retried"]
    assert job_row(harness, made["id"]).input_key == URL.replace("mp4", "png")


@pytest.mark.parametrize(
    "url",
    [
        "https://other.example/a.mp4",
        "https://example.net/a.mp4",
        "https://cdn.example.com.evil.example/a.mp4",
        "https://cdn.example.com@evil.example/a.mp4",
        "https://127.0.0.1/a.mp4",
        "https://localhost/a.mp4",
        "http://cdn.example.com/a.mp4",
        SHOWN,
    ],
)
def test_any_other_url_is_refused_at_once(harness: Harness, url: str) -> None:
    answer = post(harness, video=url)
    assert (answer.status_code, answer.json["errors"][0]["field"]) == (422, "video")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "10.0.0.1", "169.254.169.254", "localhost"])
def test_every_public_host_is_not_every_host(harness: Harness, host: str) -> None:
    change(harness, input_hosts=["*"])
    assert post(harness, video="https://anywhere.example/a.mp4").status_code == 202
    assert post(harness, video=f"https://{host}/a.mp4").status_code == 422


def test_without_the_setting_no_url_is_fetched(harness: Harness) -> None:
    change(harness, input_hosts=[])
    answer = post(harness, video=URL)
    assert (answer.status_code, "input_hosts" in answer.json["detail"]) == (422, True)


def test_the_results_of_a_url_are_named_after_its_file(harness: Harness) -> None:
    job = harness.submit(video="https://cdn.example.com/in/my%20walk.mp4?a=b")
    harness.succeed(job["id"])
    answer = harness.client.get(f"/v1/jobs/{job['id']}/artifacts/audio.flac")
    assert 'filename="my walk.flac"' in answer.headers["Content-Disposition"]


def test_a_data_uri_becomes_an_upload(harness: Harness) -> None:
    job = harness.submit(video=data_uri(b"a video"))
    (upload,) = uploads(harness)
    assert job["request"]["video"] == upload.id
    assert job_row(harness, job["id"]).input_key == upload.storage_key
    assert b"".join(harness.store.open_read(upload.storage_key)) == b"a video"
    assert (upload.filename, upload.content_type, upload.size_bytes) == ("input.mp4", "video/mp4", 7)


def test_a_data_uri_is_stored_once_for_an_idempotency_key(harness: Harness) -> None:
    def send(content: bytes) -> Any:
        body = {"prompt": "rain", "image": data_uri(content, "image/png")}
        return harness.client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "k"})

    first, second, other = send(b"1"), send(b"1"), send(b"2")
    assert (first.status_code, second.status_code, other.status_code) == (202, 200, 422)
    assert (first.json["id"], len(uploads(harness))) == (second.json["id"], 1)


@pytest.mark.parametrize(
    "fields",
    [
        {"video": "data:video/mp4;base64,####"},
        {"video": "data:video/mp4;base64,QUJD\n"},
        {"video": "data:video/mp4;base64,QUJ"},
        {"video": data_uri(b"x" * 1001)},  # the largest upload has 1000 bytes
        {"video": data_uri(), "variant": "unknown"},
        {"video": data_uri(), "deliver_to": "s3://elsewhere/"},
        {"video": data_uri(), "duration_s": 10_000},
    ],
)
def test_nothing_is_stored_of_a_request_that_is_refused(harness: Harness, fields: dict[str, Any]) -> None:
    answer = post(harness, **fields)
    assert (answer.status_code, uploads(harness)) == (422, [])
    assert len(answer.data) < 2000, "the answer does not repeat the data"


def test_a_full_queue_refuses_a_data_uri_before_it_is_stored(harness: Harness) -> None:
    change(harness, max_queued_per_tenant=1)
    harness.submit()
    assert (post(harness, video=data_uri()).status_code, uploads(harness)) == (429, [])


def test_ten_megabytes_are_accepted_and_not_one_byte_more(harness: Harness) -> None:
    change(harness, max_upload_bytes=10**9)
    assert post(harness, video=data_uri(b"x" * MAX_DATA_BYTES)).status_code == 202
    assert post(harness, video=data_uri(b"x" * (MAX_DATA_BYTES + 1))).status_code == 422
    assert len(uploads(harness)) == 1


def test_only_a_data_uri_makes_a_body_large(harness: Harness) -> None:
    large = {"prompt": "x" * 1_100_000}
    assert harness.client.post("/v1/jobs", json=large).status_code == 413
    assert harness.client.post("/v1/jobs", json={**large, "video": data_uri(b"x" * 1_000_000)}).status_code == 413
    assert harness.client.post("/v1/triggers", json={"bucket": data_uri(b"x" * 1_000_000)}).status_code == 413
    assert harness.client.post("/v1/jobs", data=b" " * (MAX_DATA_JSON_BYTES + 1)).status_code in {413, 415}


def test_uploads_that_take_all_places_refuse_a_data_uri_for_a_while(harness: Harness) -> None:
    places = harness.app.extensions[EXTENSION].upload_places
    held = []
    while True:
        place = places.place()
        if not place.__enter__():
            break
        held.append(place)
    try:
        answer = post(harness, video=data_uri())
        assert (answer.status_code, answer.json["code"], uploads(harness)) == (503, "busy", [])
    finally:
        for place in held:
            place.__exit__(None, None, None)
