"""Requests that wait or stream are held in the event loop: without threads, within memory, until they end or go."""

from __future__ import annotations

import asyncio
import json
import threading
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from flask import Flask, Response, request
from sqlalchemy.exc import SQLAlchemyError

from api.bridge.asgi import Bridge
from api.bridge.held import HeldRequests, HoldingTimes
from api.bridge.limits import BridgeLimits
from api.bridge.waiting import WaitEnd, answer_again, stream_events, wait_for, waited
from api.events.notifier import Notifier
from api.events.reader import EventReader, JobVersion
from api.events.subscriptions import MAX_PENDING, Subscriptions
from api.events.updates import PROGRESS, JobUpdate
from jobs.lifecycle import EventKind, State, state_after

LIMITS = BridgeLimits(threads=2, queued=2, stall_s=0.2)
TIMES = HoldingTimes(comment_s=30, stall_s=0.2, allowed_s=0.02, retry_s=0.02)
WHEN = datetime(2026, 1, 1, tzinfo=UTC)
PATIENCE_S = 30


@dataclass
class Log:
    """A log of events in memory, in place of the database: same methods as `EventReader`."""

    events: list[JobUpdate] = field(default_factory=list)
    states: dict[str, JobVersion] = field(default_factory=dict)
    running: dict[str, float] = field(default_factory=dict)
    down: bool = False
    pages_read: int = 0

    def add(self, job_id: str, kind: str, tenant: str = "t") -> None:
        """Record an event of a job."""
        self.events.append(JobUpdate(len(self.events) + 1, tenant, job_id, kind, 1, {}, WHEN))
        self.states[job_id] = JobVersion(state_after(EventKind(kind)), len(self.events))

    def _check(self) -> None:
        if self.down:
            raise SQLAlchemyError("switched off by the test")

    def position(self) -> int:
        self._check()
        return len(self.events)

    def new_events(self, after: int) -> list[JobUpdate]:
        self._check()
        return self.events[after:]

    def stream_page(self, tenant: str, job_id: str | None, after: int) -> list[JobUpdate]:
        self._check()
        self.pages_read += 1
        return [one for one in self.events[after:] if one.tenant == tenant and job_id in {None, one.job_id}]

    def versions(self, job_ids: Iterable[str]) -> dict[str, JobVersion | None]:
        self._check()
        return {job_id: self.states.get(job_id) for job_id in job_ids}

    def progress(self, job_ids: Iterable[str]) -> list[JobUpdate]:
        return [
            JobUpdate(None, "t", one, PROGRESS, 1, {"progress": self.running[one]}, WHEN)
            for one in job_ids
            if one in self.running
        ]


@dataclass
class Client:
    """A connection: what it gets is kept; it goes when it is told to."""

    path: str
    method: str = "GET"
    takes: bool = True
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    going: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def scope(self) -> dict[str, Any]:
        path, _, query = self.path.partition("?")
        return {
            "type": "http",
            "http_version": "1.1",
            "method": self.method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
        }

    async def receive(self) -> dict[str, Any]:
        await self.going.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            if not self.takes and self.body:
                await asyncio.Event().wait()
            self.body += message["body"]
            self.ended = not message["more_body"]
        self.changed.set()

    async def until(self, found: Callable[[Client], bool]) -> None:
        """Return when the client has got something."""
        async with asyncio.timeout(PATIENCE_S):
            while not found(self):
                self.changed.clear()
                await self.changed.wait()

    @property
    def events(self) -> list[str]:
        """The kinds of the events that it got."""
        return [line.removeprefix("event: ") for line in self.body.decode().splitlines() if line.startswith("event: ")]


class Served:
    """A small app behind the bridge: `/jobs/ID` waits, `/make` makes a job and waits for it, `/events` streams."""

    def __init__(self, log: Log, *, limit: int = 5000, times: HoldingTimes = TIMES) -> None:
        self.log, self.made, self.freed, self.calls = log, 0, 0, 0
        self.key_valid = True
        reader = cast("EventReader", log)
        self.held = HeldRequests(
            reader, limit=limit, times=times, notifier=lambda r, s: Notifier(r, s, interval_s=0.005)
        )
        self.bridge = Bridge(self.app(), LIMITS, is_streamed=lambda *_: False, held=self.held)
        self.tasks: list[asyncio.Task[None]] = []

    def free(self) -> None:
        self.freed += 1

    def app(self) -> Flask:
        app = Flask(__name__)
        app.before_request(answer_again)

        @app.get("/jobs/<ids>")
        def job(ids: str) -> Response:
            self.calls += 1
            end = waited()
            if end is None:
                seen = {ids: int(request.args["seen"])} if "seen" in request.args else None
                return wait_for(ids.split(","), float(request.args.get("wait", 60)), seen=seen, on_end=self.free)
            return Response(str(end.end))

        @app.post("/make")
        def make() -> Response:
            self.made += 1
            return wait_for(["a"], 60, again=lambda: Response(f"made {self.made}", status=201), on_end=self.free)

        @app.get("/events")
        def events() -> Response:
            job_id = request.args.get("job")
            return stream_events(
                request.args.get("tenant", "t"), job_id=job_id, after=int(request.args.get("after", 0)),
                allowed_key="key", still_allowed=lambda: self.key_valid, on_end=self.free,
            )  # fmt: skip

        return app

    def open(self, path: str, **options: Any) -> Client:
        """Send a request; return its client at once."""
        client = Client(path, **options)
        self.tasks.append(asyncio.ensure_future(self.bridge(client.scope(), client.receive, client.send)))
        return client

    async def holds(self, count: int) -> None:
        """Return when so many requests are held."""
        async with asyncio.timeout(PATIENCE_S):
            while self.held.count != count:
                await asyncio.sleep(0.002)

    async def done(self) -> None:
        """Return when every request has been dealt with."""
        await asyncio.wait_for(asyncio.gather(*self.tasks), PATIENCE_S)
        self.held.close()


def run(scenario: Callable[[Served], Any], log: Log | None = None, **options: Any) -> Served:
    async def in_loop() -> Served:
        served = Served(log or Log(), **options)
        try:
            await scenario(served)
        finally:
            served.held.close()
        return served

    return asyncio.run(in_loop())


def test_a_wait_ends_with_the_job() -> None:
    async def scenario(served: Served) -> None:
        served.log.add("a", "running")
        client = served.open("/jobs/a")
        await served.holds(1)
        served.log.add("b", "succeeded")
        served.log.add("a", "stage")
        await asyncio.sleep(0.03)
        assert client.status == 0
        served.log.add("a", "succeeded")
        await served.done()
        assert (client.status, client.body) == (200, b"changed")

    served = run(scenario)
    assert (served.calls, served.freed, served.held.count) == (2, 1, 0)


def test_a_job_that_ended_before_the_wait_began_or_is_gone_ends_it() -> None:
    async def scenario(served: Served) -> None:
        served.log.add("a", "succeeded")
        clients = [served.open("/jobs/a"), served.open("/jobs/unknown")]
        await served.done()
        assert [client.body for client in clients] == [b"changed"] * 2

    run(scenario)


def test_a_wait_for_several_jobs_ends_with_the_last() -> None:
    async def scenario(served: Served) -> None:
        for job in "ab":
            served.log.add(job, "running")
        client = served.open("/jobs/a,b")
        await served.holds(1)
        served.log.add("a", "failed")
        await asyncio.sleep(0.03)
        assert client.status == 0
        served.log.add("b", "canceled")
        await served.done()
        assert client.body == b"changed"

    run(scenario)


def test_a_wait_for_a_change_ends_with_any_event() -> None:
    async def scenario(served: Served) -> None:
        served.log.add("a", "running")
        late, client = served.open("/jobs/a?seen=0"), served.open("/jobs/a?seen=1")
        await late.until(lambda one: one.body == b"changed")
        assert client.status == 0
        served.log.add("a", "stage")
        await served.done()
        assert client.body == b"changed"

    run(scenario)


def test_a_wait_ends_when_its_time_is_up() -> None:
    async def scenario(served: Served) -> None:
        served.log.add("a", "queued")
        client = served.open("/jobs/a?wait=0.05")
        await served.done()
        assert client.body == b"time_up"

    assert run(scenario).freed == 1


def test_a_client_that_goes_is_not_answered_and_frees_its_place() -> None:
    async def scenario(served: Served) -> None:
        served.log.add("a", "queued")
        waiting, streaming = served.open("/jobs/a"), served.open("/events?job=a")
        await served.holds(2)
        await streaming.until(lambda one: one.events == ["queued"])
        waiting.going.set()
        streaming.going.set()
        await served.done()
        assert waiting.status == 0

    served = run(scenario)
    assert (served.calls, served.freed, served.held.count) == (1, 2, 0)


def test_a_call_with_an_effect_is_carried_out_once() -> None:
    async def scenario(served: Served) -> None:
        served.log.add("a", "queued")
        client = served.open("/make", method="POST")
        await served.holds(1)
        served.log.add("a", "succeeded")
        await served.done()
        assert (client.status, client.body) == (201, b"made 1")

    assert run(scenario).made == 1


def test_beyond_the_limit_waits_are_answered_at_once_and_streams_refused() -> None:
    async def scenario(served: Served) -> None:
        served.log.add("a", "queued")
        held = served.open("/jobs/a")
        await served.holds(1)
        wait, stream = served.open("/jobs/a"), served.open("/events")
        await wait.until(lambda one: one.body == b"no_place")
        await stream.until(lambda one: one.ended)
        assert (stream.status, json.loads(stream.body)["code"]) == (503, "busy")
        assert "retry-after" in stream.headers
        served.log.add("a", "failed")
        await served.done()
        assert held.body == b"changed"

    assert run(scenario, limit=1).freed == 3


def test_many_waits_hold_no_thread_and_little_memory() -> None:
    count = 300

    async def scenario(served: Served) -> None:
        for number in range(count):
            served.log.add(f"j{number}", "queued")
        threads = threading.active_count()
        tracemalloc.start()
        clients = []
        for number in range(count):
            clients.append(served.open(f"/jobs/j{number}" if number % 2 else f"/events?job=j{number}"))
            if number % 3 == 2:  # as many requests as may wait for a thread
                await served.holds(number + 1)
        await served.holds(count)
        taken, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert taken / count < 40_000
        assert threading.active_count() <= threads + LIMITS.threads + 3
        for number in range(count):
            served.log.add(f"j{number}", "succeeded")
        await served.done()
        assert all(client.status == 200 and client.ended for client in clients)

    run(scenario, limit=count, times=HoldingTimes(stall_s=PATIENCE_S))


def test_a_stream_replays_follows_and_ends_with_the_job() -> None:
    async def scenario(served: Served) -> None:
        for kind in ("queued", "running"):
            served.log.add("a", kind)
        served.log.add("b", "queued")
        client = served.open("/events?job=a&after=1")
        await client.until(lambda one: one.events == ["running"])
        served.log.add("b", "running")
        served.log.add("a", "succeeded")
        await served.done()
        assert client.events == ["running", "succeeded"]
        assert client.body.startswith(b"retry: ")
        assert b"id: 5\nevent: succeeded\ndata: {" in client.body
        assert client.ended
        assert "content-length" not in client.headers

    run(scenario)


def test_a_stream_of_all_jobs_has_those_of_its_tenant() -> None:
    async def scenario(served: Served) -> None:
        client = served.open("/events")
        await served.holds(1)
        served.log.add("x", "queued", tenant="other")
        served.log.add("a", "queued")
        served.log.add("a", "failed")
        await client.until(lambda one: one.events == ["queued", "failed"])
        assert not client.ended
        client.going.set()
        await served.done()

    run(scenario)


def test_progress_is_sent_without_an_id_and_not_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.events.notifier.PROGRESS_S", 0.01)

    async def scenario(served: Served) -> None:
        served.log.add("a", "running")
        served.log.running["a"] = 0.5
        client = served.open("/events?job=a")
        await client.until(lambda one: PROGRESS in one.events)
        assert b"id: " not in client.body[client.body.index(b"event: progress") - 10 :]
        await asyncio.sleep(0.05)
        served.log.running["a"] = 0.75
        await client.until(lambda one: one.events.count(PROGRESS) == 2)
        served.log.add("a", "succeeded")
        await served.done()
        assert client.events == ["running", PROGRESS, PROGRESS, "succeeded"]

    run(scenario)


def test_a_comment_is_sent_while_nothing_happens() -> None:
    async def scenario(served: Served) -> None:
        served.log.add("a", "queued")
        client = served.open("/events?job=a")
        await client.until(lambda one: one.body.count(b"\n:\n") >= 1 and one.body.endswith(b":\n:\n"))
        client.going.set()
        await served.done()

    run(scenario, times=HoldingTimes(comment_s=0.02))


def test_a_client_that_goes_before_its_answer_begins_frees_its_place() -> None:
    async def scenario(served: Served) -> None:
        client = Client("/events")

        async def broken(_: dict[str, Any]) -> None:
            raise ConnectionResetError

        with pytest.raises(ConnectionResetError):
            await served.bridge(client.scope(), client.receive, broken)

    served = run(scenario)
    assert (served.freed, served.held.count) == (1, 0)


def test_a_client_that_takes_nothing_is_dropped() -> None:
    async def scenario(served: Served) -> None:
        served.log.add("a", "queued")
        client = served.open("/events?job=a", takes=False)
        await served.done()
        assert not client.ended

    served = run(scenario)
    assert (served.freed, served.held.count) == (1, 0)


def test_a_stream_that_is_far_behind_reads_again_and_misses_nothing() -> None:
    async def scenario(served: Served) -> None:
        client = served.open("/events")
        await served.holds(1)
        served.log.add("a", "queued")
        await client.until(lambda one: len(one.events) == 1)
        for number in range(3 * MAX_PENDING):
            served.log.add(f"j{number}", "queued")
        await client.until(lambda one: len(one.events) >= 1 + 3 * MAX_PENDING)
        ids = [int(line[4:]) for line in client.body.decode().splitlines() if line.startswith("id: ")]
        assert ids == list(range(1, 2 + 3 * MAX_PENDING))
        assert served.log.pages_read == 2
        client.going.set()
        await served.done()

    run(scenario)


def test_streams_end_when_their_key_is_revoked() -> None:
    async def scenario(served: Served) -> None:
        client = served.open("/events")
        await client.until(lambda one: one.status == 200)
        served.key_valid = False
        await served.done()
        assert client.ended

    assert run(scenario).freed == 1


def test_a_database_that_is_away_ends_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.events.notifier.RETRY_S", 0.01)

    async def scenario(served: Served) -> None:
        served.log.add("a", "queued")
        served.log.down = True
        clients = [served.open("/jobs/a"), served.open("/events?job=a"), served.open("/jobs/a?wait=0.05")]
        await clients[2].until(lambda one: one.body == b"time_up")
        await asyncio.sleep(0.1)
        assert (clients[0].status, clients[1].events) == (0, [])
        served.log.down = False
        await clients[1].until(lambda one: one.events == ["queued"])
        served.log.down = True
        await asyncio.sleep(0.05)
        served.log.add("a", "succeeded")
        served.log.down = False
        await served.done()
        assert (clients[0].body, clients[1].events) == (b"changed", ["queued", "succeeded"])

    run(scenario)
    assert len([line for line in caplog.messages if "when the database answers" in line]) == 1


def test_no_event_is_missed_while_waits_begin_and_end() -> None:
    """The notifier stops when nobody waits; what happens at that moment is found all the same."""

    async def scenario(served: Served) -> None:
        for number in range(60):
            served.log.add(f"j{number}", "queued")
            client = served.open(f"/events?job=j{number}&after=0" if number % 2 else f"/jobs/j{number}")
            await asyncio.sleep(0.001 * (number % 9))
            served.log.add(f"j{number}", "succeeded")
            await client.until(lambda one: one.ended)
            if number % 2:
                assert client.events == ["queued", "succeeded"]
            else:
                assert client.body == b"changed"
        await served.done()

    run(scenario)


def test_the_rows_of_streamed_jobs_are_looked_at_now_and_then() -> None:
    log, time_s = Log(), [0.0]

    async def scenario() -> None:
        subscriptions = Subscriptions()
        notifier = Notifier(cast("EventReader", log), subscriptions, monotonic=lambda: time_s[0])
        log.add("a", "queued")
        from api.bridge.waiting import EventStream

        stream = subscriptions.add_stream(EventStream("t", "a", 0, None, lambda one: one.frame))
        for deleted, stopped in ((False, False), (True, True)):
            if deleted:
                log.states.clear()
                time_s[0] += 31
            batch = notifier.tick()
            assert batch is not None
            subscriptions.deliver(batch)
            assert stream.stopped is stopped
        subscriptions.remove_stream(stream)
        assert notifier.tick() is None

    asyncio.run(scenario())


def test_the_ends_of_waits_have_names() -> None:
    assert {str(end) for end in WaitEnd} == {"changed", "time_up", "no_place"}
    assert State.RUNNING is state_after(EventKind.CANCEL_REQUESTED)
