"""No URL from outside leads into this network: one table of tricks for inputs, webhooks and SNS."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from api.sns import SnsGate, SnsRefusedError, SnsUnreachableError, sns_policy
from jobs.outbound.calls import fetch, post, read
from jobs.outbound.errors import OutboundError, OutboundRefusedError, OutboundUnreachableError
from jobs.outbound.policy import OutboundPolicy
from jobs.settings import Settings
from tests.bucket_events import sample
from tests.contract.outbound.conftest import Connections
from tests.web_server import WebServer, answer, web_server

PUBLIC = "93.184.216.34"
Names = dict[str, list[str | list[str]]]


@dataclass(frozen=True)
class Caller:
    """One kind of call to a URL from outside."""

    call: Callable[[str, Path], Any]


def _inputs() -> OutboundPolicy:
    return replace(OutboundPolicy.for_inputs(Settings(), ("*",)), schemes=frozenset({"http", "https"}))


CALLERS = {
    "inputs": Caller(lambda url, folder: fetch(url, folder / "input", _inputs())),
    "webhooks": Caller(lambda url, _: post(url, b"{}", {}, OutboundPolicy.for_webhooks(Settings()))),
    "sns": Caller(lambda url, _: read(url, replace(sns_policy(Settings()), schemes=frozenset({"http", "https"})))),
}

# `{port}` is the port of a server that listens on 127.0.0.1.
URLS = (
    # loopback
    "http://127.0.0.1:{port}/",
    "http://127.0.0.1.:{port}/",
    "http://127.1.2.3:{port}/",
    "http://localhost:{port}/",
    "http://LocalHost.:{port}/",
    "http://x.localhost:{port}/",
    "http://0.0.0.0:{port}/",
    "http://[::1]:{port}/",
    "http://[::]:{port}/",
    "https://127.0.0.1:{port}/",
    # link-local, and the services of clouds
    "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://100.100.100.200/latest/meta-data/",
    "http://168.63.129.16/machine",
    "http://192.0.0.192/opc/v2/",
    "http://[fe80::1]:{port}/",
    # private and shared
    "http://10.0.0.1:{port}/",
    "http://172.16.0.1:{port}/",
    "http://192.168.0.1:{port}/",
    "http://100.64.0.1:{port}/",
    "http://[fc00::1]:{port}/",
    "http://[fec0::1]:{port}/",
    # other special ones
    "http://224.0.0.1:{port}/",
    "http://240.0.0.1:{port}/",
    "http://255.255.255.255:{port}/",
    "http://192.0.2.1:{port}/",
    "http://198.18.0.1:{port}/",
    "http://[ff02::1]:{port}/",
    "http://[2001:db8::1]:{port}/",
    # IPv4 within IPv6
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[64:ff9b::127.0.0.1]:{port}/",
    "http://[64:ff9b::169.254.169.254]/",
    "http://[64:ff9b:1::127.0.0.1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://[2001:0:7f00:1::]:{port}/",
    "http://[fe80::1%25lo]:{port}/",
    "http://[::1%lo]:{port}/",
    # other ways to write a number
    "http://2130706433:{port}/",
    "http://017700000001:{port}/",
    "http://0x7f000001:{port}/",
    "http://0x7f.0.0.1:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://127.0.0.01:{port}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://0:{port}/",
    "http://①②⑦.⓪.⓪.①:{port}/",
    "http://１２７.0.0.1:{port}/",
    "http://127。0。0。1:{port}/",
    "http://127%2e0%2e0%2e1:{port}/",
    # user, password and other signs
    "http://example.com@127.0.0.1:{port}/",
    "http://example.com:80@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}@example.com/",
    "http://example.com%40127.0.0.1:{port}/",
    "http://example.com\\@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}\\@example.com/",
    "http://127.0.0.1:{port}#@example.com/",
    "http://127.0.0.1:{port}?@example.com/",
    "http://127.0.0.1:{port}/\r\nHost: example.com",
    "http://127.0.0.1\t:{port}/",
    "http:127.0.0.1:{port}/",
    "http:///127.0.0.1:{port}/",
    "http:\\\\127.0.0.1:{port}/",
    # other schemes
    "file:///etc/passwd",
    "ftp://127.0.0.1:{port}/",
    "gopher://127.0.0.1:{port}/_GET",
    "unix:///var/run/docker.sock",
    # names of this network
    "http://internal.example:{port}/",
    "http://mixed.example:{port}/",
    "http://mapped.example:{port}/",
    "http://zone.example:{port}/",
    "http://unknown.example:{port}/",
)
INTERNAL_NAMES: Names = {
    "internal.example": ["127.0.0.1"],
    "mixed.example": [[PUBLIC, "127.0.0.1"]],
    "mapped.example": ["::ffff:127.0.0.1"],
    "zone.example": ["fe80::1%lo"],
}


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("url", URLS)
def test_a_url_into_this_network_is_refused_before_a_connection_is_made(
    caller: str, url: str, internal: WebServer, connections: Connections, names: Names, tmp_path: Path
) -> None:
    names.update(INTERNAL_NAMES)
    with pytest.raises(OutboundRefusedError) as refused:
        CALLERS[caller].call(url.replace("{port}", str(internal.port)), tmp_path)
    assert refused.value.code == "url_not_allowed"
    assert (connections.tried, internal.connections) == ([], 0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("caller", CALLERS)
def test_nobody_learns_which_names_and_ports_of_this_network_exist(
    caller: str, internal: WebServer, names: Names, tmp_path: Path
) -> None:
    names["name.example"] = ["10.0.0.1", "127.0.0.1", "fd00::1", []]
    messages = set()
    for port in (internal.port, 1, internal.port, 1):
        with pytest.raises(OutboundRefusedError) as refused:
            CALLERS[caller].call(f"http://name.example:{port}/", tmp_path)
        messages.add(refused.value.message)
    del names["name.example"]  # no such name
    with pytest.raises(OutboundRefusedError) as refused:
        CALLERS[caller].call("http://name.example/", tmp_path)
    assert messages == {refused.value.message}


@pytest.mark.parametrize("caller", CALLERS)
def test_a_name_is_looked_up_once_and_that_address_is_connected_to(
    caller: str, internal: WebServer, connections: Connections, names: Names, tmp_path: Path
) -> None:
    names["changes.example"] = [PUBLIC, "127.0.0.1"]
    with pytest.raises(OutboundUnreachableError):
        CALLERS[caller].call(f"http://changes.example:{internal.port}/", tmp_path)
    assert connections.tried == [PUBLIC]
    with pytest.raises(OutboundRefusedError):
        CALLERS[caller].call(f"http://changes.example:{internal.port}/", tmp_path)
    assert (connections.tried, internal.connections) == ([PUBLIC], 0)


@pytest.mark.parametrize("url", URLS)
def test_a_redirect_into_this_network_is_refused_before_a_connection_is_made(
    url: str, internal: WebServer, names: Names, tmp_path: Path
) -> None:
    names.update(INTERNAL_NAMES)
    location = url.replace("{port}", str(internal.port))
    policy = replace(_inputs(), allowed_networks=(ip_network("127.0.0.2/32"),))
    with web_server("127.0.0.2") as outside:
        outside.replies["/"] = answer(b"", "302 Found", location=location.encode("utf-8").decode("latin-1"))
        with pytest.raises(OutboundError):
            fetch(f"http://127.0.0.2:{outside.port}/", tmp_path / "input", policy)
        assert len(outside.requests) >= 1
    assert internal.connections == 0
    assert not list(tmp_path.iterdir())


def test_a_redirect_whose_name_changes_its_address_is_refused(
    internal: WebServer, names: Names, tmp_path: Path
) -> None:
    names["changes.example"] = ["127.0.0.2", "127.0.0.1"]
    policy = replace(_inputs(), allowed_networks=(ip_network("127.0.0.2/32"),))
    with web_server("127.0.0.2") as outside:
        outside.replies["/"] = answer(b"", "307 Moved", location=f"http://changes.example:{internal.port}/")
        with pytest.raises(OutboundRefusedError, match="no public address"):
            fetch(f"http://changes.example:{outside.port}/", tmp_path / "input", policy)
    assert internal.connections == 0


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See", "307 Moved", "308 Moved"])
def test_webhooks_follow_no_redirect(status: str, internal: WebServer) -> None:
    policy = replace(OutboundPolicy.for_webhooks(Settings()), allowed_networks=(ip_network("127.0.0.2/31"),))
    with web_server("127.0.0.2") as outside:
        outside.replies["/"] = answer(b"", status, location=f"http://127.0.0.1:{internal.port}/")
        answered = post(f"http://127.0.0.2:{outside.port}/", b"{}", {}, policy)
    assert (str(answered.status), internal.connections) == (status[:3], 0)


@pytest.mark.parametrize("url", URLS)
def test_sns_messages_lead_to_no_other_host(url: str, internal: WebServer, connections: Connections) -> None:
    document = {**sample("sns"), "SigningCertURL": url.replace("{port}", str(internal.port)) + "a.pem"}
    with pytest.raises(SnsRefusedError):
        SnsGate().check(json.loads(json.dumps(document)))
    assert (connections.tried, internal.connections) == ([], 0)


def test_an_sns_name_that_leads_into_this_network_is_not_connected_to(connections: Connections, names: Names) -> None:
    names["sns.us-east-1.amazonaws.com"] = ["127.0.0.1"]
    document = {**sample("sns"), "SigningCertURL": "https://sns.us-east-1.amazonaws.com/a.pem"}
    with pytest.raises(SnsUnreachableError):
        SnsGate().check(document)
    assert connections.tried == []


def test_proxies_and_credentials_of_the_environment_are_not_used(
    internal: WebServer, connections: Connections, names: Names, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{internal.port}")
    names["public.example"] = [PUBLIC]
    for caller in CALLERS.values():
        with pytest.raises(OutboundUnreachableError):
            caller.call("http://public.example/", tmp_path)
    assert (set(connections.tried), internal.connections) == ({PUBLIC}, 0)
