"""An HTTP proxy that breaks calls: in front of an object store it makes the faults that real ones have."""

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
    """What may happen to one call."""

    ERROR_500 = "500"
    ERROR_503 = "503"
    NOT_IMPLEMENTED = "501"
    FORBIDDEN = "403"
    SLOW = "slow"
    """The answer is right and comes late."""
    RESET = "reset"
    """The connection breaks before the server has seen the call."""
    ANSWER_LOST = "answer_lost"
    """The server has done what was asked; its answer never arrives."""
    DAMAGED = "damaged"
    """One bit of the call's body changes on the way."""
    CUT = "cut"
    """Half of the answer's body arrives, then the connection breaks."""


UNRELIABLE = (Fault.ERROR_500, Fault.ERROR_503, Fault.SLOW, Fault.RESET, Fault.ANSWER_LOST, Fault.CUT)


@dataclass
class FaultSchedule:
    """Which calls break: those that a test has written down, else a share of all by a seeded draw."""

    rng: random.Random = field(default_factory=lambda: random.Random(0))
    rate: float = 0.0
    written: deque[tuple[str, Fault]] = field(default_factory=deque)
    seen: Counter[str] = field(default_factory=Counter)
    calls: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next_calls_fail(self, method: str, *faults: Fault) -> None:
        """Break the next calls of this method, one fault each."""
        with self._lock:
            self.written.extend((method, fault) for fault in faults)

    def of_call(self, method: str, path: str, headers: dict[str, str]) -> Fault | None:
        with self._lock:
            self.calls.append((method, path, headers))
            if self.written and self.written[0][0] == method:
                fault = self.written.popleft()[1]
            elif self.rng.random() < self.rate:
                fault = self.rng.choice(UNRELIABLE)
            else:
                return None
            self.seen[str(fault)] += 1
            return fault


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    backend: tuple[str, int]
    schedule: FaultSchedule

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that gave up is no news here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *args: Any) -> None:
        """Says nothing."""

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.schedule.of_call(self.command, self.path, dict(self.headers))
        if fault is Fault.RESET:
            self._break()
            return
        if fault is not None and fault.isdigit():
            self._answer(int(fault), [("Content-Type", "application/xml")], _error_document(int(fault)))
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
            self._break()
            return
        finally:
            connection.close()
        if fault is Fault.ANSWER_LOST:
            self._break()
            return
        kept = [(n, v) for n, v in answer.getheaders() if n.lower() not in {"transfer-encoding", "connection"}]
        self._answer(answer.status, kept, data, cut=fault is Fault.CUT)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any

    def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, *, cut: bool = False) -> None:
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
            self._break()

    def _break(self) -> None:
        """Close with RST, as a crashed peer or a firewall does."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


def _error_document(status: int) -> bytes:
    code = {500: "InternalError", 501: "NotImplemented", 503: "SlowDown", 403: "AccessDenied"}[status]
    return f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>made by the test</Message></Error>'.encode()


@contextlib.contextmanager
def faulty_proxy(backend_url: str, schedule: FaultSchedule) -> Iterator[str]:
    """Stand in front of `backend_url`; yield the address that callers use instead."""
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
