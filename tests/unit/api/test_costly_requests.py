"""Requests that would cost much, or that the database cannot store, are refused cheaply."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api.body_limits import MAX_JSON_VALUES, TooManyValuesError, check_json_values
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


@pytest.mark.parametrize(
    ("path", "start", "end", "media_type"),
    [
        ("/v1/batches", b"[", b"{}]", "application/json"),
        ("/v1/batches", b'{"prompt":"x","a":[', b"{}]}\n", "application/x-ndjson"),
        ("/v1/jobs", b'{"prompt":"x","video":[', b"{}]}", "application/json"),
        ("/v1/predictions", b'{"version":"tiny_16k","input":{"video":[', b"{}]}}", "application/json"),
        ("/fal-ai/mmaudio-v2", b'{"prompt":"x","video_url":[', b"{}]}", "application/json"),
    ],
)
def test_a_body_of_many_small_values_is_refused_before_it_is_parsed(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, path: str, start: bytes, end: bytes, media_type: str
) -> None:
    loads = json.loads

    def parse(text: str | bytes, **options: Any) -> Any:
        assert len(text) < 10_000, "the body was parsed, which takes many times its memory and stops every thread"
        return loads(text, **options)

    monkeypatch.setattr(json, "loads", parse)
    answer = harness.client.post(path, data=start + b"{}," * 1_000_000 + end, content_type=media_type)
    monkeypatch.undo()

    assert answer.status_code == 413, answer.data
    assert b"values" in answer.data


def test_commas_and_brackets_within_texts_are_no_values(harness: Harness) -> None:
    texts = [{"prompt": 'a, [b] {c}, \\"' * 60} for _ in range(5_000)]
    data = json.dumps(texts).encode()
    check_json_values(data)
    assert sum(data.count(sign) for sign in (b",", b"[", b"{")) > MAX_JSON_VALUES
    with pytest.raises(TooManyValuesError):
        check_json_values(b'["' + b'\\"' * 2_000_000 + b'"' + b",1" * 1_000_000 + b"]")


def test_a_text_that_is_not_closed_costs_no_more() -> None:
    check_json_values(b'["' + b'\\",[' * 1_000_000)
