"""Waiting calls and event streams behind the real server: broken connections, clients that go, a server that stops."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from httpx_sse import connect_sse

from jobs.db.database import Database
from jobs.lifecycle import Stage
from jobs.service import attempts
from jobs.service.running_attempts import Progress, record_progress
from jobs.service.workers import register_worker
from local_services.ports import free_port
from local_services.stalling_proxy import stalling_proxy
from tests.databases import migrated_postgres, migrated_sqlite

PATIENCE_S = 60.0
HELD = 30


@dataclass
class Server:
    """A served API and its database."""

    port: int
    db: Database
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def submit(self) -> str:
        answer = httpx.post(f"{self.url}/v1/jobs", json={"prompt": "rain"}, timeout=PATIENCE_S)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def live(self, job_id: str, stages: int = 1) -> None:
        """Let a job run and succeed, as a worker does; the first stage is no event of its own."""
        with self.db.transaction() as tx:
            claim = attempts.claim(tx, job_id, worker_id="w1", lease_s=600)
        assert claim is not None
        for stage in list(Stage)[:stages]:
            with self.db.transaction() as tx:
                record_progress(tx, [Progress(job_id, claim.attempt, stage, 0.5)])
        with self.db.transaction() as tx:
            attempts.complete(tx, claim, [], warnings=[], timings={}, artifact_ttl_s=60)


@contextlib.contextmanager
def served(folder: Path, database_url: str) -> Iterator[Server]:
    port = free_port()
    environment = {
        "PATH": "/usr/bin:/bin",
        "MMAUDIO_DATA_DIR": str(folder),
        "MMAUDIO_DATABASE_URL": database_url,
        "MMAUDIO_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0",
        "MMAUDIO_API_BIND": f"127.0.0.1:{port}",
        "MMAUDIO_API_THREADS": "4",
        "MMAUDIO_API_WAITING": str(HELD),
        "MMAUDIO_VARIANTS": "tiny_16k",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "mmaudio_client", "api"], env=environment, cwd=Path(__file__).parents[2]
    )
    db = Database(database_url).of_platform()
    server = Server(port, db, process)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{server.url}/healthz").status_code == 200:
                    break
            time.sleep(0.1)
        with db.transaction() as tx:
            register_worker(tx, worker_id="w1", hostname="h", pid=1, device="cpu:0", slots=4, variants=["tiny_16k"])
        yield server
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        db.close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("api")
    with contextlib.ExitStack() as stack:
        if request.param == "sqlite":
            url = migrated_sqlite(folder / "mmaudio.db")
        else:
            url = stack.enter_context(migrated_postgres(request.getfixturevalue("postgres_uri")))
        yield stack.enter_context(served(folder, url))


class Follower:
    """Follows a stream as a browser does: connects again with the id of the last event, until it is told to stop."""

    def __init__(self, url: str) -> None:
        self.url, self.ids, self.kinds, self.connections = url, list[int](), list[str](), 0
        self.stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        last = ""
        while not self.stopped.is_set():
            self.connections += 1
            headers = {"Last-Event-ID": last} if last else {}
            try:
                with (
                    httpx.Client(timeout=PATIENCE_S, trust_env=False) as client,
                    connect_sse(client, "GET", self.url, headers=headers) as source,
                ):
                    if source.response.status_code == 204:
                        return
                    for event in source.iter_sse():
                        last = event.id
                        if event.event != "progress" and event.data:
                            document = json.loads(event.data)
                            self.ids.append(document["id"])
                            self.kinds.append(f"{document['job_id']} {document['kind']}")
            except httpx.HTTPError:
                time.sleep(0.02)

    def join(self) -> None:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def until(self, count: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while len(self.ids) < count and time.monotonic() < deadline:
            time.sleep(0.02)


def test_followers_whose_connections_break_miss_no_event(server: Server) -> None:
    with stalling_proxy(("127.0.0.1", server.port)) as proxy:
        base = f"http://127.0.0.1:{proxy.port}"
        start = httpx.get(f"{server.url}/v1/events?after=latest").json()["next_after"]
        everything = Follower(f"{base}/v1/events?after={start}")
        jobs, cuts = [], 0
        one = None
        for number in range(8):
            job = server.submit()
            jobs.append(job)
            one = one or Follower(f"{base}/v1/jobs/{job}/events")
            if number:
                server.live(job, stages=4)
            if number % 2:
                proxy.cut()
                cuts += 1
        assert one is not None
        server.live(jobs[0])
        wanted = 8 * 3 + 7 * 3
        everything.until(wanted)
        everything.stopped.set()
        proxy.cut()
        one.join()
        everything.join()
    assert len(everything.ids) == len(set(everything.ids)) == wanted
    assert everything.ids == sorted(everything.ids)
    for job in jobs:
        kinds = [kind for kind in everything.kinds if kind.startswith(job)]
        assert (kinds[0], kinds[-1]) == (f"{job} queued", f"{job} succeeded")
    assert [kind.split()[1] for kind in one.kinds] == ["queued", "running", "succeeded"]
    assert everything.connections > cuts


def test_waits_and_streams_hold_no_thread_and_end_with_the_job(server: Server) -> None:
    job = server.submit()
    answers: list[tuple[int, str]] = []

    def wait() -> None:
        answer = httpx.get(f"{server.url}/v1/jobs/{job}", headers={"Prefer": "wait=60"}, timeout=PATIENCE_S * 2)
        answers.append((answer.status_code, answer.json()["state"]))

    def stream() -> None:
        text = httpx.get(f"{server.url}/v1/jobs/{job}/events", headers={"Accept": "text/event-stream"}, timeout=None)
        answers.append((text.status_code, "succeeded" if "event: succeeded" in text.text else text.text))

    threads = [threading.Thread(target=step, daemon=True) for step in [wait, stream] * 10]
    for thread in threads:
        thread.start()
    assert httpx.get(f"{server.url}/healthz", timeout=PATIENCE_S).status_code == 200
    server.submit()
    server.live(job)
    for thread in threads:
        thread.join(PATIENCE_S)
    assert answers == [(200, "succeeded")] * 20


def test_clients_that_go_free_their_places(server: Server) -> None:
    job = server.submit()
    paths = [f"/v1/jobs/{job}?wait=60", f"/v1/jobs/{job}/events", "/v1/events?after=latest"]
    for _ in range(2):
        with contextlib.ExitStack() as stack:
            connections = []
            for number in range(HELD):
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
                head = f"GET {paths[number % 3]} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
                connection.sendall(head.encode())
                connections.append(connection)
            for connection in connections[1::3]:
                assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
    deadline, status = time.monotonic() + PATIENCE_S, 0
    while status != 200 and time.monotonic() < deadline:
        with httpx.stream("GET", f"{server.url}/v1/events", headers={"Accept": "text/event-stream"}) as answer:
            status = answer.status_code
    assert status == 200


def test_a_server_that_stops_ends_waits_and_streams(tmp_path: Path) -> None:
    with served(tmp_path, migrated_sqlite(tmp_path / "mmaudio.db")) as server:
        job = server.submit()
        answers: list[object] = []

        def ask(path: str) -> None:
            answer = httpx.get(f"{server.url}{path}", headers={"Accept": "text/event-stream"}, timeout=PATIENCE_S)
            answers.append(answer.status_code)

        threads = [
            threading.Thread(target=ask, args=(path,)) for path in (f"/v1/jobs/{job}?wait=60", f"/v1/jobs/{job}/events")
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(PATIENCE_S)
        assert answers == [200, 200], "the server ended them, the connections did not break"
        assert server.process.wait(PATIENCE_S) == 0
