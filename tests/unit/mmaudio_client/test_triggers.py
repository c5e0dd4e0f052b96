"""Triggers by the client and by the `mmaudio triggers` command."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.unit.mmaudio_client.command_runner import Command
from tests.unit.mmaudio_client.scripted_server import URL, ScriptedServer, problem

TRIGGER: dict[str, Any] = {
    "id": "trg_1",
    "name": None,
    "state": "enabled",
    "bucket": "videos",
    "prefix": "in/[x]",
    "suffixes": [".mp4"],
    "events": {"submitted": 3, "skipped": 2, "held": 1},
}


def test_add_sends_the_fields_of_the_api_and_prints_the_id(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [httpx.Response(201, json=TRIGGER)]
    options = ["--prefix", "in/", "--suffix", ".mp4", "--suffix", ".mov", "--request", '{"prompt": "rain"}']
    result = mmaudio("triggers", "add", "videos", *options, "--deliver-to", "s3://sounds/out/", "--name", "in")
    assert (result.exit_code, result.stdout) == (0, "trg_1\n")
    assert json.loads(server.requests[0].content) == {
        "bucket": "videos",
        "prefix": "in/",
        "suffixes": [".mp4", ".mov"],
        "request": {"prompt": "rain"},
        "deliver_to": "s3://sounds/out/",
        "name": "in",
    }


@pytest.mark.parametrize("request_", ["{", "[]", "7"])
def test_a_request_that_is_no_object_is_refused_before_anything_is_sent(
    mmaudio: Command, server: ScriptedServer, request_: str
) -> None:
    assert mmaudio("triggers", "add", "videos", "--request", request_).exit_code == 2
    assert server.requests == []


def test_list_shows_what_became_of_events(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [httpx.Response(200, json={"data": [TRIGGER]})]
    line = mmaudio("triggers", "list").stdout.splitlines()[0].split()
    assert line == ["trg_1", "enabled", "s3://videos/in/[x]", ".mp4", "3", "2", "1"]


def test_remove_takes_an_empty_answer(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [httpx.Response(204)]
    assert mmaudio("triggers", "remove", "trg_1").exit_code == 0
    assert server.asked == [f"DELETE {URL.replace('platform.example', '127.0.0.1:8000')}/v1/triggers/trg_1"]


def test_dry_run_tells_action_and_reason(mmaudio: Command, server: ScriptedServer) -> None:
    one = {"action": "skip", "bucket": "videos", "key": "a b", "reason": "an output", "known": True, "request": None}
    server.answers = [httpx.Response(200, json={"data": [one]})]
    assert mmaudio("triggers", "dry-run", "trg_1", "a b").stdout == (
        "skip s3://videos/a b: an output (already processed: nothing would be done)\n"
    )


def test_a_trigger_that_is_not_there_is_a_sentence(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [problem(404, "trigger_not_found", detail="There is no trigger trg_1.")]
    result = mmaudio("triggers", "remove", "trg_1")
    assert (result.exit_code, "There is no trigger trg_1." in result.stderr) == (3, True)
