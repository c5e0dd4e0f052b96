"""`/v1/webhooks`: endpoints, secrets, the delivery log, replay; and `webhook_url` of a job."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from api.schemas.webhooks import (
    DeliveryPage,
    DeliveryView,
    EndpointList,
    EndpointView,
    MessagePage,
    NewEndpointView,
    SecretView,
)
from jobs.links import ResultLinks
from jobs.outbound.calls import OutboundAnswer
from jobs.outbound.policy import OutboundPolicy
from jobs.storage.signing import LinkSigner
from jobs.webhooks.fan_out import fan_out
from jobs.webhooks.sending import SendingRules
from tests.unit.api.conftest import Harness
from tests.unit.api.test_documents import check
from workers.webhooks.sender import Sender

HOOK = "https://hooks.example.com/in"
BASE = "/v1/webhooks"


def endpoint(harness: Harness, **fields: Any) -> dict[str, Any]:
    answer = harness.client.post(f"{BASE}/endpoints", json={"url": HOOK, **fields})
    assert answer.status_code == 201, answer.json
    assert answer.headers["Cache-Control"] == "no-store"
    return dict(answer.json or {})


def refused(harness: Harness, path: str, body: dict[str, Any], *, method: str = "POST") -> dict[str, str]:
    answer = harness.client.open(f"{BASE}{path}", method=method, json=body)
    assert answer.status_code == 422, answer.json
    return {error["field"]: error["message"] for error in (answer.json or {})["errors"]}


def deliver(harness: Harness, status: int = 200) -> None:
    """Do what a control process does; receivers answer with one status."""

    def post(_url: str, _body: bytes, _headers: Mapping[str, str], _policy: OutboundPolicy) -> OutboundAnswer:
        return OutboundAnswer(status, {}, b"<b>no</b>\x1b[31m" + b"x" * 1000)

    platform = harness.db.of_platform()
    fan_out(platform)
    sender = Sender(
        platform,
        OutboundPolicy(),
        lambda tx, tenant: ResultLinks("", LinkSigner(b"k" * 32), timedelta(hours=1), tx.now, tenant),
        SendingRules(timedelta(seconds=10), timedelta(days=5), lambda: 0.0),
        post=post,
    )
    sender.send_due()


def get(harness: Harness, path: str) -> dict[str, Any]:
    answer = harness.client.get(path if path.startswith("/") else f"{BASE}/{path}")
    assert answer.status_code == 200, answer.json
    return dict(answer.json or {})


def test_an_endpoint_is_created_shown_listed_changed_and_deleted(harness: Harness) -> None:
    made = endpoint(harness, events=["failed"], description="app")
    check(made, NewEndpointView)
    shown = get(harness, made["links"]["self"])
    check(shown, EndpointView)
    assert shown == {name: value for name, value in made.items() if name != "secret"}
    assert (shown["state"], shown["events"], shown["description"]) == ("enabled", ["failed"], "app")
    listed = get(harness, "endpoints")
    check(listed, EndpointList)
    assert [one["id"] for one in listed["data"]] == [made["id"]]
    changed = harness.client.patch(
        shown["links"]["self"], json={"url": f"{HOOK}/2", "events": ["started", "progress"], "description": ""}
    ).json
    assert changed is not None
    assert (changed["url"], changed["events"], changed["description"]) == (f"{HOOK}/2", ["started", "progress"], None)
    assert harness.client.patch(shown["links"]["self"], json={}).json == changed, "nothing given, nothing changed"
    assert harness.client.delete(shown["links"]["self"]).status_code == 204
    assert harness.client.get(shown["links"]["self"]).status_code == 404


def test_lists_have_pages(harness: Harness) -> None:
    made = [endpoint(harness)["id"] for _ in range(3)]
    first = get(harness, "endpoints?limit=2")
    second = get(harness, first["links"]["next"])
    assert [one["id"] for one in first["data"] + second["data"]] == made[::-1]
    assert second["links"]["next"] is None
    assert harness.client.get(f"{BASE}/endpoints?cursor=abc").status_code == 422
    assert harness.client.get(f"{BASE}/deliveries?cursor=abc").status_code == 422


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "hooks.example.com",
        "http://127.0.0.1/",
        "http://localhost:8000/x",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://2130706433/",
        "https://user:password@example.com/",
        "http://10.0.0.1/",
    ],
)
def test_a_url_that_this_server_would_not_call_is_refused(harness: Harness, url: str) -> None:
    assert "url" in refused(harness, "/endpoints", {"url": url})
    answer = harness.client.post("/v1/jobs", json={"prompt": "rain", "webhook_url": url})
    assert answer.status_code == 422
    assert [error["field"] for error in (answer.json or {})["errors"]] == ["webhook_url"]
    made = endpoint(harness)
    assert "url" in refused(harness, f"/endpoints/{made['id']}", {"url": url}, method="PATCH")


@pytest.mark.parametrize("events", [[], ["queued"], ["test"], ["failed", "failed"], "failed", [1]])
def test_events_are_checked(harness: Harness, events: Any) -> None:
    assert any(name.startswith("events") for name in refused(harness, "/endpoints", {"url": HOOK, "events": events}))


def test_webhook_events_of_a_job_are_checked_and_completed(harness: Harness) -> None:
    def fields(**fields: Any) -> list[str]:
        answer = harness.client.post("/v1/jobs", json={"prompt": "rain", **fields})
        assert answer.status_code == 422, answer.json
        return [error["field"] for error in (answer.json or {})["errors"]]

    assert fields(webhook_events=["failed"]) == ["webhook_events"], "without a URL"
    assert fields(webhook_url=HOOK, webhook_events=["failed", "failed"]) == ["webhook_events"]
    assert fields(webhook_url=HOOK, webhook_events=["queued"]) == ["webhook_events.0"]
    assert harness.submit(webhook_url=HOOK)["request"]["webhook_events"] == ["succeeded", "failed", "canceled"]
    request = harness.submit(webhook_url=HOOK, webhook_events=["progress"])["request"]
    assert (request["webhook_url"], request["webhook_events"]) == (HOOK, ["progress"])
    assert "webhook_events" not in harness.submit()["request"]


def test_a_secret_is_shown_and_rotated(harness: Harness) -> None:
    made = endpoint(harness)
    secret = get(harness, made["links"]["secret"])
    check(secret, SecretView)
    assert secret == {"secret": made["secret"], "previous_valid_until": None}
    rotated = harness.client.post(made["links"]["rotate"], json={}).json or {}
    assert rotated["secret"] not in {made["secret"], None}
    assert rotated["previous_valid_until"] == "2026-01-02T12:00:00.000Z"
    assert get(harness, made["links"]["secret"]) == rotated
    harness.clock.advance(86_400)
    assert get(harness, made["links"]["secret"])["previous_valid_until"] is None
    at_once = harness.client.post(made["links"]["rotate"], json={"overlap_s": 0}).json or {}
    assert at_once["previous_valid_until"] is None
    assert "overlap_s" in refused(harness, f"/endpoints/{made['id']}/secret/rotate", {"overlap_s": -1})
    for path in ("endpoints", f"endpoints/{made['id']}"):
        assert "whsec_" not in harness.client.get(f"{BASE}/{path}").text


def test_the_secret_of_job_urls_is_made_once_and_rotated(harness: Harness) -> None:
    first = get(harness, "secret")
    check(first, SecretView)
    assert first["secret"].startswith("whsec_")
    assert get(harness, "secret") == first
    rotated = harness.client.post(f"{BASE}/secret/rotate", json={"overlap_s": 60}).json or {}
    assert rotated["secret"] != first["secret"]
    assert get(harness, "secret") == rotated


def test_the_log_shows_each_try_and_a_delivery_can_be_sent_again(harness: Harness) -> None:
    made = endpoint(harness)
    harness.succeed(job_id := harness.submit()["id"])
    deliver(harness, 500)
    (listed,) = get(harness, "deliveries")["data"]
    shown = get(harness, listed["links"]["self"])
    check(shown, DeliveryView)
    assert {**shown, "log": None} == listed
    assert (shown["state"], shown["job_id"], shown["endpoint_id"]) == ("pending", job_id, made["id"])
    (attempt,) = shown["log"]
    assert (attempt["number"], attempt["status"]) == (1, 500)
    assert attempt["answer_start"].startswith("<b>no</b>�[31mxxx")
    assert len(attempt["answer_start"]) == 500
    assert harness.client.post(f"{BASE}/deliveries/{shown['id']}/replay").status_code == 409, "it is still tried"
    harness.clock.advance(10)
    deliver(harness)
    delivered = get(harness, listed["links"]["self"])
    assert (delivered["state"], delivered["tries"], len(delivered["log"])) == ("delivered", 2, 2)
    assert delivered["delivered_at"] == "2026-01-01T12:00:10.000Z"
    again = harness.client.post(delivered["links"]["replay"])
    assert (again.status_code, (again.json or {})["state"]) == (202, "pending")
    deliver(harness)
    assert get(harness, listed["links"]["self"])["log"][2]["error"] is None
    for query, count in (
        (f"endpoint_id={made['id']}", 1),
        ("endpoint_id=whe_0", 0),
        (f"job_id={job_id}", 1),
        ("state=delivered", 1),
        ("state=failed", 0),
    ):
        page = get(harness, f"deliveries?{query}")
        check(page, DeliveryPage)
        assert len(page["data"]) == count, query


def test_what_was_dropped_is_replayed_since_a_time(harness: Harness) -> None:
    made = endpoint(harness)
    harness.succeed(harness.submit()["id"])
    deliver(harness, 410)
    harness.clock.advance(60)
    since = "2026-01-01T12:00:00Z"
    disabled = get(harness, made["links"]["self"])
    assert (disabled["state"], "410" in disabled["disabled_reason"]) == ("disabled", True)
    assert harness.client.post(f"{BASE}/endpoints/{made['id']}/test").status_code == 409
    refusal = harness.client.post(f"{BASE}/replay", json={"since": since, "endpoint_id": made["id"]})
    assert (refusal.status_code, (refusal.json or {})["code"]) == (409, "webhook_endpoint_disabled")
    assert harness.client.post(f"{BASE}/replay", json={"since": since}).json == {"replayed": 0, "has_more": False}
    assert harness.client.patch(made["links"]["self"], json={"enabled": True}).status_code == 200
    late = harness.client.post(f"{BASE}/replay", json={"since": "2026-01-01T12:00:01Z"})
    assert late.json == {"replayed": 0, "has_more": False}
    answer = harness.client.post(f"{BASE}/replay", json={"since": since, "endpoint_id": made["id"]})
    assert (answer.status_code, answer.json) == (202, {"replayed": 1, "has_more": False})
    deliver(harness)
    assert [one["state"] for one in get(harness, "deliveries")["data"]] == ["delivered"]


def test_a_test_is_sent(harness: Harness) -> None:
    made = endpoint(harness, events=["failed"])
    answer = harness.client.post(made["links"]["test"])
    assert answer.status_code == 202
    deliver(harness)
    assert get(harness, (answer.json or {})["links"]["self"])["state"] == "delivered"


def test_a_job_url_is_no_endpoint_but_its_deliveries_are_logged(harness: Harness) -> None:
    harness.succeed(job_id := harness.submit(webhook_url=HOOK)["id"])
    deliver(harness)
    (delivery,) = get(harness, "deliveries")["data"]
    assert (delivery["job_id"], delivery["url"], delivery["endpoint_id"]) == (job_id, HOOK, None)
    assert get(harness, "endpoints")["data"] == []


def test_messages_are_previewed_without_an_endpoint(harness: Harness) -> None:
    harness.submit()
    start = get(harness, "messages")
    check(start, MessagePage)
    assert start["data"] == []
    harness.succeed(job_id := harness.submit()["id"])
    page = get(harness, f"messages?after={start['next_after']}")
    check(page, MessagePage)
    assert [(one["event"], one["job_id"]) for one in page["data"]] == [("started", job_id), ("succeeded", job_id)]
    assert get(harness, f"messages?after={page['next_after']}")["data"] == []
    assert harness.client.get(f"{BASE}/messages?after=x").status_code == 422


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/endpoints/whe_x"),
        ("PATCH", "/endpoints/whe_x"),
        ("DELETE", "/endpoints/whe_x"),
        ("GET", "/endpoints/whe_x/secret"),
        ("POST", "/endpoints/whe_x/secret/rotate"),
        ("POST", "/endpoints/whe_x/test"),
        ("GET", "/deliveries/msg_x"),
        ("POST", "/deliveries/msg_x/replay"),
    ],
)
def test_what_does_not_exist_is_not_found(harness: Harness, method: str, path: str) -> None:
    answer = harness.client.open(f"{BASE}{path}", method=method, json={} if method in {"PATCH", "POST"} else None)
    assert answer.status_code == 404
    assert (answer.json or {})["code"].startswith("webhook_")


def test_the_number_of_endpoints_is_limited(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.webhooks.endpoints.MAX_ENDPOINTS", 1)
    endpoint(harness)
    answer = harness.client.post(f"{BASE}/endpoints", json={"url": HOOK})
    assert (answer.status_code, (answer.json or {})["code"]) == (409, "too_many_webhook_endpoints")
