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


def test_list_follows_the_pages(mmaudio: Command, server: ScriptedServer) -> None:
    following = f"{URL}/v1/triggers?cursor=abc&limit=200"
    server.answers = [
        httpx.Response(200, json={"data": [TRIGGER], "links": {"next": following}}),
        httpx.Response(200, json={"data": [TRIGGER | {"id": "trg_2"}], "links": {"next": None}}),
    ]
    assert [line.split()[0] for line in mmaudio("triggers", "list").stdout.splitlines()] == ["trg_1", "trg_2"]
    assert server.asked[1] == f"GET {following}"


def page(cursor: str | None, **counts: int) -> httpx.Response:
    zeros = dict.fromkeys(("listed", "submitted", "duplicates", "skipped", "held"), 0)
    return httpx.Response(200, json={**zeros, **counts, "next_cursor": cursor, "data": None})


def test_backfill_goes_on_until_the_bucket_is_listed(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [page("c1", listed=100, submitted=98, skipped=2), page(None, listed=7, duplicates=7)]
    result = mmaudio("triggers", "backfill", "trg_1", "--prefix", "in/")
    assert (result.exit_code, result.stdout) == (
        0,
        "107 objects listed: created 98 jobs; 7 processed before, 2 skipped, 0 held\n",
    )
    assert [json.loads(request.content) for request in server.requests] == [
        {"prefix": "in/"},
        {"prefix": "in/", "cursor": "c1"},
    ]


def test_backfill_stops_after_so_many_jobs(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [page("c1", listed=9, submitted=3), page("c2", listed=9, submitted=2)]
    assert mmaudio("triggers", "backfill", "trg_1", "--limit", "5").exit_code == 0
    assert [json.loads(request.content)["max_jobs"] for request in server.requests] == [5, 2]


def test_a_dry_backfill_shows_each_object(mmaudio: Command, server: ScriptedServer) -> None:
    one = {"action": "submit", "bucket": "videos", "key": "a\nb", "reason": None, "known": False, "request": {}}
    answer = page(None, listed=1, submitted=1).json() | {"data": [one]}
    server.answers = [httpx.Response(200, json=answer)]
    result = mmaudio("triggers", "backfill", "trg_1", "--dry-run")
    assert len(result.stdout.splitlines()) == 1
    assert "would create 1 jobs" in result.stderr
    assert json.loads(server.requests[0].content) == {"dry_run": True}


def test_a_backfill_that_is_refused_later_tells_what_was_done(mmaudio: Command, server: ScriptedServer) -> None:
    refused = problem(409, "trigger_inactive", detail="Trigger trg_1 is paused.")
    server.answers = [page("c1", listed=9, submitted=3, held=6), refused]
    result = mmaudio("triggers", "backfill", "trg_1")
    assert (result.exit_code, "created 3 jobs" in result.stdout, "is paused" in result.stderr) == (3, True, True)


def test_backfill_as_json_is_a_document_a_page(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [page("c1", submitted=1), page(None)]
    lines = mmaudio("triggers", "backfill", "trg_1", "--json").stdout.splitlines()
    assert [json.loads(line)["next_cursor"] for line in lines] == ["c1", None]
