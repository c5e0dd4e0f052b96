"""The proxy in front of an object store shows its callers what the kernel shows them of a killed or stopped server."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from local_services.faulty_http import FaultSchedule, FaultyProxy, running_proxy

SHORT_S = 0.3


class Backend(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    received: list[str]

    def log_message(self, *args: Any) -> None:
        """Log nothing."""

    def do_GET(self) -> None:
        self.received.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")


@pytest.fixture
def received() -> list[str]:
    return []


@pytest.fixture
def proxy(received: list[str]) -> Iterator[FaultyProxy]:
    handler = type("Handler", (Backend,), {"received": received})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    with (
        contextlib.closing(server.socket),
        running_proxy(f"http://127.0.0.1:{server.server_port}", FaultSchedule()) as run,
    ):
        yield run
        server.shutdown()


@pytest.fixture
def client(proxy: FaultyProxy) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=proxy.url, timeout=SHORT_S, trust_env=False) as client:
        assert client.get("/before").text == "ok"
        yield client


@pytest.mark.parametrize("fault", [FaultyProxy.kill, FaultyProxy.refuse], ids=["kill", "refuse"])
def test_a_store_that_is_away_refuses_connections_until_it_is_back_on_its_port(
    fault: Any, proxy: FaultyProxy, client: httpx.Client
) -> None:
    fault(proxy)
    with pytest.raises(httpx.ConnectError):
        httpx.get(proxy.url, trust_env=False)
    proxy.restore()
    assert client.get("/after").text == "ok"
    assert httpx.get(f"{proxy.url}/new", trust_env=False).text == "ok"


def test_a_killed_store_breaks_the_connections_that_are_open(proxy: FaultyProxy, client: httpx.Client) -> None:
    proxy.kill()
    with pytest.raises(httpx.TransportError):
        client.get("/again")
    proxy.restore()


def test_a_frozen_store_accepts_connections_and_answers_when_it_goes_on(
    proxy: FaultyProxy, client: httpx.Client, received: list[str]
) -> None:
    proxy.freeze()
    for path in ("/open-connection", "/new-connection"):
        with pytest.raises(httpx.ReadTimeout):
            client.get(path)
    assert received == ["/before"]
    proxy.restore()
    assert client.get("/after").text == "ok"


def test_a_refused_access_key_gets_the_code_of_s3_and_head_only_the_status(
    proxy: FaultyProxy, client: httpx.Client, received: list[str]
) -> None:
    proxy.schedule.access.refused["wrong"] = "InvalidAccessKeyId"
    headers = {"Authorization": "AWS4-HMAC-SHA256 Credential=wrong/20260101/us-east-1/s3/aws4_request, Signature=0"}
    refused = client.get("/object", headers=headers)
    assert (refused.status_code, "<Code>InvalidAccessKeyId</Code>" in refused.text) == (403, True)
    head = client.head("/object", headers=headers)
    assert (head.status_code, head.content) == (403, b"")
    assert received == ["/before"]
