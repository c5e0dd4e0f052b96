"""The address that the API listens on: checked, and reserved, before anything starts."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from collections.abc import Iterator

from jobs.settings import Settings
from jobs.settings_errors import SettingsError


class PortTakenError(Exception):
    """Raised when another program listens on the port; says which."""


def refuse_open_network(settings: Settings) -> None:
    """Refuse an address that other machines reach while nothing authenticates them.

    Raises:
        SettingsError: the address is not loopback, no API keys are required, and `trust_network` is not set.
    """
    if settings.listens_on_loopback or settings.require_api_key or settings.trust_network:
        return
    raise SettingsError(
        f"MMAUDIO_API_BIND is {settings.api_bind!r}, which other machines can reach, and MMAUDIO_REQUIRE_API_KEY is "
        "false; leave it unset so that requests need an API key, give a loopback address such as 127.0.0.1:8000, or "
        "set MMAUDIO_TRUST_NETWORK=true if a gateway authenticates every request."
    )


def listen_addresses(settings: Settings) -> list[tuple[socket.AddressFamily, str]]:
    """Return the addresses that the host of `api_bind` stands for, IPv4 first; the API listens on the first.

    Raises:
        SettingsError: the host name has no address.
    """
    try:
        found = socket.getaddrinfo(settings.api_host.strip("[]"), None, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as exc:
        raise SettingsError(
            f"MMAUDIO_API_BIND is {settings.api_bind!r}, whose host name has no address; give an address of this "
            "machine, such as 127.0.0.1:8000."
        ) from exc
    unique = dict.fromkeys((entry[0], str(entry[4][0])) for entry in found)
    return sorted(unique, key=lambda entry: entry[0] != socket.AF_INET)


@contextlib.contextmanager
def reserved_port(settings: Settings) -> Iterator[None]:
    """Hold the API's port for this process and its children while the block runs.

    granian sets SO_REUSEPORT, with which a second server would share the port silently. So the port is first taken
    without that option, which fails when anybody listens, and then opened to sockets of the same user that have it.

    Raises:
        PortTakenError: another program listens on it, or has reserved it.
        SettingsError: the address is not one of this machine, or may not be used.
    """
    addresses = listen_addresses(settings)
    with contextlib.ExitStack() as held:
        for number, (family, address) in enumerate(addresses):
            try:
                held.enter_context(_reserve(family, address, settings.api_port))
            except OSError as exc:
                # A name such as localhost has a second address, which this machine need not have.
                if exc.errno == errno.EADDRINUSE or number == 0:
                    raise _refusal(exc, settings, address) from exc
        yield


def _reserve(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    holder = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Connections that a server has closed a moment ago do not count.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((address, port))
        holder.listen(1)
        if sys.platform == "linux":
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            # Another reservation must fail; this one does not listen any more, which SO_REUSEADDR would excuse.
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            holder.shutdown(socket.SHUT_RDWR)
        else:  # elsewhere a held port cannot be opened to others afterwards: it was free a moment ago
            holder.close()
    except BaseException:
        holder.close()
        raise
    return holder


def _refusal(error: OSError, settings: Settings, address: str) -> Exception:
    if error.errno == errno.EADDRINUSE:
        return PortTakenError(
            f"Port {settings.api_port} on {address} is in use by another program; stop it, or choose another port with "
            "--port or MMAUDIO_API_BIND."
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return SettingsError(
            f"MMAUDIO_API_BIND is {settings.api_bind!r}; this user may not listen on port {settings.api_port}; give "
            "one from 1024 to 65535."
        )
    return SettingsError(
        f"MMAUDIO_API_BIND is {settings.api_bind!r}; {address} is not an address of this machine "
        f"({error.strerror}); give one that is, such as 127.0.0.1:{settings.api_port}."
    )
