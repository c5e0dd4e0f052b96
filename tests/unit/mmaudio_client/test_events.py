"""Events of jobs: streams that go on after the last event, and polling where there are none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

import httpx
import pytest

from mmaudio_client import Event, NotFoundError, UnavailableError, WrongServerError
from tests.unit.mmaudio_client.scripted_server import JOB_ID, ScriptedServer, job, job_answer, problem

LINK = f"/v1/jobs/{JOB_ID}/events"
LINKS = {"self": f"/v1/jobs/{JOB_ID}", "events": LINK, "cancel": None, "retry": None}


def frame(position: int | None, kind: str, state: str = "running") -> str:
    document = {
        "id": position,
        "job_id": JOB_ID,
        "kind": kind,
        "state": state,
        "attempt": 1,
        "data": {"stage": "sample"},
        "created_at": "2026-01-01T00:00:00.000Z",
    }
    begin = f"id: {position}\n" if position is not None else ""
    return f"{begin}event: {kind}\ndata: {json.dumps(document)}\n\n"


class Broken(httpx.SyncByteStream):
    """A body that ends with a broken connection."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __iter__(self) -> Iterator[bytes]:
        yield self.text.encode()
        raise httpx.ReadError("reset by peer")


def stream(*frames: str, broken: bool = False) -> httpx.Response:
    headers = {"Content-Type": "text/event-stream; charset=utf-8"}
    text = "".join(frames)
    return httpx.Response(200, headers=headers, **({"stream": Broken(text)} if broken else {"content": text.encode()}))


def kinds(events: Iterator[Event]) -> list[tuple[int | None, str]]:
    return [(event.id, event.kind) for event in events]


def test_the_events_of_a_job_come_in_order_until_its_end(server: ScriptedServer) -> None:
    server.answers = [
        stream(
            ": opened\n\n",
            frame(4, "queued", "queued"),
            frame(7, "running"),
            ": still here\n\n",
            frame(None, "progress"),
            frame(9, "succeeded", "succeeded"),
        )
    ]
    events = [*server.client().events(job("running", links=LINKS))]
    assert [(one.id, one.kind) for one in events] == [
        (4, "queued"),
        (7, "running"),
        (None, "progress"),
        (9, "succeeded"),
    ]
    assert (events[1].job_id, events[1].attempt, events[1].data["stage"]) == (JOB_ID, 1, "sample")
    (request,) = server.requests
    assert request.headers["Accept"] == "text/event-stream"
    assert request.headers["Last-Event-ID"] == "0"


def test_progress_can_be_left_out(server: ScriptedServer) -> None:
    server.answers = [stream(frame(None, "progress"), frame(9, "failed", "failed"))]
    assert kinds(server.client().events(job("running", links=LINKS), progress=False)) == [(9, "failed")]


def test_a_broken_stream_goes_on_after_its_last_event_and_repeats_none(server: ScriptedServer) -> None:
    server.answers = [
        stream(frame(4, "queued", "queued"), frame(7, "running"), "id: 8\ndata: {half", broken=True),
        httpx.ConnectError("refused"),
        httpx.Response(503),
        stream(frame(7, "running"), frame(8, "stage")),  # a server that repeats one, and ends without an end
        stream(frame(9, "succeeded", "succeeded")),
    ]
    found = kinds(server.client().events(job("running", links=LINKS)))
    assert found == [(4, "queued"), (7, "running"), (8, "stage"), (9, "succeeded")]
    assert [request.headers["Last-Event-ID"] for request in server.requests] == ["0", "7", "7", "7", "8"]
    assert all(nap > 0 for nap in server.naps)


def test_a_stream_without_a_new_event_ends_when_the_job_has_ended(server: ScriptedServer) -> None:
    server.answers = [stream(": nothing follows\n\n"), job_answer("succeeded")]
    assert kinds(server.client().events(job("succeeded", links=LINKS), after=9)) == []


def test_a_stream_that_breaks_at_once_again_and_again_is_an_outage(server: ScriptedServer) -> None:
    server.answers = [stream(broken=True) for _ in range(40)]
    with pytest.raises(UnavailableError, match="again and again"):
        [*server.client(patience_s=60).all_events(after=3)]
    assert 60 <= sum(server.naps) < 80
    assert max(server.naps) <= 10


def test_the_events_of_all_jobs_have_no_end(server: ScriptedServer) -> None:
    server.answers = [
        stream(frame(11, "succeeded", "succeeded"), frame(12, "queued", "queued")),
        stream(frame(13, "canceled", "canceled")),
    ]
    events = server.client().all_events(after=10)
    assert kinds(islice(events, 3)) == [(11, "succeeded"), (12, "queued"), (13, "canceled")]
    assert [request.headers["Last-Event-ID"] for request in server.requests] == ["10", "12"]
    assert server.requests[0].url.path == "/v1/events"


def test_without_a_place_to_begin_nothing_between_two_streams_is_missed(server: ScriptedServer) -> None:
    server.answers = [
        stream("retry: 2000\nid: 10\n\n", broken=True),
        stream(frame(11, "failed", "failed")),
    ]
    assert kinds(islice(server.client().all_events(kinds=["failed", "canceled"]), 1)) == [(11, "failed")]
    first, second = server.requests
    assert dict(first.url.params) == {"kinds": "failed,canceled", "after": "latest"}
    assert second.headers["Last-Event-ID"] == "10"
    assert "after" not in second.url.params


def test_a_server_may_say_that_nothing_follows(server: ScriptedServer) -> None:
    server.answers = [httpx.Response(204)]
    assert kinds(server.client().events(job("succeeded", links=LINKS), after=9)) == []


def test_the_last_event_of_a_job_comes_whatever_kinds_are_wanted(server: ScriptedServer) -> None:
    server.answers = [stream(frame(4, "stage"), frame(None, "progress"), frame(9, "failed", "failed"))]
    events = server.client().events(job("running", links=LINKS), kinds=["stage"])
    assert kinds(events) == [(4, "stage"), (9, "failed")]


def test_stored_events_are_read_page_by_page(server: ScriptedServer) -> None:
    documents = [json.loads(frame(position, "stage").partition("data: ")[2]) for position in (4, 5, 6)]
    server.answers = [
        httpx.Response(200, json={"data": documents[:2], "next_after": 5, "has_more": True}),
        httpx.Response(200, json={"data": documents[2:], "next_after": 9, "has_more": False}),
    ]
    assert [one.id for one in server.client().stored_events(JOB_ID, after=3, kinds=["stage"])] == [4, 5, 6]
    assert [dict(one.url.params) for one in server.requests] == [
        {"after": "3", "limit": "500", "kinds": "stage"},
        {"after": "5", "limit": "500", "kinds": "stage"},
    ]
    assert server.requests[0].url.path == LINK


def test_a_loop_that_is_left_early_closes_the_stream(server: ScriptedServer) -> None:
    closed: list[bool] = []

    class Endless(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            for position in range(1, 1000):
                yield frame(position, "stage").encode()

        def close(self) -> None:
            closed.append(True)

    server.answers = [httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=Endless())]
    events = server.client().all_events()
    assert next(events).id == 1
    events.close()  # type: ignore[attr-defined]
    assert closed == [True]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda: problem(404, "not_found"), NotFoundError),
        (lambda: httpx.Response(200, json={"data": []}), WrongServerError),
        (lambda: stream("data: 7\n\n"), WrongServerError),
        (lambda: stream('data: {"id": 7}\n\n'), WrongServerError),
    ],
)
def test_what_is_no_stream_of_events_is_an_error(server: ScriptedServer, answer: Any, error: type[Exception]) -> None:
    server.answers = [answer()]
    with pytest.raises(error):
        next(server.client().all_events())


def test_where_a_server_has_no_events_the_job_is_asked_for(server: ScriptedServer) -> None:
    server.answers = [
        job_answer("queued"),
        job_answer("queued"),
        job_answer("running"),
        job_answer("running", progress=0.7),
        job_answer("failed"),
    ]
    events = [*server.client().events(JOB_ID)]
    assert [(one.id, one.kind, one.state) for one in events] == [
        (None, "queued", "queued"),
        (None, "stage", "running"),
        (None, "progress", "running"),
        (None, "failed", "failed"),
    ]
    assert events[2].data["progress"] == 0.7
    assert events[3].data["error"]["code"] == "media_invalid"
