"""Webhooks by the client and by the `mmaudio webhooks` command."""

from __future__ import annotations

import functools
import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from mmaudio_client import verify_webhook
from mmaudio_client.webhook_forwarding import Forwarder
from tests.unit.mmaudio_client.command_runner import Command
from tests.unit.mmaudio_client.scripted_server import URL, ScriptedServer, problem

ENDPOINT: dict[str, Any] = {
    "id": "whe_1",
    "state": "enabled",
    "url": "https://app.example.com/hooks",
    "events": ["failed", "succeeded"],
    "failing_since": None,
    "secret": "whsec_c2VjcmV0",
}
DELIVERY: dict[str, Any] = {
    "id": "msg_1",
    "state": "failed",
    "event": "succeeded",
    "tries": 10,
    "last_status": 500,
    "job_id": "job_1",
    "created_at": "2026-01-01T12:00:00.000Z",
    "url": "https://app.example.com/hooks",
}
BODY = json.dumps({"type": "job.succeeded", "timestamp": "2026-01-01T12:00:00.000Z", "data": {"id": "job_1"}})
MESSAGE = {"id": "msg_preview_7", "event": "succeeded", "job_id": "job_1", "batch_id": None, "body": BODY}


def messages(*found: dict[str, Any], after: str = "7") -> httpx.Response:
    return httpx.Response(200, json={"data": list(found), "next_after": after, "has_more": False})


def interrupt(_request: httpx.Request) -> httpx.Response:
    raise KeyboardInterrupt


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> ScriptedServer:
    """The developer's own server."""
    server = ScriptedServer()
    forwarder = functools.partial(Forwarder, transport=httpx.MockTransport(server))
    monkeypatch.setattr("mmaudio_client.cli.webhooks.Forwarder", forwarder)
    return server


def test_create_prints_the_id_and_the_secret(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [httpx.Response(201, json=ENDPOINT)]
    result = mmaudio("webhooks", "create", ENDPOINT["url"], "--event", "failed", "--event", "succeeded")
    assert (result.exit_code, result.stdout) == (0, "whe_1\nwhsec_c2VjcmV0\n")
    assert json.loads(server.requests[0].content) == {"url": ENDPOINT["url"], "events": ["failed", "succeeded"]}


def test_list_shows_what_works_and_reads_all_pages(mmaudio: Command, server: ScriptedServer) -> None:
    failing = {**ENDPOINT, "id": "whe_2", "state": "disabled", "failing_since": "2026-01-01T12:00:00.000Z"}
    server.answers = [
        httpx.Response(200, json={"data": [ENDPOINT], "links": {"next": "/v1/webhooks/endpoints?cursor=x"}}),
        httpx.Response(200, json={"data": [failing], "links": {"next": None}}),
    ]
    lines = mmaudio("webhooks", "list").stdout.splitlines()
    assert [line.split("\t")[:2] for line in lines] == [["whe_1", "enabled"], ["whe_2", "disabled"]]


def test_a_missing_endpoint_is_a_refusal(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [problem(404, "webhook_endpoint_not_found", "There is no webhook endpoint whe_1.")]
    assert mmaudio("webhooks", "delete", "whe_1").exit_code == 3
    assert mmaudio("webhooks", "delete", "a/b").exit_code == 3


def test_secrets_are_printed_and_rotated(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [httpx.Response(200, json={"secret": f"whsec_{letter}"}) for letter in "abcd"]
    assert mmaudio("webhooks", "secret", "whe_1").stdout == "whsec_a\n"
    assert mmaudio("webhooks", "secret").stdout == "whsec_b\n"
    assert mmaudio("webhooks", "rotate", "whe_1", "--overlap", "60").stdout == "whsec_c\n"
    assert json.loads(mmaudio("webhooks", "rotate", "--json").stdout) == {"secret": "whsec_d"}
    base = f"{URL.replace('platform.example', '127.0.0.1:8000')}/v1/webhooks"
    assert server.asked == [
        f"GET {base}/endpoints/whe_1/secret",
        f"GET {base}/secret",
        f"POST {base}/endpoints/whe_1/secret/rotate",
        f"POST {base}/secret/rotate",
    ]
    assert [json.loads(request.content) for request in server.requests[2:]] == [{"overlap_s": 60}, {}]


def test_the_delivery_log_is_filtered_and_limited(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [httpx.Response(200, json={"data": [DELIVERY, DELIVERY], "links": {"next": "/more"}})]
    result = mmaudio("webhooks", "deliveries", "--state", "failed", "--job", "job_1", "--limit", "2")
    assert [line.split("\t")[:5] for line in result.stdout.splitlines()] == [
        ["msg_1", "failed", "succeeded", "10", "500"]
    ] * 2
    assert dict(server.requests[0].url.params) == {"state": "failed", "job_id": "job_1", "limit": "200"}


def test_replay_of_some_and_of_all_since_a_time(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [httpx.Response(202, json=DELIVERY), httpx.Response(202, json=DELIVERY)]
    assert mmaudio("webhooks", "replay", "msg_1", "msg_2").exit_code == 0
    assert [request.url.path.rsplit("/", 2)[1] for request in server.requests] == ["msg_1", "msg_2"]
    server.answers = [
        httpx.Response(202, json={"replayed": 1000, "has_more": True}),
        httpx.Response(202, json={"replayed": 5, "has_more": False}),
    ]
    result = mmaudio("webhooks", "replay", "--failed-since", "2026-01-01T12:00:00Z", "--endpoint", "whe_1")
    assert result.stdout == "1005 deliveries are sent again\n"
    sent = {"since": "2026-01-01T12:00:00+00:00", "endpoint_id": "whe_1"}
    assert json.loads(server.requests[2].content) == sent


@pytest.mark.parametrize("options", [[], ["msg_1", "--failed-since", "2026-01-01"], ["msg_1", "--endpoint", "whe_1"]])
def test_replay_needs_one_of_both(mmaudio: Command, server: ScriptedServer, options: list[str]) -> None:
    assert mmaudio("webhooks", "replay", *options).exit_code == 2
    assert server.requests == []


def test_a_time_without_zone_is_refused(server: ScriptedServer) -> None:
    with pytest.raises(ValueError, match="zone"):
        server.client().webhooks.replay_failed(datetime(2026, 1, 1))  # noqa: DTZ001
    server.answers = [httpx.Response(202, json={"replayed": 1, "has_more": False})]
    assert server.client().webhooks.replay_failed(datetime(2026, 1, 1, tzinfo=UTC)) == 1


def test_listen_shows_messages_from_now_on(mmaudio: Command, server: ScriptedServer) -> None:
    started = {**MESSAGE, "event": "started"}
    server.answers = [messages(after="6"), messages(started, MESSAGE), interrupt]
    result = mmaudio("webhooks", "listen", "--event", "succeeded")
    assert result.exit_code == 130
    assert result.stdout == "2026-01-01T12:00:00.000Z job.succeeded job_1\n"
    assert [request.url.params.get("after") for request in server.requests] == [None, "6", "7"]
    assert server.naps == [1.0, 1.0]


def test_what_is_forwarded_is_verified_with_the_secret_that_is_printed(
    mmaudio: Command, server: ScriptedServer, receiver: ScriptedServer
) -> None:
    server.answers = [messages(MESSAGE, MESSAGE), interrupt]
    receiver.answers = [httpx.Response(204), httpx.ConnectError("refused")]
    result = mmaudio("webhooks", "listen", "--forward-to", "http://localhost:3000/hooks", "--after", "3")
    assert result.stdout.splitlines() == [
        "2026-01-01T12:00:00.000Z job.succeeded job_1 -> 204",
        "2026-01-01T12:00:00.000Z job.succeeded job_1 -> not sent: refused",
    ]
    secret = result.stderr.split()[2]
    sent = receiver.requests[0]
    assert Webhook(secret).verify(sent.content, dict(sent.headers))["data"] == {"id": "job_1"}
    assert verify_webhook(sent.headers, sent.content, secret)["type"] == "job.succeeded"


def test_listen_as_json_and_with_a_secret_of_ones_own(
    mmaudio: Command, server: ScriptedServer, receiver: ScriptedServer
) -> None:
    server.answers = [messages(MESSAGE), interrupt]
    receiver.answers = [httpx.Response(302, headers={"Location": "/other"})]
    result = mmaudio(
        "webhooks", "listen", "--json", "--forward-to", "http://localhost:3000/", "--secret", "whsec_c2VjcmV0"
    )
    (line,) = result.stdout.splitlines()
    document = json.loads(line)
    assert document["forwarded"] == {"status": 302, "error": None}, "redirects are not followed"
    assert document["body"]["type"] == "job.succeeded"
    assert "whsec" not in result.stderr
    assert mmaudio("webhooks", "listen", "--forward-to", "http://x/", "--secret", "whsec_!").exit_code == 2
