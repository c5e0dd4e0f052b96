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

from local_services.ports import free_port
from local_services.s3_access import S3Access

SLOW_S = 2.0
POLL_S = 0.05
# As a store has it: connections beyond this number wait for an answer to their SYN while the server is frozen.
BACKLOG = 64


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
        access: whom the store refuses.
    """

    rng: random.Random = field(default_factory=lambda: random.Random(0))
    rate: float = 0.0
    only: tuple[Fault, ...] = UNRELIABLE
    planned: deque[tuple[str, Fault]] = field(default_factory=deque)
    injected: Counter[str] = field(default_factory=Counter)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    refuse_key: str | None = None
    access: S3Access = field(default_factory=S3Access)
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
    request_queue_size = BACKLOG
    backend: tuple[str, int]
    schedule: FaultSchedule
    connections: set[socket.socket]
    answering: threading.Event
    closing: bool

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore callers that gave up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *args: Any) -> None:
        """Log nothing."""

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def _handle(self) -> None:
        self.server.answering.wait()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.schedule.fault_for(self.command, self.path, dict(self.headers))
        if fault is Fault.RESET:
            self._reset()
            return
        if fault is not None and (fault.isdigit() or fault is Fault.UNKNOWN_KEY):
            status = int(fault) if fault.isdigit() else http.client.FORBIDDEN
            self._respond(status, [("Content-Type", "application/xml")], _error_document(_CODES[fault]))
            return
        refusal = self.server.schedule.access.refusal(self.path, dict(self.headers))
        if refusal is not None:
            self._respond(refusal.status, [("Content-Type", "application/xml")], refusal.document())
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
        self.server.answering.wait()
        if fault is Fault.ANSWER_LOST:
            self._reset()
            return
        if self.server.closing:
            self.close_connection = True
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


class FaultyProxy:
    """A proxy in front of an HTTP server that can be killed, closed and frozen on one port.

    What callers see is what the kernel shows them of a real server: the content behind it stays, as that of a store on
    a disk does.

    Attributes:
        url: what callers use instead of the server's own URL.
    """

    def __init__(self, backend_url: str, schedule: FaultSchedule) -> None:
        parts = urlsplit(backend_url)
        assert parts.hostname is not None
        assert parts.port is not None
        # A port chosen by the kernel would be given back while the socket does not listen; one that was named is kept.
        self._server = _Server(("127.0.0.1", free_port()), _Handler)
        self._server.backend, self._server.schedule = (parts.hostname, parts.port), schedule
        self._server.connections, self._server.answering, self._server.closing = set(), threading.Event(), False
        self.schedule = schedule
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._listening, self._thread = True, self._serve()

    def kill(self) -> None:
        """Break every connection and refuse new ones until `restore`, as after SIGKILL."""
        self.refuse()
        for connection in list(self._server.connections):
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.shutdown(socket.SHUT_RDWR)

    def refuse(self) -> None:
        """Refuse new connections until `restore`; running requests are answered, then their connections close."""
        self._stop_accepting()
        self._server.closing = True
        with contextlib.suppress(OSError):
            self._server.socket.shutdown(socket.SHUT_RDWR)
        self._listening = False

    def freeze(self) -> None:
        """Answer nothing until `restore`: the kernel accepts connections, as after SIGSTOP. Then all is carried out."""
        self._stop_accepting()
        self._server.answering.clear()

    def restore(self) -> None:
        """Answer again, on the same port."""
        self._server.closing = False
        if not self._listening:
            self._server.socket.listen(BACKLOG)
            self._listening = True
        if not self._thread.is_alive():
            self._thread = self._serve()
        self._server.answering.set()

    def close(self) -> None:
        """Stop for good."""
        self._server.answering.set()
        self._stop_accepting()
        self._server.server_close()

    def _serve(self) -> threading.Thread:
        self._server.answering.set()
        thread = threading.Thread(target=self._server.serve_forever, args=(POLL_S,), name="faulty-http", daemon=True)
        thread.start()
        return thread

    def _stop_accepting(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()


@contextlib.contextmanager
def running_proxy(backend_url: str, schedule: FaultSchedule) -> Iterator[FaultyProxy]:
    """Run a proxy in front of `backend_url`."""
    proxy = FaultyProxy(backend_url, schedule)
    try:
        yield proxy
    finally:
        proxy.close()


@contextlib.contextmanager
def faulty_proxy(backend_url: str, schedule: FaultSchedule) -> Iterator[str]:
    """Run a proxy in front of `backend_url`; yield the URL that callers use instead."""
    with running_proxy(backend_url, schedule) as proxy:
        yield proxy.url
