"""Requests that would cost much, or that the database cannot store, are refused cheaply."""

from __future__ import annotations

import json

import pytest

from tests.unit.api.conftest import Harness


def test_at_most_sixteen_metadata_filters(harness: Harness) -> None:
    def listed(count: int) -> int:
        return harness.client.get("/v1/jobs?" + "&".join(f"metadata.k{n}=v" for n in range(count))).status_code

    assert [listed(16), listed(17), listed(500)] == [200, 422, 422]
    answer = harness.client.get("/v1/jobs?" + "&".join(f"metadata.k{n}=v" for n in range(17))).json or {}
    assert answer["errors"] == [{"field": "metadata", "message": "got 17 filters; at most 16 are allowed"}]


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/uploads", "/v1/triggers"])
def test_an_answer_lists_at_most_twenty_wrong_fields(harness: Harness, path: str) -> None:
    wrong = {f"wrong{number}": 1 for number in range(50_000)}
    answer = harness.client.post(path, json=wrong)

    assert answer.status_code == 422
    assert len((answer.json or {})["errors"]) == 20
    assert " more." in (answer.json or {})["detail"]
    assert len(answer.data) < 5_000


def test_an_answer_lists_at_most_twenty_unknown_filters(harness: Harness) -> None:
    answer = harness.client.get("/v1/jobs?" + "&".join(f"wrong{n}=v" for n in range(3000)))

    assert answer.status_code == 422
    assert len(answer.data) < 5_000


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/jobs", {"prompt": "a\x00"}, "prompt"),
        ("/v1/jobs", {"metadata": {"a\x00b": "c"}}, "metadata.a\\0b"),
        ("/v1/uploads", {"filename": "a\x00.mp4", "size_bytes": 5}, "filename"),
        ("/v1/triggers", {"name": "t", "bucket": "videos", "request": {"prompt": "\x00"}}, "request.prompt"),
        ("/v1/triggers", {"name": "\x00", "bucket": "videos"}, "name"),
        ("/v1/triggers", {"suffixes": [".mp4", ".\x00"]}, "suffixes.1"),
    ],
)
def test_a_nul_character_in_any_text_is_named(harness: Harness, path: str, body: dict[str, object], field: str) -> None:
    answer = harness.client.post(path, json=body)

    assert answer.status_code == 422, answer.data
    assert (answer.json or {})["errors"] == [{"field": field, "message": "a NUL character is not allowed"}]


def test_the_escape_of_a_backslash_is_not_a_nul_character(harness: Harness) -> None:
    answer = harness.client.post("/v1/jobs", data=json.dumps({"prompt": "\\u0000"}), content_type="application/json")

    assert answer.status_code == 202, answer.data
