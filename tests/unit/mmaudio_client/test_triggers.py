"""Triggers by the client and by the `mmaudio triggers` command."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from click.testing import Result

from mmaudio_client import Client
from tests.unit.mmaudio_client.scripted_server import URL, ScriptedServer, problem
from tests.unit.mmaudio_client.test_command import run

Command = Callable[..., Result]
TRIGGER: dict[str, Any] = {
    "id": "trg_1",
    "name": None,
    "state": "enabled",
    "bucket": "videos",
    "prefix": "in/[x]",
    "suffixes": [".mp4"],
    "events": {"submitted": 3, "skipped": 2, "held": 1},
}


@pytest.fixture
def mmaudio(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> Command:
    client = functools.partial(Client, transport=httpx.MockTransport(server), sleep=server.naps.append)
    monkeypatch.setattr("mmaudio_client.cli.session.Client", client)
    return functools.partial(run, "triggers")


def test_add_sends_the_fields_of_the_api_and_prints_the_id(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [httpx.Response(201, json=TRIGGER)]
    options = ["--prefix", "in/", "--suffix", ".mp4", "--suffix", ".mov", "--request", '{"prompt": "rain"}']
    result = mmaudio("add", "videos", *options, "--output", "s3://sounds/out/")
    assert (result.exit_code, result.stdout) == (0, "trg_1\n")
    assert json.loads(server.requests[0].content) == {
        "bucket": "videos",
        "prefix": "in/",
        "suffixes": [".mp4", ".mov"],
        "request": {"prompt": "rain"},
        "output": "s3://sounds/out/",
    }


@pytest.mark.parametrize("request_", ["{", "[]", "7"])
def test_a_request_that_is_no_object_is_refused_before_anything_is_sent(
    mmaudio: Command, server: ScriptedServer, request_: str
) -> None:
    assert mmaudio("add", "videos", "--request", request_).exit_code == 2
    assert server.requests == []


def test_list_shows_what_became_of_events(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [httpx.Response(200, json={"data": [TRIGGER]})]
    line = mmaudio("list").stdout.splitlines()[1].split()
    assert line == ["trg_1", "enabled", "s3://videos/in/[x]", ".mp4", "3", "2", "1"]


def test_remove_takes_an_empty_answer(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [httpx.Response(204)]
    assert mmaudio("remove", "trg/1").exit_code == 0
    assert server.asked == [f"DELETE {URL.replace('platform.example', '127.0.0.1:8000')}/v1/triggers/trg%2F1"]


def test_dry_run_tells_action_and_reason(mmaudio: Command, server: ScriptedServer) -> None:
    one = {"action": "skip", "bucket": "videos", "key": "a b", "reason": "an output", "known": True, "request": None}
    server.answers = [httpx.Response(200, json={"data": [one]})]
    assert mmaudio("dry-run", "trg_1", "a b").stdout == (
        "skip s3://videos/a b: an output (known already: nothing would be done)\n"
    )


def test_a_trigger_that_is_not_there_is_a_sentence(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [problem(404, "trigger_not_found", detail="There is no trigger trg_1.")]
    result = mmaudio("remove", "trg_1")
    assert (result.exit_code, "There is no trigger trg_1." in result.stderr) == (1, True)
