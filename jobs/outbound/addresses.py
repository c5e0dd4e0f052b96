"""Which IP addresses are public, and so may be connected to for somebody else.

An own table, because `ipaddress.is_global` differs between releases of Python and calls multicast global. Sources: the
IANA special-purpose address registries (RFC 6890 and its updates).
"""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NOT_PUBLIC_V4 = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network; 0.0.0.0 reaches the own host
            "10.0.0.0/8",
            "100.64.0.0/10",  # carrier-grade NAT, and Alibaba's metadata service
            "127.0.0.0/8",
            "168.63.129.16/32",  # Azure's host agent: a public number that only answers within a virtual machine
            "169.254.0.0/16",  # link-local: the metadata services of AWS, Google and Azure
            "172.16.0.0/12",
            "192.0.0.0/24",  # protocol assignments, and Oracle's metadata service
            "192.0.2.0/24",  # documentation
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # AMT
            "192.88.99.0/24",  # 6to4 relays
            "192.168.0.0/16",
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    )
)
# Everything outside this is loopback, unspecified, IPv4-mapped or -compatible, unique-local (with AWS's metadata
# service fd00:ec2::254), link-local, site-local, multicast, or not assigned.
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4 leads to the IPv4 address within it
            "2620:4f:8000::/48",  # AS112
            "3fff::/20",  # documentation
        ),
    )
)
# DNS64 answers with these on networks without IPv4. The local-use prefix 64:ff9b:1::/48 is not among them.
_NAT64 = IPv6Network("64:ff9b::/96")


def is_public(address: Address) -> bool:
    """Return whether an address is a host's of the public internet."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_V4)
    if address.scope_id is not None:
        return False
    if address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
    return address in _GLOBAL_UNICAST and not any(address in network for network in _NOT_PUBLIC_V6)


def may_connect(address: Address, allowed_networks: tuple[Network, ...]) -> bool:
    """Return whether this server may connect to an address.

    Args:
        allowed_networks: networks of the operator's own that may be connected to besides.
    """
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return False
    return is_public(address) or any(
        address.version == network.version and address in network for network in allowed_networks
    )


def parse_network(text: str) -> Network:
    """Return the network that a text such as `10.1.0.0/16` names.

    Raises:
        ValueError: it names none.
    """
    return ipaddress.ip_network(text)
