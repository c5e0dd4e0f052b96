"""An HTTP proxy that injects faults, as real object stores and networks have them."""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

SLOW_S = 2.0


class Fault(StrEnum):
    """What may happen to one request."""

    ERROR_500 = "500"
    ERROR_503 = "503"
    NOT_IMPLEMENTED = "501"
    FORBIDDEN = "403"
    UNKNOWN_KEY = "unknown_key"
    """403, and the access key is not known to the server."""
    SLOW = "slow"
    """The response is right but late."""
    RESET = "reset"
    """The connection breaks before the server has received the request."""
    ANSWER_LOST = "answer_lost"
    """The server has carried out the request; its response is lost."""
    DAMAGED = "damaged"
    """One bit of the request's body is flipped in transit."""
    CUT = "cut"
    """Half of the response's body arrives, then the connection breaks."""


UNRELIABLE = (Fault.ERROR_500, Fault.ERROR_503, Fault.SLOW, Fault.RESET, Fault.ANSWER_LOST, Fault.CUT)


@dataclass
class FaultSchedule:
    """Decides which requests fail: first those planned by `next_calls_fail`, then a seeded random share of all.

    Attributes:
        rate: the random share, 0 to 1.
        only: the faults that the random share is drawn from.
        planned: method and fault of the next requests that fail.
        injected: how often each fault was injected.
        requests: method, path and headers of every request.
        refuse_key: requests signed with this access key are refused as S3 refuses a key that it does not know.
    """

    rng: random.Random = field(default_factory=lambda: random.Random(0))
    rate: float = 0.0
    only: tuple[Fault, ...] = UNRELIABLE
    planned: deque[tuple[str, Fault]] = field(default_factory=deque)
    injected: Counter[str] = field(default_factory=Counter)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    refuse_key: str | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next_calls_fail(self, method: str, *faults: Fault) -> None:
        """Make the next requests of this method fail, one fault each."""
        with self._lock:
            self.planned.extend((method, fault) for fault in faults)

    def fault_for(self, method: str, path: str, headers: dict[str, str]) -> Fault | None:
        """Record a request; return the fault to inject, None for none."""
        with self._lock:
            self.requests.append((method, path, headers))
            if self.refuse_key and f"Credential={self.refuse_key}/" in headers.get("Authorization", ""):
                return Fault.UNKNOWN_KEY
            if self.planned and self.planned[0][0] == method:
                fault = self.planned.popleft()[1]
            elif self.rng.random() < self.rate:
                fault = self.rng.choice(self.only)
            else:
                return None
            self.injected[str(fault)] += 1
            return fault


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    backend: tuple[str, int]
    schedule: FaultSchedule

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore callers that gave up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *args: Any) -> None:
        """Log nothing."""

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.schedule.fault_for(self.command, self.path, dict(self.headers))
        if fault is Fault.RESET:
            self._reset()
            return
        if fault is not None and (fault.isdigit() or fault is Fault.UNKNOWN_KEY):
            status = int(fault) if fault.isdigit() else http.client.FORBIDDEN
            self._respond(status, [("Content-Type", "application/xml")], _error_document(_CODES[fault]))
            return
        if fault is Fault.SLOW:
            time.sleep(SLOW_S)
        if fault is Fault.DAMAGED:
            body = bytes([body[0] ^ 1]) + body[1:] if body else body
        connection = http.client.HTTPConnection(*self.server.backend, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            connection.request(self.command, self.path, body=body, headers=headers)
            answer = connection.getresponse()
            data = answer.read()
        except OSError:
            self._reset()
            return
        finally:
            connection.close()
        if fault is Fault.ANSWER_LOST:
            self._reset()
            return
        kept = [(n, v) for n, v in answer.getheaders() if n.lower() not in {"transfer-encoding", "connection"}]
        self._respond(answer.status, kept, data, cut=fault is Fault.CUT)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle

    def _respond(self, status: int, headers: list[tuple[str, str]], data: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() != "content-length" or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD" and status != http.client.NO_CONTENT:
            self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.wfile.flush()
            self._reset()

    def _reset(self) -> None:
        """Close the connection with RST, as a crashed peer or a firewall does."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


_CODES = {
    Fault.ERROR_500: "InternalError",
    Fault.NOT_IMPLEMENTED: "NotImplemented",
    Fault.ERROR_503: "SlowDown",
    Fault.FORBIDDEN: "AccessDenied",
    Fault.UNKNOWN_KEY: "InvalidAccessKeyId",
}


def _error_document(code: str) -> bytes:
    return f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>injected by the proxy</Message></Error>'.encode()


@contextlib.contextmanager
def faulty_proxy(backend_url: str, schedule: FaultSchedule) -> Iterator[str]:
    """Run a proxy in front of `backend_url`; yield the URL that callers use instead."""
    parts = urlsplit(backend_url)
    assert parts.hostname is not None
    assert parts.port is not None
    server = _Server(("127.0.0.1", 0), _Handler)
    server.backend, server.schedule = (parts.hostname, parts.port), schedule
    thread = threading.Thread(target=server.serve_forever, name="faulty-http", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
