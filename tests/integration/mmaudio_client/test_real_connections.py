"""The client over real connections: what only real bytes show."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from mmaudio_client import Client, DownloadError
from tests.unit.mmaudio_client.scripted_server import SOUND, job, upload_document

VIDEO = b"\x00\r\n--boundary\xff" * 60_000
DONE = job("succeeded")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "a clip.mp4"
    path.write_bytes(VIDEO)
    return path


@contextmanager
def loopback(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A real server for what only real bytes show; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        do_PUT = do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_over_a_real_connection_the_bytes_come_with_their_length_and_not_in_chunks(clip: Path) -> None:
    seen: dict[str, object] = {}

    def answer(request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        reply = json.dumps(upload_document()).encode() if request.command == "POST" else b""
        if request.command == "PUT":
            seen.update(body=body, chunked=request.headers.get("Transfer-Encoding"))
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(reply)))
        request.end_headers()
        request.wfile.write(reply)

    with loopback(answer) as url, Client(url) as client:
        client.upload(clip)
    assert seen == {"body": VIDEO, "chunked": None}


@pytest.mark.parametrize("framing", ["length", "chunks", "end"])
def test_a_real_connection_that_ends_early_leaves_no_half_file(tmp_path: Path, framing: str) -> None:
    half = SOUND[: len(SOUND) // 2]

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.protocol_version = "HTTP/1.1"
        request.send_response(200)
        if framing == "length":
            request.send_header("Content-Length", str(len(SOUND)))
        if framing == "chunks":
            request.send_header("Transfer-Encoding", "chunked")
        request.send_header("Connection", "close")
        request.end_headers()
        head, tail = (f"{len(half):x}\r\n".encode(), b"\r\n") if framing == "chunks" else (b"", b"")
        request.wfile.write(head + half + tail)

    with loopback(answer) as url, Client(url, patience_s=0) as client, pytest.raises(DownloadError):
        client.download(DONE, tmp_path)
    assert list(tmp_path.iterdir()) == []
