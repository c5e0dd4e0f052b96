"""`/v1/presets` and jobs that name one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.api.conftest import Harness


def put(harness: Harness, name: str, request: dict[str, Any], **fields: Any) -> Any:
    return harness.client.put(f"/v1/presets/{name}", json={"request": request, **fields})


def test_every_change_is_a_version_and_the_same_again_is_none(harness: Harness) -> None:
    first = put(harness, "loud", {"loudness_lufs": -16}, description="for trailers")
    same = put(harness, "loud", {"loudness_lufs": -16}, description="for trailers")
    second = put(harness, "loud", {"loudness_lufs": -14})
    assert [(one.status_code, one.json["version"]) for one in (first, same, second)] == [(201, 1), (200, 1), (201, 2)]
    assert harness.client.get("/v1/presets/loud").json == second.json
    assert harness.client.get("/v1/presets/loud?version=1").json == first.json
    assert harness.client.get(first.headers["Location"]).json == first.json
    versions = harness.client.get("/v1/presets/loud/versions").json["data"]
    assert [one["version"] for one in versions] == [2, 1]
    assert harness.client.get("/v1/presets/loud?version=3").json["code"] == "preset_not_found"


def test_a_job_gets_the_fields_that_it_does_not_have_and_keeps_them(harness: Harness) -> None:
    put(harness, "loud", {"loudness_lufs": -16, "num_steps": 7, "metadata": {"from": "preset"}})
    job = harness.submit(preset="loud", num_steps=9, seed=1)
    assert job["request"]["preset"] == "loud@1"
    assert (job["request"]["loudness_lufs"], job["request"]["num_steps"]) == (-16, 9)
    assert job["request"]["metadata"] == {"from": "preset"}
    put(harness, "loud", {"loudness_lufs": -30})
    assert harness.submit(preset="loud@1")["request"]["loudness_lufs"] == -16
    assert harness.submit(preset="loud")["request"]["preset"] == "loud@2"
    assert harness.client.delete("/v1/presets/loud").status_code == 204
    assert harness.client.get(f"/v1/jobs/{job['id']}").json["request"] == job["request"]
    harness.client.post(f"/v1/jobs/{job['id']}/cancel")
    again = harness.client.post(f"/v1/jobs/{job['id']}/retry").json
    assert again["request"] == job["request"]


def test_null_in_a_request_is_the_default_and_not_the_presets(harness: Harness) -> None:
    put(harness, "loud", {"loudness_lufs": -16, "seed": 5})
    request = harness.submit(preset="loud", loudness_lufs=None, seed=None)["request"]
    assert "loudness_lufs" not in request
    assert request["seed"] != 5


def test_a_request_and_its_preset_are_checked_together(harness: Harness) -> None:
    assert put(harness, "mixed", {"original_audio": "mix"}).status_code == 201  # jobs bring the video
    video = harness.upload()
    job = harness.submit(preset="mixed", video=video, original_gain_db=-3)
    assert job["request"]["original_gain_db"] == -3
    answer = harness.client.post("/v1/jobs", json={"preset": "mixed"})
    assert (answer.status_code, answer.json["errors"][0]["field"]) == (422, "original_audio")


def test_a_source_replaces_that_of_the_preset(harness: Harness) -> None:
    image, video = harness.upload(b"image"), harness.upload(b"video")
    assert put(harness, "still", {"image": image}).status_code == 201
    assert harness.submit(preset="still")["request"]["image"] == image
    request = harness.submit(preset="still", video=video)["request"]
    assert (request["video"], "image" in request) == (video, False)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"num_steps": 0}, "request.num_steps"),
        ({"colour": "red"}, "request.colour"),
        ({"variant": "huge"}, "request.variant"),
        ({"duration_s": 0.001}, "request.duration_s"),
        ({"preset": "other"}, "request.preset"),
        ({"video": "data:video/mp4;base64,AAAA"}, "request.video"),
        ({"video": f"upl_{0:032x}", "image": f"upl_{0:032x}"}, "request.image"),
    ],
)
def test_a_template_that_no_request_can_have_is_refused(harness: Harness, request_: dict[str, Any], field: str) -> None:
    answer = put(harness, "wrong", request_)
    assert (answer.status_code, answer.json["errors"][0]["field"]) == (422, field)
    assert harness.client.get("/v1/presets").json["data"] == []


@pytest.mark.parametrize("preset", ["none", "none@1", "a b", "x@0", ""])
def test_a_preset_that_is_not_there_is_named(harness: Harness, preset: str) -> None:
    answer = harness.client.post("/v1/jobs", json={"preset": preset})
    assert (answer.status_code, answer.json["errors"][0]["field"]) == (422, "preset")


def test_numbers_are_not_given_again_after_a_deletion(harness: Harness) -> None:
    put(harness, "loud", {"loudness_lufs": -16})
    assert harness.client.delete("/v1/presets/loud").status_code == 204
    assert harness.client.delete("/v1/presets/loud").status_code == 404
    assert harness.client.get("/v1/presets/loud").status_code == 404
    assert put(harness, "loud", {"loudness_lufs": -20}).json["version"] == 2
    assert harness.client.get("/v1/presets/loud?version=1").status_code == 404


def test_presets_page_by_name_in_their_newest_version(harness: Harness) -> None:
    for name in ("c", "a", "b"):
        put(harness, name, {})
    put(harness, "a", {"num_steps": 5})
    page = harness.client.get("/v1/presets?limit=2").json
    rest = harness.client.get(page["links"]["next"]).json
    assert [(one["name"], one["version"]) for one in page["data"] + rest["data"]] == [("a", 2), ("b", 1), ("c", 1)]
    assert rest["next_cursor"] is None


def test_presets_of_a_batch_are_looked_up(harness: Harness) -> None:
    put(harness, "loud", {"loudness_lufs": -16})
    requests = [{"preset": "loud", "prompt": "a"}, {"preset": "loud@1"}, {"preset": "none"}]
    answer = harness.client.post("/v1/batches", json=requests)
    assert [(one["index"], one["field"]) for one in answer.json["errors"]] == [(2, "requests.2.preset")]
    batch = harness.client.post("/v1/batches", json=requests[:2]).json
    jobs = harness.client.get(batch["links"]["jobs"]).json["data"]
    assert {job["request"]["preset"] for job in jobs} == {"loud@1"}


def test_a_body_of_another_type_is_refused(harness: Harness) -> None:
    answer = harness.client.put("/v1/presets/x", data="{}", content_type="text/plain")
    assert (answer.status_code, answer.json["code"]) == (415, "wrong_media_type")
    assert harness.client.put("/v1/presets/a%20b", json={"request": {}}).status_code == 422


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/", "http://localhost./", "https://[::ffff:10.0.0.1]/", "ftp://x.example/"]
)
def test_a_preset_names_no_url_that_this_server_would_not_call(harness: Harness, url: str) -> None:
    answer = harness.client.put("/v1/presets/own", json={"request": {"webhook_url": url}})
    assert answer.status_code == 422, answer.json
    assert [error["field"] for error in (answer.json or {})["errors"]] == ["request.webhook_url"]
