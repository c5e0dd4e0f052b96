"""`POST /v1/jobs/{id}/retry` with other fields."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.api.conftest import Harness


def ended(harness: Harness, **fields: Any) -> str:
    job_id = str(harness.submit(**fields)["id"])
    assert harness.client.post(f"/v1/jobs/{job_id}/cancel").status_code == 200
    return job_id


def retry(harness: Harness, job_id: str, changes: Any, **headers: str) -> Any:
    return harness.client.post(f"/v1/jobs/{job_id}/retry", json=changes, headers=headers)


def test_fields_are_changed_and_null_is_the_default(harness: Harness) -> None:
    job_id = ended(harness, seed=5, num_steps=7, prompt="rain", negative_prompt="wind")
    answer = retry(harness, job_id, {"seed": None, "num_steps": None, "prompt": "hail"})
    assert answer.status_code == 202, answer.json
    request = answer.json["request"]
    assert (request["prompt"], request["negative_prompt"], request["num_steps"]) == ("hail", "wind", 25)
    assert request["seed"] != 5  # one of 2**32
    assert answer.json["retry_of"] == job_id


def test_without_a_body_or_with_an_empty_one_it_is_the_same_again(harness: Harness) -> None:
    job_id = ended(harness, seed=5)
    for answer in (harness.client.post(f"/v1/jobs/{job_id}/retry"), retry(harness, job_id, {})):
        assert (answer.status_code, answer.json["request"]["seed"]) == (202, 5)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"num_steps": 0}, "num_steps"),
        ({"colour": "red"}, "colour"),
        ({"colour": None}, "colour"),
        ({"original_audio": "mix"}, "original_audio"),
        ({"variant": "huge"}, "variant"),
        ({"video": f"upl_{0:032x}"}, "video"),
        ({"preset": "x"}, "preset"),
        ({"video": "data:video/mp4;base64,AAAA"}, "video"),
    ],
)
def test_the_changed_request_is_checked_as_a_whole(harness: Harness, changes: dict[str, Any], field: str) -> None:
    answer = retry(harness, ended(harness), changes)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json["errors"]] == [field]


def test_another_source_replaces_the_first(harness: Harness) -> None:
    job_id = ended(harness, video=harness.upload())
    answer = retry(harness, job_id, {"image": harness.upload(b"image")})
    assert answer.status_code == 202, answer.json
    assert "video" not in answer.json["request"]
    assert retry(harness, job_id, {"video": None}).json["request"]["mux"] is False


def test_an_idempotency_key_goes_with_the_changes(harness: Harness) -> None:
    job_id = ended(harness)
    first = retry(harness, job_id, {"prompt": "hail"}, **{"Idempotency-Key": "k"})
    again = retry(harness, job_id, {"prompt": "hail"}, **{"Idempotency-Key": "k"})
    other = retry(harness, job_id, {"prompt": "snow"}, **{"Idempotency-Key": "k"})
    assert (first.status_code, again.status_code, other.status_code) == (202, 200, 422)
    assert again.json["id"] == first.json["id"]


def test_a_body_that_is_no_object_is_refused(harness: Harness) -> None:
    job_id = ended(harness)
    assert retry(harness, job_id, ["prompt"]).status_code == 422
    answer = harness.client.post(f"/v1/jobs/{job_id}/retry", data=b"{", content_type="application/json")
    assert answer.status_code == 400
