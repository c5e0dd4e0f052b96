"""Predictions, models and files in Replicate's shape."""

from __future__ import annotations

import io
from typing import Any

from api.context import AppContext
from jobs.db.tables import Upload
from jobs.db.webhook_tables import JobWebhook
from jobs.errors import TooManyWaitingError
from jobs.lifecycle import WebhookBody
from tests.unit.api.conftest import Harness

BODY = {"input": {"prompt": "rain", "seed": 7, "num_steps": 4, "duration": 2}}


def create(harness: Harness, *, headers: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    answer = harness.client.post(
        "/v1/models/zsxkib/mmaudio/predictions", json={"input": {**BODY["input"], **fields}}, headers=headers
    )
    assert answer.status_code == 201, answer.json
    return dict(answer.json or {})


def test_a_prediction_is_a_job_with_the_hosted_models_input(harness: Harness) -> None:
    made = create(harness)

    job = harness.client.get(f"/v1/jobs/{made['id']}").json
    assert job is not None
    assert made["status"] == "starting"
    assert made["input"] == {
        "prompt": "rain", "negative_prompt": "music", "duration": 2, "num_steps": 4, "cfg_strength": 4.5, "seed": 7,
    }  # fmt: skip
    assert job["request"]["duration_s"] == 2
    assert made["urls"]["get"] == f"http://localhost/v1/predictions/{made['id']}"
    assert (made["model"], made["version"], made["logs"], made["metrics"]) == ("mmaudio/tiny_16k", "tiny_16k", "", {})


def test_a_prediction_that_ended_has_the_output_and_its_log(harness: Harness) -> None:
    made = create(harness)
    harness.succeed(made["id"])

    got = harness.client.get(f"/v1/predictions/{made['id']}").json
    assert got is not None
    assert got["status"] == "succeeded"
    assert got["logs"].splitlines()[0] == "Using seed: 7"
    assert "100%|██████████| 4/4" in got["logs"]
    assert set(got["metrics"]) == {"predict_time", "total_time"}
    assert got["output"].startswith(
        f"http://localhost/v1/jobs/{made['id']}/artifacts/audio.flac?tenant=default&expires="
    )
    assert harness.client.get(got["output"]).data == b"0123456789"


def test_a_call_that_waited_in_vain_says_starting_so_that_clients_go_on(harness: Harness) -> None:
    answer = harness.client.post("/v1/models/a/mmaudio/predictions", json=BODY, headers={"Prefer": "wait=1"})
    assert (answer.status_code, answer.json["status"]) == (202, "starting")
    assert answer.headers["Preference-Applied"] == "wait=1"


def test_unknown_models_and_versions_are_named(harness: Harness) -> None:
    missing = harness.client.post("/v1/models/a/whisper/predictions", json=BODY)
    assert (missing.status_code, missing.json["code"]) == (404, "model_not_found")
    unknown = harness.client.post("/v1/predictions", json={"version": "v9", **BODY})
    assert unknown.status_code == 422
    assert unknown.json["invalid_fields"][0]["field"] == "version"
    hosted = harness.client.post("/v1/predictions", json={"version": "62871fb5" * 8, **BODY})
    assert (hosted.status_code, hosted.json["version"]) == (201, "tiny_16k")


def test_fields_that_are_not_allowed_are_named_as_in_the_input(harness: Harness) -> None:
    for given, field in (
        ({"steps": 4}, "input.steps"),
        ({"num_steps": 101}, "input.num_steps"),
        ({"duration": 300}, "input.duration"),
        ({"video": "upl_" + "0" * 32}, "input.video"),
        ({"video": "s3://secret/a.mp4"}, "input.video"),
        ({"video": "ftp://a/b"}, "input.video"),
        ({"video": "s3://videos/a.mp4", "image": "s3://videos/a.png"}, "input.image"),
    ):
        answer = harness.client.post("/v1/models/a/mmaudio/predictions", json={"input": given})
        assert answer.status_code == 422, answer.json
        problem = answer.json
        assert [each["field"] for each in problem["invalid_fields"]] == [field]
        assert problem["title"] == "Input validation failed"
        assert problem["detail"].startswith(f"- {field}: ")
        assert problem["status"] == 422


def test_seed_minus_one_is_drawn_and_whole_floats_are_integers(harness: Harness) -> None:
    made = create(harness, seed=-1, num_steps=4.0)
    assert made["input"]["seed"] >= 0
    assert made["input"]["num_steps"] == 4


def test_cancel_is_idempotent_and_leaves_ended_predictions_as_they_are(harness: Harness) -> None:
    first, second = create(harness), create(harness)
    harness.succeed(second["id"])
    for _ in range(2):
        assert harness.client.post(f"/v1/predictions/{first['id']}/cancel").json["status"] == "canceled"
    ended = harness.client.post(f"/v1/predictions/{second['id']}/cancel")
    assert (ended.status_code, ended.json["status"]) == (200, "succeeded")


def test_pages_of_predictions_lead_to_both_sides(harness: Harness, monkeypatch: Any) -> None:
    monkeypatch.setattr("api.compat.replicate.predictions.PAGE", 2)
    ids = [create(harness)["id"] for _ in range(5)][::-1]

    def page(url: str) -> tuple[list[str], Any]:
        document = harness.client.get(url).json
        assert document is not None
        return [each["id"] for each in document["results"]], document

    shown, first = page("/v1/predictions")
    assert (shown, first["previous"]) == (ids[:2], None)
    shown, second = page(first["next"])
    assert shown == ids[2:4]
    shown, third = page(second["next"])
    assert (shown, third["next"]) == (ids[4:], None)
    assert page(third["previous"])[0] == ids[2:4]
    assert page(second["previous"])[0] == ids[:2]


def test_a_file_is_sent_named_listed_and_deleted(harness: Harness) -> None:
    data = {"content": (io.BytesIO(b"a video"), "dog.mp4", "video/mp4"), "metadata": "{}"}
    sent = harness.client.post("/v1/files", data=data)
    assert sent.status_code == 201, sent.json
    file = sent.json
    assert (file["name"], file["content_type"], file["size"]) == ("dog.mp4", "video/mp4", 7)
    assert harness.client.get(file["urls"]["get"]).json == file
    assert harness.client.get("/v1/files").json["results"] == [file]

    made = create(harness, video=file["urls"]["get"])
    assert made["input"]["video"] == file["urls"]["get"]
    assert harness.client.get(f"/v1/jobs/{made['id']}").json["request"]["video"] == file["id"]

    harness.client.post(f"/v1/predictions/{made['id']}/cancel")
    assert harness.client.delete(f"/v1/files/{file['id']}").status_code == 204
    assert harness.client.get(f"/v1/files/{file['id']}").status_code == 404
    assert harness.client.get("/v1/files").json["results"] == []


def test_files_that_are_empty_too_large_or_malformed_are_refused(harness: Harness) -> None:
    def send(content: bytes, name: str = "content") -> Any:
        return harness.client.post("/v1/files", data={name: (io.BytesIO(content), "a.mp4")})

    head = b'--b\r\nContent-Disposition: form-data; name="content"; filename="a"\r\n\r\n'
    form = "multipart/form-data; boundary=b"
    empty = harness.client.post("/v1/files", data=head + b"\r\n--b--\r\n", content_type=form)
    assert empty.json["invalid_fields"][0]["field"] == "content"
    assert send(b"x" * 1001).status_code == 413
    assert send(b"x" * 1000).status_code == 201
    assert send(b"x", "file").status_code == 422
    cut = harness.client.post("/v1/files", data=head + b"abc", content_type=form)
    assert cut.status_code == 422
    assert harness.client.post("/v1/files", json={}).status_code == 415
    other = {"Origin": "https://evil.example"}
    assert harness.client.post("/v1/files", data={}, headers=other).status_code == 403


def test_models_and_versions_are_the_variants(harness: Harness) -> None:
    model = harness.client.get("/v1/models/zsxkib/mmaudio").json
    assert model is not None
    assert (model["owner"], model["name"], model["latest_version"]["id"]) == ("zsxkib", "mmaudio", "tiny_16k")
    schema = model["latest_version"]["openapi_schema"]["components"]["schemas"]
    assert set(schema["Input"]["properties"]) == {
        "prompt", "negative_prompt", "video", "image", "duration", "num_steps", "cfg_strength", "seed",
    }  # fmt: skip
    assert schema["Output"]["type"] == "string"
    versions = harness.client.get("/v1/models/zsxkib/mmaudio/versions").json
    assert [version["id"] for version in versions["results"]] == ["tiny_16k"]
    assert harness.client.get("/v1/models/zsxkib/mmaudio/versions/tiny_16k").status_code == 200
    assert harness.client.get("/v1/models/zsxkib/mmaudio/versions/none").status_code == 404
    assert harness.client.get("/v1/models/zsxkib/other").status_code == 404
    assert [each["name"] for each in harness.client.get("/v1/models").json["results"]] == ["tiny_16k"]
    assert harness.client.get("/v1/account").json["username"] == "default"


def test_the_stream_of_a_prediction_ends_with_its_output(harness: Harness) -> None:
    made = create(harness)
    harness.succeed(made["id"])

    text = harness.client.get(f"/v1/predictions/{made['id']}/stream").get_data(as_text=True)
    events = [part.partition("\n")[0] for part in text.split("\n\n") if part.startswith("event:")]
    assert events[-2:] == ["event: output", "event: done"]
    assert "/artifacts/audio.flac?tenant=default&expires=" in text


def test_a_data_uri_becomes_an_upload(harness: Harness) -> None:
    made = create(harness, video="data:video/mp4;base64,YSB2aWRlbw==")
    assert made["input"]["video"].startswith("http://localhost/v1/files/upl_")
    file = harness.client.get(made["input"]["video"]).json
    assert file is not None
    assert (file["content_type"], file["size"]) == ("video/mp4", 7)


def test_a_prediction_is_queued_also_where_no_more_may_wait(harness: Harness, monkeypatch: Any) -> None:
    def refuse(_: AppContext) -> None:
        raise TooManyWaitingError("2 requests wait", 2, retry_s=5)

    monkeypatch.setattr(AppContext, "hold_place", refuse)
    answer = harness.client.post("/v1/models/a/mmaudio/predictions", json=BODY, headers={"Prefer": "wait"})
    assert (answer.status_code, (answer.json or {})["status"]) == (202, "starting")
    assert answer.headers["Retry-After"] == "5"
    assert len((harness.client.get("/v1/predictions").json or {})["results"]) == 1


def test_a_file_that_does_not_arrive_whole_leaves_no_upload(harness: Harness) -> None:
    cut = b'--b\r\nContent-Disposition: form-data; name="content"; filename="a"\r\n\r\nabc'
    harness.client.post("/v1/files", data=cut, content_type="multipart/form-data; boundary=b")
    with harness.db.of_platform().reading() as tx:
        assert [upload.expires_at <= tx.now for upload in tx.session.query(Upload)] == [True]


def test_a_webhook_is_called_in_the_shape_of_the_call(harness: Harness) -> None:
    hook = "https://hooks.example.com/in"
    body = {**BODY, "webhook": hook, "webhook_events_filter": ["start", "completed"]}
    made = harness.client.post("/v1/models/a/mmaudio/predictions", json=body).json or {}
    asked = harness.client.post(f"/fal-ai/mmaudio/text-to-audio?fal_webhook={hook}", json={"prompt": "rain"}).json or {}
    with harness.db.of_platform().reading() as tx:
        first, second = (tx.session.get_one(JobWebhook, each) for each in (made["id"], asked["request_id"]))
    assert (first.url, first.body_kind) == (hook, WebhookBody.REPLICATE)
    assert first.events == ["started", "succeeded", "failed", "canceled"]
    assert (second.url, second.body_kind) == (hook, WebhookBody.FAL)
    refused = harness.client.post("/v1/models/a/mmaudio/predictions", json={**BODY, "webhook": "ftp://x/"}).json or {}
    assert refused["invalid_fields"][0]["field"] == "webhook"
    assert str((harness.client.get("/v1/webhooks/default/secret").json or {})["key"]).startswith("whsec_")
