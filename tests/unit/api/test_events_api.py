"""`/v1/events` and `/v1/jobs/{id}/events`: pages, filters, and streams where the server cannot hold them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from api.context import EXTENSION
from jobs.lifecycle import Stage
from jobs.service.running_attempts import Progress, record_progress
from tests.unit.api.conftest import Harness

STREAM = {"Accept": "text/event-stream"}


def ended_job(harness: Harness) -> dict[str, Any]:
    job = harness.submit()
    harness.add_worker()
    claim = harness.claim(job["id"])
    with harness.db.transaction() as tx:
        record_progress(tx, [Progress(job["id"], 1, Stage.SAMPLE, 0.5)])
    from jobs.service import attempts

    with harness.db.transaction() as tx:
        attempts.complete(tx, claim, [], warnings=[], timings={}, artifact_ttl_s=60)
    return job


def get(harness: Harness, path: str, **options: Any) -> Any:
    answer = harness.client.get(path, **options)
    assert answer.status_code == 200, answer.text
    return answer.json


def events_of(stream: str) -> list[dict[str, str]]:
    """Return the fields of each server-sent event."""
    found = []
    for block in stream.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith((":", "retry")))
        if fields:
            found.append(fields)
    return found


def test_a_job_links_to_its_events(harness: Harness) -> None:
    job = harness.submit()
    assert job["links"]["events"] == f"{job['links']['self']}/events"
    page = get(harness, job["links"]["events"])
    event = page["data"][0]
    assert (event["kind"], event["state"], event["attempt"], event["job_id"]) == ("queued", "queued", 0, job["id"])
    assert page["next_after"] == event["id"]
    assert page["has_more"] is False


def test_pages_follow_each_other_and_kinds_are_filtered(harness: Harness) -> None:
    job = ended_job(harness)
    harness.submit()
    first = get(harness, "/v1/events?limit=3")
    assert [event["kind"] for event in first["data"]] == ["queued", "running", "stage"]
    assert first["has_more"] is True
    second = get(harness, f"/v1/events?after={first['next_after']}")
    assert [event["kind"] for event in second["data"]] == ["succeeded", "queued"]
    assert get(harness, f"/v1/events?after={second['next_after']}") == {
        "data": [],
        "next_after": second["next_after"],
        "has_more": False,
    }
    assert [event["state"] for event in get(harness, "/v1/events?kinds=stage,succeeded")["data"]] == [
        "running",
        "succeeded",
    ]
    assert len(get(harness, f"/v1/events?job_id={job['id']}")["data"]) == 4
    latest = get(harness, "/v1/events?after=latest")
    assert (latest["data"], latest["next_after"]) == ([], second["next_after"])


def test_a_rare_kind_is_looked_for_in_bounded_steps(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.service.event_log.SCANNED", 3)
    ended_job(harness)
    page = get(harness, "/v1/events?kinds=succeeded")
    assert (page["data"], page["next_after"], page["has_more"]) == ([], 3, True)
    assert [event["kind"] for event in get(harness, "/v1/events?kinds=succeeded&after=3")["data"]] == ["succeeded"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("after=-1", "after"),
        ("after=x", "after"),
        (f"after={2**63}", "after"),
        ("kinds=", "kinds"),
        ("kinds=nothing", "kinds"),
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("page=1", "page"),
    ],
)
def test_wrong_parameters_are_named(harness: Harness, query: str, field: str) -> None:
    answer = harness.client.get(f"/v1/events?{query}")
    assert answer.status_code == 422
    assert field in (answer.json or {})["errors"][0]["field"]


def test_an_id_that_is_no_number_is_422(harness: Harness) -> None:
    assert harness.client.get("/v1/events", headers={"Last-Event-ID": "x"}).status_code == 422


@pytest.mark.parametrize("path", ["/v1/jobs/job_x/events", "/v1/events?job_id=job_x"])
@pytest.mark.parametrize("headers", [{}, STREAM])
def test_events_of_an_unknown_job_are_404(harness: Harness, path: str, headers: dict[str, str]) -> None:
    assert harness.client.get(path, headers=headers).status_code == 404


def test_the_stream_of_an_ended_job_replays_and_ends(harness: Harness) -> None:
    job = ended_job(harness)
    answer = harness.client.get(job["links"]["events"], headers=STREAM)
    assert answer.mimetype == "text/event-stream"
    assert (answer.headers["Cache-Control"], answer.headers["X-Accel-Buffering"]) == ("no-store", "no")
    assert "Content-Length" not in answer.headers
    events = events_of(answer.text)
    assert [event["event"] for event in events] == ["queued", "running", "stage", "succeeded"]
    assert [int(event["id"]) for event in events] == [1, 2, 3, 4]
    assert json.loads(events[1]["data"])["state"] == "running"


def test_a_stream_begins_after_the_last_event_that_the_client_has(harness: Harness) -> None:
    job = ended_job(harness)
    for query, headers in (("?after=2", {}), ("", {"Last-Event-ID": "2"}), ("?after=0", {"Last-Event-ID": "2"})):
        text = harness.client.get(job["links"]["events"] + query, headers=STREAM | headers).text
        assert [event["id"] for event in events_of(text)] == ["3", "4"]


def test_the_last_event_is_sent_whatever_kinds_are_wanted(harness: Harness) -> None:
    job = ended_job(harness)
    text = harness.client.get(job["links"]["events"] + "?kinds=running", headers=STREAM).text
    assert [event["event"] for event in events_of(text)] == ["running", "succeeded"]


def test_a_client_that_has_the_last_event_is_told_not_to_come_back(harness: Harness) -> None:
    job = ended_job(harness)
    answer = harness.client.get(job["links"]["events"], headers=STREAM | {"Last-Event-ID": "4"})
    assert (answer.status_code, answer.data, answer.headers["Cache-Control"]) == (204, b"", "no-store")
    assert "Content-Type" not in answer.headers


def test_head_of_a_stream_has_no_body_and_holds_nothing(harness: Harness) -> None:
    job = harness.submit()
    answer = harness.client.head(job["links"]["events"], headers=STREAM)
    assert (answer.status_code, answer.mimetype, answer.data) == (200, "text/event-stream", b"")


def test_a_stream_in_a_thread_follows_the_job_and_ends_with_it(harness: Harness) -> None:
    job = harness.submit()
    harness.add_worker()
    answer = harness.client.get(job["links"]["events"], headers=STREAM, buffered=False)
    received: Iterator[bytes] = iter(answer.response)  # type: ignore[arg-type]
    text = b""
    while b"event: queued" not in text:
        text += next(received)
    harness.succeed(job["id"])
    text += b"".join(received)
    assert [event["event"] for event in events_of(text.decode())][-1] == "succeeded"


def test_streams_in_threads_are_bounded(harness: Harness) -> None:
    job = harness.submit()
    places = harness.app.extensions[EXTENSION].waiting_places
    held = [places.place() for _ in range(harness.app.extensions[EXTENSION].shares.waiting)]
    for place in held:
        place.__enter__()
    answer = harness.client.get(job["links"]["events"], headers=STREAM)
    assert events_of(answer.text) == [], "it ends at once; the client comes back"
    for place in held:
        place.__exit__(None, None, None)


def test_json_is_the_default_and_answers_name_what_they_depend_on(harness: Harness) -> None:
    harness.submit()
    for accept in ("*/*", "application/json", "text/html", ""):
        answer = harness.client.get("/v1/events", headers={"Accept": accept})
        assert (answer.mimetype, answer.headers["Vary"]) == ("application/json", "Accept"), accept


def test_the_document_names_both_kinds_of_answers(harness: Harness) -> None:
    document = harness.client.get("/openapi.json").json or {}
    for path in ("/v1/events", "/v1/jobs/{job_id}/events"):
        responses = document["paths"][path]["get"]["responses"]
        assert set(responses["200"]["content"]) == {"application/json", "text/event-stream"}
        assert "204" in responses
    assert "EventPage" in document["components"]["schemas"]
