"""The bridge between an ASGI server and the app's threads: slow clients hold no thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from flask import Flask, Response, request

from api.bridge.asgi import Bridge
from api.bridge.limits import BridgeLimits

LIMITS = BridgeLimits(
    threads=2, queued=2, body_bytes=1000, body_s=0.1, stall_s=0.1, prompt_s=0.02, drain_bytes=100, drain_s=0.02
)
JSON = ("content-type", "application/json")


@dataclass
class Client:
    """One connection: what it sends is given, what it gets is kept.

    Attributes:
        pieces: the request's body; None at the end: the connection breaks there; otherwise it stays silent.
        takes: whether it takes what the server sends.
    """

    method: str = "POST"
    path: str = "/echo"
    headers: Iterable[tuple[str, str]] = (JSON,)
    pieces: list[bytes | None] = field(default_factory=list)
    last: bool = True
    takes: bool = True
    status: int = 0
    answered: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def scope(self) -> dict[str, Any]:
        return {
            "type": "http",
            "http_version": "1.1",
            "method": self.method,
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": b"",
            "scheme": "http",
            "headers": [(name.encode(), value.encode()) for name, value in self.headers],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
        }

    async def receive(self) -> dict[str, Any]:
        if not self.pieces:
            if self.last:
                self.last = False
                return {"type": "http.request", "body": b"", "more_body": False}
            await asyncio.Event().wait()
        piece = self.pieces.pop(0)
        if piece is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": True}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.answered = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        if not self.takes and self.body:
            await asyncio.Event().wait()
        self.body += message["body"]


@dataclass
class App:
    """A small app: `/echo` returns the body, `/refused` reads none, `/blocked` waits, `/large` returns much."""

    calls: list[str] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)
    blocked: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def wsgi(self) -> Callable[..., Any]:
        app = Flask(__name__)

        @app.route("/echo", methods=["POST", "PUT"])
        def echo() -> bytes:
            data = request.get_data()
            self.calls.append(request.path)
            return data

        @app.post("/refused")
        def refused() -> Response:
            return Response("no", status=401)

        @app.get("/blocked")
        def blocked() -> str:
            self.blocked.release()
            self.release.wait(30)
            return "done"

        @app.get("/large")
        def large() -> Response:
            return Response((b"x" * 300_000 for _ in range(20)), mimetype="text/plain")

        @app.get("/healthz")
        def healthz() -> str:
            return "ok"

        return app


def bridge(app: App, limits: BridgeLimits = LIMITS) -> Bridge:
    return Bridge(app.wsgi(), limits, is_streamed=lambda method, _: method == "PUT")


def ask(app: App, client: Client, limits: BridgeLimits = LIMITS) -> Client:
    """Send one request; return the client with its answer."""
    asyncio.run(asyncio.wait_for(bridge(app, limits)(client.scope(), client.receive, client.send), 30))
    return client


def test_a_body_in_pieces_arrives_whole() -> None:
    client = ask(App(), Client(headers=[JSON, ("content-length", "6")], pieces=[b"abc", b"def"]))
    assert (client.status, client.body) == (200, b"abcdef")
    assert "connection" not in client.answered


def test_a_body_in_chunks_has_its_length_when_it_is_whole() -> None:
    client = ask(App(), Client(headers=[JSON, ("transfer-encoding", "chunked")], pieces=[b"abc", b"def"]))
    assert (client.status, client.body) == (200, b"abcdef")


def test_a_body_that_stalls_is_408_and_ends_the_connection() -> None:
    app = App()
    client = ask(app, Client(headers=[JSON, ("content-length", "6")], pieces=[b"abc"], last=False))
    assert (client.status, client.answered["connection"]) == (408, "close")
    assert b"body_too_slow" in client.body
    assert app.calls == []


def test_a_slow_body_that_arrives_in_time_is_taken_once() -> None:
    app = App()
    client = Client(headers=[JSON, ("content-length", "6")], pieces=[b"abc", b"def"])
    receive, waited = client.receive, []

    async def late() -> dict[str, Any]:
        if len(client.pieces) == 1 and not waited:
            waited.append(1)
            await asyncio.sleep(0.05)  # longer than the app is called without the body, shorter than the limit
        return await receive()

    client.receive = late  # type: ignore[method-assign]
    ask(app, client, replace(LIMITS, body_s=20))
    assert (client.status, client.body, app.calls) == (200, b"abcdef", ["/echo"])


@pytest.mark.parametrize("header", [("content-length", "6"), ("transfer-encoding", "chunked")])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_body_that_is_cut_short_reaches_no_handler(header: tuple[str, str], method: str) -> None:
    app = App()
    client = ask(app, Client(method=method, headers=[JSON, header], pieces=[b"abc", None]))
    assert (client.status, app.calls) == (400, [])


def test_a_refusal_does_not_wait_for_the_body_and_ends_the_connection() -> None:
    client = ask(App(), Client(path="/refused", headers=[("content-length", "500")], last=False))
    assert (client.status, client.answered["connection"]) == (401, "close")


@pytest.mark.parametrize(("size", "connection"), [(50, None), (5000, "close")])
def test_a_small_rest_is_dropped_and_a_large_one_ends_the_connection(size: int, connection: str | None) -> None:
    client = ask(App(), Client("PUT", "/nowhere", [("content-length", str(size))], [b"x" * size]))
    assert (client.status, client.answered.get("connection")) == (404, connection)


@pytest.mark.parametrize("header", [("content-length", "1001"), ("transfer-encoding", "chunked")])
def test_a_body_that_is_too_large_is_not_read(header: tuple[str, str]) -> None:
    app = App()
    pieces: list[bytes | None] = [b"x" * 600] * 10
    client = Client(headers=[JSON, header], pieces=pieces, last=False)
    ask(app, client)
    assert (client.status, client.answered["connection"], app.calls) == (413, "close", [])
    assert len(pieces) >= 7


def test_memory_for_bodies_is_bounded() -> None:
    client = ask(
        App(), Client(headers=[("content-length", "600")], pieces=[b"x" * 600]), replace(LIMITS, buffered_bytes=500)
    )
    assert (client.status, client.answered["retry-after"]) == (503, "2")


def test_a_body_may_be_larger_where_the_app_says_so() -> None:
    app = App()
    large = Bridge(
        app.wsgi(),
        replace(LIMITS, body_s=0.01, large_bytes_per_s=10_000),
        is_streamed=lambda method, _: False,
        body_limit=lambda method, path: 5000,
    )

    def send(path: str, size: int) -> Client:
        client = Client(path=path, headers=[JSON, ("content-length", str(size))], pieces=[b"x" * 500] * (size // 500))
        asyncio.run(asyncio.wait_for(large(client.scope(), client.receive, client.send), 30))
        return client

    assert (send("/echo", 5000).status, send("/echo", 5500).status) == (200, 413)


def test_of_a_large_body_little_is_read_before_the_app_wants_it() -> None:
    app = App()
    served = Bridge(app.wsgi(), LIMITS, is_streamed=lambda method, _: False, body_limit=lambda method, path: 50_000)
    for length in (("content-length", "50000"), ("transfer-encoding", "chunked")):
        client = Client(path="/refused", headers=[JSON, length], pieces=[b"x" * 500] * 100)
        asyncio.run(asyncio.wait_for(served(client.scope(), client.receive, client.send), 30))
        assert (client.status, client.answered["connection"]) == (401, "close")
        assert len(client.pieces) >= 95, "the app's refusal comes first"


def test_large_bodies_take_no_memory_from_small_ones() -> None:
    app = App()
    limits = replace(LIMITS, buffered_bytes=100_000, large_buffered_bytes=5000, body_s=20)
    both = Bridge(app.wsgi(), limits, is_streamed=lambda method, _: False, body_limit=lambda method, path: 6000)

    async def run() -> list[int]:
        held = Client(headers=[JSON, ("content-length", "6000")], pieces=[b"x" * 5000], last=False)
        holding = asyncio.ensure_future(both(held.scope(), held.receive, held.send))
        await asyncio.sleep(0.1)
        clients = [Client(headers=[JSON, ("content-length", str(size))], pieces=[b"x" * size]) for size in (1000, 4000)]
        for client in clients:
            await asyncio.wait_for(both(client.scope(), client.receive, client.send), 30)
        holding.cancel()
        await asyncio.gather(holding, return_exceptions=True)
        after = Client(headers=[JSON, ("content-length", "6000")], pieces=[b"x" * 6000])
        await asyncio.wait_for(both(after.scope(), after.receive, after.send), 30)
        return [client.status for client in (*clients, after)]

    assert asyncio.run(run()) == [200, 503, 200], "the memory of a body is free again when its request has ended"


def test_an_upload_is_read_while_it_arrives() -> None:
    client = ask(App(), Client("PUT", headers=[("content-length", "600")], pieces=[b"x" * 300, b"y" * 300]))
    assert (client.status, client.body) == (200, b"x" * 300 + b"y" * 300)


def test_an_upload_that_stalls_is_408_and_frees_its_thread() -> None:
    app = App()
    client = ask(app, Client("PUT", headers=[("content-length", "600")], pieces=[b"x" * 300], last=False))
    assert (client.status, client.answered["connection"], app.calls) == (408, "close", [])


def test_an_upload_below_the_lowest_rate_is_408() -> None:
    client = Client("PUT", headers=[("content-length", "1000")], pieces=[b"x"] * 1000)
    receive = client.receive

    async def trickle() -> dict[str, Any]:
        await asyncio.sleep(0.02)  # never a stall
        return await receive()

    client.receive = trickle  # type: ignore[method-assign]
    ask(App(), client, replace(LIMITS, upload_bytes_per_s=1000))
    assert client.status == 408
    assert len(client.pieces) > 900


async def fill(served: Bridge, app: App, count: int) -> list[asyncio.Task[None]]:
    """Keep `count` requests waiting in the app or before it."""
    clients = [Client("GET", "/blocked", []) for _ in range(count)]
    running = [asyncio.ensure_future(served(one.scope(), one.receive, one.send)) for one in clients]
    for _ in range(min(count, LIMITS.threads)):
        await asyncio.to_thread(app.blocked.acquire, timeout=30)
    return running


def test_liveness_is_answered_while_every_thread_waits_and_others_are_refused() -> None:
    app = App()

    async def scenario() -> tuple[Client, Client]:
        served = bridge(app)
        running = await fill(served, app, LIMITS.threads + LIMITS.queued)
        health, other = Client("GET", "/healthz", []), Client(pieces=[b"x"])
        for client in (health, other):
            await asyncio.wait_for(served(client.scope(), client.receive, client.send), 30)
        app.release.set()
        await asyncio.gather(*running)
        return health, other

    health, other = asyncio.run(scenario())
    assert (health.status, other.status, other.answered["retry-after"]) == (200, 503, "2")


def test_slow_bodies_hold_no_thread() -> None:
    app = App()

    async def scenario() -> Client:
        served = bridge(app, replace(LIMITS, body_s=60, queued=50))
        slow = [Client(headers=[("content-length", "9")], pieces=[b"x"], last=False) for _ in range(20)]
        running = [asyncio.ensure_future(served(one.scope(), one.receive, one.send)) for one in slow]
        await asyncio.sleep(0.1)
        client = Client(headers=[("content-length", "1")], pieces=[b"x"])
        await asyncio.wait_for(served(client.scope(), client.receive, client.send), 30)
        assert not any(one.done() for one in running)
        for one in running:
            one.cancel()
        return client

    assert asyncio.run(scenario()).status == 200


def test_a_large_answer_is_sent_whole() -> None:
    client = ask(App(), Client("GET", "/large", []))
    assert len(client.body) == 6_000_000


def test_a_client_that_takes_nothing_holds_no_thread_and_is_given_up() -> None:
    app = App()

    async def scenario() -> Client:
        served = bridge(app, replace(LIMITS, stall_s=0.3))
        slow = [Client("GET", "/large", [], last=False, takes=False) for _ in range(4)]
        running = [asyncio.ensure_future(served(one.scope(), one.receive, one.send)) for one in slow]
        await asyncio.sleep(0.1)
        client = Client(headers=[("content-length", "1")], pieces=[b"x"])
        await asyncio.wait_for(served(client.scope(), client.receive, client.send), 30)
        await asyncio.wait_for(asyncio.gather(*running), 30)
        return client

    assert asyncio.run(scenario()).status == 200


def test_a_failure_of_the_app_is_500_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("a secret")

    client = Client("GET", "/x", [])
    served = Bridge(broken, LIMITS, is_streamed=lambda *_: False)
    asyncio.run(served(client.scope(), client.receive, client.send))
    assert client.status == 500
    assert b"secret" not in client.body
    assert "GET /x failed" in caplog.text


def test_headers_and_paths_reach_the_app_as_they_were_sent() -> None:
    seen: list[dict[str, Any]] = []

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        seen.append(environ)
        start_response("204 No Content", [])
        return []

    client = Client(
        "GET",
        "/a%20%C3%BC%FF",
        [("host", "h"), ("x-a", "1"), ("x-a", "2"), ("x_b", "3"), ("cookie", "c"), ("cookie", "d")],
    )
    asyncio.run(Bridge(app, LIMITS, is_streamed=lambda *_: False)(client.scope(), client.receive, client.send))
    environ = seen[0]
    assert environ["PATH_INFO"] == "/a \xc3\xbc\xff"
    assert (environ["HTTP_HOST"], environ["HTTP_X_A"], environ["HTTP_COOKIE"]) == ("h", "1,2", "c; d")
    assert "HTTP_X_B" not in environ
    assert "CONTENT_LENGTH" not in environ
