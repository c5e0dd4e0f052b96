"""Request bodies that are cut short, on real connections to the real server: refused, and nothing is kept."""

from __future__ import annotations

import hashlib
import json
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from jobs.db.database import Database
from jobs.db.tables import Base, Job, Trigger, TriggerEvent, Upload
from jobs.storage.local import LocalStore
from local_services.commands import Commands, wait_until
from local_services.ports import free_port
from tests.databases import migrated_sqlite

PATIENCE_S = 60
TOKEN = "a-token-of-the-tests"
JSON = {"Content-Type": "application/json"}
CONTENT = bytes(range(250)) * 400


@dataclass
class Server:
    """A running API, its database and its object folder."""

    port: int
    db: Database
    store: LocalStore

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def count(self, table: type[Base]) -> int:
        with self.db.reading() as tx:
            return tx.session.scalar(select(func.count()).select_from(table)) or 0

    def send_cut(self, method: str, path: str, headers: dict[str, str], body: bytes, end: str) -> bytes:
        """Send a request whose body is not whole, end the connection so, and return what was answered."""
        head = {"Host": f"127.0.0.1:{self.port}", **headers}
        text = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in head.items())
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as connection:
            connection.sendall(text.encode() + b"\r\n" + body)
            if end == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return b""
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(65536)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("api")
    url, port = migrated_sqlite(folder / "mmaudio.db"), free_port()
    environment = {
        "MMAUDIO_DATA_DIR": str(folder),
        "MMAUDIO_BROKER_URL": "redis://127.0.0.1:1/0",
        "MMAUDIO_API_BIND": f"127.0.0.1:{port}",
        "MMAUDIO_VARIANTS": "tiny_16k",
        "MMAUDIO_INPUT_BUCKETS": "videos",
        "MMAUDIO_S3_EVENTS_TOKEN": TOKEN,
    }
    (folder / "logs").mkdir()
    commands, db = Commands(environment, folder / "logs"), Database(url).of_platform()
    commands.start("api")
    found = Server(port, db, LocalStore(folder / "objects"))
    try:
        wait_until(lambda: answers(found.url), within_s=PATIENCE_S, what="an answer of the API")
        yield found
    finally:
        commands.stop_all()
        db.close()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").is_success
    except httpx.HTTPError:
        return False


@pytest.mark.parametrize("end", ["end", "reset"])
def test_a_range_that_is_cut_short_keeps_what_came_and_goes_on(server: Server, end: str) -> None:
    announced = httpx.post(
        f"{server.url}/v1/uploads",
        json={
            "filename": "a.mp4",
            "size_bytes": len(CONTENT),
            "sha256": hashlib.sha256(CONTENT).hexdigest(),
            "resumable": True,
        },
    ).json()
    url = announced["upload"]["url"]
    headers = {"Content-Length": str(len(CONTENT)), "Content-Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"}
    server.send_cut("PUT", url, headers, CONTENT[:40_000], end)

    def there() -> int:
        return int(httpx.head(server.url + url).headers["Upload-Offset"])

    # After a reset the server may learn of its end before it has read what came.
    wait_until(lambda: there() == 40_000 if end == "end" else there() <= 40_000, within_s=PATIENCE_S, what="the bytes")
    for _ in range(100):  # while the call that was cut is being ended, others are refused
        offset = there()
        rest = {"Content-Range": f"bytes {offset}-{len(CONTENT) - 1}/{len(CONTENT)}"}
        answer = httpx.put(server.url + url, content=CONTENT[offset:], headers=rest)
        if answer.status_code != 409:
            break
    assert answer.status_code == 204, answer.text
    assert httpx.get(f"{server.url}/v1/uploads/{announced['id']}").json()["state"] == "ready"


def chunked(*parts: bytes) -> bytes:
    """Return parts in the chunked coding, without the end."""
    return b"".join(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in parts)


CALLS: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
    "job": ("/v1/jobs", JSON, {"prompt": "rain"}),
    "upload": ("/v1/uploads", JSON, {"filename": "a.mp4", "size_bytes": 5}),
    "trigger": ("/v1/triggers", JSON, {"bucket": "videos", "request": {"prompt": "rain"}}),
    "events": ("/v1/s3-events", {"X-MMAudio-Events-Token": TOKEN, **JSON}, {"Records": []}),
}


@pytest.mark.parametrize("end", ["end", "reset"])
@pytest.mark.parametrize("call", CALLS)
def test_a_json_body_that_is_cut_short_is_refused(server: Server, call: str, end: str) -> None:
    path, headers, document = CALLS[call]
    body = json.dumps(document).encode()
    tables = (Job, Upload, Trigger, TriggerEvent)
    before = [server.count(table) for table in tables]
    # What came is a whole document each time: only the framing tells that more was to come.
    for framing, data in (
        ({"Content-Length": str(len(body) + 10)}, body),
        ({"Transfer-Encoding": "chunked"}, chunked(body)),
        ({"Transfer-Encoding": "chunked"}, chunked(body) + b"5\r\n  "),
    ):
        answer = server.send_cut("POST", path, headers | framing, data, end)
        assert end == "reset" or not answer or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 411 "))
    assert answers(server.url)
    assert [server.count(table) for table in tables] == before


def announced(server: Server, *, with_hash: bool) -> tuple[str, str]:
    """Announce an upload; return its id and the path to send it to."""
    body: dict[str, Any] = {"filename": "a.mp4", "size_bytes": len(CONTENT)}
    if with_hash:
        body["sha256"] = hashlib.sha256(CONTENT).hexdigest()
    document = httpx.post(f"{server.url}/v1/uploads", json=body).json()
    return document["id"], document["upload"]["url"].removeprefix(server.url)


def state(server: Server, upload_id: str) -> str:
    return str(httpx.get(f"{server.url}/v1/uploads/{upload_id}").json()["state"])


@pytest.mark.parametrize("end", ["end", "reset"])
@pytest.mark.parametrize("with_hash", [True, False])
def test_content_that_is_cut_short_is_refused_and_nothing_of_it_stays(
    server: Server, with_hash: bool, end: str
) -> None:
    upload_id, path = announced(server, with_hash=with_hash)
    length = {"Content-Length": str(len(CONTENT))}
    for framing, data in (
        (length, CONTENT[:5000]),
        (length, b""),
        ({"Content-Length": str(len(CONTENT) + 1)}, CONTENT),
        ({"Transfer-Encoding": "chunked"}, chunked(CONTENT)),
        ({"Transfer-Encoding": "chunked"}, chunked(CONTENT[:5000]) + b"5\r\nab"),
    ):
        answer = server.send_cut("PUT", path, framing, data, end)
        assert end == "reset" or not answer or answer.startswith(b"HTTP/1.1 4")
    wait_until(lambda: not drafts(server), within_s=PATIENCE_S, what="the removal of drafts")
    assert state(server, upload_id) == "pending"
    assert list(server.store.list_keys(f"uploads/{upload_id}/")) == []
    assert httpx.put(server.url + path, content=CONTENT).status_code == 204
    server.send_cut("PUT", path, length, CONTENT[:5000], end)
    wait_until(lambda: not drafts(server), within_s=PATIENCE_S, what="the removal of drafts")
    assert state(server, upload_id) == "ready"
    (key,) = server.store.list_keys(f"uploads/{upload_id}/")
    assert b"".join(server.store.open_read(key)) == CONTENT


def drafts(server: Server) -> list[str]:
    return [write.name for write in server.store.unfinished_writes(older_than_s=-60)]


def test_whole_bodies_are_accepted(server: Server) -> None:
    for path, headers, document in CALLS.values():
        assert httpx.post(server.url + path, json=document, headers=headers).is_success


def test_a_batch_may_be_larger_than_other_bodies_and_one_that_is_cut_creates_nothing(server: Server) -> None:
    requests = [{"prompt": f"{number} {'rain ' * 300}"} for number in range(1_200)]
    body = json.dumps(requests).encode()
    assert len(body) > 1_800_000
    before = server.count(Job)
    headers = {**JSON, "Content-Length": str(len(body))}
    server.send_cut("POST", "/v1/batches", headers, body[:1_500_000], "end")
    assert server.count(Job) == before
    answer = httpx.post(f"{server.url}/v1/batches", content=body, headers=JSON, timeout=PATIENCE_S)
    assert (answer.status_code, answer.json()["total"]) == (202, len(requests))
    assert server.count(Job) == before + len(requests)
    other = httpx.post(f"{server.url}/v1/presets/x", content=body, headers=JSON, timeout=PATIENCE_S)
    assert other.status_code in {405, 413}
