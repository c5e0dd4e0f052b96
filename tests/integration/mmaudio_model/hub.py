"""A hub on this machine: it answers what fetching a file asks, and ways to fail in the middle of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub(ThreadingHTTPServer):
    """Serves `contents`, by path in whatever repository.

    Attributes:
        faults: what happens to the next downloads, in turn: a number of bytes after which the connection breaks, or a
            status that is answered instead. Afterwards all goes well.
        ranges: the Range header of each download, "" where there was none.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.contents: dict[str, bytes] = {}
        self.faults: list[int | str] = []
        self.ranges: list[str] = []
        self.revisions: set[str] = set()
        self.knows_ranges = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.ranges.append(self.headers.get("Range", ""))
        fault = self.server.faults.pop(0) if self.server.faults else None
        if isinstance(fault, str):
            self.send_error(int(fault))
            return
        asked = self.headers.get("Range", "bytes=0-") if self.server.knows_ranges else "bytes=0-"
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        content = self._content(start)
        if content is None:
            return
        self.wfile.write(content[start:][:fault])
        if fault is not None:
            self.wfile.flush()
            self.close_connection = True

    def _content(self, start: int = 0) -> bytes | None:
        _, _, rest = self.path.partition("/resolve/")
        revision, _, path = rest.partition("/")
        content = self.server.contents.get(path)
        if content is None:
            self.send_error(404)
            return None
        if start >= len(content):
            self.send_error(416)
            return None
        self.server.revisions.add(revision)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        return content

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()
    threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
