"""Which addresses may be asked that strangers name."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewaykit.addresses import is_public


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "192.0.0.8", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.88.99.1",
        "::", "::1", "fe80::1", "fc00::1", "fec0::1", "ff02::1", "ff0e::1", "2001:db8::1", "2001::1", "100::1",
        "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::1", "3fff::1", "5f00::1", "4000::1",
    ],
)  # fmt: skip
def test_inner_addresses_are_not_public(address: str) -> None:
    """Whatever is not global unicast is refused, also in an IPv6 disguise."""
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]
)
def test_public_addresses_are_public(address: str) -> None:
    """Global unicast addresses are allowed."""
    assert is_public(ipaddress.ip_address(address))


@settings(deadline=None)
@given(st.ip_addresses(v=4))
def test_disguises_are_judged_by_what_is_inside(address: ipaddress.IPv4Address) -> None:
    """Mapped, translated and tunnelled addresses are as public as the IPv4 address in them, and no more."""
    number = int(address)
    disguises = (0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80)
    assert {is_public(ipaddress.IPv6Address(disguise)) for disguise in disguises} == {is_public(address)}
