"""Which addresses are public."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from jobs.outbound.addresses import is_public, may_connect

PUBLIC = (
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "192.0.1.1",
    "2606:4700:4700::1111",
    "2a00:1450::1",
    "64:ff9b::8.8.8.8",
)
NOT_PUBLIC = (
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",  # IPv4-compatible
    "::ffff:127.0.0.1",  # IPv4-mapped
    "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1",  # IPv4-translated
    "64:ff9b::127.0.0.1",  # NAT64
    "64:ff9b::169.254.169.254",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::8.8.8.8",
    "100::1",  # discard
    "2001::1",  # Teredo
    "2001:0:7f00:1::",
    "2001:2::1",  # benchmarks
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",  # 6to4 of 127.0.0.1
    "2002:808:808::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "2606:4700::1%eth0",
    "fec0::1",
    "ff02::1",
)


@pytest.mark.parametrize("text", PUBLIC)
def test_a_public_address_may_be_connected_to(text: str) -> None:
    assert is_public(ip_address(text))
    assert may_connect(ip_address(text), ())


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_any_other_address_may_not(text: str) -> None:
    assert not is_public(ip_address(text))
    assert not may_connect(ip_address(text), ())


def test_a_network_of_the_operators_own_may_be_connected_to() -> None:
    networks = (ip_network("10.1.0.0/16"), ip_network("fd00:1::/48"))
    assert may_connect(ip_address("10.1.2.3"), networks)
    assert may_connect(ip_address("fd00:1::5"), networks)
    assert not may_connect(ip_address("10.2.0.1"), networks)
    assert not may_connect(ip_address("::ffff:10.1.2.3"), networks), "only as it was written"
    assert not may_connect(ip_address("fd00:1::5%eth0"), networks)
