"""The API behind its real server: connections that send nothing or little, unread bodies, dependencies that hang."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError

from api.circuit_breaker import CircuitBreaker
from jobs.db.database import Database
from jobs.db.time_limits import DatabaseNotCalledError, TimeLimits
from jobs.storage.errors import StorageUnavailableError
from jobs.storage.s3.client import ClientOptions
from jobs.storage.s3.store import S3Store
from local_services.ports import free_port
from local_services.stalling_proxy import StallingProxy, stalling_proxy
from tests.databases import migrated_postgres, migrated_sqlite

# Nothing waits that long on a machine that is not overloaded.
PATIENCE_S = 60.0
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass
class Server:
    """A served API whose object store accepts connections and answers none."""

    port: int
    store: StallingProxy

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def ask(self, request: str, body: bytes = b"") -> bytes:
        """Send one request and return all that comes until the server ends the connection."""
        with self.connect() as connection:
            connection.sendall(request.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
            return read_all(connection)

    def is_well(self) -> bool:
        """Whether liveness and submits are answered on new connections."""
        health = httpx.get(f"{self.url}/healthz", timeout=PATIENCE_S)
        submit = httpx.post(f"{self.url}/v1/jobs", json={"prompt": "rain"}, timeout=PATIENCE_S)
        return (health.status_code, submit.status_code) == (200, 202)


def read_all(connection: socket.socket) -> bytes:
    """Return what comes until the server ends the connection."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65_536):
            data += piece
    return data


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("api")
    migrated_sqlite(folder / "mmaudio.db")
    with stalling_proxy(("127.0.0.1", free_port())) as store, stalling_proxy(("127.0.0.1", free_port())) as broker:
        store.stall()
        broker.stall()
        port = free_port()
        environment = {
            "PATH": "/usr/bin:/bin",
            "MMAUDIO_DATA_DIR": str(folder),
            "MMAUDIO_BROKER_URL": f"redis://127.0.0.1:{broker.port}/0",
            "MMAUDIO_API_BIND": f"127.0.0.1:{port}",
            "MMAUDIO_API_THREADS": "8",
            "MMAUDIO_API_IDLE_S": "1",
            "MMAUDIO_API_BODY_TIMEOUT_S": "1",
            "MMAUDIO_API_STALL_S": "1",
            "MMAUDIO_VARIANTS": "tiny_16k",
            "MMAUDIO_STORAGE_URL": "s3://bucket",
            "MMAUDIO_S3_ENDPOINT_URL": f"http://127.0.0.1:{store.port}",
            **CREDENTIALS,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "mmaudio_client", "api"], env=environment, cwd=Path(__file__).parents[2]
        )
        served = Server(port, store)
        try:
            deadline = time.monotonic() + PATIENCE_S
            while time.monotonic() < deadline:
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(f"{served.url}/healthz").status_code == 200:
                        break
                time.sleep(0.1)
            yield served
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def head(request: str, length: int, content_type: str = "application/json") -> str:
    return f"{request} HTTP/1.1\nHost: localhost\nContent-Type: {content_type}\nContent-Length: {length}"


@pytest.mark.parametrize(
    ("request_line", "content_type", "status"),
    [
        ("POST /v1/nowhere", "application/json", 404),
        ("POST /v1/jobs", "text/plain", 415),
        ("POST /healthz", "application/json", 405),
        ("PUT /v1/uploads/upl_1/content", "video/mp4", 403),
    ],
)
def test_an_answer_before_the_body_ends_the_connection(
    server: Server, request_line: str, content_type: str, status: int
) -> None:
    smuggled = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = server.ask(head(request_line, 5_000_000, content_type), smuggled)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"connection: close" in answer.lower()
    assert answer.count(b"HTTP/1.1 ") == 1, "the body was taken for a request"


def test_a_body_that_is_too_large_ends_the_connection(server: Server) -> None:
    answer = server.ask(head("POST /v1/jobs", 500_000_000))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()


def test_a_refusal_after_the_whole_body_keeps_the_connection(server: Server) -> None:
    with server.connect() as connection:
        request = head("POST /v1/jobs", 2).replace("\n", "\r\n").encode() + b"\r\n\r\n[]"
        for _ in range(2):
            connection.sendall(request)
            assert connection.recv(65_536).startswith(b"HTTP/1.1 422 ")


@pytest.mark.parametrize("request_line", ["POST /v1/jobs", "PUT {upload}"])
def test_a_body_that_stalls_is_408(server: Server, request_line: str) -> None:
    announced = httpx.post(f"{server.url}/v1/uploads", json={"filename": "a.mp4", "size_bytes": 50}).json()
    content = f"/v1/uploads/{announced['id']}/content"
    url = announced["upload"]["url"] if announced["upload"]["url"].startswith("/") else content
    answer = server.ask(head(request_line.format(upload=url), 50), b'{"prompt"')
    # A store that is reached directly gives no signed path, so that upload is refused before its body is read.
    wanted = b"HTTP/1.1 408 " if request_line.startswith("POST") else (b"HTTP/1.1 408 ", b"HTTP/1.1 403 ")
    assert answer.startswith(wanted)
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize("cut", [b"Content-Length: 50\r\n\r\n{}", b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"])
def test_a_body_that_is_cut_short_makes_no_job(server: Server, cut: bytes) -> None:
    with server.connect() as connection:
        connection.sendall(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + cut)
        connection.shutdown(socket.SHUT_WR)
        assert b"HTTP/1.1 202" not in read_all(connection)


def test_silent_and_idle_connections_are_closed_and_stop_nobody(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(server.connect()) for _ in range(150)]
        idle = [stack.enter_context(server.connect()) for _ in range(50)]
        for connection in idle:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert server.is_well()
        assert [read_all(connection) for connection in silent] == [b""] * len(silent)
        assert all(read_all(connection).startswith(b"HTTP/1.1 200") for connection in idle)


def test_slow_bodies_and_waiting_calls_stop_nobody(server: Server) -> None:
    job = httpx.post(f"{server.url}/v1/jobs", json={"prompt": "rain"}, timeout=PATIENCE_S).json()
    with contextlib.ExitStack() as stack:
        for number in range(60):
            connection = stack.enter_context(server.connect())
            request = head("POST /v1/jobs", 50)
            if number % 2:
                request = f"GET {job['links']['self']}?wait=5 HTTP/1.1\nHost: localhost"
            connection.sendall(request.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        assert server.is_well()


def test_a_store_that_hangs_refuses_what_needs_it_and_stops_nobody(server: Server) -> None:
    announced = httpx.post(f"{server.url}/v1/uploads", json={"filename": "a.mp4", "size_bytes": 50}).json()
    body = f'{{"video": "{announced["id"]}"}}'.encode()
    request = head("POST /v1/jobs", len(body)) + "\nConnection: close"
    with contextlib.ExitStack() as stack:
        asking = [stack.enter_context(server.connect()) for _ in range(30)]
        for connection in asking:
            connection.sendall(request.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
        assert server.is_well()
        for connection in asking:
            answer = read_all(connection)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nretry-after: " in answer.lower()
    ready = httpx.get(f"{server.url}/readyz", timeout=PATIENCE_S)
    assert ready.json()["checks"] == {"database": "ok", "storage": "down", "broker": "down"}


def test_a_quick_store_gives_up_without_a_retry() -> None:
    with stalling_proxy(("127.0.0.1", free_port())) as proxy, pytest.MonkeyPatch.context() as patch:
        proxy.stall()
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        options = ClientOptions(
            endpoint_url=f"http://127.0.0.1:{proxy.port}", max_attempts=1, connect_timeout_s=1, read_timeout_s=0.2
        )
        with pytest.raises(StorageUnavailableError):
            S3Store("s3://bucket", options).head("a")
        assert proxy.accepted == 1


@pytest.fixture
def frozen(postgres_uri: str) -> Iterator[tuple[Database, StallingProxy, CircuitBreaker]]:
    """A database of the API behind a proxy that can stall."""
    with migrated_postgres(postgres_uri) as url:
        parts = make_url(url)
        host, port = str(parts.query.get("host") or parts.host), int(parts.port or parts.query.get("port") or 5432)  # type: ignore[arg-type]
        with stalling_proxy(f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)) as proxy:
            breaker = CircuitBreaker()
            limits = TimeLimits(1, breaker)
            db = Database(
                parts.set(host="127.0.0.1", port=proxy.port, query={}).render_as_string(hide_password=False),
                limits=limits,
                sleep=lambda _: None,
            ).of_platform()
            yield db, proxy, breaker
            db.close()


def test_a_frozen_database_is_given_up(frozen: tuple[Database, StallingProxy, CircuitBreaker]) -> None:
    db, proxy, breaker = frozen
    with db.reading() as tx:
        assert tx.session.scalar(text("SHOW statement_timeout")) == "1s"
    with pytest.raises(OperationalError), db.reading() as tx:
        proxy.stall()
        tx.session.scalar(text("SELECT 1"))
    assert breaker.is_open
    with pytest.raises(DatabaseNotCalledError):
        db.run(lambda tx: tx.session.scalar(text("SELECT 1")), repeatable=True)
    with pytest.raises(OperationalError):
        db.check()  # a new connection is given up as well
    proxy.resume()
    breaker.record_success()
    assert db.run(lambda tx: tx.session.scalar(text("SELECT 1")), repeatable=True) == 1


def test_a_statement_that_runs_too_long_is_ended_and_the_connection_kept(
    frozen: tuple[Database, StallingProxy, CircuitBreaker],
) -> None:
    db, _, breaker = frozen
    with pytest.raises(OperationalError, match="statement timeout"), db.reading() as tx:
        tx.session.scalar(text("SELECT pg_sleep(30)"))
    assert not breaker.is_open
