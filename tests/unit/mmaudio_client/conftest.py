"""The server that the client under test talks to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.mmaudio_client.scripted_server import ScriptedServer


@pytest.fixture(autouse=True)
def plain_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither proxies nor the settings of whoever runs the tests."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("MMAUDIO_API_URL", "MMAUDIO_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    with server.open_clients:
        yield server
