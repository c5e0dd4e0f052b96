"""Which names requests may give as Host.

DNS rebinding: a web page that lets its own name point at this server's address reaches the API with the browser of a
person inside the network, a gateway or not, and sends its own name as Host. An IP address in Host cannot be rebound:
the browser connected to that address because the page came from it.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from jobs.settings import Settings
from jobs.settings_values import is_loopback

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
DEFAULT_PORTS = frozenset({80, 443})


@dataclass(frozen=True)
class AllowedHosts:
    """The names that requests may give as Host.

    Attributes:
        names: exact names and addresses, an IPv6 address without brackets; any port.
        with_port: (name, port) pairs; a Host without a port has one of `DEFAULT_PORTS`.
        domains: (`.example.com`, port) allows every name below it, at any port where that is None.
        addresses: allow every IP address; so probes and callers reach a server that listens on all of them.
    """

    names: frozenset[str]
    with_port: frozenset[tuple[str, int]]
    domains: tuple[tuple[str, int | None], ...]
    addresses: bool

    @classmethod
    def from_settings(cls, settings: Settings) -> AllowedHosts:
        """Return loopback names, the hosts of `api_bind` and `public_url`, and what `allowed_hosts` lists."""
        names = {*LOOPBACK_NAMES, settings.api_host.strip("[]").lower()}
        public_host = urlsplit(settings.public_url).hostname
        if public_host:
            names.add(public_host)
        with_port: set[tuple[str, int]] = set()
        domains: list[tuple[str, int | None]] = []
        for pattern in settings.allowed_hosts:
            parts = urlsplit(f"//{pattern}")
            name, port = parts.hostname or "", parts.port
            if name.startswith("*."):
                domains.append((name.removeprefix("*"), port))
            elif port is None:
                names.add(name)
            else:
                with_port.add((name, port))
        return cls(frozenset(names), frozenset(with_port), tuple(domains), not settings.listens_on_loopback)

    def allow(self, host: str) -> bool:
        """Say whether a Host header names this server."""
        try:
            parts = urlsplit(f"//{host}")
            name, port = (parts.hostname or "").removesuffix("."), parts.port
        except ValueError:  # a port that is none, or half a bracket
            return False
        if parts.netloc != host or "@" in host:
            return False
        ports = DEFAULT_PORTS if port is None else frozenset({port})
        if name in self.names or any((name, one) in self.with_port for one in ports):
            return True
        if any(name.endswith(domain) and (wanted is None or wanted in ports) for domain, wanted in self.domains):
            return True
        return is_loopback(name) or (self.addresses and _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
