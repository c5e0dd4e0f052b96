"""Uploads in parts: only what is missing is sent, after a broken connection and in another process."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from mmaudio_client import ApiError, Client, UploadInterruptedError
from tests.unit.mmaudio_client.command_runner import Command
from tests.unit.mmaudio_client.scripted_server import URL, ScriptedServer, problem, upload_answer

SIZE = 100
PART = 40
FILE = bytes(range(SIZE))


@dataclass
class PartServer:
    """Keeps the parts that it gets; `faults` come first, one a request for a part."""

    faults: list[httpx.Response | Exception] = field(default_factory=list)
    parts: dict[int, bytes] = field(default_factory=dict)
    announced: list[dict[str, Any]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    complete: list[httpx.Response] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(f"{request.method} {request.url.path}")
        if request.method == "PUT":
            body = request.read()
            if self.faults:
                fault = self.faults.pop(0)
                if isinstance(fault, Exception):
                    raise fault
                return fault
            assert request.headers["Content-Length"] == str(len(body))
            assert request.headers["X-Part"] == request.url.path[-1]
            self.parts[int(request.url.path[-1])] = body
            return httpx.Response(200)
        if request.url.path.endswith("/complete"):
            return self.complete.pop(0) if self.complete else upload_answer(state="ready")
        if request.url.path.endswith("/parts"):
            return httpx.Response(200, json=self._list())
        self.announced.append(json.loads(request.content))
        return upload_answer()

    def _list(self) -> dict[str, Any]:
        missing = [
            {
                "number": number,
                "start": start,
                "end": min(start + PART, SIZE),
                "method": "PUT",
                "url": f"{URL}/store/{number}",
                "headers": {"X-Part": str(number)},
                "expires_at": "2026-01-01T00:00:00Z",
            }
            for number, start in enumerate(range(0, SIZE, PART), 1)
            if number not in self.parts
        ]
        received = sum(map(len, self.parts.values()))
        return {"upload_id": "upl_1", "size_bytes": SIZE, "received_bytes": received, "missing": missing[:2]}

    def client(self, **options: Any) -> Client:
        return Client(URL, transport=httpx.MockTransport(self), sleep=lambda _: None, **options)

    @property
    def content(self) -> bytes:
        return b"".join(self.parts[number] for number in sorted(self.parts))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmaudio_client.uploads.LEAST_BYTES", SIZE)


def test_a_large_file_is_sent_in_parts_with_progress() -> None:
    server, seen = PartServer(), []
    assert server.client().upload(FILE, on_progress=lambda done, total: seen.append((done, total))) == "upl_1"
    assert server.content == FILE
    assert server.announced[0]["resumable"] is True
    assert [done for done, _ in seen] == [40, 80, 100, 100]
    assert {total for _, total in seen} == {SIZE}
    assert server.requests[-1] == "POST /v1/uploads/upl_1/complete"


def test_a_small_file_is_sent_in_one_piece(server: ScriptedServer) -> None:
    server.answers = [upload_answer(), httpx.Response(200, json={})]
    server.client().upload(FILE[:-1])
    assert b"resumable" not in server.requests[0].content


def test_a_server_without_parts_gets_it_in_one_piece(server: ScriptedServer) -> None:
    refusal = problem(422, "invalid_request", errors=[{"field": "resumable", "message": "unknown"}])
    server.answers = [refusal, upload_answer(), httpx.Response(200, json={})]
    assert server.client().upload(FILE) == "upl_1"
    assert server.requests[2].content == FILE


@pytest.mark.parametrize(
    "faults",
    [
        [httpx.ReadError("reset"), httpx.Response(503)],
        [problem(403, "link_refused"), problem(403, "link_refused")],
        [problem(409, "upload_offset_mismatch")],
    ],
)
def test_a_part_that_fails_is_sent_again(faults: list[httpx.Response | Exception]) -> None:
    server = PartServer(faults=[*faults])
    server.client().upload(FILE)
    assert server.content == FILE


def test_an_interrupted_upload_goes_on_where_it_was() -> None:
    server = PartServer()
    client = server.client(patience_s=0)
    server.faults = []
    server.parts = {1: FILE[:40]}
    original = server.__call__

    def away(request: httpx.Request) -> httpx.Response:
        if request.method == "PUT":
            raise httpx.ConnectError("refused")
        return original(request)

    broken = Client(URL, transport=httpx.MockTransport(away), sleep=lambda _: None, patience_s=0)
    with broken, pytest.raises(UploadInterruptedError, match="upl_1 was interrupted") as caught:
        broken.upload(FILE)
    assert caught.value.upload_id == "upl_1"
    server.requests.clear()
    seen: list[int] = []
    file = io.BytesIO(b"skipped" + FILE)
    file.seek(7)
    assert client.upload(file, resume="upl_1", on_progress=lambda done, _: seen.append(done)) == "upl_1"
    assert server.content == FILE
    assert seen[0] == 80
    assert not [one for one in server.requests if one in {"POST /v1/uploads", "PUT /store/1"}]


def test_another_file_is_not_taken_for_the_rest_of_one() -> None:
    with pytest.raises(ApiError, match="it is another file"):
        PartServer().client().upload(FILE + b"x", resume="upl_1")


def test_a_store_that_keeps_nothing_ends_the_upload() -> None:
    server = PartServer(faults=[httpx.Response(200)] * 99)
    with pytest.raises(ApiError, match="does not keep what is sent"):
        server.client().upload(FILE)
    refused = PartServer(faults=[problem(403, "denied", "No.")] * 99)
    with pytest.raises(ApiError, match="No"):
        refused.client().upload(FILE)


def test_a_content_that_is_not_the_announced_is_an_error() -> None:
    server = PartServer(complete=[problem(422, "upload_mismatch", "The SHA-256 differs.")])
    with pytest.raises(ApiError, match="The SHA-256 differs"):
        server.client().upload(FILE)


def test_a_check_that_goes_on_is_waited_for() -> None:
    pending = problem(503, "upload_check_pending", "It is being checked.", headers={"Retry-After": "1"})
    server = PartServer(complete=[pending, pending])
    assert server.client().upload(FILE) == "upl_1"


def test_the_command_prints_the_id(mmaudio: Command, server: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / "walk.mp4").write_bytes(b"video")
    server.answers = [upload_answer(), httpx.Response(200, json={})]
    assert mmaudio("upload", "walk.mp4").stdout == "upl_1\n"
    server.answers = [upload_answer(), httpx.Response(200, json={})]
    assert mmaudio("upload", "walk.mp4", "--json").stdout == '{"upload_id": "upl_1"}\n'
    assert mmaudio("upload", "missing.mp4").exit_code == 2
