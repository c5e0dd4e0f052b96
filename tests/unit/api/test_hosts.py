"""Which Host headers are answered: DNS rebinding is refused behind a gateway too."""

from __future__ import annotations

from typing import Any

import pytest

from api.allowed_hosts import AllowedHosts
from api.context import EXTENSION
from jobs.settings import Settings
from tests.unit.api.conftest import Harness

OPEN = {"api_bind": "0.0.0.0:8000", "trust_network": True}


def allow(host: str, **settings: Any) -> bool:
    return AllowedHosts.from_settings(Settings(**settings)).allow(host)


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "LOCALHOST", "127.0.0.1:1", "127.0.0.2", "[::1]:8000"])
@pytest.mark.parametrize("settings", [{}, OPEN])
def test_the_names_of_this_machine_are_always_allowed(host: str, settings: dict[str, Any]) -> None:
    assert allow(host, **settings)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "", ":8000",
        "a@localhost", "localhost/x", "localhost:x", "[::1", "evil.example#localhost", "0x7f000001.evil.example",
    ],
)  # fmt: skip
@pytest.mark.parametrize("settings", [{}, OPEN, {"trust_network": True}, {**OPEN, "allowed_hosts": ["a.example"]}])
def test_other_names_are_refused_whatever_is_trusted(host: str, settings: dict[str, Any]) -> None:
    assert not allow(host, **settings)


@pytest.mark.parametrize(
    ("pattern", "host", "allowed"),
    [
        ("sounds.example.com", "sounds.example.com", True),
        ("sounds.example.com", "SOUNDS.example.com.:8443", True),
        ("sounds.example.com", "x.sounds.example.com", False),
        ("sounds.example.com:8443", "sounds.example.com:8443", True),
        ("sounds.example.com:8443", "sounds.example.com", False),
        ("sounds.example.com:443", "sounds.example.com", True),
        ("*.example.com", "a.example.com", True),
        ("*.example.com", "a.b.example.com:1", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "aexample.com", False),
        ("*.example.com:8443", "a.example.com:8443", True),
        ("*.example.com:8443", "a.example.com:1", False),
        ("Sounds.Example.com", "sounds.example.com", True),
        ("[2001:db8::1]:8000", "[2001:db8::1]:8000", True),
        ("10.0.0.7", "10.0.0.7:8000", True),
        ("api", "api:8000", True),
    ],
)
def test_listed_names_are_allowed(pattern: str, host: str, allowed: bool) -> None:
    assert allow(host, allowed_hosts=[pattern]) is allowed


@pytest.mark.parametrize("host", ["192.0.2.7:8000", "[2001:db8::1]:8000"])
def test_an_address_cannot_be_rebound_and_is_allowed_where_all_addresses_are_listened_on(host: str) -> None:
    assert allow(host, **OPEN)
    assert not allow(host)


def test_the_hosts_of_the_bind_address_and_of_the_public_url_are_allowed() -> None:
    assert allow("sounds.example.com", public_url="https://Sounds.example.com/audio")
    assert allow("box.lan:8000", api_bind="box.lan:8000", trust_network=True)
    assert not allow("sounds.example.com", api_bind="box.lan:8000", trust_network=True)


def test_a_refusal_names_the_setting_and_is_logged_once_a_minute(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.app.extensions[EXTENSION].settings = Settings(**OPEN)
    for _ in range(3):
        answer = harness.client.get("/healthz", headers={"Host": "sounds.example.com"})
        assert (answer.status_code, (answer.json or {})["code"]) == (400, "host_not_allowed")
        assert "MMAUDIO_ALLOWED_HOSTS" in (answer.json or {})["detail"]
    assert caplog.text.count("refused a request for the host 'sounds.example.com'") == 1
    assert harness.client.get("/healthz", headers={"Host": "10.1.2.3:8000"}).status_code == 200
