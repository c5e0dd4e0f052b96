"""What shows that a call went somewhere: servers on this machine's addresses, and the record of every connection."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.web_server import WebServer, answer, web_server


@dataclass
class Connections:
    """The addresses that this process tried to connect to; only those of this machine are let through."""

    tried: list[str] = field(default_factory=list)


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> Connections:
    found, connect = Connections(), socket.socket.connect

    class Socket(socket.socket):
        def connect(self, address: Any) -> None:
            found.tried.append(str(address[0]))
            if not str(address[0]).startswith(("127.", "::1")):
                raise ConnectionRefusedError
            connect(self, address)

    monkeypatch.setattr(socket, "socket", Socket)
    return found


@pytest.fixture
def internal() -> Iterator[WebServer]:
    """A server that nobody may call."""
    with web_server() as server:
        server.replies["/"] = answer(b"secret")
        yield server


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str | list[str]]]:
    """Name servers: per name an answer for each look-up, of which the last is repeated.

    Set below everything else, so that a second look-up anywhere would be noticed.
    """
    table: dict[str, list[str | list[str]]] = {}
    real: Callable[..., Any] = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        answers = table.get(str(host))
        if answers is None:
            if not str(host)[-1].isdigit() and ":" not in str(host) and host != "localhost":
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return real(host, port, *args, **kwargs)
        current = answers.pop(0) if len(answers) > 1 else answers[0]
        addresses = [current] if isinstance(current, str) else current
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
            for each in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return table
