"""The server that the client under test talks to."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mmaudio_client import Client
from tests.unit.mmaudio_client.command_runner import Command, run
from tests.unit.mmaudio_client.scripted_server import ScriptedServer


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the proxies nor the settings of whoever runs the tests; results go to the test's own folder."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("MMAUDIO_API_URL", "MMAUDIO_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    with server.open_clients:
        yield server


@pytest.fixture
def mmaudio(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, talking to the scripted server."""
    client = functools.partial(Client, transport=httpx.MockTransport(server), sleep=server.naps.append)
    monkeypatch.setattr("mmaudio_client.cli.session.Client", client)
    return run
