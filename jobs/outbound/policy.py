"""What one kind of caller may open: schemes, hosts, redirects, bytes and time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from jobs.outbound.addresses import Address, Network, may_connect, parse_network
from jobs.outbound.errors import OutboundRefusedError
from jobs.outbound.urls import OutboundUrl, parse_url
from jobs.settings import Settings

# Names of the own host in every resolver (RFC 6761).
_LOOPBACK_NAME = re.compile(r"(.*\.)?localhost")


@dataclass(frozen=True)
class OutboundPolicy:
    """The limits of calls. Bytes, and seconds.

    Attributes:
        schemes: `https`, or `http` as well.
        hosts: patterns of the hosts that may be called (`cdn.example.com`, `*.example.net`, `*`); None: every host.
        allowed_networks: networks that may be connected to although they are not public.
        max_redirects: how many are followed; each is checked like the first URL, and none leads from https to http.
        max_bytes: of the answer's body.
        connect_s: for looking the name up, and for each connection with its TLS handshake.
        idle_s: without a byte.
        total_s: for all of it, redirects included.
        ca_file: certificates of authorities that are trusted besides the public ones.
    """

    schemes: frozenset[str] = frozenset({"https"})
    hosts: tuple[str, ...] | None = None
    allowed_networks: tuple[Network, ...] = ()
    max_redirects: int = 0
    max_bytes: int = 64 * 1024
    connect_s: float = 5.0
    idle_s: float = 10.0
    total_s: float = 15.0
    ca_file: Path | None = None

    @classmethod
    def for_webhooks(cls, settings: Settings) -> OutboundPolicy:
        """Return the policy of webhooks: http as well, no redirects, little time."""
        return cls(
            schemes=frozenset({"http", "https"}),
            allowed_networks=networks_of(settings),
            max_bytes=4096,
            ca_file=settings.outbound_ca_file,
        )

    @classmethod
    def for_inputs(cls, settings: Settings, hosts: tuple[str, ...]) -> OutboundPolicy:
        """Return the policy of inputs: https of some hosts, up to the size of an upload."""
        return cls(
            hosts=hosts,
            allowed_networks=networks_of(settings),
            max_redirects=5,
            max_bytes=settings.max_upload_bytes,
            connect_s=10.0,
            idle_s=30.0,
            total_s=settings.input_fetch_timeout_s,
            ca_file=settings.outbound_ca_file,
        )


def networks_of(settings: Settings) -> tuple[Network, ...]:
    """Return the networks of the setting `outbound_allowed_networks`."""
    return tuple(parse_network(text) for text in settings.outbound_allowed_networks)


def check_url(url: str, policy: OutboundPolicy) -> OutboundUrl:
    """Check what can be checked without looking a name up: form, scheme, host, and a host that is an address.

    Raises:
        OutboundRefusedError: the policy does not allow the URL.
    """
    parsed = parse_url(url)
    if parsed.scheme not in policy.schemes:
        allowed = " or ".join(f"{scheme}://" for scheme in sorted(policy.schemes, reverse=True))
        raise OutboundRefusedError(f"The URL begins with {parsed.scheme}://; allowed is {allowed}.")
    if policy.hosts == ():
        raise OutboundRefusedError("This server fetches no URLs (input_hosts); upload the file and give its id.")
    if policy.hosts is not None and not matches_host(parsed.host, policy.hosts):
        raise OutboundRefusedError(f"This server does not fetch from host {parsed.host!r} (input_hosts).")
    address = parsed.address
    if address is None and _LOOPBACK_NAME.fullmatch(parsed.host):
        address = ip_address("127.0.0.1")
    if address is not None:
        check_addresses(parsed, (address,), policy)
    return parsed


def check_addresses(url: OutboundUrl, addresses: tuple[Address, ...], policy: OutboundPolicy) -> None:
    """Check that a host has addresses and that this server may connect to every one of them.

    Raises:
        OutboundRefusedError: not so.
    """
    if not addresses or not all(may_connect(address, policy.allowed_networks) for address in addresses):
        raise OutboundRefusedError(f"The host {url.host!r} has no public address.")


def matches_host(host: str, patterns: tuple[str, ...]) -> bool:
    """Return whether a host is one of the patterns' (`*.example.net` has all names below, not `example.net`)."""
    return any(
        pattern == "*" or host == pattern or (pattern.startswith("*.") and host.endswith(pattern[1:]))
        for pattern in patterns
    )
