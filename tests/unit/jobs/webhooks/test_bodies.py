"""Bodies stay below the limit, and say what was left out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobs.webhooks.bodies import MAX_BODY_BYTES, encode


@pytest.mark.parametrize(
    "large",
    [
        {"prompt": "\U0001f50a" * 20_000},
        {"prompt": '"' * 20_000, "metadata": {str(n): "ä" * 500 for n in range(16)}},
        {"artifacts": [{"name": f"{n}.flac", "url": "x" * 400} for n in range(100)]},
        {"error": {"message": "m" * 50_000}},
        {"output": ["x" * 30_000]},
    ],
)
def test_large_members_are_shortened_and_named(large: dict[str, Any]) -> None:
    for document in ({"type": "t", "data": {"id": "job_1", **large}}, {"id": "job_1", **large}):
        text = encode(document)
        assert len(text.encode()) <= MAX_BODY_BYTES
        shown = json.loads(text)
        inner = shown.get("data", shown)
        assert inner["id"] == "job_1"
        assert set(inner["truncated"]) <= set(large)


def test_a_small_body_is_not_changed() -> None:
    document = {"type": "t", "data": {"id": "job_1", "prompt": "ünï"}}
    assert json.loads(encode(document)) == document


def test_what_cannot_be_shortened_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing that can be shortened"):
        encode({"id": "x" * 30_000})
