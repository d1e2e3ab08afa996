"""Addresses that strangers name: how one is looked up, and which may be asked without reaching inside."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host, as texts, for a port."""

_GLOBAL = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_UNFIT = tuple(
    ipaddress.ip_network(block)
    for block in ("192.0.0.0/24", "192.88.99.0/24", "100.64.0.0/10", "2001::/23", "2001:db8::/32", "3fff::/20")
)


def is_public(address: Address) -> bool:
    """Whether ``address`` is global unicast: not private, shared, loopback, link-local, multicast or reserved.

    IPv6 addresses that stand for an IPv4 address (mapped, NAT64, 6to4) are judged by that one. Source: the IANA
    special-purpose address registries (RFC 6890).
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address not in _GLOBAL:
            return False
    if address.is_multicast or address.is_reserved or address.is_unspecified or address.is_loopback:
        return False
    return address.is_global and not any(address.version == block.version and address in block for block in _UNFIT)


async def system_resolver(host: str, port: int) -> list[str]:
    """The addresses of ``host`` as the system knows them. Raises :class:`OSError`."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]
