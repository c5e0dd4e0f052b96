"""Where a client connects to: address and key from the environment, and no proxy before loopback."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from mmaudio_client import Client, InvalidAddressError
from mmaudio_client.connection import is_loopback
from tests.unit.mmaudio_client.scripted_server import JOB_ID, ScriptedServer, job, job_answer, job_document


@pytest.fixture
def routes(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """Answer every request without a network; return the proxy that it would have gone through, by its host."""
    taken: dict[str, str | None] = {}
    proxies: dict[int, str | None] = {}
    original = httpx.HTTPTransport.__init__

    def remember(self: httpx.HTTPTransport, *args: Any, proxy: Any = None, **kwargs: Any) -> None:
        original(self, *args, proxy=proxy, **kwargs)
        proxies[id(self)] = str(httpx.Proxy(proxy).url if isinstance(proxy, str) else proxy.url) if proxy else None

    def answer(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        taken[request.url.host] = proxies[id(self)]
        return httpx.Response(200, json=job_document(), request=request)

    monkeypatch.setattr(httpx.HTTPTransport, "__init__", remember)
    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", answer)
    return taken


@pytest.mark.parametrize(
    ("host", "variable", "proxy"),
    [
        ("127.0.0.1", "http_proxy", "http://proxy.example:3128"),
        ("127.3.2.1", "HTTP_PROXY", "http://proxy.example:3128"),
        ("[::1]", "all_proxy", "http://proxy.example:3128"),
        ("localhost", "http_proxy", "http://proxy.example:3128"),
        ("api.localhost", "http_proxy", "http://proxy.example:3128"),
        ("127.0.0.1", "all_proxy", "socks5://proxy.example"),
        ("localhost", "http_proxy", "gopher://proxy.example"),
        ("localhost", "http_proxy", "http://a:b"),
    ],
)
def test_a_proxy_of_the_environment_is_not_used_for_loopback(
    monkeypatch: pytest.MonkeyPatch, routes: dict[str, str | None], host: str, variable: str, proxy: str
) -> None:
    monkeypatch.setenv(variable, proxy)
    with Client(f"http://{host}:8000") as client:
        assert client.get(JOB_ID).id == JOB_ID
    assert routes == {host.strip("[]"): None}


@pytest.mark.parametrize("server", ["http://platform.example", "http://127.0.0.1:8000"])
def test_a_proxy_of_the_environment_is_used_for_other_hosts(
    monkeypatch: pytest.MonkeyPatch, routes: dict[str, str | None], server: str
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "store.example")
    links = {name: f"http://{name}.example/" for name in ("store", "elsewhere")}
    with Client(server) as client:
        for link in links.values():
            client.get(job(links={"self": link}))
    assert routes == {"store.example": None, "elsewhere.example": "http://proxy.example:3128"}


def test_a_proxy_that_cannot_be_used_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "gopher://127.0.0.1:9")
    with pytest.raises(InvalidAddressError, match="proxy setting of the environment cannot be used"):
        Client("http://platform.invalid")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://127.3.2.1", True),
        ("http://[::1]:8000", True),
        ("http://localhost", True),
        ("http://api.localhost", True),
        ("http://10.0.0.1", False),
        ("http://localhost.example", False),
        ("http://127.0.0.1.example", False),
    ],
)
def test_loopback_is_judged_by_the_host_alone(url: str, expected: bool) -> None:
    assert is_loopback(httpx.URL(url)) is expected


def test_address_and_key_come_from_the_environment_when_none_is_given(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMAUDIO_API_URL", "http://env.example")
    monkeypatch.setenv("MMAUDIO_API_KEY", "env-key")
    server.answers = [job_answer(), job_answer()]
    transport = httpx.MockTransport(server)
    with Client(transport=transport) as client:
        client.get("job_1")
    with Client("http://given.example", api_key="", transport=transport) as client:
        client.get("job_1")
    assert [request.url.host for request in server.requests] == ["env.example", "given.example"]
    assert [request.headers.get("Authorization") for request in server.requests] == ["Bearer env-key", None]


@pytest.mark.parametrize("value", [None, ""])
def test_without_an_environment_the_address_is_that_of_mmaudio_up(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is not None:
        monkeypatch.setenv("MMAUDIO_API_URL", value)
    with Client() as client:
        assert client.base_url == "http://127.0.0.1:8000"
