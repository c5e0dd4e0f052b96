"""`mmaudio mcp` as a program starts it: the official client over standard input and output, a real HTTP server."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters, stdio_client

from tests.unit.mmaudio_client.scripted_server import JOB_ID, SOUND, artifact_document, job_document

KEY = "a-key-of-the-environment"


class Platform(BaseHTTPRequestHandler):
    """A server whose job has succeeded as soon as it is asked for; it needs a key."""

    def _send(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _document(self, state: str) -> bytes:
        url = f"http://127.0.0.1:{self.server.server_port}/sound"  # type: ignore[attr-defined]
        artifacts = [artifact_document(url=url)] if state == "succeeded" else []
        return json.dumps(job_document(state, artifacts=artifacts)).encode()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            problem = {"title": "x", "status": 401, "code": "unauthorized", "detail": "Send an API key."}
            self._send(401, json.dumps(problem).encode(), "application/problem+json")
            return
        self._send(202, self._document("queued"))

    def do_GET(self) -> None:
        if self.path == "/sound":
            self._send(200, SOUND, "audio/flac")
        else:
            self._send(200, self._document("succeeded"))

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Platform)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def call(address: str, folder: Path, key: str) -> Any:
    environment = {
        "MMAUDIO_API_URL": address,
        "MMAUDIO_API_KEY": key,
        "MMAUDIO_MCP_OUTPUT": str(folder),
        "PYTHONPATH": str(Path.cwd()),
    }
    command = StdioServerParameters(command=sys.executable, args=["-m", "mmaudio_client", "mcp"], env=environment)

    async def program() -> Any:
        async with Client(stdio_client(command)) as client:
            return await client.call_tool("make_sound", {"prompt": "rain"})

    return asyncio.run(program())


def test_a_sound_is_made_with_the_key_of_the_environment(address: str, tmp_path: Path) -> None:
    result = call(address, tmp_path, KEY)
    assert not result.is_error, result.content
    assert result.structured_content["job_id"] == JOB_ID
    assert result.structured_content["saved_files"] == [str(tmp_path / "rain.flac")]
    assert (tmp_path / "rain.flac").read_bytes() == SOUND


def test_a_wrong_key_is_an_error_of_the_tool(address: str, tmp_path: Path) -> None:
    result = call(address, tmp_path, "wrong")
    assert result.is_error
    assert "Send an API key. (unauthorized)" in result.content[0].text
