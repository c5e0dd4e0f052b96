"""The API's port is refused when anybody has it, and kept for granian, which shares ports with SO_REUSEPORT."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from jobs.listen_address import PortTakenError, listen_addresses, refuse_open_network, reserved_port
from jobs.settings import Settings
from jobs.settings_errors import SettingsError

FAMILIES = [("127.0.0.1", socket.AF_INET), ("[::1]", socket.AF_INET6)]


@contextlib.contextmanager
def listener(host: str, family: int, *options: int, port: int = 0) -> Iterator[int]:
    """Listen as another program does; yield the port."""
    with socket.socket(family) as server:
        for option in options:
            server.setsockopt(socket.SOL_SOCKET, option, 1)
        server.bind((host.strip("[]"), port))
        server.listen()
        yield server.getsockname()[1]


def settings(host: str, port: int) -> Settings:
    return Settings(api_bind=f"{host}:{port}", trust_network=True)


def reserve(host: str, port: int) -> None:
    """Reserve a port for a moment."""
    with reserved_port(settings(host, port)):
        pass


@pytest.mark.parametrize(("host", "family"), FAMILIES)
@pytest.mark.parametrize("options", [(), (socket.SO_REUSEADDR,), (socket.SO_REUSEPORT,)])
def test_a_port_that_another_program_listens_on_is_refused(host: str, family: int, options: tuple[int, ...]) -> None:
    with listener(host, family, *options) as port, pytest.raises(PortTakenError) as refused:
        reserve(host, port)
    assert f"Port {port} on {host.strip('[]')} is in use by another program;" in str(refused.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "localhost"])
def test_a_port_of_one_address_is_refused_for_a_name_that_includes_it(host: str) -> None:
    with listener("127.0.0.1", socket.AF_INET, socket.SO_REUSEPORT) as port, pytest.raises(PortTakenError):
        reserve(host, port)


@pytest.mark.parametrize(("host", "family"), FAMILIES)
def test_a_reserved_port_is_refused_to_all_but_the_server(host: str, family: int) -> None:
    with listener(host, family) as port:
        pass
    with reserved_port(settings(host, port)):
        with pytest.raises(PortTakenError):
            reserve(host, port)
        with pytest.raises(OSError, match="in use"), listener(host, family, port=port):
            pass
        with listener(host, family, socket.SO_REUSEPORT, port=port):  # as granian listens
            with socket.create_connection((host.strip("[]"), port), timeout=5):
                pass
            with pytest.raises(PortTakenError):
                reserve(host, port)
    reserve(host, port)


def test_connections_that_were_just_closed_do_not_hold_a_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            server.accept()[0].close()  # the side that closes first waits in TIME_WAIT
            assert client.recv(1) == b""
    reserve("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"192\.0\.2\.1 is not an address of this machine"):
        reserve("192.0.2.1", 8000)


def test_a_host_name_without_an_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(SettingsError, match=r"^MMAUDIO_API_BIND is 'no\.such:80', whose host name has no address; "):
        listen_addresses(settings("no.such", 80))


def test_a_port_that_only_root_may_use_is_refused_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(SettingsError, match="this user may not listen on port 80; give one from 1024"):
        reserve("127.0.0.1", 80)


@pytest.mark.parametrize("bind", ["0.0.0.0:1", "[::]:8000", "192.0.2.1:8000"])
def test_an_open_network_is_refused_without_keys_unless_the_operator_trusts_it(bind: str) -> None:
    with pytest.raises(SettingsError, match=r"MMAUDIO_REQUIRE_API_KEY is false.*MMAUDIO_TRUST_NETWORK"):
        refuse_open_network(Settings(api_bind=bind, require_api_key=False))
    refuse_open_network(Settings(api_bind=bind))
    refuse_open_network(Settings(api_bind=bind, trust_network=True))
