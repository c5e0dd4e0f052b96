"""Where a client connects to: address and key from the environment, and no proxy before loopback."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler

import httpx
import pytest

from mmaudio_client import Client, InvalidAddressError, UnavailableError
from mmaudio_client.connection import is_loopback
from tests.unit.mmaudio_client.scripted_server import JOB_ID, ScriptedServer, job_answer, job_document, loopback

DEAD = "http://127.0.0.1:9"  # the discard port, where nothing listens


def answer_job(request: BaseHTTPRequestHandler) -> None:
    body = json.dumps(job_document()).encode()
    request.send_response(200)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
@pytest.mark.parametrize("proxy", [DEAD, "socks5://127.0.0.1:9", "gopher://127.0.0.1:9", "http://a:b"])
def test_a_proxy_of_the_environment_does_not_stand_before_loopback(
    monkeypatch: pytest.MonkeyPatch, variable: str, proxy: str
) -> None:
    monkeypatch.setenv(variable, proxy)
    with loopback(answer_job) as url, Client(url) as client:
        assert client.get(JOB_ID).id == JOB_ID
    with loopback(answer_job) as url, Client(url.replace("127.0.0.1", "localhost")) as client:
        assert client.get(JOB_ID).id == JOB_ID


def test_a_proxy_of_the_environment_stands_before_other_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        answer_job(request)

    with loopback(answer) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        with Client("http://platform.invalid") as client:
            client.get(JOB_ID)
    assert asked == [f"http://platform.invalid/v1/jobs/{JOB_ID}"]


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


def test_a_server_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with Client(DEAD, wait_for_server=False) as client, pytest.raises(UnavailableError, match=f"connect to {DEAD}"):
        client.get(JOB_ID)
